//! Making the assertion at the end of a use case.

use safeconduct_identity_domain::assertion::{Claims, Validity, sign};
use safeconduct_identity_domain::contact::{Contact, Method};
use safeconduct_identity_domain::session::Session;
use safeconduct_types::{CallerName, Refusal, Timestamp};

use crate::Identity;

/// An assertion and what its caller is told besides.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) assertion: String,
    pub(crate) contact: Contact,
    pub(crate) session: Session,
    pub(crate) validity: Validity,
}

impl Identity {
    /// Says who the contact of the session is, until the proof ends or the assertion's time is over.
    pub(crate) fn issue(
        &self,
        session: Session,
        contact: Contact,
        method: Method,
        presenters: Vec<CallerName>,
        now: Timestamp,
    ) -> Result<Issued, Refusal> {
        // A visitor has no proof that could age; its session ends.
        let proof_expires = match method {
            Method::None => session.ends(),
            Method::UserHash => session.ends().min(now.after(self.settings.proof_lifetime)),
        };
        let validity = Validity::new(now, self.settings.assertion_lifetime, proof_expires);
        let claims = Claims {
            issuer: self.settings.issuer.clone(),
            audience: self.settings.audience.clone(),
            presenters,
            workspace: session.workspace().clone(),
            session: session.id().clone(),
            session_start: session.started(),
            epoch: session.epoch(),
            contact,
            method,
            validity,
        };
        let assertion = sign(&claims, &self.signing, &*self.seal)
            .map_err(|error| Refusal::internal(format!("no assertion was made: {error}")))?;
        Ok(Issued { assertion, contact: claims.contact, session, validity })
    }
}
