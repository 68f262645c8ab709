//! Checks for marks, from protobuf.

use safeconduct_admission_domain::mark::MarkCheck;
use safeconduct_proto::admission::v1 as proto;
use safeconduct_service::wire::{Fields, parse_mark_check};
use safeconduct_types::{ContactId, WorkspaceId};

/// The most checks of one request.
const MAX_CHECKS: usize = 16;

/// The checks of a request, told apart by where they are exact.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    /// Marks on the contact: they lie in its slot and are checked in the very decision.
    pub(crate) own: Vec<MarkCheck>,
    /// All others.
    pub(crate) others: Vec<MarkCheck>,
}

pub(crate) fn parse_checks(
    fields: &mut Fields,
    from: &[proto::MarkCheck],
    workspace: Option<&WorkspaceId>,
    contact: Option<&ContactId>,
) -> Option<Checks> {
    if from.len() > MAX_CHECKS {
        fields.wrong("marks", "must be at most 16");
        return None;
    }
    let mut checks = Checks::default();
    let mut good = true;
    for (place, check) in from.iter().enumerate() {
        let at = format!("marks[{place}]");
        match parse_mark_check(fields, &at, check) {
            Some(check) if workspace.is_some_and(|workspace| check.key.workspace != *workspace) => {
                fields.wrong(&format!("{at}.key.workspace_id"), "must be the request's");
                good = false;
            }
            Some(check) if contact.is_some() && check.key.contact() == contact => checks.own.push(check),
            Some(check) => checks.others.push(check),
            None => good = false,
        }
    }
    good.then_some(checks)
}
