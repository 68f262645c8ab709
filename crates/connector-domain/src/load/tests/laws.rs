//! What holds for every text.

use proptest::prelude::*;

use super::*;

/// A text that breaks things where it lands.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\n---\n".to_owned()),
        Just("${".to_owned()),
        Just("${inputs.order_id}".to_owned()),
        Just("null".to_owned()),
        Just("[".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just(": ".to_owned()),
        Just("- ".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("!!binary ".to_owned()),
        Just("<<: ".to_owned()),
        Just("9999999999999999999999".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("\u{feff}\u{202e}\u{0}".to_owned()),
        "\\PC{0,8}",
    ]
}

/// The sample with some places of it replaced by something else.
fn mutated() -> impl Strategy<Value = String> {
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, fragment()), 1..6);
    edits.prop_map(|edits| {
        let mut chars: Vec<char> = format!("{WORKSPACE}---\n{LIST}---\n{REFUND}").chars().collect();
        for (index, removed, fragment) in edits {
            let at = index.index(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, fragment.chars());
        }
        chars.into_iter().collect()
    })
}

fn run(text: &str) -> String {
    let loaded = workspaces(files(&[text]));
    let mut shown = loaded.stray.to_string();
    for workspace in loaded.workspaces {
        match workspace.result {
            Ok(taken) => write!(shown, "{} {}{}", taken.id, taken.digest, workspace.warnings).unwrap(),
            Err(found) => {
                assert!(found.has_errors());
                write!(shown, "{found}").unwrap();
            }
        }
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_the_sample_panics_and_each_is_read_the_same_twice(text in mutated()) {
        prop_assert_eq!(run(&text), run(&text));
    }

    #[test]
    fn no_text_panics(text in "[\\PC\\n\\t:\\-{}\\[\\],'\"&*!#|>%@`]{0,200}") {
        run(&text);
    }
}
