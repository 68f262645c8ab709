//! Marks on the wire: admission parses what its sisters write, and they what it answers.

use safeconduct_proto::admission::v1 as proto;
use safeconduct_types::{
    ConnectorName, ContactId, Mark, MarkCheck, MarkKey, ResourceDigest, SessionId, Subject, Version,
};

use super::{Fields, timestamp, to_timestamp};

/// Longest reason, in characters, and longest name of an actor, in bytes.
const MAX_TEXT: usize = 256;

/// A key as protobuf has it.
pub fn to_mark_key(from: MarkKey) -> proto::MarkKey {
    use proto::MarkKind as Kind;

    let named = proto::MarkKey {
        workspace_id: from.workspace.into(),
        contact_id: from.subject.contact().map(ToString::to_string).unwrap_or_default(),
        ..proto::MarkKey::default()
    };
    let (kind, key) = match from.subject {
        Subject::SessionRevoked(_, session) => {
            (Kind::SessionRevoked, proto::MarkKey { session_id: session.into(), ..named })
        }
        Subject::ContactSignedOut(_) => (Kind::ContactSignedOut, named),
        Subject::ContactBlocked(_) => (Kind::ContactBlocked, named),
        Subject::ContactErased(_) => (Kind::ContactErased, named),
        Subject::ResourceGone(_, connector, digest) => {
            let resource_digest = digest.0.to_vec().into();
            (Kind::ResourceGone, proto::MarkKey { connector: connector.into(), resource_digest, ..named })
        }
        Subject::ConnectorGone(connector) => {
            (Kind::ConnectorGone, proto::MarkKey { connector: connector.into(), ..named })
        }
        Subject::ConnectorDisabled(connector) => {
            (Kind::ConnectorDisabled, proto::MarkKey { connector: connector.into(), ..named })
        }
        Subject::VersionDisabled(connector, version) => {
            let (connector, version) = (connector.into(), version.into());
            (Kind::VersionDisabled, proto::MarkKey { connector, version, ..named })
        }
        Subject::WorkspaceDisabled => (Kind::WorkspaceDisabled, named),
        Subject::AssertionStale(_, session) => {
            let session_id = session.map(String::from).unwrap_or_default();
            (Kind::AssertionStale, proto::MarkKey { session_id, ..named })
        }
    };
    proto::MarkKey { kind: kind.into(), ..key }
}

/// A mark as protobuf has it.
pub fn to_mark(from: Mark) -> proto::Mark {
    proto::Mark {
        key: Some(to_mark_key(from.key)),
        effective_time: Some(to_timestamp(from.effective)),
        expire_time: from.expires.map(to_timestamp),
        reason: from.reason,
        actor: from.actor,
        revision: from.revision,
        min_epoch: from.min_epoch,
    }
}

/// A check as protobuf has it.
pub fn to_mark_check(from: MarkCheck) -> proto::MarkCheck {
    proto::MarkCheck { key: Some(to_mark_key(from.key)), since: from.since.map(to_timestamp), epoch: from.epoch }
}

/// The key that protobuf says: with all fields that its kind is about and no others.
pub fn parse_mark_key(fields: &mut Fields, field: &str, from: &proto::MarkKey) -> Option<MarkKey> {
    let workspace = fields.parse(&format!("{field}.workspace_id"), &from.workspace_id);
    let kind = fields.known::<proto::MarkKind>(&format!("{field}.kind"), from.kind)?;
    let mut parts = Parts { fields, field, from, used: Vec::new() };
    let subject = parts.subject(kind);
    parts.nothing_else();
    Some(MarkKey::new(workspace?, subject?))
}

