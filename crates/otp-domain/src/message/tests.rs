use safeconduct_types::{Secret, SeededRandom};
use serde_json::json;

use super::*;
use crate::address::{Address, Channel, PlusTags};
use crate::challenge::{Binding, VerificationId};
use crate::code::{CodeForm, CodeKey};

fn policy(extra: &serde_json::Value) -> OtpPolicy {
    let mut spec = json!({
        "brand": "Smith & <Sons>",
        "email": {"from": "no-reply@acme.example", "via": ["dev"]},
        "purposes": {"look-up-order": {"en": "look up \"your\" order", "de": "Bestellung nachsehen"}},
        "delivery": {"dev": {"console": true}},
    });
    for (name, value) in extra.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn code() -> Code {
    let binding = Binding {
        workspace: "acme".parse().unwrap(),
        session: format!("ses_{}", "0".repeat(32)).parse().unwrap(),
        address: Address::parse(Channel::Email, "ann@example.com", PlusTags::Keep).unwrap(),
        purpose: "look-up-order".to_owned(),
    };
    CodeKey::new(&Secret::new(vec![7; 32])).derive(
        &VerificationId::generate([0; 8], &SeededRandom::new(1)),
        &binding,
        CodeForm::STRONG,
    )
}

fn message(policy: &OtpPolicy, locale: &str) -> Rendered {
    policy.message(locale.parse().ok().as_ref(), "look-up-order", Duration::from_secs(541), &code())
}

#[test]
fn a_message_brings_the_code_in_every_part_but_the_subject() {
    for locale in ["en", "de", "fr", "es"] {
        let message = message(&policy(&json!({})), locale);
        for part in [&message.text, &message.html, &message.sms] {
            assert!(part.contains(code().expose()) && !part.contains("${"), "{locale}");
            assert!(part.contains("10 "), "minutes are rounded up");
        }
        assert!(!message.subject.contains(code().expose()) && message.subject.contains("Smith & <Sons>"));
        assert_eq!(message.locale.as_str(), locale);
    }
}

#[test]
fn words_are_escaped_where_they_land() {
    let message = message(&policy(&json!({})), "en");
    assert!(message.html.contains("Smith &amp; &lt;Sons&gt;") && message.html.contains("&quot;your&quot;"));
    assert!(!message.html.contains("<Sons>"));
    assert!(message.text.contains("Smith & <Sons>"));
}

#[test]
fn the_nearest_language_is_taken() {
    let policy = policy(&json!({"default_locale": "fr", "templates": {"de-at": {
        "subject": "Servus", "text": "${code} $${x} ${brand}", "html": "<b>${code}</b>", "sms": "${code}"}}}));
    for (asked, taken) in
        [("de-AT", "de-at"), ("de-at-x-y", "de-at"), ("de-CH", "de"), ("es-419", "es"), ("ja", "fr"), ("", "fr")]
    {
        assert_eq!(message(&policy, asked).locale.as_str(), taken, "{asked}");
    }
    assert_eq!(*message(&policy, "de-at").text, format!("{} ${{x}} Smith & <Sons>", code().expose()));
}

#[test]
fn what_is_no_language_is_refused() {
    let long = format!("de{}", "-abcdefgh".repeat(4));
    for text in ["", "d", "de_AT", "de-", "12", "de--at", "de\n", "../../en", &long] {
        assert!(text.parse::<Locale>().is_err(), "{text:?}");
    }
    assert_eq!("pt-BR".parse::<Locale>().unwrap().as_str(), "pt-br");
}

#[test]
fn a_message_is_not_printed() {
    assert!(!format!("{:?}", message(&policy(&json!({})), "en")).contains(code().expose()));
}
