//! Values with `*`, each of which stands for any text.

/// A value with at least one `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    first: String,
    middle: Vec<String>,
    last: String,
}

impl Pattern {
    /// The pattern that `text` is; `None` if it is an ordinary value.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('*')?;
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        Some(Self {
            text: text.to_owned(),
            first: first.to_owned(),
            middle: middle.split('*').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            last: last.to_owned(),
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for `value`. Linear but for the search of each part: the earliest place of a part leaves the
    /// most for the next, so nothing is tried twice.
    pub(super) fn matches(&self, value: &str) -> bool {
        let rest = value.strip_prefix(self.first.as_str()).and_then(|rest| rest.strip_suffix(self.last.as_str()));
        let Some(mut rest) = rest else { return false };
        for part in &self.middle {
            let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
            rest = after;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_text_also_none() {
        for (pattern, value, matches) in [
            ("foo*", "foo", true),
            ("foo*", "foobar", true),
            ("foo*", "fo", false),
            ("*", "", true),
            ("/api/*/action", "/api/1/action", true),
            ("/api/*/action", "/api/1/2/action", true),
            ("/api/*/action", "/api/action", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("a**c", "ac", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(value), matches, "{pattern} {value}");
        }
        assert_eq!(Pattern::parse("plain"), None);
    }

    /// The obvious definition, in exponential time.
    fn slow(pattern: &[u8], value: &[u8]) -> bool {
        match pattern.split_first() {
            None => value.is_empty(),
            Some((b'*', rest)) => (0..=value.len()).any(|n| slow(rest, &value[n..])),
            Some((c, rest)) => value.split_first().is_some_and(|(v, after)| v == c && slow(rest, after)),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*]{0,3}\\*[ab*]{0,3}", value in "[ab]{0,7}") {
            let fast = Pattern::parse(&pattern).unwrap().matches(&value);
            prop_assert_eq!(fast, slow(pattern.as_bytes(), value.as_bytes()));
        }
    }
}
