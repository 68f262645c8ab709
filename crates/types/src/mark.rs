//! Marks: what closes something for all replicas within a second, and what it means to meet one.
//!
//! The words stand here, and the one rule that defines them ([`Mark::is_met`]), because admission and the mirror in
//! every other service apply it to the same values.

use std::fmt;

use crate::{ConnectorName, ContactId, SessionId, Timestamp, Version, WorkspaceId};

/// What is closed: the kind of a mark and just the things that its kind is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A session was revoked.
    SessionRevoked(ContactId, SessionId),
    /// All sessions of the contact that began before the mark are over.
    ContactSignedOut(ContactId),
    /// The contact is blocked until the mark is cleared.
    ContactBlocked(ContactId),
    /// The contact was erased.
    ContactErased(ContactId),
    /// The upstream said 410 for an object of the contact.
    ResourceGone(ContactId, ConnectorName, ResourceDigest),
    /// The upstream said 410 for a connector.
    ConnectorGone(ConnectorName),
    /// An operator disabled a connector.
    ConnectorDisabled(ConnectorName),
    /// A version was disabled.
    VersionDisabled(ConnectorName, Version),
    /// An operator disabled the workspace.
    WorkspaceDisabled,
    /// Assertions of the contact (of one session, if one is named) from before the mark are stale.
    AssertionStale(ContactId, Option<SessionId>),
}

/// Keyed digest of an object's identifying inputs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceDigest(pub [u8; 32]);

impl fmt::Debug for ResourceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResourceDigest([redacted])")
    }
}

impl Subject {
    /// Whether it ends what somebody may hear. The others end what may be begun: what is under way already goes on, and
    /// whoever began it may hear of it.
    pub const fn shuts_out(&self) -> bool {
        match self {
            Self::SessionRevoked(..)
            | Self::ContactSignedOut(_)
            | Self::ContactBlocked(_)
            | Self::ContactErased(_)
            | Self::WorkspaceDisabled
            | Self::AssertionStale(..) => true,
            Self::ResourceGone(..)
            | Self::ConnectorGone(_)
            | Self::ConnectorDisabled(_)
            | Self::VersionDisabled(..) => false,
        }
    }

    /// The contact that it is about, if it is about one.
    pub const fn contact(&self) -> Option<&ContactId> {
        match self {
            Self::SessionRevoked(contact, _)
            | Self::ContactSignedOut(contact)
            | Self::ContactBlocked(contact)
            | Self::ContactErased(contact)
            | Self::ResourceGone(contact, ..)
            | Self::AssertionStale(contact, _) => Some(contact),
            Self::ConnectorGone(_)
            | Self::ConnectorDisabled(_)
            | Self::VersionDisabled(..)
            | Self::WorkspaceDisabled => None,
        }
    }

    /// The name of its kind in logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::SessionRevoked(..) => "SESSION_REVOKED",
            Self::ContactSignedOut(_) => "CONTACT_SIGNED_OUT",
            Self::ContactBlocked(_) => "CONTACT_BLOCKED",
            Self::ContactErased(_) => "CONTACT_ERASED",
            Self::ResourceGone(..) => "RESOURCE_GONE",
            Self::ConnectorGone(_) => "CONNECTOR_GONE",
            Self::ConnectorDisabled(_) => "CONNECTOR_DISABLED",
            Self::VersionDisabled(..) => "VERSION_DISABLED",
            Self::WorkspaceDisabled => "WORKSPACE_DISABLED",
            Self::AssertionStale(..) => "ASSERTION_STALE",
        }
    }
}

/// Names a mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// What is closed.
    pub subject: Subject,
}

impl MarkKey {
    /// The mark on `subject` in this workspace.
    pub const fn new(workspace: WorkspaceId, subject: Subject) -> Self {
        Self { workspace, subject }
    }

    /// The contact that it is about, if it is about one.
    pub const fn contact(&self) -> Option<&ContactId> {
        self.subject.contact()
    }
}

