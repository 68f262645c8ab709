//! Who is talking, and what is known of them.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::{digest, hmac};
use safeconduct_types::{Channel, ContactId, Provenance, Secret, SessionId, Timestamp, Violation, WorkspaceId};
use serde::{Deserialize, Serialize};

/// What kind of person a contact is, by what was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactKind {
    /// Nothing was proven.
    Visitor,
    /// Control of an address was proven, nothing else.
    Lead,
    /// The customer's backend knows them.
    User,
}

impl ContactKind {
    /// Its name in files, spans and assertions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Lead => "lead",
            Self::User => "user",
        }
    }
}

/// How the contact of an assertion was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Not at all: a visitor.
    None,
    /// By a user hash.
    UserHash,
    /// By a token of the customer's backend.
    Token,
    /// By a code sent to an email address: a lead.
    EmailCode,
    /// By a code sent to a phone: a lead.
    SmsCode,
}

impl Method {
    /// By a code that came through this channel.
    pub const fn by_code(channel: Channel) -> Self {
        match channel {
            Channel::Email => Self::EmailCode,
            Channel::Sms => Self::SmsCode,
        }
    }

    /// Its name in spans and assertions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UserHash => "user_hash",
            Self::Token => "token",
            Self::EmailCode => "email_code",
            Self::SmsCode => "sms_code",
        }
    }

    /// What kind of contact it makes.
    pub const fn kind(self) -> ContactKind {
        match self {
            Self::None => ContactKind::Visitor,
            Self::UserHash | Self::Token => ContactKind::User,
            Self::EmailCode | Self::SmsCode => ContactKind::Lead,
        }
    }

    /// The provenance of what it proves; none for a visitor.
    pub const fn proves(self) -> Option<Provenance> {
        match self {
            Self::None => None,
            Self::UserHash => Some(Provenance::SignedHash),
            Self::Token => Some(Provenance::SignedToken),
            Self::EmailCode => Some(Provenance::OtpEmail),
            Self::SmsCode => Some(Provenance::OtpSms),
        }
    }
}

/// One value known of a contact, and what it is worth.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// The value, byte for byte as it was proven.
    #[serde(rename = "v")]
    pub value: serde_json::Value,
    /// Who vouches for it.
    #[serde(rename = "p")]
    pub provenance: Provenance,
    /// When that was proven.
    #[serde(rename = "t")]
    pub proof_time: Timestamp,
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value is personal.
        f.debug_struct("Attribute")
            .field("provenance", &self.provenance)
            .field("proof_time", &self.proof_time)
            .finish_non_exhaustive()
    }
}

/// What is known of a contact, by name.
pub type Attributes = BTreeMap<String, Attribute>;

/// Addresses whose control was proven by a one-time password; apart from the attributes, so that an address that was
/// signed and one that was proven are never taken for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The email address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Attribute>,
    /// The phone number, as E.164 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Attribute>,
}

impl Proven {
    /// Whether no address was proven.
    pub const fn is_empty(&self) -> bool {
        self.email.is_none() && self.phone.is_none()
    }
}

/// The person talking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Stands for the same proven identity in every session.
    pub id: ContactId,
    /// What kind of person.
    pub kind: ContactKind,
    /// What is known of them.
    pub attributes: Attributes,
    /// The addresses that they have proven.
    pub proven: Proven,
}

/// Which identifier a workspace's user hash is made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identifier {
    /// The customer's own, opaque id of the user.
    UserId,
    /// The user's email address. Guessable, so discouraged.
    Email,
}

impl Identifier {
    /// Its name in files and requests, and as an attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserId => "user_id",
            Self::Email => "email",
        }
    }
}

/// An identity as somebody claims it: a name, not yet proven. Its value is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    identifier: Identifier,
    value: String,
}

/// Most bytes of a user id.
pub const MAX_USER_ID: usize = 256;
/// Most bytes of an email address (RFC 5321, section 4.5.3.1.3, less the angle brackets).
pub const MAX_EMAIL: usize = 254;

impl Identity {
    /// Takes the text byte for byte: nothing is trimmed, folded or normalised, because the hash was made over these
    /// bytes and the upstream will be asked for them. `field` names where it stood.
    pub fn parse(identifier: Identifier, value: &str, field: &str) -> Result<Self, Violation> {
        let problem = match identifier {
            Identifier::UserId if value.is_empty() || value.len() > MAX_USER_ID => Some("must have 1 to 256 bytes"),
            Identifier::Email if value.len() > MAX_EMAIL || !is_address(value) => {
                Some("must be an email address of at most 254 bytes, without spaces")
            }
            Identifier::UserId | Identifier::Email => None,
        };
        let problem =
            problem.or_else(|| value.chars().any(char::is_control).then_some("must not hold control characters"));
        match problem {
            Some(problem) => Err(Violation::new(field, problem)),
            None => Ok(Self { identifier, value: value.to_owned() }),
        }
    }

    /// Which identifier it is.
    pub fn identifier(&self) -> Identifier {
        self.identifier
    }

    /// The value; personal data.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The one attribute that proving this identity proves.
    pub fn attribute(&self, provenance: Provenance, proof_time: Timestamp) -> (String, Attribute) {
        let value = serde_json::Value::String(self.value.clone());
        (self.identifier.as_str().to_owned(), Attribute { value, provenance, proof_time })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, [redacted])", self.identifier.as_str())
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.chars().any(char::is_whitespace)
}

