//! The stored form of marks. What they mean is said in `types`, as the mirrors of all services apply the same rule.
//!
//! A mark is a list of parts, each with its length (u32, big-endian) before it: a version byte, the key (itself such a
//! list), then the fields in order. The list of a key is canonical: two keys are equal if and only if their bytes are.

use std::time::Duration;

use safeconduct_types::{ConnectorName, ContactId, SessionId, Timestamp, Version};
pub use safeconduct_types::{Mark, MarkCheck, MarkKey, ResourceDigest, Subject};

use crate::CodecError;

/// How long a 410 for one object is believed if nobody says otherwise. Whoever asks later has the upstream say it again.
/// There can be as many of these as there are objects, so none may stay for ever.
pub const RESOURCE_GONE_FOR: Duration = Duration::from_hours(24);

const VERSION: &[u8] = &[1];

/// Whether `mark`, the record of a check's key, closes what the check asks for at `now`.
pub fn is_met(mark: &Mark, check: &MarkCheck, now: Timestamp) -> bool {
    mark.in_force(now) && mark.is_met(check)
}

/// The mark as it will stand after being set at `now`: over `before`, if that is still in force.
pub fn set(mut mark: Mark, before: Option<&Mark>, now: Timestamp) -> Mark {
    if matches!(mark.key.subject, Subject::ResourceGone(..)) {
        mark.expires.get_or_insert(now.after(RESOURCE_GONE_FOR));
    }
    match before.filter(|before| before.in_force(now)) {
        Some(before) => mark.over(before),
        None => mark,
    }
}

/// The canonical bytes of a key: what names its record.
pub fn key_bytes(key: &MarkKey) -> Vec<u8> {
    let (kind, parts): (u8, Vec<&[u8]>) = match &key.subject {
        Subject::SessionRevoked(contact, session) => {
            (1, vec![contact.as_str().as_bytes(), session.as_str().as_bytes()])
        }
        Subject::ContactSignedOut(contact) => (2, vec![contact.as_str().as_bytes()]),
        Subject::ContactBlocked(contact) => (3, vec![contact.as_str().as_bytes()]),
        Subject::ContactErased(contact) => (4, vec![contact.as_str().as_bytes()]),
        Subject::ResourceGone(contact, connector, resource) => {
            (5, vec![contact.as_str().as_bytes(), connector.as_str().as_bytes(), &resource.0])
        }
        Subject::ConnectorGone(connector) => (6, vec![connector.as_str().as_bytes()]),
        Subject::ConnectorDisabled(connector) => (7, vec![connector.as_str().as_bytes()]),
        Subject::VersionDisabled(connector, version) => {
            (8, vec![connector.as_str().as_bytes(), version.as_str().as_bytes()])
        }
        Subject::WorkspaceDisabled => (9, Vec::new()),
        Subject::AssertionStale(contact, session) => {
            let session = session.as_ref().map(|session| session.as_str().as_bytes());
            (10, [contact.as_str().as_bytes()].into_iter().chain(session).collect())
        }
    };
    let mut list = Vec::with_capacity(160);
    for part in [&[kind][..], key.workspace.as_str().as_bytes()].into_iter().chain(parts) {
        put(&mut list, part);
    }
    list
}

/// The bytes of a mark.
pub fn encode(mark: &Mark) -> Vec<u8> {
    let mut list = Vec::with_capacity(320);
    put(&mut list, VERSION);
    put(&mut list, &key_bytes(&mark.key));
    put(&mut list, &mark.effective.as_millis().to_be_bytes());
    match mark.expires {
        Some(expires) => put(&mut list, &expires.as_millis().to_be_bytes()),
        None => put(&mut list, &[]),
    }
    put(&mut list, &mark.min_epoch.to_be_bytes());
    put(&mut list, &mark.revision.to_be_bytes());
    put(&mut list, mark.reason.as_bytes());
    put(&mut list, mark.actor.as_bytes());
    list
}

/// The mark that these bytes are.
pub fn decode(bytes: &[u8]) -> Result<Mark, CodecError> {
    let parts = parts(bytes)?;
    match parts.as_slice() {
        [version, key, effective, expires, min_epoch, revision, reason, actor] if *version == VERSION => Ok(Mark {
            key: decode_key(key)?,
            effective: time(effective)?,
            expires: if expires.is_empty() { None } else { Some(time(expires)?) },
            min_epoch: u32::from_be_bytes(exact(min_epoch)?),
            revision: u64::from_be_bytes(exact(revision)?),
            reason: text(reason)?.to_owned(),
            actor: text(actor)?.to_owned(),
        }),
        [version, ..] if *version != VERSION => Err(CodecError::Version),
        _ => Err(CodecError::Damaged),
    }
}

