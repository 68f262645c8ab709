//! Limits: as a file writes them, and every way to write one that would hold nobody back.

use std::time::Duration;

use safeconduct_types::{ContactId, Provenance, Timestamp};
use serde_json::json;

use super::*;
use crate::bind::{Supplied, bind};
use crate::contact::{AttributeValue, ContactView};
use crate::definition::{Connector, OnStoreFailure};
use crate::fingerprint::Digest;
use crate::limit::{Amount, CalendarUnit, Limit, Per, Scope, Shape, Takes, Unit, Window, caps, rates};

const SHARED: &str = "  limits:
    money-out: {per: [contact], sum: amount, unit: currency, max: {EUR: 100000}, window: {calendar: day}}
  timezone:";

const OWN: &str = "  limits:
    - {use: money-out, amount: inputs.amount, unit: inputs.currency}
    - {name: per-order, per: [contact, inputs.order_id], count: true, max: 3, window: {rolling: 24h}}
    - {name: burst, per: [contact], rate: 10/min, burst: 5}
  retry:";

/// The sample under limits, with one place of it replaced.
fn limited(replace: &str, with: &str) -> LoadedWorkspace {
    let whole = [WORKSPACE.replace("  timezone:", SHARED), LIST.to_owned(), REFUND.replace("  retry:", OWN)];
    let hits: usize = whole.iter().map(|text| text.matches(replace).count()).sum();
    assert!(hits >= 1, "the sample has no `{replace}`");
    let texts = whole.map(|text| text.replace(replace, with));
    load(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[track_caller]
fn breaks(replace: &str, with: &str, expected: &[Code]) {
    let loaded = limited(replace, with);
    let found = match loaded.result {
        Ok(_) => loaded.warnings,
        Err(found) => found,
    };
    let mut codes: Vec<_> = found.iter().map(|one| one.code).collect();
    codes.sort();
    codes.dedup();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(codes, expected, "{replace} -> {with}\n{found}");
    assert!(found.iter().all(|one| one.place.line > 0 && one.place.column > 0), "{found}");
}

fn refund(loaded: LoadedWorkspace) -> Arc<Connector> {
    let workspace = loaded.result.unwrap_or_else(|found| panic!("{found}"));
    Arc::clone(workspace.connector(&"refund-order".parse().unwrap(), None).unwrap())
}

#[test]
fn limits_are_taken_as_they_are_meant() {
    let loaded = limited("  retry:", "  retry:");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let connector = refund(loaded);
    assert_eq!(connector.on_store_failure, OnStoreFailure::Deny);
    let contact = Per { contact: true, ..Per::default() };
    let order = Per { inputs: BTreeSet::from(["order_id".parse().unwrap()]), ..contact.clone() };
    let expected = [
        Limit {
            name: "money-out".parse().unwrap(),
            scope: Scope::Workspace,
            per: contact.clone(),
            shape: Shape::Sum {
                window: Window::Calendar(CalendarUnit::Day, "Europe/Dublin".to_owned()),
                maxima: BTreeMap::from([("EUR".to_owned(), 100_000)]),
            },
            takes: Takes::Amount(Amount::Input("amount".parse().unwrap()), Unit::Fixed("EUR".to_owned())),
        },
        Limit {
            name: "per-order".parse().unwrap(),
            scope: Scope::Family,
            per: order,
            shape: Shape::Count { window: Window::Rolling(Duration::from_hours(24)), max: 3 },
            takes: Takes::One,
        },
        Limit {
            name: "burst".parse().unwrap(),
            scope: Scope::Family,
            per: contact,
            shape: Shape::Rate { permits: 10, period: Duration::from_mins(1), burst: 5 },
            takes: Takes::One,
        },
    ];
    assert_eq!(connector.limits, expected);
}

#[test]
fn every_way_of_counting_can_be_written() {
    for (replace, with) in [
        (
            "count: true, max: 3, window: {rolling: 24h}",
            "sum: inputs.amount, unit: EUR, max: {EUR: 1}, window: {calendar: week}",
        ),
        ("count: true, max: 3, window: {rolling: 24h}", "sum: inputs.amount, max: 5000, window: {calendar: month}"),
        ("count: true, max: 3, window: {rolling: 24h}", "sum: 7, max: 5000, window: {rolling: 400d}"),
        ("per: [contact, inputs.order_id]", "per: [connector]"),
        ("rate: 10/min, burst: 5", "rate: 1/30s"),
        ("{per: [contact], sum", "{per: [connector, workspace], sum"),
        ("{per: [contact], sum", "{per: [workspace, inputs.order_id], sum"),
    ] {
        breaks(replace, with, &[]);
    }
}

#[test]
fn a_limit_that_does_not_say_what_it_counts_is_refused() {
    for (replace, with, code) in [
        ("rate: 10/min, burst: 5", "burst: 5", Code::LimitInvalid),
        ("rate: 10/min, burst: 5", "rate: 10/min, count: true", Code::LimitInvalid),
        ("rate: 10/min, burst: 5", "rate: 10/min, max: 3", Code::LimitInvalid),
        ("rate: 10/min, burst: 5", "rate: 10/fortnight", Code::BadValue),
        ("rate: 10/min, burst: 5", "rate: 0/s", Code::BadValue),
        ("rate: 10/min, burst: 5", "rate: 10/32d", Code::BadValue),
        ("burst: 5", "burst: 0", Code::BadValue),
        ("burst: 5", "burts: 5", Code::UnknownField),
        ("count: true", "count: false", Code::LimitInvalid),
        ("max: 3, ", "", Code::MissingField),
        ("max: 3,", "max: -1,", Code::BadValue),
        (", window: {rolling: 24h}", "", Code::MissingField),
        ("{rolling: 24h}", "{rolling: 24h, calendar: day}", Code::LimitInvalid),
        ("{rolling: 24h}", "{rolling: 401d}", Code::BadValue),
        ("{calendar: day}", "{calendar: days}", Code::BadValue),
        ("per: [contact, inputs.order_id]", "per: []", Code::BadValue),
        ("per: [contact, inputs.order_id]", "per: [workspace]", Code::LimitInvalid),
        ("per: [contact, inputs.order_id]", "per: [inputs.order_ids]", Code::UndeclaredReference),
        ("{per: [contact], sum", "{per: [inputs.order_ids], sum", Code::UndeclaredReference),
        ("use: money-out", "use: money-in", Code::LimitUnknown),
        ("name: burst", "name: per-order", Code::DuplicateDefinition),
        ("name: burst", "name: Burst!", Code::BadValue),
    ] {
        let warned = if with == "use: money-in" { vec![code, Code::LimitUnused] } else { vec![code] };
        breaks(replace, with, &warned);
    }
}

#[test]
fn an_amount_is_a_whole_number_that_is_never_negative_and_always_there() {
    let amount = "{type: integer, minimum: 1, maximum: 50000}";
    for with in ["{type: integer, maximum: 50000}", "{type: integer, minimum: -1}", "{type: number, minimum: 1}"] {
        breaks(amount, with, &[Code::LimitAmount]);
    }
    breaks(
        "    amount: {from: agent, plain: true,",
        "    amount: {from: agent, plain: true, optional: true,",
        &[Code::LimitAmount],
    );
    breaks("amount: inputs.amount, unit", "amount: inputs.amounts, unit", &[Code::UndeclaredReference]);
    breaks("amount: inputs.amount, unit", "unit", &[Code::LimitAmount]);
    breaks("amount: inputs.amount, unit", "amount: -5, unit", &[Code::BadValue]);
    for with in ["{type: integer, enum: [0, 500]}", "{enum: [1, 2]}", "{type: integer, exclusiveMinimum: 0}"] {
        breaks(amount, with, &[]);
    }
}

#[test]
fn a_unit_is_known_beforehand_and_has_a_maximum() {
    breaks("currency: {constant: EUR}", "currency: {constant: USD}", &[Code::LimitUnit]);
    let from_agent = |schema: &str| format!("currency: {{from: agent, plain: true, schema: {schema}}}");
    breaks("currency: {constant: EUR}", &from_agent("{type: string, enum: [EUR, USD]}"), &[Code::LimitUnit]);
    breaks("currency: {constant: EUR}", &from_agent("{type: string, maxLength: 3}"), &[Code::LimitUnit]);
    breaks("currency: {constant: EUR}", &from_agent("{type: string, enum: [EUR]}"), &[]);
    breaks(", unit: inputs.currency", "", &[Code::LimitUnit]);
    breaks("unit: currency, ", "", &[Code::LimitUnit]);
    breaks("max: {EUR: 100000}", "max: {euro: 100000}", &[Code::LimitUnit]);
    breaks("max: {EUR: 100000}", "max: {}", &[Code::LimitUnit]);
    breaks("rate: 10/min, burst: 5", "rate: 10/min, unit: EUR", &[Code::LimitInvalid]);
}

#[test]
fn versions_of_a_family_count_the_same_under_one_name() {
    let other = REFUND.replace("  retry:", OWN).replace("version: v2", "version: v3");
    let first = [WORKSPACE.replace("  timezone:", SHARED), LIST.to_owned(), REFUND.replace("  retry:", OWN)];
    let codes = |replace: &str, with: &str| {
        assert!(other.contains(replace));
        let other = other.replace(replace, with);
        let loaded = load(&[&first[0], &first[1], &first[2], &other]);
        let found = loaded.result.map_or_else(|found| found, |_| loaded.warnings);
        found.iter().map(|one| one.code).filter(|code| *code != Code::ReleaseMissing).collect::<Vec<_>>()
    };
    assert_eq!(codes("max: 3", "max: 4"), []);
    assert_eq!(codes("rate: 10/min, burst: 5", "rate: 1/s"), []);
    for (replace, with) in [
        ("{rolling: 24h}", "{rolling: 23h}"),
        ("per: [contact, inputs.order_id]", "per: [contact]"),
        ("rate: 10/min, burst: 5", "count: true, max: 1, window: {rolling: 24h}"),
    ] {
        assert_eq!(codes(replace, with), [Code::LimitDisagrees], "{with}");
    }
}

#[test]
fn what_holds_nobody_back_is_told() {
    breaks("    - {use: money-out, amount: inputs.amount, unit: inputs.currency}\n", "", &[Code::LimitUnused]);
    breaks("  timezone: Europe/Dublin\n", "", &[Code::TimezoneMissing]);
    breaks("timezone: Europe/Dublin", "timezone: UTC", &[]);
    breaks("  attributes:", "  guardrails: {writes_need: [limit]}\n  attributes:", &[]);
    let found = found("  attributes:", "  guardrails: {writes_need: [limit]}\n  attributes:");
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::WriteUnlimited]);
}

