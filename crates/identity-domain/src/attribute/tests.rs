use safeconduct_types::Timestamp;

use super::*;
use crate::record::{ContactRecord, Named};

fn policy(text: &str) -> Result<AttributePolicy, Vec<String>> {
    AttributePolicy::parse(&serde_json::from_str(text).unwrap())
        .map_err(|wrong| wrong.into_iter().map(|one| one.field).collect())
}

#[test]
fn the_sample_of_the_design_is_accepted() {
    let policy = policy(
        r#"{"account_id":{"protected":true},"tier":{"protected":true},
            "nickname":{"client_writable":true,"schema":{"type":"string","maxLength":40}}}"#,
    )
    .unwrap();
    assert!(policy.get("account_id").unwrap().protected && policy.get("nickname").unwrap().client_writable);
    assert!(policy.get("email").unwrap().protected, "built in");
    assert!(!policy.is_declared("Tier") && !policy.is_declared("user_id"));
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    for bad in [
        r#"{"Tier":{}}"#,
        r#"{"t\u0456er":{}}"#,
        r#"{"a.b":{}}"#,
        r#"{"1a":{}}"#,
        r#"{"user_id":{}}"#,
        r#"{"proven":{}}"#,
        r#"{"a":{"protected":true,"client_writable":true}}"#,
        r#"{"a":{"writable":true}}"#,
        r#"{"email":{"client_writable":true}}"#,
        r#"{"a":{"schema":{"type":"text"}}}"#,
        r#"{"a":{"schema":{"maxLength":4}}}"#,
        r#"{"a":{"schema":{"type":"integer","minimum":2,"maximum":1}}}"#,
        r#"{"a":{"schema":{"type":"string","enum":[]}}}"#,
        r#"{"a":{"schema":{"type":"string","enum":[1]}}}"#,
        r#"{"a":{"schema":{"type":"string","pattern":"x"}}}"#,
        "[]",
    ] {
        assert_eq!(policy(bad).map(drop).map_err(|fields| fields.len()), Err(1), "{bad}");
    }
}

#[test]
fn a_value_fits_its_schema_or_is_refused() {
    let schema = |text: &str| serde_json::from_str::<Schema>(text).unwrap();
    let fits = |text: &str, value: &str| schema(text).fits(&serde_json::from_str(value).unwrap()).is_ok();
    for (text, good, bad) in [
        (r#"{"type":"string","maxLength":2}"#, r#""\u00e9\u00e9""#, r#""abc""#),
        (r#"{"type":"integer","minimum":1,"maximum":9007199254740993}"#, "9007199254740993", "9007199254740994"),
        (r#"{"type":"integer"}"#, "-3", "1.0"),
        (r#"{"type":"number","maximum":1.5}"#, "1.5", "1.6"),
        (r#"{"type":"boolean"}"#, "true", "1"),
        (r#"{"type":"array","maxItems":1}"#, "[1]", "[1,2]"),
        (r#"{"type":"object"}"#, "{}", "[]"),
        (r#"{"enum":["a",1]}"#, "1", r#""b""#),
    ] {
        assert!(fits(text, good), "{text} {good}");
        assert!(!fits(text, bad), "{text} {bad}");
    }
}

#[test]
fn a_value_is_one_json_value_with_one_meaning() {
    assert_eq!(parse_value("null", "f"), Ok(None));
    assert_eq!(parse_value("1.50", "f").unwrap().unwrap().to_string(), "1.50", "verbatim");
    for bad in ["", "1,\"w\":2", "{\"a\":1,\"a\":1}", "1}", "nul", "[[[[[[[[[[1]]]]]]]]]]"] {
        assert!(parse_value(bad, "f").is_err(), "{bad}");
    }
}

/// A record in which a token of `said` says that `tier` is this, and whether that made it another one.
fn token_says(record: &mut ContactRecord, tier: &str, said: i64) -> bool {
    let policy = policy(r#"{"tier":{"protected":true}}"#).unwrap();
    let changes = [("tier".to_owned(), Some(tier.into()))];
    apply(record, &policy, Writer::Token("k1"), changes, Timestamp::from_millis(said)).changed
}

#[test]
fn of_two_tokens_made_at_the_same_time_the_first_stays_however_often_both_come() {
    for (first, other) in [("silver", "gold"), ("gold", "silver")] {
        let mut record = ContactRecord::new(Named::Nothing, Timestamp::from_millis(0));
        assert!(token_says(&mut record, first, 5_000));
        for _ in 0..3 {
            assert!(!token_says(&mut record, other, 5_000) && !token_says(&mut record, first, 5_000));
        }
        assert_eq!(record.attributes["tier"].attribute.value, first);
        // Within the second, as `iat` may say it.
        assert!(token_says(&mut record, other, 5_001));
        assert!(!token_says(&mut record, first, 5_000));
        assert_eq!(record.attributes["tier"].attribute.value, other);
    }
}

#[test]
fn a_token_of_the_second_in_which_the_backend_spoke_replaces_nothing() {
    let policy = policy(r#"{"tier":{"protected":true}}"#).unwrap();
    let mut record = ContactRecord::new(Named::Nothing, Timestamp::from_millis(0));
    let changes = [("tier".to_owned(), Some("gold".into()))];
    assert!(apply(&mut record, &policy, Writer::Server, changes, Timestamp::from_millis(5_200)).changed);
    for said in [5_000, 5_900] {
        assert!(!token_says(&mut record, "silver", said), "{said}");
    }
    assert!(token_says(&mut record, "silver", 6_000));
}