/// The mark that protobuf says; with [`UNSAID`] where it leaves its time out.
pub fn parse_mark(fields: &mut Fields, field: &str, from: proto::Mark) -> Option<Mark> {
    let key = fields.required(&format!("{field}.key"), from.key);
    let key = key.and_then(|key| parse_mark_key(fields, &format!("{field}.key"), &key));
    let effective = from.effective_time.map(|at| time(fields, &format!("{field}.effective_time"), &at));
    let expires = from.expire_time.map(|at| time(fields, &format!("{field}.expire_time"), &at));
    if from.reason.chars().count() > MAX_TEXT {
        fields.wrong(&format!("{field}.reason"), "must have at most 256 characters");
    }
    let reason = fields.text(&format!("{field}.reason"), from.reason, MAX_TEXT * 4);
    let actor = fields.text(&format!("{field}.actor"), from.actor, MAX_TEXT);
    Some(Mark {
        key: key?,
        effective: match effective {
            Some(at) => at?,
            None => UNSAID,
        },
        expires: match expires {
            Some(at) => Some(at?),
            None => None,
        },
        reason,
        actor,
        revision: from.revision,
        min_epoch: from.min_epoch,
    })
}

/// The time of a mark that says none: later than any that can be written.
pub const UNSAID: safeconduct_types::Timestamp = safeconduct_types::Timestamp::from_millis(i64::MAX);

/// The check that protobuf says.
pub fn parse_mark_check(fields: &mut Fields, field: &str, from: &proto::MarkCheck) -> Option<MarkCheck> {
    let key = fields.required(&format!("{field}.key"), from.key.as_ref());
    let key = key.and_then(|key| parse_mark_key(fields, &format!("{field}.key"), key));
    let since = from.since.map(|at| time(fields, &format!("{field}.since"), &at));
    Some(MarkCheck {
        key: key?,
        since: match since {
            Some(at) => Some(at?),
            None => None,
        },
        epoch: from.epoch,
    })
}

fn time(fields: &mut Fields, field: &str, at: &prost_types::Timestamp) -> Option<safeconduct_types::Timestamp> {
    let parsed = timestamp(at);
    if parsed.is_none() {
        fields.wrong(field, "must be a time of the years 1 to 9999");
    }
    parsed
}

/// The fields that say what a mark is about. Those that were not asked for must be empty.
struct Parts<'a> {
    fields: &'a mut Fields,
    field: &'a str,
    from: &'a proto::MarkKey,
    used: Vec<&'static str>,
}

