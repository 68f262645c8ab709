//! Checking assertions.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use safeconduct_types::{CallerName, Reason, Refusal, SessionId, Timestamp, WorkspaceId};

use super::sealed::{self, Known, Owner, Seal};
use super::{ALGORITHM, Header, JwkSet, KeyId, MAX_LEN, MAX_PRESENTERS, Payload, STRICT, TYPE};
use crate::contact::{Contact, Method};
use crate::strict_json;

/// How far identity's clock may be ahead of ours. An end is never stretched.
const LEEWAY: Duration = Duration::from_secs(30);

/// Checks assertions against identity's keys.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Arc<JwkSet>,
    seal: Arc<dyn Seal>,
    issuer: Arc<str>,
}

/// A contact about whom identity said so, within this assertion's bounds. Only [`Verifier::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedContact {
    workspace: WorkspaceId,
    session: SessionId,
    session_start: Timestamp,
    epoch: u32,
    contact: Contact,
    method: Method,
    proven_by: Option<String>,
    presenters: Vec<CallerName>,
    issued: Timestamp,
    expires: Timestamp,
    proof_expires: Timestamp,
}

/// Who brings an assertion, and until when it counts there.
#[derive(Clone, Copy)]
struct Bringing<'a> {
    /// None: a sister that has checked who presents it.
    presenter: Option<&'a CallerName>,
    /// For how long after its end it still counts.
    grace: Duration,
}

impl VerifiedContact {
    /// The tenant.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// When the session started, in whole seconds.
    pub fn session_start(&self) -> Timestamp {
        self.session_start
    }

    /// The session's epoch when the assertion was issued.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Who it is.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// How that was proven.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The mark of the key that proved the contact; nothing for who was proven by no key, and in an assertion of a
    /// version that did not say.
    pub fn proven_by(&self) -> Option<&str> {
        self.proven_by.as_deref()
    }

    /// Who may present it.
    pub fn presenters(&self) -> &[CallerName] {
        &self.presenters
    }

    /// When the assertion was issued, in whole seconds.
    pub fn issued(&self) -> Timestamp {
        self.issued
    }

    /// When the assertion ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// When the proof ends.
    pub fn proof_expires(&self) -> Timestamp {
        self.proof_expires
    }
}

