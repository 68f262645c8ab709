//! How much of everything: the numbers of `spec.otp.budgets`.

use serde::Deserialize;

/// The budgets of a workspace. Days and hours are rolling ones. `0` closes what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Guesses at guessable codes for one address, over all codes, sessions and networks: at most 100.
    pub guesses_per_address_day: u32,
    /// Messages to one address from networks that have not proven it.
    pub sends_per_address_day: u32,
    /// Messages to one address from one network, whether or not it has proven it.
    pub sends_per_address_and_network_day: u32,
    /// Messages that one session asks for.
    pub sends_per_session_hour: u32,
    /// Messages that one network (IPv4 /24, IPv6 /48) asks for.
    pub sends_per_network_hour: u32,
    /// Messages that one calling service asks for.
    pub sends_per_caller_hour: u32,
    /// Emails of the workspace.
    pub emails_per_workspace_day: u32,
    /// Text messages of the workspace.
    pub sms_per_workspace_day: u32,
    /// Text messages to numbers that differ in the last four digits only.
    pub sms_per_prefix_hour: u32,
    /// Text messages to one country.
    pub sms_per_country_day: u32,
    /// Messages of one verification, the first one included: 1 to 10.
    pub sends_per_verification: u8,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            guesses_per_address_day: 10,
            sends_per_address_day: 10,
            sends_per_address_and_network_day: 5,
            sends_per_session_hour: 5,
            sends_per_network_hour: 30,
            sends_per_caller_hour: 10_000,
            emails_per_workspace_day: 50_000,
            sms_per_workspace_day: 1_000,
            sms_per_prefix_hour: 10,
            sms_per_country_day: 500,
            sends_per_verification: 4,
        }
    }
}
