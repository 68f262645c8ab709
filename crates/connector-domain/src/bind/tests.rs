use std::collections::BTreeSet;
use std::time::Duration;

use safeconduct_types::{ContactId, ProvenanceSet};
use serde_json::json;

use super::*;
use crate::contact::{AttributeValue, ProvenAddresses};
use crate::definition::Choices;
use crate::projection::{Shaped, parse_path};
use crate::schema::Schema;
use crate::testing;

const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

fn signed() -> ProvenanceSet {
    [Provenance::SignedHash, Provenance::SignedToken].into_iter().collect()
}

fn attribute(value: Value, provenance: Provenance, age: u64) -> AttributeValue {
    AttributeValue { value, provenance, proof_time: Some(NOW.before(Duration::from_secs(age))) }
}

fn user() -> ContactView {
    ContactView {
        id: ContactId::from_digest(&[1; 16]),
        kind: ContactKind::User,
        known_by: Some(Provenance::SignedHash),
        attributes: [("account_id".to_owned(), attribute(json!("acc_1"), Provenance::SignedHash, 60))].into(),
        proven: ProvenAddresses::default(),
    }
}

fn connector() -> Connector {
    let mut connector = testing::connector();
    connector.inputs = [
        (
            "customer_id",
            Input {
                accept: signed(),
                max_age: Some(Duration::from_mins(10)),
                ..testing::input(Source::ContactAttribute("account_id".parse().unwrap()))
            },
        ),
        (
            "order_id",
            Input {
                schema: Some(Schema::compile(&json!({"type": "string", "pattern": "^ord_[a-z0-9]+$"})).unwrap()),
                ..testing::input(Source::Agent)
            },
        ),
        ("note", Input { optional: true, ..testing::input(Source::Agent) }),
        ("limit", Input { optional: true, default: Some(json!(10)), ..testing::input(Source::Agent) }),
        (
            "tenant",
            Input {
                optional: true,
                accept: [Provenance::Caller, Provenance::Server].into_iter().collect(),
                ..testing::input(Source::Caller)
            },
        ),
        ("currency", testing::input(Source::Constant(json!("EUR")))),
    ]
    .into_iter()
    .map(|(name, input)| (name.parse().unwrap(), input))
    .collect();
    connector
}

fn supplied(agent: &Value, caller: &Value) -> Supplied {
    Supplied::parse(&agent.to_string(), &caller.to_string(), CallerRole::Other).unwrap()
}

fn run(contact: &ContactView, agent: &Value) -> Result<BoundInputs, Refusal> {
    bind(&connector(), contact, &supplied(agent, &json!({})), NOW)?.complete()
}

#[test]
fn every_value_carries_where_it_came_from() {
    let bound = bind(&connector(), &user(), &supplied(&json!({"order_id": "ord_1"}), &json!({"tenant": "t"})), NOW)
        .unwrap()
        .complete()
        .unwrap();
    assert_eq!(
        bound.to_json(),
        json!({"customer_id": "acc_1", "order_id": "ord_1", "limit": 10, "tenant": "t", "currency": "EUR"})
    );
    assert_eq!(bound.provenance("customer_id"), Some(Provenance::SignedHash));
    assert_eq!(bound.provenance("order_id"), Some(Provenance::Agent));
    assert_eq!(bound.provenance("tenant"), Some(Provenance::Caller));
    assert_eq!(bound.provenance("note"), None);
    assert!(!format!("{bound:?}").contains("ord_1"));
}

#[test]
fn the_agent_cannot_supply_what_is_not_its_own() {
    for name in ["customer_id", "currency", "tenant", "no_such_input"] {
        let refusal = run(&user(), &json!({"order_id": "ord_1", name: "acc_2"})).unwrap_err();
        assert_eq!(refusal.reason(), Reason::InputInvalid);
        assert_eq!(refusal.violations()[0].field, format!("inputs.{name}"));
    }
    let refusal = bind(&connector(), &user(), &supplied(&json!({}), &json!({"order_id": "ord_1"})), NOW).unwrap_err();
    assert_eq!(refusal.violations().len(), 2, "not the caller's, and still missing");
}

#[test]
fn all_violations_come_at_once_and_repeat_no_value() {
    let refusal = run(&user(), &json!({"order_id": "hunter2!", "hunter two": 1})).unwrap_err();
    assert_eq!(refusal.violations().len(), 2);
    assert!(!format!("{refusal:?}").contains("hunter"), "{refusal:?}");
}

#[test]
fn a_required_input_is_required_and_null_stands_for_an_absent_optional() {
    assert_eq!(run(&user(), &json!({})).unwrap_err().violations()[0].field, "inputs.order_id");
    assert!(run(&user(), &json!({"order_id": null})).is_err());
    let bound = run(&user(), &json!({"order_id": "ord_1", "note": null, "limit": null})).unwrap();
    assert_eq!((bound.get("note"), bound.get("limit")), (None, Some(&json!(10))));
}

