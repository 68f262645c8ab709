//! One trace as a waterfall of spans.

use std::collections::BTreeMap;

use safeconduct_telemetry::collector::CollectedSpan;

const BAR: usize = 36;
const NAME: usize = 46;

/// The spans of a trace as lines: name, how long it took, and when within the whole.
pub(crate) fn draw(spans: &[CollectedSpan]) -> Vec<String> {
    let start = spans.iter().map(|span| span.start_nanos).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.end_nanos).max().unwrap_or_default();
    let whole = end.saturating_sub(start).max(1);
    let mut children: BTreeMap<Option<&str>, Vec<&CollectedSpan>> = BTreeMap::new();
    for span in spans {
        // A parent that was not reported (the caller's own) makes a root of its child.
        let parent = span.parent_id.as_deref().filter(|id| spans.iter().any(|other| other.span_id == *id));
        children.entry(parent).or_default().push(span);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|span| span.start_nanos);
    }
    let mut lines = Vec::new();
    walk(&children, None, 0, &mut |span, depth| lines.push(line(span, depth, start, whole)));
    lines
}

fn walk<'a>(
    children: &BTreeMap<Option<&'a str>, Vec<&'a CollectedSpan>>,
    parent: Option<&'a str>,
    depth: usize,
    visit: &mut impl FnMut(&CollectedSpan, usize),
) {
    for span in children.get(&parent).into_iter().flatten() {
        visit(span, depth);
        walk(children, Some(&span.span_id), depth + 1, visit);
    }
}

fn line(span: &CollectedSpan, depth: usize, start: u64, whole: u64) -> String {
    let column = |nanos: u64| {
        let share = u128::from(nanos.saturating_sub(start)) * BAR as u128 / u128::from(whole);
        usize::try_from(share).unwrap_or(BAR).min(BAR)
    };
    let (from, to) = (column(span.start_nanos), column(span.end_nanos));
    let length = (to - from).max(1);
    let from = from.min(BAR - length);
    let bar = format!("{}{}{}", " ".repeat(from), "=".repeat(length), " ".repeat(BAR - from - length));
    let name = format!("{}{}", "  ".repeat(depth), label(span));
    let name: String = name.chars().take(NAME).collect();
    let millis = span.duration().as_secs_f64() * 1000.0;
    format!("{name:<NAME$} |{bar}| {millis:>7.2} ms")
}

fn label(span: &CollectedSpan) -> String {
    // `safeconduct.admission.v1.AdmissionService/Admit` reads well enough as `admission Admit`.
    let short = match span.name.split_once('/') {
        Some((service, method)) => {
            let service = service.strip_prefix("safeconduct.").unwrap_or(service);
            format!("{} {method}", service.split('.').next().unwrap_or(service))
        }
        None => span.name.clone(),
    };
    match span.kind {
        "client" => format!("{short} (call)"),
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, start: u64, end: u64) -> CollectedSpan {
        CollectedSpan {
            service: "s".to_owned(),
            name: format!("n{id}"),
            trace_id: "t".to_owned(),
            span_id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            kind: "internal",
            start_nanos: start,
            end_nanos: end,
            attributes: BTreeMap::new(),
            events: Vec::new(),
            failed: false,
        }
    }

    #[test]
    fn children_stand_below_their_parent_in_the_order_of_time() {
        let spans = [
            span("c", Some("a"), 50_000_000, 100_000_000),
            span("a", Some("elsewhere"), 0, 100_000_000),
            span("b", Some("a"), 10_000_000, 20_000_000),
        ];
        let lines = draw(&spans);
        let names: Vec<_> = lines.iter().map(|line| line.split('|').next().unwrap().trim_end().to_owned()).collect();
        assert_eq!(names, ["na", "  nb", "  nc"]);
        assert!(lines[2].ends_with("  50.00 ms"), "{}", lines[2]);
        assert!(lines[0].contains(&format!("|{}|", "=".repeat(BAR))));
    }
}