/// An assertion taken apart, nothing of it believed.
struct Parts<'a> {
    kid: KeyId,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl Verifier {
    /// Checks against the `keys` of `issuer`; opens attributes with `seal`. Cheap: make a new one when the keys change.
    pub fn new(keys: Arc<JwkSet>, seal: Arc<dyn Seal>, issuer: Arc<str>) -> Self {
        Self { keys, seal, issuer }
    }

    /// Whether the token is well-formed and signed with a key that is not in the set: fetching newer keys may help.
    pub fn needs_newer_keys(&self, token: &str) -> bool {
        take_apart(token).is_ok_and(|parts| !self.keys.contains(&parts.kid))
    }

    /// Checks that identity issued `token` for the suite `audience`, that it holds at `now`, and that `presenter`,
    /// the authenticated caller, may present it.
    pub fn verify(
        &self,
        token: &str,
        now: Timestamp,
        presenter: &CallerName,
        audience: &str,
    ) -> Result<VerifiedContact, Refusal> {
        self.check(token, now, Bringing { presenter: Some(presenter), grace: Duration::ZERO }, audience)
    }

    /// Like [`Self::verify`], for whoever exchanges the assertion for a fresh one: it may have ended up to `grace` ago.
    /// Nothing else may be done with it.
    pub fn verify_for_renewal(
        &self,
        token: &str,
        now: Timestamp,
        presenter: &CallerName,
        audience: &str,
        grace: Duration,
    ) -> Result<VerifiedContact, Refusal> {
        self.check(token, now, Bringing { presenter: Some(presenter), grace }, audience)
    }

    /// Like [`Self::verify`], where a sister passes on what was presented to it: that the presenter may do so was checked
    /// there. Only for what is called by services of the suite alone.
    pub fn verify_passed_on(&self, token: &str, now: Timestamp, audience: &str) -> Result<VerifiedContact, Refusal> {
        self.check(token, now, Bringing { presenter: None, grace: Duration::ZERO }, audience)
    }

    fn check(
        &self,
        token: &str,
        now: Timestamp,
        bringing: Bringing<'_>,
        audience: &str,
    ) -> Result<VerifiedContact, Refusal> {
        let parts = take_apart(token)?;
        if !self.keys.contains(&parts.kid) {
            return Err(invalid("it is signed with a key that is not, or no longer, identity's"));
        }
        if !self.keys.verifies(&parts.kid, parts.signed.as_bytes(), &parts.signature) {
            return Err(invalid("its signature does not verify"));
        }
        let payload = STRICT.decode(parts.payload).map_err(|_| invalid(FORM))?;
        let payload: Payload<'static> = strict_json::object(&payload).map_err(|_| invalid(FORM))?;
        if payload.iss != *self.issuer || payload.aud != audience {
            return Err(invalid("it was issued by or for another suite"));
        }
        check(&payload, now, bringing)?;
        self.open(payload)
    }

    fn open(&self, payload: Payload<'static>) -> Result<VerifiedContact, Refusal> {
        let owner = Owner { workspace: &payload.wsp, session: &payload.sid, contact: &payload.sub };
        let sealed = STRICT.decode(payload.att.as_bytes()).map_err(|_| invalid(FORM))?;
        let Known { attributes, proven, proven_by } = sealed::open(&*self.seal, &owner, &sealed)
            .map_err(|_| invalid("its attributes cannot be opened with this service's keys"))?;
        Ok(VerifiedContact {
            session_start: Timestamp::from_seconds(payload.sst),
            epoch: payload.sep,
            method: payload.mth,
            proven_by: proven_by.map(Cow::into_owned),
            issued: Timestamp::from_seconds(payload.iat),
            expires: Timestamp::from_seconds(payload.exp),
            proof_expires: Timestamp::from_seconds(payload.pxp),
            contact: Contact {
                id: payload.sub.into_owned(),
                kind: payload.knd,
                attributes: attributes.into_owned(),
                proven: proven.into_owned(),
            },
            presenters: payload.azp.into_owned(),
            workspace: payload.wsp.into_owned(),
            session: payload.sid.into_owned(),
        })
    }
}

/// The one serialisation there is: three strict base64url parts, a header of the three known members.
fn take_apart(token: &str) -> Result<Parts<'_>, Refusal> {
    if token.is_empty() {
        return Err(Refusal::new(
            Reason::AssertionMissing,
            "the call carries no assertion; get one with StartSession or VerifyIdentity",
        ));
    }
    if token.len() > MAX_LEN {
        return Err(invalid("it is longer than any that is issued"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(|| invalid(FORM))?;
    let (header, payload) = signed.split_once('.').ok_or_else(|| invalid(FORM))?;
    let header = STRICT.decode(header).map_err(|_| invalid(FORM))?;
    let header: Header = strict_json::object(&header).map_err(|_| invalid(FORM))?;
    if header.alg != ALGORITHM || header.typ != TYPE {
        return Err(invalid(FORM));
    }
    let signature = STRICT.decode(signature).map_err(|_| invalid(FORM))?;
    Ok(Parts { kid: header.kid, signed, payload, signature })
}

fn check(payload: &Payload<'_>, now: Timestamp, bringing: Bringing<'_>) -> Result<(), Refusal> {
    if payload.azp.len() > MAX_PRESENTERS || bringing.presenter.is_some_and(|one| !payload.azp.contains(one)) {
        let why = "the assertion was not issued for this caller; name the caller among `presenters`";
        return Err(Refusal::new(Reason::AudienceMismatch, why));
    }
    if Timestamp::from_seconds(payload.iat) > now.after(LEEWAY) {
        return Err(invalid("it was issued in the future; set the clocks"));
    }
    if payload.exp <= payload.iat || payload.exp > payload.pxp {
        return Err(invalid(FORM));
    }
    if now >= Timestamp::from_seconds(payload.exp).after(bringing.grace) {
        return Err(Refusal::new(
            Reason::AssertionExpired,
            "the assertion has expired; renew it in time, or get a new one with VerifyIdentity",
        ));
    }
    Ok(())
}

const FORM: &str = "it does not have the form of one";

fn invalid(why: &str) -> Refusal {
    Refusal::new(Reason::AssertionInvalid, format!("the assertion is not accepted: {why}"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
