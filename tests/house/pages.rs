//! Every reason has a page that says what to do.

use std::collections::BTreeSet;
use std::fs;

use safeconduct_types::Reason;

#[test]
fn every_error_reason_has_a_page_and_every_page_a_reason() {
    let folder = super::root().join("crates/safeconduct/errors");
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .expect("the folder of pages")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let reasons: BTreeSet<String> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(pages, reasons);
    for reason in reasons {
        let page = fs::read_to_string(folder.join(format!("{reason}.md"))).expect("a page");
        for part in [format!("# {reason}"), "## What happened".to_owned(), "## What to do".to_owned()] {
            assert!(page.contains(&part), "{reason}.md lacks \"{part}\"");
        }
    }
}
