//! `spec.otp` as it is written, and the way from there to what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use safeconduct_types::Violation;
use serde::Deserialize;

use super::{Budgets, Email, OtpPolicy, PolicyError, Sms, length};
use crate::address::{Country, EmailAddress, PlusTags};
use crate::code::{Alphabet, CodeForm};
use crate::delivery::{self, Provider, ProviderName};
use crate::message::{Locale, Template, Texts, check_body, check_subject};

/// `spec.otp` as it is written. [`OtpPolicy`] is what it means.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtpSpec {
    /// Email.
    pub email: Option<EmailSpec>,
    /// Text messages.
    pub sms: Option<SmsSpec>,
    /// Codes.
    #[serde(default)]
    pub code: CodeSpec,
    /// How long the proof holds, 1 min to 24 h; 30 min by default.
    pub proof_lifetime: Option<String>,
    /// What a `+tag` means.
    #[serde(default)]
    pub plus_tags: PlusTags,
    /// The name that messages sign with; at most 64 characters. Needed.
    #[serde(default)]
    pub brand: String,
    /// The language of who names none; `en` by default.
    pub default_locale: Option<String>,
    /// What a verification may be for; at most 32.
    #[serde(default)]
    pub purposes: BTreeMap<String, BTreeMap<String, String>>,
    /// The workspace's own texts, by language; at most 32.
    #[serde(default)]
    pub templates: BTreeMap<String, TemplateSpec>,
    /// How much of everything.
    #[serde(default)]
    pub budgets: Budgets,
    /// The ways of delivery, by name.
    #[serde(default)]
    pub delivery: serde_json::Map<String, serde_json::Value>,
}

/// `spec.otp.email`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSpec {
    /// `From:` of the messages.
    pub from: String,
    /// Primary, then fallback.
    pub via: Vec<ProviderName>,
}

/// `spec.otp.sms`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsSpec {
    /// Primary, then fallback.
    pub via: Vec<ProviderName>,
    /// Where to: ISO 3166-1 codes.
    pub countries: Vec<String>,
    /// Beginnings of numbers that nothing is sent to.
    #[serde(default)]
    pub blocked_prefixes: Vec<String>,
}

/// `spec.otp.code`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeSpec {
    /// 6 to 10; 6 by default.
    pub length: Option<u8>,
    /// `digits` by default.
    #[serde(default)]
    pub alphabet: Alphabet,
    /// 1 min to 30 min; 10 min by default.
    pub lifetime: Option<String>,
    /// 1 to 5; 3 by default.
    pub guesses: Option<u8>,
}

/// One language of `spec.otp.templates`, whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    /// The subject of an email.
    pub subject: String,
    /// The plain part of an email.
    pub text: String,
    /// The HTML part of an email.
    pub html: String,
    /// A text message.
    pub sms: String,
}

/// Collects what is wrong.
#[derive(Default)]
struct Wrong(Vec<Violation>);

impl Wrong {
    fn add(&mut self, field: impl Into<String>, description: impl std::fmt::Display) {
        self.0.push(Violation::new(field, description.to_string()));
    }

    fn length(
        &mut self,
        field: &str,
        text: Option<&str>,
        default: Duration,
        least: Duration,
        most: Duration,
    ) -> Duration {
        let Some(text) = text else { return default };
        if let Some(length) = length::parse(text).filter(|length| (least..=most).contains(length)) {
            return length;
        }
        let (least, most) = (least.as_secs() / 60, most.as_secs() / 60);
        self.add(field, format!("must be {least}m to {most}m, such as 10m"));
        default
    }

    fn locale(&mut self, field: &str, text: &str) -> Option<Locale> {
        text.parse().map_err(|error| self.add(field, error)).ok()
    }

    fn line(&mut self, field: &str, text: &str, most: usize) {
        if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
            self.add(field, format!("must be one line of 1 to {most} characters"));
        }
    }

    fn via(&mut self, field: &str, via: &[ProviderName], all: &BTreeMap<ProviderName, Provider>, mail: bool) {
        if via.is_empty() || via.len() > 4 {
            self.add(field, "must name 1 to 4 entries of `delivery`");
        }
        for (index, name) in via.iter().enumerate() {
            match all.get(name) {
                None => self.add(format!("{field}[{index}]"), "is not among `delivery`"),
                Some(Provider::Smtp(_)) if !mail => {
                    self.add(format!("{field}[{index}]"), "is a mail server, which carries no text messages");
                }
                Some(_) if via.iter().take(index).any(|other| other == name) => {
                    self.add(format!("{field}[{index}]"), "is listed twice");
                }
                Some(_) => {}
            }
        }
    }
}

impl TryFrom<OtpSpec> for OtpPolicy {
    type Error = PolicyError;