/// A fact that closes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What is closed.
    pub key: MarkKey,
    /// Closes what began at or before this, on the store's clock.
    pub effective: Timestamp,
    /// When the mark goes by itself; never, if `None`.
    pub expires: Option<Timestamp>,
    /// Why, for people; at most 256 characters.
    pub reason: String,
    /// Who set it; at most 256 bytes.
    pub actor: String,
    /// Rises with every change of any mark; 0 while only the contact's own records have it, which are written first.
    pub revision: u64,
    /// Lowest session epoch that is still good; 0 where epochs do not matter.
    pub min_epoch: u32,
}

/// A mark that a request must not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkCheck {
    /// The mark to look for.
    pub key: MarkKey,
    /// When the thing in question began. `None`: any mark of that key is met.
    pub since: Option<Timestamp>,
    /// The session epoch in question.
    pub epoch: u32,
}

impl MarkCheck {
    /// Any mark of this key.
    pub const fn any(key: MarkKey) -> Self {
        Self { key, since: None, epoch: 0 }
    }
}

impl Mark {
    /// Whether the mark is (still) there at `now`, on the store's clock.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether this mark, in force, closes what `check` asks for; the key is taken to be the same.
    pub fn is_met(&self, check: &MarkCheck) -> bool {
        check.since.is_none_or(|since| since <= self.effective) || self.min_epoch > check.epoch
    }

    /// The mark after it was set to `self` while `before` was in force: nothing that was closed opens.
    #[must_use]
    pub fn over(self, before: &Self) -> Self {
        let expires = match (self.expires, before.expires) {
            (Some(new), Some(old)) => Some(new.max(old)),
            _ => None,
        };
        Self {
            effective: self.effective.max(before.effective),
            min_epoch: self.min_epoch.max(before.min_epoch),
            expires,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> MarkKey {
        MarkKey::new("acme".parse().unwrap(), Subject::AssertionStale(ContactId::from_digest(&[1; 16]), None))
    }

    fn mark(effective: i64, expires: Option<i64>, min_epoch: u32) -> Mark {
        Mark {
            key: key(),
            effective: Timestamp::from_millis(effective),
            expires: expires.map(Timestamp::from_millis),
            reason: String::new(),
            actor: String::new(),
            revision: 0,
            min_epoch,
        }
    }

    fn check(since: Option<i64>, epoch: u32) -> MarkCheck {
        MarkCheck { key: key(), since: since.map(Timestamp::from_millis), epoch }
    }

    #[test]
    fn a_mark_closes_what_began_at_or_before_it() {
        assert!(mark(100, None, 0).is_met(&check(Some(99), 0)));
        assert!(mark(100, None, 0).is_met(&check(Some(100), 0)));
        assert!(!mark(100, None, 0).is_met(&check(Some(101), 0)));
        assert!(mark(100, None, 0).is_met(&check(None, 0)), "no time: any mark is met");
    }

    #[test]
    fn an_older_epoch_is_closed_whatever_the_times() {
        assert!(mark(0, None, 3).is_met(&check(Some(100), 2)));
        assert!(!mark(0, None, 3).is_met(&check(Some(100), 3)));
    }

    #[test]
    fn a_mark_goes_by_itself_when_its_time_is_over() {
        let short = mark(0, Some(10), 0);
        assert!(short.in_force(Timestamp::from_millis(9)));
        assert!(!short.in_force(Timestamp::from_millis(10)));
        assert!(mark(0, None, 0).in_force(Timestamp::from_millis(i64::MAX)));
    }

    proptest! {
        #[test]
        fn setting_a_mark_again_opens_nothing_that_was_closed(
            (old_at, old_end, old_epoch) in (0..9i64, proptest::option::of(0..9i64), 0..4u32),
            (new_at, new_end, new_epoch) in (0..9i64, proptest::option::of(0..9i64), 0..4u32),
            (since, epoch, now) in (proptest::option::of(0..9i64), 0..4u32, 0..9i64),
        ) {
            let (old, new) = (mark(old_at, old_end, old_epoch), mark(new_at, new_end, new_epoch));
            let closes = |mark: &Mark| {
                mark.in_force(Timestamp::from_millis(now)) && mark.is_met(&check(since, epoch))
            };
            let both = new.clone().over(&old);
            prop_assert!(closes(&both) || !closes(&old));
            prop_assert!(closes(&both) || !closes(&new));
        }
    }
}