#[test]
fn only_a_read_goes_ahead_without_the_store() {
    breaks("  limits:\n    - {use", "  on_store_failure: allow\n  limits:\n    - {use", &[Code::StoreFailureWrite]);
    breaks("  effect: read", "  effect: read\n  on_store_failure: allow", &[]);
    breaks("  effect: read", "  effect: read\n  on_store_failure: maybe", &[Code::BadValue]);
}

const PUBLIC: &str = "\
apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {workspace: acme, name: subscribe, version: v1}
spec:
  effect: write
  sensitivity: public
  audience: {kinds: [visitor]}
  inputs:
    topic: {from: agent, schema: {type: string, enum: [news, offers]}}
  idempotency: {same: [inputs.topic]}
  limits: [{name: all, per: [connector], count: true, max: 100, window: {rolling: 24h}}]
  request: {upstream: shop, method: POST, path: /v2/subscriptions, body: {json: {topic: '${inputs.topic}'}}}
  retry: {attempts: 1}
";

#[test]
fn a_public_write_is_allowed_by_the_workspace_and_capped_over_all_contacts() {
    let open = WORKSPACE.replace("  attributes:", "  guardrails: {public_writes: true}\n  attributes:");
    let codes = |workspace: &str, connector: &str| {
        let loaded = load(&[workspace, connector]);
        let found = loaded.result.map_or_else(|found| found, |_| loaded.warnings);
        found.iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&open, PUBLIC), []);
    assert_eq!(codes(WORKSPACE, PUBLIC), [Code::PublicWrite]);
    for with in ["per: [contact], count: true", "per: [inputs.topic], count: true"] {
        assert_eq!(codes(&open, &PUBLIC.replace("per: [connector], count: true", with)), [Code::PublicWrite], "{with}");
    }
    let rate = PUBLIC.replace("count: true, max: 100, window: {rolling: 24h}", "rate: 1/s");
    assert_eq!(codes(&open, &rate), [Code::PublicWrite]);
}