/// Makes contact ids: a keyed hash, so that an id tells nobody which user it stands for. Changing the key gives
/// every contact another id.
#[derive(Clone, Debug)]
pub struct ContactHasher {
    key: hmac::Key,
}

impl ContactHasher {
    /// Hashes with the key of purpose `contact-hashing`.
    pub fn new(key: &Secret) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()) }
    }

    /// The contact that this identity names, the same in every session.
    pub fn user(&self, workspace: &WorkspaceId, identity: &Identity) -> ContactId {
        // The identifier is part of the kind: a user id that looks like an address is not the user of that address.
        let kind = match identity.identifier {
            Identifier::UserId => "user/user_id",
            Identifier::Email => "user/email",
        };
        self.id(kind, workspace, &identity.value)
    }

    /// The contact that control of this address makes: the same in every session, and never a user's. The address is
    /// the canonical one; another spelling is another contact.
    pub fn lead(&self, workspace: &WorkspaceId, channel: Channel, canonical_address: &str) -> ContactId {
        let kind = match channel {
            Channel::Email => "lead/email",
            Channel::Sms => "lead/sms",
        };
        self.id(kind, workspace, canonical_address)
    }

    fn id(&self, kind: &str, workspace: &WorkspaceId, value: &str) -> ContactId {
        first_half(hmac::sign(&self.key, &joined([kind, workspace.as_str(), value])).as_ref())
    }
}

/// The contact that a session begins as, before anything is proven in it. No key is needed to tell it: the id of a
/// session is chance, so this says of nobody who they are, and whoever has the session can look for what closes it.
pub fn visitor(workspace: &WorkspaceId, session: &SessionId) -> ContactId {
    let parts = joined(["safeconduct/visitor/1", workspace.as_str(), session.as_str()]);
    first_half(digest::digest(&digest::SHA256, &parts).as_ref())
}

/// Length first: no two triples read the same.
fn joined(parts: [&str; 3]) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    for part in parts {
        text.extend((part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text
}

fn first_half(digest: &[u8]) -> ContactId {
    ContactId::from_digest(&digest.first_chunk::<16>().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher() -> ContactHasher {
        ContactHasher::new(&Secret::new(vec![7; 32]))
    }

    fn identity(identifier: Identifier, value: &str) -> Identity {
        Identity::parse(identifier, value, "f").unwrap()
    }

    #[test]
    fn one_identity_is_one_contact_and_no_other_is() {
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let ann = identity(Identifier::UserId, "ann@example.com");
        let id = hasher().user(&acme, &ann);
        assert_eq!(id, hasher().user(&acme, &ann));
        assert_ne!(id, hasher().user(&globex, &ann));
        assert_ne!(
            id,
            hasher().user(&acme, &identity(Identifier::Email, "ann@example.com")),
            "an address is no user id"
        );
        assert_ne!(id, hasher().user(&acme, &identity(Identifier::UserId, "Ann@example.com")), "bytes count");
        assert_ne!(id, ContactHasher::new(&Secret::new(vec![8; 32])).user(&acme, &ann));
    }

    #[test]
    fn a_lead_is_one_contact_in_every_session_and_never_a_user() {
        let acme = "acme".parse().unwrap();
        let ann = "ann@example.com";
        let lead = hasher().lead(&acme, Channel::Email, ann);
        assert_eq!(lead, hasher().lead(&acme, Channel::Email, ann));
        assert_ne!(lead, hasher().lead(&"globex".parse().unwrap(), Channel::Email, ann));
        assert_ne!(lead, hasher().lead(&acme, Channel::Sms, ann));
        for user in [Identifier::UserId, Identifier::Email] {
            assert_ne!(lead, hasher().user(&acme, &identity(user, ann)));
        }
    }

    #[test]
    fn a_session_begins_as_a_contact_of_its_own_that_everybody_can_tell() {
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (one, two) = ("ses_1".parse().unwrap(), "ses_2".parse().unwrap());
        assert_eq!(visitor(&acme, &one), visitor(&acme, &one));
        for other in [visitor(&acme, &two), visitor(&globex, &one)] {
            assert_ne!(visitor(&acme, &one), other);
        }
        assert_ne!(visitor(&acme, &one), hasher().user(&acme, &identity(Identifier::UserId, "ses_1")));
    }

    #[test]
    fn identities_out_of_bounds_are_refused() {
        for bad in ["", "a\u{0}", "a\nb", "a\u{85}", &"x".repeat(257)] {
            assert!(Identity::parse(Identifier::UserId, bad, "user_hash.user_id").is_err(), "{bad:?}");
        }
        assert!(Identity::parse(Identifier::UserId, &"x".repeat(256), "f").is_ok());
        for bad in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "a b@example.com",
            "ann@example.com\n",
            &format!("{}@x", "x".repeat(253)),
        ] {
            assert!(Identity::parse(Identifier::Email, bad, "user_hash.email").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn personal_values_are_not_printed() {
        let ann = identity(Identifier::Email, "ann@example.com");
        let (name, attribute) = ann.attribute(Provenance::SignedHash, Timestamp::default());
        let shown = format!("{ann:?} {name} {attribute:?}");
        assert!(!shown.contains("ann"), "{shown}");
    }
}
