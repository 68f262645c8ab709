//! The one-time password part of a workspace file (`spec.otp`).

mod budgets;
mod length;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use safeconduct_types::Violation;
use serde::Deserialize;

use crate::address::{Channel, Country, PhoneNumber, PlusTags};
use crate::code::CodeForm;
use crate::delivery::{Provider, ProviderName};
use crate::message::{Locale, Template, Texts};

pub use budgets::Budgets;
pub use spec::{CodeSpec, EmailSpec, OtpSpec, SmsSpec, TemplateSpec};

/// What is wrong with `spec.otp`: all of it. Each violation's field is a path below `spec.otp`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|one| format!("{}: {}", one.field, one.description)).collect::<Vec<_>>().join("; "))]
pub struct PolicyError(pub Vec<Violation>);

/// What a workspace says about email. Its being there is what offers the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// `From:` of the messages, as written: an address, or `Name <address>`. No control characters.
    pub from: String,
    /// How they travel: the first that takes it; at least one. Never a transport that cannot carry email.
    pub via: Vec<ProviderName>,
}

/// What a workspace says about text messages. Its being there is what offers the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sms {
    /// How they travel: the first that takes it; at least one.
    pub via: Vec<ProviderName>,
    /// Where to; at least one.
    pub countries: BTreeSet<Country>,
    /// Beginnings of numbers that nothing is sent to, `+` and digits, besides those known to cost extra.
    pub blocked_prefixes: Vec<String>,
}

impl Sms {
    /// Whether text messages may be sent to this number.
    pub fn reaches(&self, number: &PhoneNumber) -> bool {
        number.country().is_some_and(|country| self.countries.contains(&country))
            && number.is_mobile()
            && !self.blocked_prefixes.iter().any(|prefix| number.as_str().starts_with(prefix))
    }
}

/// What a workspace says about one-time passwords, checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "OtpSpec")]
pub struct OtpPolicy {
    /// Email, if it is offered.
    pub email: Option<Email>,
    /// Text messages, if they are offered.
    pub sms: Option<Sms>,
    /// The form of codes while an address' guesses are not used up.
    pub code: CodeForm,
    /// How long a code counts: 1 min to 30 min.
    pub code_lifetime: Duration,
    /// Guesses at one code, 1 to 5.
    pub guesses: u8,
    /// How long the proof holds: 1 min to 24 h.
    pub proof_lifetime: Duration,
    /// What a `+tag` in an email address means.
    pub plus_tags: PlusTags,
    /// The name that messages sign with.
    pub brand: String,
    /// The language of who names none.
    pub default_locale: Locale,
    /// What a verification may be for, and how a message says so, by language.
    pub purposes: BTreeMap<String, Texts>,
    /// The workspace's own texts, by language; the built-in ones stand behind them.
    pub templates: BTreeMap<Locale, Template>,
    /// How much of everything.
    pub budgets: Budgets,
    /// The ways in which messages travel, by name.
    pub delivery: BTreeMap<ProviderName, Provider>,
}

impl OtpPolicy {
    /// Whether codes travel this way in the workspace.
    pub fn offers(&self, channel: Channel) -> bool {
        match channel {
            Channel::Email => self.email.is_some(),
            Channel::Sms => self.sms.is_some(),
        }
    }

    /// The ways of a channel in the order in which they are tried.
    pub fn via(&self, channel: Channel) -> &[ProviderName] {
        match channel {
            Channel::Email => self.email.as_ref().map_or(&[], |email| &email.via),
            Channel::Sms => self.sms.as_ref().map_or(&[], |sms| &sms.via),
        }
    }

    /// The names of all secrets that delivery needs.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.delivery.values().filter_map(Provider::secret)
    }
}

#[cfg(test)]
mod tests;