impl Parts<'_> {
    fn subject(&mut self, kind: proto::MarkKind) -> Option<Subject> {
        use proto::MarkKind as Kind;

        Some(match kind {
            Kind::SessionRevoked => {
                let (contact, session) = (self.contact(), self.session());
                Subject::SessionRevoked(contact?, session?)
            }
            Kind::ContactSignedOut => Subject::ContactSignedOut(self.contact()?),
            Kind::ContactBlocked => Subject::ContactBlocked(self.contact()?),
            Kind::ContactErased => Subject::ContactErased(self.contact()?),
            Kind::ResourceGone => {
                let (contact, connector, digest) = (self.contact(), self.connector(), self.digest());
                Subject::ResourceGone(contact?, connector?, digest?)
            }
            Kind::ConnectorGone => Subject::ConnectorGone(self.connector()?),
            Kind::ConnectorDisabled => Subject::ConnectorDisabled(self.connector()?),
            Kind::VersionDisabled => {
                let (connector, version) = (self.connector(), self.version());
                Subject::VersionDisabled(connector?, version?)
            }
            Kind::WorkspaceDisabled => Subject::WorkspaceDisabled,
            Kind::AssertionStale => {
                let contact = self.contact();
                let session = if self.from.session_id.is_empty() { None } else { Some(self.session()) };
                let session = match session {
                    Some(parsed) => Some(parsed?),
                    None => None,
                };
                Subject::AssertionStale(contact?, session)
            }
            Kind::Unspecified => return None,
        })
    }

    fn contact(&mut self) -> Option<ContactId> {
        self.text("contact_id", &self.from.contact_id)
    }

    fn session(&mut self) -> Option<SessionId> {
        self.text("session_id", &self.from.session_id)
    }

    fn connector(&mut self) -> Option<ConnectorName> {
        self.text("connector", &self.from.connector)
    }

    fn version(&mut self) -> Option<Version> {
        self.text("version", &self.from.version)
    }

    fn digest(&mut self) -> Option<ResourceDigest> {
        self.used.push("resource_digest");
        let digest = <[u8; 32]>::try_from(self.from.resource_digest.as_ref()).ok();
        if digest.is_none() {
            self.fields.wrong(&format!("{}.resource_digest", self.field), "must have 32 bytes");
        }
        digest.map(ResourceDigest)
    }

    fn text<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &'static str, text: &str) -> Option<T> {
        self.used.push(name);
        self.fields.parse(&format!("{}.{name}", self.field), text)
    }

    fn nothing_else(self) {
        let from = self.from;
        let all = [
            ("contact_id", from.contact_id.is_empty()),
            ("session_id", from.session_id.is_empty()),
            ("connector", from.connector.is_empty()),
            ("version", from.version.is_empty()),
            ("resource_digest", from.resource_digest.is_empty()),
        ];
        for (name, _) in all.into_iter().filter(|(name, empty)| !empty && !self.used.contains(name)) {
            self.fields.wrong(&format!("{}.{name}", self.field), "must be empty for marks of this kind");
        }
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::Timestamp;

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
            Subject::ResourceGone(contact.clone(), connector.clone(), ResourceDigest([7; 32])),
            Subject::ConnectorGone(connector.clone()),
            Subject::ConnectorDisabled(connector.clone()),
            Subject::VersionDisabled(connector, "1.0".parse().unwrap()),
            Subject::WorkspaceDisabled,
            Subject::AssertionStale(contact.clone(), None),
            Subject::AssertionStale(contact, Some(session)),
        ]
    }

    fn key(subject: Subject) -> MarkKey {
        MarkKey::new("acme".parse().unwrap(), subject)
    }

    fn wrong(from: &proto::MarkKey) -> Vec<String> {
        let mut fields = Fields::new();
        assert_eq!(parse_mark_key(&mut fields, "key", from).filter(|_| fields.violations.is_empty()), None);
        fields.violations.into_iter().map(|one| one.field).collect()
    }

    #[test]
    fn every_mark_and_check_comes_back_from_the_wire_as_it_went() {
        for subject in subjects() {
            let mark = Mark {
                key: key(subject.clone()),
                effective: Timestamp::from_seconds(7),
                expires: Some(Timestamp::from_seconds(9)),
                reason: "lost phone".into(),
                actor: "desk".into(),
                revision: 3,
                min_epoch: 2,
            };
            let mut fields = Fields::new();
            assert_eq!(parse_mark(&mut fields, "mark", to_mark(mark.clone())), Some(mark));
            let check = MarkCheck { key: key(subject), since: Some(Timestamp::from_seconds(4)), epoch: 5 };
            assert_eq!(parse_mark_check(&mut fields, "marks", &to_mark_check(check.clone())), Some(check));
            fields.finish().unwrap();
        }
    }

    #[test]
    fn what_a_kind_is_not_about_must_be_empty_and_what_it_is_about_must_be_there() {
        for subject in subjects() {
            let right = to_mark_key(key(subject.clone()));
            if !matches!(subject, Subject::VersionDisabled(..)) {
                let more = proto::MarkKey { version: "2".into(), ..right.clone() };
                assert_eq!(wrong(&more), ["key.version"], "{subject:?}");
            }
            if subject.contact().is_some() {
                let less = proto::MarkKey { contact_id: String::new(), ..right.clone() };
                assert_eq!(wrong(&less), ["key.contact_id"], "{subject:?}");
            } else {
                let more = proto::MarkKey { contact_id: "cnt_1".into(), ..right.clone() };
                assert_eq!(wrong(&more), ["key.contact_id"], "{subject:?}");
            }
        }
        assert_eq!(wrong(&proto::MarkKey::default()), ["key.workspace_id", "key.kind"]);
        let short = to_mark_key(key(subjects().swap_remove(4)));
        assert_eq!(wrong(&proto::MarkKey { resource_digest: vec![1; 31].into(), ..short }), ["key.resource_digest"]);
    }
}