/// The key that these bytes are.
pub fn decode_key(bytes: &[u8]) -> Result<MarkKey, CodecError> {
    let parts = parts(bytes)?;
    let [kind, workspace, subject @ ..] = parts.as_slice() else { return Err(CodecError::Damaged) };
    let [kind] = exact(kind)?;
    let contact = |part: &[u8]| parse::<ContactId>(part);
    let subject = match (kind, subject) {
        (1, [of, session]) => Subject::SessionRevoked(contact(of)?, parse::<SessionId>(session)?),
        (2, [of]) => Subject::ContactSignedOut(contact(of)?),
        (3, [of]) => Subject::ContactBlocked(contact(of)?),
        (4, [of]) => Subject::ContactErased(contact(of)?),
        (5, [of, connector, resource]) => {
            Subject::ResourceGone(contact(of)?, parse(connector)?, ResourceDigest(exact(resource)?))
        }
        (6, [connector]) => Subject::ConnectorGone(parse(connector)?),
        (7, [connector]) => Subject::ConnectorDisabled(parse(connector)?),
        (8, [connector, version]) => {
            Subject::VersionDisabled(parse::<ConnectorName>(connector)?, parse::<Version>(version)?)
        }
        (9, []) => Subject::WorkspaceDisabled,
        (10, [of]) => Subject::AssertionStale(contact(of)?, None),
        (10, [of, session]) => Subject::AssertionStale(contact(of)?, Some(parse(session)?)),
        _ => return Err(CodecError::Damaged),
    };
    Ok(MarkKey { workspace: parse(workspace)?, subject })
}

/// Appends one part of a list.
pub fn put(list: &mut Vec<u8>, part: &[u8]) {
    // What is stored is bounded far below this.
    list.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    list.extend_from_slice(part);
}

/// The parts of a list.
pub fn parts(mut list: &[u8]) -> Result<Vec<&[u8]>, CodecError> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = list.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CodecError::Damaged)?;
        let (part, rest) = rest.split_at_checked(length).ok_or(CodecError::Damaged)?;
        parts.push(part);
        list = rest;
    }
    if list.is_empty() { Ok(parts) } else { Err(CodecError::Damaged) }
}

/// A number of a list, or a digest: just as many bytes as it has.
pub fn exact<const N: usize>(part: &[u8]) -> Result<[u8; N], CodecError> {
    part.try_into().map_err(|_| CodecError::Damaged)
}

fn time(part: &[u8]) -> Result<Timestamp, CodecError> {
    Ok(Timestamp::from_millis(i64::from_be_bytes(exact(part)?)))
}

fn text(part: &[u8]) -> Result<&str, CodecError> {
    std::str::from_utf8(part).map_err(|_| CodecError::Damaged)
}

fn parse<T: std::str::FromStr>(part: &[u8]) -> Result<T, CodecError> {
    text(part)?.parse().map_err(|_| CodecError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subjects() -> Vec<Subject> {
        let contact = ContactId::from_digest(&[1; 16]);
        let session: SessionId = "ses_1".parse().unwrap();
        let connector: ConnectorName = "refund".parse().unwrap();
        vec![
            Subject::SessionRevoked(contact.clone(), session.clone()),
            Subject::ContactSignedOut(contact.clone()),
            Subject::ContactBlocked(contact.clone()),
            Subject::ContactErased(contact.clone()),
            Subject::ResourceGone(contact.clone(), connector.clone(), ResourceDigest([9; 32])),
            Subject::ConnectorGone(connector.clone()),
            Subject::ConnectorDisabled(connector.clone()),
            Subject::VersionDisabled(connector, "1.0".parse().unwrap()),
            Subject::WorkspaceDisabled,
            Subject::AssertionStale(contact.clone(), None),
            Subject::AssertionStale(contact, Some(session)),
        ]
    }

    fn mark(subject: Subject) -> Mark {
        Mark {
            key: MarkKey::new("acme".parse().unwrap(), subject),
            effective: Timestamp::from_seconds(5),
            expires: Some(Timestamp::from_seconds(9)),
            reason: "lost phone".into(),
            actor: "desk".into(),
            revision: 7,
            min_epoch: 2,
        }
    }

    #[test]
    fn every_mark_reads_back_as_it_was_and_no_two_keys_have_the_same_bytes() {
        let mut seen = std::collections::HashSet::new();
        for subject in subjects() {
            let full = mark(subject);
            assert_eq!(decode(&encode(&full)), Ok(full.clone()));
            let bare = Mark { expires: None, reason: String::new(), ..full };
            assert_eq!(decode(&encode(&bare)), Ok(bare.clone()));
            assert!(seen.insert(key_bytes(&bare.key)));
        }
    }

    #[test]
    fn what_was_cut_off_or_has_something_left_over_is_no_mark() {
        for subject in subjects() {
            let bytes = encode(&mark(subject));
            for end in 0..bytes.len() {
                assert!(decode(bytes.get(..end).unwrap()).is_err());
            }
            assert!(decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
            let _ = decode_key(&bytes);
        }
    }

    #[test]
    fn what_is_set_over_an_expired_mark_owes_it_nothing() {
        let now = Timestamp::from_seconds(9);
        let old = mark(Subject::WorkspaceDisabled);
        let new = Mark { effective: Timestamp::from_seconds(1), min_epoch: 0, expires: None, ..old.clone() };
        assert_eq!(set(new.clone(), Some(&old), now), new);
        assert_eq!(set(new, Some(&old), Timestamp::from_seconds(8)).effective, old.effective);
    }

    #[test]
    fn a_410_for_one_object_is_not_believed_for_ever() {
        let now = Timestamp::from_seconds(100);
        let gone = subjects().into_iter().find(|one| matches!(one, Subject::ResourceGone(..))).unwrap();
        let forever = Mark { expires: None, ..mark(gone) };
        assert_eq!(set(forever, None, now).expires, Some(now.after(RESOURCE_GONE_FOR)));
        let forever = Mark { expires: None, ..mark(Subject::WorkspaceDisabled) };
        assert_eq!(set(forever, None, now).expires, None);
    }
}
