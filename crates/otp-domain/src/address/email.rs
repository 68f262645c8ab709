//! Email addresses.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

use super::{AddressError, fold};

/// Most characters of an email address (RFC 5321, section 4.5.3.1.3, less the angle brackets).
pub const MAX_EMAIL: usize = 254;
/// Most characters before the `@` (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// What a `+tag` before the `@` means in a workspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlusTags {
    /// Another mailbox: `ann+shop@example.com` and `ann@example.com` are two.
    #[default]
    Keep,
    /// The same mailbox: the tag is cut off, and the code goes to the address without it.
    Strip,
}

/// A canonical email address: lower case, the domain in A-labels. Personal data: never printed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Normalises what somebody wrote: trimmed, NFKC, local part in lower case (RFC 5321 lets a host tell cases apart;
    /// none that matters does, and two cases must not be two budgets), domain by UTS 46 (non-transitional, STD 3, DNS
    /// lengths). Refused: quoted and non-ASCII local parts, address literals, single-label domains, comments.
    pub fn parse(text: &str, plus_tags: PlusTags) -> Result<Self, AddressError> {
        let folded = fold(text)?;
        let (local, domain) = folded.split_once('@').ok_or(AddressError("must have the form name@example.com"))?;
        if domain.contains('@') || local.contains('"') {
            return Err(AddressError("must have one `@` and no quotes"));
        }
        let mut local = local.to_ascii_lowercase();
        if plus_tags == PlusTags::Strip
            && let Some(at) = local.find('+')
        {
            local.truncate(at);
        }
        if local.len() > MAX_LOCAL || !is_dot_atom(&local) {
            return Err(AddressError(
                "must have 1 to 64 letters, digits and .!#$%&'*+-/=?^_`{|}~ before the `@`, no dot first, last or twice",
            ));
        }
        let domain = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
            .map_err(|_| AddressError("must have a valid domain after the `@`"))?;
        let top = domain.rsplit_once('.').map(|(_, top)| top);
        if !top.is_some_and(|top| top.bytes().any(|c| c.is_ascii_alphabetic())) {
            return Err(AddressError("must have a domain of two names or more after the `@`"));
        }
        let canonical = format!("{local}@{domain}");
        if canonical.len() > MAX_EMAIL {
            return Err(AddressError("must have at most 254 characters"));
        }
        Ok(Self(canonical))
    }

    /// The canonical text; personal data.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first character before the `@` and of the domain, and the top-level domain.
    pub(super) fn masked(&self) -> String {
        let (local, domain) = self.0.split_once('@').unwrap_or_default();
        let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
        let top = domain.rsplit('.').next().unwrap_or_default();
        format!("{}***@{}***.{top}", first(local), first(domain))
    }
}

/// `dot-atom-text` of RFC 5322, section 3.2.3.
fn is_dot_atom(text: &str) -> bool {
    let is_text = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&c);
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_text))
}

impl TryFrom<String> for EmailAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        let parsed = Self::parse(&text, PlusTags::Keep)?;
        if parsed.0 == text { Ok(parsed) } else { Err(AddressError("is not canonical")) }
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress([redacted])")
    }
}