#[test]
fn a_weak_missing_or_old_proof_is_told_what_would_do() {
    let asked = json!({"order_id": "ord_1"});
    let because = |contact: &ContactView| {
        let refusal = run(contact, &asked).unwrap_err();
        assert_eq!(refusal.reason(), Reason::VerificationRequired);
        let metadata: BTreeMap<_, _> = refusal.metadata().iter().cloned().collect();
        assert_eq!(metadata["attribute"], "account_id");
        assert_eq!(metadata["methods"], "JWT,USER_HASH");
        assert!(!format!("{refusal:?}").contains("acc_1"));
        metadata["because"].clone()
    };
    for (provenance, age, expected) in [
        (Provenance::Client, 60, "UNPROVEN"),
        (Provenance::Server, 60, "UNPROVEN"),
        (Provenance::OtpEmail, 60, "UNPROVEN"),
        (Provenance::SignedToken, 601, "TOO_OLD"),
    ] {
        let mut contact = user();
        contact.attributes.insert("account_id".to_owned(), attribute(json!("acc_1"), provenance, age));
        assert_eq!(because(&contact), expected);
    }
    let mut contact = user();
    contact.attributes.insert(
        "account_id".to_owned(),
        AttributeValue { value: json!("acc_1"), provenance: Provenance::SignedToken, proof_time: None },
    );
    assert_eq!(because(&contact), "TOO_OLD");
    contact.attributes.clear();
    assert_eq!(because(&contact), "MISSING");
    contact.attributes.insert("account_id".to_owned(), attribute(json!(""), Provenance::SignedToken, 0));
    assert_eq!(because(&contact), "MISSING");
    contact.attributes.insert("account_id".to_owned(), attribute(json!("acc_1"), Provenance::SignedToken, 600));
    assert!(run(&contact, &asked).is_ok());
}

