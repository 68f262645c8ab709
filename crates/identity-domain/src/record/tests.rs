use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_500);

fn record() -> ContactRecord {
    ContactRecord::new(Named::User(Identifier::UserId, "u1".to_owned()), NOW)
}

#[test]
fn what_is_issued_after_a_change_is_newer_than_it_and_everything_before_is_not() {
    let mut record = record();
    assert_eq!(record.issues_at(NOW), NOW);
    record.changes(NOW);
    let changed = record.changed.unwrap();
    assert!(changed > NOW, "what is issued until the change is stored is older, too");
    assert!(record.admits_issued(Timestamp::from_seconds(NOW.as_seconds())).is_err());
    assert!(record.admits_issued(record.issues_at(NOW)).is_ok());
    record.changes(NOW.before(Duration::from_mins(1)));
    assert_eq!(record.changed, Some(changed), "never goes back");
}

#[test]
fn erasing_leaves_nothing_personal_and_lifts_no_block() {
    let mut record = record();
    record.blocked = Some(NOW);
    let attribute = Attribute { value: "ann".into(), provenance: Provenance::Server, proof_time: NOW };
    record.attributes.insert("name".to_owned(), Kept { attribute, proof: "backend".to_owned() });
    record.erase(NOW);
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains("ann") && !text.contains("u1"), "{text}");
    assert!(record.admits_proofs().is_err());
    assert_eq!(record.ends(Duration::from_secs(1)), None, "a block has no end");
    record.blocked = None;
    assert!(record.ends(Duration::from_secs(1)).is_some());
    assert!(record.admits_session(NOW).is_err() && record.admits_session(NOW.after(Duration::from_secs(1))).is_ok());
}

#[test]
fn a_record_reads_back_and_shows_nobody() {
    let mut record = record();
    let attribute = Attribute { value: "ann".into(), provenance: Provenance::Server, proof_time: NOW };
    record.attributes.insert("name".to_owned(), Kept { attribute, proof: "backend".to_owned() });
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<ContactRecord>(&text).unwrap(), record);
    let shown = format!("{record:?}");
    assert!(!shown.contains("ann") && !shown.contains("u1"), "{shown}");
}