    fn try_from(spec: OtpSpec) -> Result<Self, PolicyError> {
        const MINUTE: Duration = Duration::from_mins(1);
        let mut wrong = Wrong::default();
        let delivery = delivery::read(&serde_json::Value::Object(spec.delivery)).unwrap_or_else(|violations| {
            wrong.0.extend(violations);
            BTreeMap::new()
        });
        let email = spec.email.map(|email| parse_email(email, &delivery, &mut wrong));
        let sms = spec.sms.map(|sms| parse_sms(sms, &delivery, &mut wrong));
        if email.is_none() && sms.is_none() {
            wrong.add("email", "is needed, or `sms`: a workspace without both leaves `otp` out");
        }
        let code = code_form(&spec.code, &mut wrong);
        let guesses = spec.code.guesses.unwrap_or(3);
        if !(1..=5).contains(&guesses) {
            wrong.add("code.guesses", "must be 1 to 5");
        }
        wrong.line("brand", &spec.brand, 64);
        if !(1..=10).contains(&spec.budgets.sends_per_verification) {
            wrong.add("budgets.sends_per_verification", "must be 1 to 10");
        }
        if spec.budgets.guesses_per_address_day > 100 {
            wrong.add("budgets.guesses_per_address_day", "must be at most 100: more could find a code of six digits");
        }
        let code_lifetime =
            wrong.length("code.lifetime", spec.code.lifetime.as_deref(), 10 * MINUTE, MINUTE, 30 * MINUTE);
        let proof_lifetime =
            wrong.length("proof_lifetime", spec.proof_lifetime.as_deref(), 30 * MINUTE, MINUTE, 24 * 60 * MINUTE);
        let default_locale = spec.default_locale.as_deref().and_then(|text| wrong.locale("default_locale", text));
        let purposes = purposes(spec.purposes, &mut wrong);
        let templates = templates(spec.templates, &mut wrong);
        if !wrong.0.is_empty() {
            return Err(PolicyError(wrong.0));
        }
        Ok(Self {
            email,
            sms,
            code,
            code_lifetime,
            guesses,
            proof_lifetime,
            plus_tags: spec.plus_tags,
            brand: spec.brand,
            default_locale: default_locale.unwrap_or_else(Locale::english),
            purposes,
            templates,
            budgets: spec.budgets,
            delivery,
        })
    }
}

fn code_form(spec: &CodeSpec, wrong: &mut Wrong) -> CodeForm {
    let length = spec.length.unwrap_or(6);
    if !(6..=10).contains(&length) {
        wrong.add("code.length", "must be 6 to 10");
    }
    CodeForm { alphabet: spec.alphabet, length }
}

fn parse_email(spec: EmailSpec, all: &BTreeMap<ProviderName, Provider>, wrong: &mut Wrong) -> Email {
    wrong.via("email.via", &spec.via, all, true);
    wrong.line("email.from", &spec.from, 320);
    let address = match spec.from.trim().strip_suffix('>').and_then(|from| from.rsplit_once('<')) {
        Some((_, address)) => address,
        None => spec.from.trim(),
    };
    if let Err(error) = EmailAddress::parse(address, PlusTags::Keep) {
        wrong.add("email.from", format!("its address {error}"));
    }
    Email { from: spec.from, via: spec.via }
}

fn parse_sms(spec: SmsSpec, all: &BTreeMap<ProviderName, Provider>, wrong: &mut Wrong) -> Sms {
    wrong.via("sms.via", &spec.via, all, false);
    if spec.countries.is_empty() {
        wrong.add("sms.countries", "must name at least one: text messages cost money, so nothing is open by itself");
    }
    let mut countries = BTreeSet::new();
    for (index, text) in spec.countries.iter().enumerate() {
        match text.parse::<Country>() {
            Ok(country) => drop(countries.insert(country)),
            Err(error) => wrong.add(format!("sms.countries[{index}]"), error),
        }
    }
    for (index, prefix) in spec.blocked_prefixes.iter().enumerate() {
        let digits = prefix.strip_prefix('+').unwrap_or_default();
        if !(1..=15).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
            wrong.add(format!("sms.blocked_prefixes[{index}]"), "must be `+` and 1 to 15 digits");
        }
    }
    Sms { via: spec.via, countries, blocked_prefixes: spec.blocked_prefixes }
}

fn purposes(from: BTreeMap<String, BTreeMap<String, String>>, wrong: &mut Wrong) -> BTreeMap<String, Texts> {
    if from.is_empty() || from.len() > 32 {
        wrong.add("purposes", "must name 1 to 32 purposes: a person is told what a code is for");
    }
    let mut purposes = BTreeMap::new();
    for (name, texts) in from {
        let at = format!("purposes.{name}");
        if !is_label(&name, 64) {
            wrong.add(&at, "must have a name of 1 to 64 of a-z, 0-9 and `-`, a letter first");
        }
        if texts.is_empty() {
            wrong.add(&at, "must say in at least one language what it is for");
        }
        let mut known = Texts::new();
        for (tag, text) in texts {
            wrong.line(&format!("{at}.{tag}"), &text, 120);
            if let Some(locale) = wrong.locale(&format!("{at}.{tag}"), &tag) {
                known.insert(locale, text);
            }
        }
        purposes.insert(name, known);
    }
    purposes
}

fn templates(from: BTreeMap<String, TemplateSpec>, wrong: &mut Wrong) -> BTreeMap<Locale, Template> {
    if from.len() > 32 {
        wrong.add("templates", "must have at most 32 languages");
    }
    let mut templates = BTreeMap::new();
    for (tag, one) in from {
        let at = format!("templates.{tag}");
        if let Err(error) = check_subject(&one.subject) {
            wrong.add(format!("{at}.subject"), error);
        }
        for (member, body) in [("text", &one.text), ("html", &one.html), ("sms", &one.sms)] {
            if body.len() > 16 * 1024 {
                wrong.add(format!("{at}.{member}"), "must have at most 16 KiB");
            } else if let Err(error) = check_body(body) {
                wrong.add(format!("{at}.{member}"), error);
            }
        }
        let TemplateSpec { subject, text, html, sms } = one;
        if let Some(locale) = wrong.locale(&at, &tag) {
            templates.insert(locale, Template { subject, text, html, sms });
        }
    }
    templates
}

fn is_label(text: &str, most: usize) -> bool {
    text.len() <= most
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}