#[test]
fn a_contact_of_another_kind_is_not_served_and_told_which_proof_would_change_that() {
    let mut connector = connector();
    connector.purpose = Some("look-up".to_owned());
    let refused = |connector: &Connector, kind, attributes: &[(&str, AttributeValue)]| {
        let attributes = attributes.iter().map(|(name, one)| ((*name).to_owned(), one.clone())).collect();
        let contact = ContactView { kind, attributes, known_by: None, ..user() };
        let refusal = bind(connector, &contact, &Supplied::nothing(), NOW).unwrap_err();
        let fact = |key: &str| {
            let found = refusal.metadata().iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        (refusal.reason(), refusal.next_action(), fact("attribute"), fact("methods"), fact("purpose"))
    };
    let needed = |attribute: &str, methods: &str| {
        let (reason, next) = (Reason::VerificationRequired, NextAction::Verify);
        (reason, next, attribute.to_owned(), methods.to_owned(), "look-up".to_owned())
    };
    connector.inputs.insert(
        "account".parse().unwrap(),
        Input {
            accept: [Provenance::SignedHash, Provenance::SignedToken].into_iter().collect(),
            ..testing::input(Source::ContactAttribute("account_id".parse().unwrap()))
        },
    );
    let email = Input { accept: [Provenance::OtpEmail].into_iter().collect(), ..testing::input(Source::ProvenEmail) };
    connector.audience.kinds = BTreeSet::from([ContactKind::User]);
    for kind in [ContactKind::Visitor, ContactKind::Lead] {
        assert_eq!(refused(&connector, kind, &[]), needed("account_id", "JWT,USER_HASH"));
    }
    connector.inputs.clear();
    connector.inputs.insert("email".parse().unwrap(), email);
    let methods = "JWT,USER_HASH";
    assert_eq!(refused(&connector, ContactKind::Visitor, &[]), needed("id", methods), "a code would make a lead only");
    connector.audience.kinds = BTreeSet::from([ContactKind::Lead, ContactKind::User]);
    assert_eq!(refused(&connector, ContactKind::Visitor, &[]), needed("email", "EMAIL_CODE"));
    connector.inputs.clear();
    let methods = "JWT,USER_HASH,EMAIL_CODE,SMS_CODE";
    assert_eq!(refused(&connector, ContactKind::Visitor, &[]), needed("id", methods));

    connector.audience.kinds = BTreeSet::from([ContactKind::Lead]);
    let (reason, next, ..) = refused(&connector, ContactKind::User, &[]);
    assert_eq!((reason, next), (Reason::AudienceMismatch, NextAction::Stop), "no proof makes a lead of a user");
}

#[test]
fn an_input_for_backends_is_taken_from_backends_only() {
    let mut connector = connector();
    connector.inputs.get_mut("tenant").unwrap().accept = ProvenanceSet::NONE.with(Provenance::Server);
    for (role, expected) in [(CallerRole::Other, Err(Reason::CallerNotAllowed)), (CallerRole::Backend, Ok(()))] {
        let supplied = Supplied::parse(r#"{"order_id":"ord_1"}"#, r#"{"tenant":"t"}"#, role).unwrap();
        let result = bind(&connector, &user(), &supplied, NOW);
        assert_eq!(result.map(|_| ()).map_err(|refusal| refusal.reason()), expected);
    }
}

#[test]
fn the_id_of_a_contact_is_as_strong_as_its_proof() {
    let mut connector = testing::connector();
    let strong =
        |accept: &[Provenance]| Input { accept: accept.iter().copied().collect(), ..testing::input(Source::ContactId) };
    let result = |connector: &Connector, known_by| {
        // Signed in another session: says nothing of who is talking in this one.
        let tier = ("tier".to_owned(), attribute(json!("gold"), Provenance::SignedToken, 1));
        let contact = ContactView { known_by, attributes: [tier].into(), ..user() };
        bind(connector, &contact, &Supplied::nothing(), NOW).map(|_| ()).map_err(|refusal| refusal.reason())
    };
    connector.inputs = [("id".parse().unwrap(), strong(&[Provenance::SignedToken]))].into();
    assert_eq!(result(&connector, Some(Provenance::SignedToken)), Ok(()));
    for weaker in [None, Some(Provenance::SignedHash), Some(Provenance::OtpEmail)] {
        assert_eq!(result(&connector, weaker), Err(Reason::VerificationRequired), "{weaker:?}");
    }
}

#[test]
fn a_proven_address_is_one_that_a_password_proved() {
    let mut connector = testing::connector();
    connector.inputs = [(
        "email".parse().unwrap(),
        Input { accept: ProvenanceSet::NONE.with(Provenance::OtpEmail), ..testing::input(Source::ProvenEmail) },
    )]
    .into();
    for provenance in [Provenance::OtpEmail, Provenance::SignedToken, Provenance::Client] {
        let mut contact = user();
        contact.attributes.insert("email".to_owned(), attribute(json!("a@b.example"), provenance, 1));
        assert!(bind(&connector, &contact, &Supplied::nothing(), NOW).is_err(), "{provenance}: known by name only");
        contact.proven.email = Some(attribute(json!("a@b.example"), Provenance::OtpEmail, 1));
        assert!(bind(&connector, &contact, &Supplied::nothing(), NOW).is_ok());
    }
}

#[test]
fn a_choice_that_was_not_looked_up_is_not_bound() {
    let mut connector = connector();
    connector.inputs.get_mut("order_id").unwrap().choices = Some(Choices {
        connector: "list-orders".parse().unwrap(),
        items: parse_path("$.orders").unwrap(),
        value: parse_path("$.id").unwrap(),
        max: 50,
    });
    let binding = || bind(&connector, &user(), &supplied(&json!({"order_id": "ord_1"}), &json!({})), NOW).unwrap();
    assert_eq!(binding().complete().unwrap_err().reason(), Reason::Internal);
    assert_eq!(binding().pending().len(), 1);

    let list = |ids: Value| Shaped { output: json!({ "orders": ids }), truncated: vec![] };
    let name = "list-orders".parse().unwrap();
    let mut other = binding();
    other.check_list(&"list-parcels".parse().unwrap(), &list(json!([{"id": "ord_1"}]))).unwrap();
    assert!(other.complete().is_err(), "another list proves nothing");
    let refusal = binding().check_list(&name, &list(json!([{"id": "ord_2"}]))).unwrap_err();
    assert_eq!(refusal.reason(), Reason::NotYours);
    let mut own = binding();
    own.check_list(&name, &list(json!([{"id": "ord_1"}]))).unwrap();
    assert_eq!(own.complete().unwrap().get("order_id"), Some(&json!("ord_1")));
}

#[test]
fn the_same_inputs_make_the_same_digest() {
    let names = ["order_id".parse().unwrap(), "note".parse().unwrap()];
    let digest = |agent: &Value| run(&user(), agent).unwrap().same(&names);
    let base = digest(&json!({"order_id": "ord_1"}));
    assert_eq!(base, digest(&json!({"order_id": "ord_1", "note": null, "limit": 5})));
    assert_ne!(base, digest(&json!({"order_id": "ord_2"})));
    assert_ne!(base, digest(&json!({"order_id": "ord_1", "note": ""})));
}

#[test]
fn a_write_takes_no_weaker_proof_than_the_workspace_demands() {
    let nothing = Supplied::parse("{}", "{}", CallerRole::Other).unwrap();
    let known_by = |known_by| {
        let write = Connector { needs: Some(Provenance::SignedToken), inputs: [].into(), ..testing::connector() };
        bind(&write, &ContactView { known_by, ..user() }, &nothing, NOW).map(drop)
    };
    assert_eq!(known_by(Some(Provenance::SignedToken)), Ok(()));
    for weaker in [None, Some(Provenance::SignedHash), Some(Provenance::OtpEmail), Some(Provenance::OtpSms)] {
        let refused = known_by(weaker).unwrap_err();
        assert_eq!(refused.reason(), Reason::VerificationRequired, "{weaker:?}");
        assert!(refused.metadata().contains(&("methods".into(), "JWT".to_owned())), "{refused:?}");
    }
}
