//! What is taken from which budget before a message goes out or a guess is compared.
//!
//! Two steps, in this order, each all or nothing. First what the asker has: its session and its network. Only then what
//! it shares with others: the address, the calling service, the workspace, the phone's block and country. So who floods
//! somebody's address has to pay with sessions and networks of its own, and who is refused for its own sake has taken
//! nothing from anybody.
//!
//! Nobody can use up somebody's address for good. Its guesses run out: then its codes become ten letters, which need no
//! counting. Its messages run out: then networks that have proven it before go on, on counters of their own.

mod network;

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use safeconduct_types::{CallerName, Secret, SessionId, WorkspaceId};

use crate::address::Address;
use crate::policy::Budgets;

pub use network::Network;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Whose budget it is: what, besides the workspace, a counter is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The session.
    Session,
    /// The network of the device.
    Network,
    /// The calling service.
    Caller,
    /// The address.
    Address,
    /// The address, asked for from this network.
    AddressAndNetwork,
    /// The same, since the network proved the address.
    AddressAndHome,
    /// The block of numbers that the phone is in.
    Prefix,
    /// The phone's country.
    Country,
    /// Nothing besides.
    Workspace,
}

/// One budget: at most so many within the last so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name: in refusals, and the name of admission's counter.
    pub name: &'static str,
    /// Whose.
    pub of: Of,
    /// How many.
    pub max: u32,
    /// Within which time.
    pub within: Duration,
    /// Whether what is left may be told: where the asker alone takes from it. Elsewhere it would tell of others.
    pub is_own: bool,
}

const fn own(name: &'static str, of: Of, max: u32, within: Duration) -> Budget {
    Budget { name, of, max, within, is_own: true }
}

const fn shared(name: &'static str, of: Of, max: u32, within: Duration) -> Budget {
    Budget { name, of, max, within, is_own: false }
}

/// The first step of a message: what the asker pays with. Without a network, the session alone.
pub fn asker(budgets: &Budgets, knows_network: bool) -> Vec<Budget> {
    let session = own("otp sends per session", Of::Session, budgets.sends_per_session_hour, HOUR);
    let network = own("otp sends per network", Of::Network, budgets.sends_per_network_hour, HOUR);
    std::iter::once(session).chain(knows_network.then_some(network)).collect()
}

/// Whether the asker is known to be near the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    /// Its network is not known.
    Unknown,
    /// Its network has not proven the address.
    Stranger,
    /// Its network proved the address before.
    Familiar,
}

/// The second step of a message: what is shared with others.
pub fn target(budgets: &Budgets, address: &Address, nearness: Nearness) -> Vec<Budget> {
    let everybody = shared("otp sends per address", Of::Address, budgets.sends_per_address_day, DAY);
    let stranger = shared(
        "otp sends per address and network",
        Of::AddressAndNetwork,
        budgets.sends_per_address_and_network_day,
        DAY,
    );
    // Of one name and size: a refusal does not tell who is known where.
    let familiar = Budget { of: Of::AddressAndHome, ..stranger };
    let mut all = match nearness {
        Nearness::Unknown => vec![everybody],
        Nearness::Stranger => vec![stranger, everybody],
        Nearness::Familiar => vec![familiar],
    };
    all.push(shared("otp sends per caller", Of::Caller, budgets.sends_per_caller_hour, HOUR));
    match address {
        Address::Email(_) => {
            all.push(shared("otp emails", Of::Workspace, budgets.emails_per_workspace_day, DAY));
        }
        Address::Sms(_) => {
            all.push(shared("otp text messages per block", Of::Prefix, budgets.sms_per_prefix_hour, HOUR));
            all.push(shared("otp text messages per country", Of::Country, budgets.sms_per_country_day, DAY));
            all.push(shared("otp text messages", Of::Workspace, budgets.sms_per_workspace_day, DAY));
        }
    }
    all
}

/// One guess at a guessable code for an address, over all of its challenges. Taken when a challenge is issued, for its
/// first guess, and before each further one. Used up: new codes are [`STRONG`](crate::code::CodeForm::STRONG).
pub const fn guess(budgets: &Budgets) -> Budget {
    shared("otp guesses per address", Of::Address, budgets.guesses_per_address_day, DAY)
}

/// Who asks for what: what counters are told apart by.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The tenant.
    pub workspace: &'a WorkspaceId,
    /// The session.
    pub session: &'a SessionId,
    /// The network of the device, if the caller said.
    pub network: Option<&'a Network>,
    /// The calling service.
    pub caller: &'a CallerName,
    /// The address.
    pub address: &'a Address,
}

/// Names counters and places by keyed hashes, so that nobody reads an address, a session or a network off them.
#[derive(Clone)]
pub struct Namer(hmac::Key);

impl Namer {
    /// Names with this key (purpose `store-hashing`).
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// What the counter of this budget is told apart by.
    pub fn counter(&self, of: Of, parties: &Parties<'_>) -> [u8; 32] {
        let address = parties.address;
        let network = parties.network.map_or("", Network::as_str);
        let (block, country) = match address {
            Address::Sms(number) => (number.prefix(), number.country().map(|one| one.to_string()).unwrap_or_default()),
            Address::Email(_) => ("", String::new()),
        };
        let (label, parts): (_, [&str; 3]) = match of {
            Of::Session => ("session", [parties.session.as_str(), "", ""]),
            Of::Network => ("network", [network, "", ""]),
            Of::Caller => ("caller", [parties.caller.as_str(), "", ""]),
            Of::Address => ("address", [address.channel().as_str(), address.as_str(), ""]),
            Of::AddressAndNetwork => ("address-network", [address.channel().as_str(), address.as_str(), network]),
            Of::AddressAndHome => ("address-home", [address.channel().as_str(), address.as_str(), network]),
            Of::Prefix => ("prefix", [block, "", ""]),
            Of::Country => ("country", [&country, "", ""]),
            Of::Workspace => ("workspace", ["", "", ""]),
        };
        self.name(label, parties.workspace, &parts)
    }

    /// The part of a session's verification ids that leads to their records.
    pub fn route(&self, workspace: &WorkspaceId, session: &SessionId) -> [u8; 8] {
        self.name("route", workspace, &[session.as_str()]).first_chunk().copied().unwrap_or_default()
    }

    fn name(&self, label: &str, workspace: &WorkspaceId, parts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in ["safeconduct/otp-name/v1", label, workspace.as_str()].iter().chain(parts) {
            // Length first: no two lists of parts read the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut name = [0; 32];
        for (to, from) in name.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        name
    }
}

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namer([redacted])")
    }
}

#[cfg(test)]
mod tests;
