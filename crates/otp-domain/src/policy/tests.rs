use serde_json::{Value, json};

use super::*;
use crate::address::PlusTags;

fn minimal() -> Value {
    json!({
        "brand": "Acme",
        "email": {"from": "Acme <no-reply@acme.example>", "via": ["dev"]},
        "purposes": {"look-up-order": {"en": "look up your order"}},
        "delivery": {"dev": {"console": true}},
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut spec = minimal();
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = &mut spec;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        at = &mut at[part];
    }
    at[last] = value;
    spec
}

fn parse(spec: Value) -> Result<OtpPolicy, String> {
    serde_json::from_value(spec).map_err(|error| error.to_string())
}

#[test]
fn what_is_left_out_is_what_the_contract_says() {
    let policy = parse(minimal()).unwrap();
    assert_eq!((policy.code.length, policy.guesses, policy.code_lifetime), (6, 3, Duration::from_mins(10)));
    assert_eq!((policy.proof_lifetime, policy.plus_tags), (Duration::from_mins(30), PlusTags::Keep));
    assert_eq!((policy.budgets.guesses_per_address_day, policy.budgets.sends_per_address_day), (10, 10));
    assert!(policy.offers(Channel::Email) && !policy.offers(Channel::Sms), "text messages are off");
}

#[test]
fn what_would_weaken_codes_or_means_nothing_is_refused() {
    for (path, value) in [
        ("code", json!({"length": 5})),
        ("code", json!({"length": 11})),
        ("code", json!({"guesses": 0})),
        ("code", json!({"guesses": 6})),
        ("code", json!({"lifetime": "31m"})),
        ("code", json!({"lifetime": "10"})),
        ("code", json!({"lifetime": "-1m"})),
        ("code", json!({"alphabet": "words"})),
        ("proof_lifetime", json!("25h")),
        ("budgets", json!({"guesses_per_address_day": 101})),
        ("budgets", json!({"sends_per_verification": 0})),
        ("budgets", json!({"sends_per_adress_day": 1})),
        ("brand", json!("")),
        ("brand", json!("Acme\r\nBcc: eve@example.com")),
        ("email", json!({"from": "Acme", "via": ["dev"]})),
        ("email", json!({"from": "a@acme.example\nx", "via": ["dev"]})),
        ("email", json!({"from": "a@acme.example", "via": []})),
        ("email", json!({"from": "a@acme.example", "via": ["other"]})),
        ("email", json!({"from": "a@acme.example", "via": ["dev", "dev"]})),
        ("sms", json!({"via": ["dev"], "countries": []})),
        ("sms", json!({"via": ["dev"], "countries": ["Ireland"]})),
        ("sms", json!({"via": ["dev"], "countries": ["IE"], "blocked_prefixes": ["353"]})),
        ("purposes", json!({})),
        ("purposes", json!({"Look up": {"en": "x"}})),
        ("purposes", json!({"x": {}})),
        ("purposes", json!({"x": {"en": "a\nb"}})),
        ("purposes", json!({"x": {"e!": "a"}})),
        ("templates", json!({"en": {"subject": "${code}", "text": "${code}", "html": "${code}", "sms": "${code}"}})),
        ("templates", json!({"en": {"subject": "x", "text": "no", "html": "${code}", "sms": "${code}"}})),
        ("templates", json!({"en": {"subject": "x", "text": "${code}${to}", "html": "${code}", "sms": "${code}"}})),
        ("unknown", json!(1)),
    ] {
        assert!(parse(with(path, value.clone())).is_err(), "{path}: {value}");
    }
    assert!(parse(json!({})).unwrap_err().contains("email"));
}

#[test]
fn everything_wrong_is_told_at_once() {
    let mut spec = with("code", json!({"length": 5, "guesses": 9}));
    spec["brand"] = json!("");
    spec["purposes"] = json!({});
    let told = parse(spec).unwrap_err();
    for part in ["code.length", "code.guesses", "brand", "purposes"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
}

#[test]
fn text_messages_go_to_the_named_countries_and_to_no_number_that_costs_extra() {
    let sms = json!({"via": ["dev"], "countries": ["GB", "US"], "blocked_prefixes": ["+4477"]});
    let sms = parse(with("sms", sms)).unwrap().sms.unwrap();
    let reaches = |text: &str| sms.reaches(&PhoneNumber::parse(text).unwrap());
    assert!(reaches("+447400123456") && reaches("+12025550123"));
    for closed in [
        "+353851234567",
        "+14165550123",
        "+18765550123",
        "+447781123456",
        "+447709123456",
        "+447012345678",
        "+447601123456",
        "+442079460000",
        "+19005550123",
    ] {
        assert!(!reaches(closed), "{closed}");
    }
}
