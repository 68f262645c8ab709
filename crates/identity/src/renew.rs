//! `RenewAssertion`: a fresh assertion of the same session, while the proof counts.

use std::time::Duration;

use safeconduct_identity_domain::contact::{Attributes, Identifier};
use safeconduct_service::caller::Caller;
use safeconduct_types::{Reason, Refusal, SecretText};

use crate::Identity;
use crate::current::latest;
use crate::issue::{Issued, Making};
use crate::verify::may_prove;

/// For how long after its end an assertion can still be renewed.
pub(crate) const GRACE: Duration = Duration::from_mins(1);

impl Identity {
    /// The same presenters, session, start, epoch, method and proof; the attributes as they are now.
    pub(crate) async fn renew_assertion(&self, caller: &Caller, assertion: &SecretText) -> Result<Issued, Refusal> {
        let now = self.ports.clock.now();
        let audience = &self.settings.audience;
        let held = self.verifier().verify_for_renewal(assertion.expose(), now, caller.name(), audience, GRACE)?;
        may_prove(caller, held.workspace(), false)?;
        let (session, record) = self.behind(&held, now).await?;
        latest(&held, &session, record.as_ref())?;
        if now >= held.proof_expires() {
            let what = "the proof is too old; prove who the contact is again";
            return Err(Refusal::new(Reason::AssertionStale, what).with_metadata("changed", "proof"));
        }
        let making = Making {
            contact: held.contact().id.clone(),
            named: named(&held),
            record,
            method: held.method(),
            proven_by: held.proven_by().map(str::to_owned),
            presenters: held.presenters().to_vec(),
            proof_expires: held.proof_expires(),
            session,
        };
        self.issue(making, now)
    }
}

/// The identifier that the assertion's proof has proven, with its own time.
pub(crate) fn named(held: &safeconduct_identity_domain::assertion::VerifiedContact) -> Attributes {
    let attributes = &held.contact().attributes;
    // A user is named by one of the two; an attribute `email` beside a user id comes out of the record.
    [Identifier::UserId, Identifier::Email]
        .into_iter()
        .find_map(|one| attributes.get_key_value(one.as_str()))
        .filter(|(_, one)| Some(one.provenance) == held.method().proves())
        .map(|(name, one)| (name.clone(), one.clone()))
        .into_iter()
        .collect()
}