/// What the sample's refund takes with these inputs.
fn taken(inputs: &str) -> Vec<(String, i64, String, Option<String>)> {
    let shared = SHARED.replace("per: [contact]", "per: [contact, connector]");
    let texts = [WORKSPACE.replace("  timezone:", &shared), LIST.to_owned(), REFUND.replace("  retry:", OWN)];
    let connector = refund(load(&[&texts[0], &texts[1], &texts[2]]));
    let supplied = Supplied::parse(inputs, "{}", crate::bind::CallerRole::Other).unwrap();
    let now = Timestamp::from_seconds(0);
    let account = AttributeValue { value: json!("acc_1"), provenance: Provenance::SignedToken, proof_time: Some(now) };
    let contact = ContactView {
        id: ContactId::from_digest(&[1; 16]),
        kind: ContactKind::User,
        known_by: Some(Provenance::SignedToken),
        attributes: [("account_id".to_owned(), account)].into(),
        proven: crate::contact::ProvenAddresses::default(),
    };
    let mut binding = bind(&connector, &contact, &supplied, now).unwrap();
    let rates = rates(&connector, &binding).unwrap();
    let list = crate::projection::Shaped {
        output: json!({"orders": [{"id": "ord_a1b2c3"}, {"id": "ord_d4e5f6"}]}),
        truncated: Vec::new(),
    };
    binding.check_list(&"list-orders".parse().unwrap(), &list).unwrap();
    let inputs = binding.complete().unwrap();
    let caps = caps(&connector, &inputs).unwrap();
    rates
        .iter()
        .chain(&caps)
        .map(|one| (one.limit.name.to_string(), one.amount, one.unit.clone(), one.dimensions.map(Digest::to_hex)))
        .collect()
}

#[test]
fn a_request_takes_what_its_inputs_say() {
    let one = taken(r#"{"order_id": "ord_a1b2c3", "amount": 1500}"#);
    let shown: Vec<_> = one.iter().map(|(name, amount, unit, _)| (name.as_str(), *amount, unit.as_str())).collect();
    assert_eq!(shown, [("burst", 1, ""), ("money-out", 1500, "EUR"), ("per-order", 1, "")]);
    assert!(one[0].3.is_none() && one[1].3.is_some() && one[2].3.is_some());
    let again = taken(r#"{"amount": 15e2, "order_id": "ord_a1b2c3"}"#);
    assert_eq!(again, one, "however it is written");
    let other = taken(r#"{"order_id": "ord_d4e5f6", "amount": 1500}"#);
    assert_eq!(other[1].3, one[1].3, "the connector is the same");
    assert_ne!(other[2].3, one[2].3, "each order has a count of its own");
}
