//! Marks as admission answers them. Their form is the same for all services ([`safeconduct_service::wire`]).

use safeconduct_proto::admission::v1 as proto;
pub(crate) use safeconduct_service::wire::to_mark_check as to_check;
use safeconduct_service::wire::{Fields, parse_mark, parse_mark_key};
use safeconduct_types::{Mark, MarkKey, Subject};

/// `None`: of a kind or form that this version does not know.
pub(crate) fn mark(from: proto::Mark) -> Option<Mark> {
    let mut fields = Fields::new();
    let mark = parse_mark(&mut fields, "mark", from);
    fields.finish().ok().and(mark)
}

/// `None`: of a kind or form that this version does not know.
pub(crate) fn key(from: &proto::MarkKey) -> Option<MarkKey> {
    let mut fields = Fields::new();
    let key = parse_mark_key(&mut fields, "key", from);
    fields.finish().ok().and(key)
}

/// What a mark that [`mark`] does not know is taken to close, so that nothing is open that a newer version has closed:
/// its contact, else its connector, else its workspace. `None`: not even that can be read.
pub(crate) fn closed_by_unknown(from: &proto::MarkKey) -> Option<MarkKey> {
    let workspace = from.workspace_id.parse().ok()?;
    let subject = match (from.contact_id.as_str(), from.connector.as_str()) {
        ("", "") => Subject::WorkspaceDisabled,
        ("", connector) => connector.parse().map_or(Subject::WorkspaceDisabled, Subject::ConnectorDisabled),
        (contact, _) => contact.parse().map_or(Subject::WorkspaceDisabled, Subject::ContactBlocked),
    };
    Some(MarkKey::new(workspace, subject))
}
