//! `usage`: what a contact, a connector or a workspace has used of its limits, and what is left.
//!
//! Which limits there are stands in the definitions; admission has the counts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admission, GrpcAdmission, Limit, LimitKind, LimitScope, Remaining, Shape, Usage};
use safeconduct_connector_domain::workspace::Workspace;
use safeconduct_service::channel::{SisterChannel, TcpOptions};
use safeconduct_service::wire::to_timestamp;
use safeconduct_types::{Clock, ConnectorName, ContactId, Deadline, Refusal, SystemClock, WorkspaceId};
use serde_json::{Value, json};

use super::client;
use crate::cli::{Output, UsageArgs};
use crate::command::call;
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;
use crate::workspaces;

/// The most limits of one question.
const AT_ONCE: usize = 32;
const WITHIN: Duration = Duration::from_secs(10);

/// One count of a limit.
struct Line {
    limit: Limit,
    left: Remaining,
}

pub(crate) fn run(args: &UsageArgs) -> Outcome {
    let workspace: WorkspaceId = parsed("--workspace", &args.workspace)?;
    let contact: Option<ContactId> = optional("--contact-id", &args.contact_id)?;
    let connector: Option<ConnectorName> = optional("--connector", &args.connector)?;
    let found = workspaces::read(&args.definitions).map_err(Failure::data)?;
    let taken = found.workspaces.iter().find(|one| one.workspace.id == workspace).ok_or_else(|| {
        let problems = found.problems.join("\n");
        Failure::data(format!(
            "{problems}\nno workspace `{workspace}` in order there; name its files with --definitions"
        ))
    })?;
    let (limits, per_input) = limits(&taken.workspace, connector.as_ref(), contact.is_some())?;
    let lines = call::runtime()?.block_on(ask(args, workspace, contact, limits))?;
    match args.output {
        Output::Human => human(&lines, &per_input),
        Output::Json => say!("{}", to_json(&lines, &per_input)),
    }
    Ok(Code::SUCCESS)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(option: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{option}: {error}")))
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(option: &str, text: &str) -> Result<Option<T>, Failure> {
    if text.is_empty() { Ok(None) } else { parsed(option, text).map(Some) }
}

/// The limits that can be asked about, each counter once; and the names of those that are counted for each value of an
/// input, which nobody can ask about without a request.
fn limits(
    workspace: &Workspace,
    only: Option<&ConnectorName>,
    of_contact: bool,
) -> Result<(Vec<Limit>, Vec<String>), Failure> {
    if let Some(name) = only.filter(|name| !workspace.connectors.contains_key(*name)) {
        return Err(Failure::data(format!("the workspace has no connector `{name}`")));
    }
    let wanted = workspace.connectors.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let (mut limits, mut per_input) = (Vec::new(), Vec::new());
    for connector in wanted.flat_map(|(_, family)| family.versions.values()) {
        for (declared, counter) in safeconduct_connector::counters(connector) {
            match counter {
                None => per_input.push(declared.name.to_string()),
                Some(limit) if limit.per_contact && !of_contact => {}
                // Versions, and connectors that use a limit of the workspace, share it.
                Some(limit) if limits.contains(&limit) => {}
                Some(limit) => limits.push(limit),
            }
        }
    }
    per_input.sort();
    per_input.dedup();
    Ok((limits, per_input))
}

async fn ask(
    args: &UsageArgs,
    workspace: WorkspaceId,
    contact: Option<ContactId>,
    limits: Vec<Limit>,
) -> Result<Vec<Line>, Failure> {
    let admission = connect(&args.address, &args.token_file, args.ca.as_deref())?;
    let mut lines = Vec::new();
    for some in limits.chunks(AT_ONCE) {
        let asked = Usage { workspace: workspace.clone(), contact: contact.clone(), limits: some.to_vec() };
        let deadline = Deadline::within(SystemClock.instant(), WITHIN);
        let answer = admission.usage(asked, deadline).await.map_err(|refusal| Failure::refused(explain(&refusal)))?;
        let mut left = answer.remaining.into_iter();
        for limit in some {
            // In the order asked; a sum comes once for each of its units.
            let counts = match &limit.shape {
                Shape::Rate { .. } | Shape::Count { .. } => 1,
                Shape::Sum { maxima, .. } => maxima.len(),
            };
            lines.extend(left.by_ref().take(counts).map(|left| Line { limit: limit.clone(), left }));
        }
    }
    Ok(lines)
}

fn connect(address: &str, token_file: &Path, ca: Option<&Path>) -> Result<GrpcAdmission, Failure> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())));
    let options = TcpOptions {
        ca_pem: ca.map(read).transpose()?,
        token: Some(client::read_text(token_file)?),
        ..TcpOptions::new(address)
    };
    let channel = SisterChannel::tcp(&options, Arc::new(SystemClock)).map_err(Failure::usage)?;
    Ok(GrpcAdmission::new(channel))
}

fn explain(refusal: &Refusal) -> String {
    let reason = refusal.reason().as_str();
    format!("refused: {reason}\n  {}\n  `safeconduct errors {reason}` says more", refusal.detail())
}

impl Line {
    fn holder(&self) -> String {
        let whose = if self.limit.per_contact { "contact" } else { "everybody" };
        match &self.limit.scope {
            LimitScope::Workspace if self.limit.dimensions.is_some() => format!("each connector, {whose}"),
            LimitScope::Workspace => format!("workspace, {whose}"),
            LimitScope::Family(family) => format!("{family}, {whose}"),
        }
    }

    /// A rate has no use to speak of: what was taken comes back at once, bit by bit.
    fn used(&self) -> i64 {
        self.left.max.saturating_sub(self.left.left).max(0)
    }

    fn kind(&self) -> &'static str {
        match self.left.kind {
            LimitKind::Rate => "rate",
            LimitKind::Count => "count",
            LimitKind::Sum => "sum",
        }
    }

    fn resets(&self) -> String {
        self.left.resets.map(|at| to_timestamp(at).to_string()).unwrap_or_default()
    }
}

fn human(lines: &[Line], per_input: &[String]) {
    if lines.is_empty() {
        say!("there are no limits to show");
    } else {
        let head = ["LIMIT", "OF", "KIND", "USED", "LEFT", "MAX", "UNIT", "WHOLE AGAIN"].map(str::to_owned);
        let rows = lines.iter().map(|line| {
            [
                line.left.name.clone(),
                line.holder(),
                line.kind().to_owned(),
                line.used().to_string(),
                line.left.left.to_string(),
                line.left.max.to_string(),
                line.left.unit.clone(),
                line.resets(),
            ]
        });
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    }
    for name in per_input {
        say!("{name}: counted for each value of an input; not shown");
    }
}

/// Columns as wide as their widest cell; numbers to the right.
fn table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap_or_default();
            if (3..6).contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        say!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn to_json(lines: &[Line], per_input: &[String]) -> Value {
    let limits = lines.iter().map(|line| {
        let connector = match &line.limit.scope {
            LimitScope::Workspace => None,
            LimitScope::Family(family) => Some(family.to_string()),
        };
        json!({
            "name": line.left.name,
            "connector": connector,
            "per_contact": line.limit.per_contact,
            "kind": line.kind(),
            "unit": line.left.unit,
            "used": line.used(),
            "left": line.left.left,
            "max": line.left.max,
            "reset_time": line.left.resets.map(|at| to_timestamp(at).to_string()),
        })
    });
    json!({"limits": limits.collect::<Vec<_>>(), "not_shown": per_input})
}
