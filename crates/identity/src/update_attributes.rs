//! `UpdateAttributes`: what a browser or an app says of the person. Believed by nobody who asks for more.

use safeconduct_identity_domain::attribute::{Applied, Change, Writer, apply};
use safeconduct_identity_domain::contact::ContactKind;
use safeconduct_identity_domain::record::{ContactRecord, Named};
use safeconduct_service::caller::{Caller, Role};
use safeconduct_store::Ends;
use safeconduct_types::Refusal;

use crate::Identity;
use crate::contacts::Edit;
use crate::current::latest;
use crate::wire::attributes::UpdateAttributes;

impl Identity {
    /// Provenance `CLIENT`, whoever's session it is. A visitor's values go with the session: they are not carried over
    /// to who proves to be somebody in it.
    pub(crate) async fn update_attributes(&self, caller: &Caller, asked: UpdateAttributes) -> Result<Applied, Refusal> {
        caller.require(&[Role::Messenger], None)?;
        let now = self.ports.clock.now();
        let audience = &self.settings.audience;
        let held = self.verifier().verify(asked.assertion.expose(), now, caller.name(), audience)?;
        caller.require(&[Role::Messenger], Some(held.workspace()))?;
        let (session, record) = self.behind(&held, now).await?;
        latest(&held, &session, record.as_ref())?;
        let policy = self.ports.workspaces.attribute_policy(held.workspace());
        let is_visitor = held.contact().kind == ContactKind::Visitor;
        let put = |found: Option<ContactRecord>| {
            let is_new = found.is_none();
            let mut record = match found {
                Some(record) => record,
                None if is_visitor => ContactRecord::new(Named::Nothing, now),
                None => return Err(Refusal::internal("the contact of an assertion has no record")),
            };
            record.admits_session(held.session_start())?;
            let changes: Vec<Change> = asked.changes.clone();
            let applied = apply(&mut record, &policy, Writer::Client, changes, now);
            if !applied.changed || (is_new && record.attributes.is_empty()) {
                return Ok(Edit::Keep(applied));
            }
            record.updated = now;
            let ends = if is_visitor { Ends::At(session.ends()) } else { Ends::Never };
            Ok(Edit::Put(record, ends, applied))
        };
        self.people.update(held.workspace(), &held.contact().id, put).await
    }
}
