//! What ends an assertion before its time.

use safeconduct_types::{MarkCheck, MarkKey, Subject};

use super::VerifiedContact;
use crate::contact::visitor;

impl VerifiedContact {
    /// The marks that whoever acts on this assertion must not meet.
    pub fn marks(&self) -> Vec<MarkCheck> {
        let contact = || self.contact().id.clone();
        let session = || self.session().clone();
        let key = |subject| MarkKey::new(self.workspace().clone(), subject);
        let since = |subject, since| MarkCheck { key: key(subject), since: Some(since), epoch: self.epoch() };
        // Whoever revokes a session by its id alone does not know whom it was bound to.
        let began_as = visitor(self.workspace(), self.session());
        let by_id =
            (began_as != self.contact().id).then(|| MarkCheck::any(key(Subject::SessionRevoked(began_as, session()))));
        let mut marks = vec![
            MarkCheck::any(key(Subject::WorkspaceDisabled)),
            MarkCheck::any(key(Subject::ContactBlocked(contact()))),
            MarkCheck::any(key(Subject::SessionRevoked(contact(), session()))),
            since(Subject::ContactSignedOut(contact()), self.session_start()),
            // Who comes back later is somebody new.
            since(Subject::ContactErased(contact()), self.session_start()),
            since(Subject::AssertionStale(contact(), Some(session())), self.issued()),
            since(Subject::AssertionStale(contact(), None), self.issued()),
        ];
        marks.extend(by_id);
        marks
    }
}
