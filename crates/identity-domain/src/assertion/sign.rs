//! Issuing assertions.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use safeconduct_types::{CallerName, Secret, SessionId, Timestamp, WorkspaceId};

use super::sealed::{self, Known, Owner, Seal};
use super::{ALGORITHM, Header, JwkSet, JwksError, KeyId, MAX_LEN, MAX_PRESENTERS, Payload, STRICT, TYPE};
use crate::contact::{Contact, Method};

/// A key that signs assertions.
pub struct SigningKey {
    id: KeyId,
    /// The header of every assertion that it signs, encoded, with the dot after it.
    head: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key that this seed of 32 bytes stands for.
    pub fn from_seed(id: KeyId, seed: &Secret) -> Result<Self, JwksError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .map_err(|_| JwksError("the seed of a signing key must have 32 bytes"))?;
        let header = Header { alg: ALGORITHM.to_owned(), kid: id.clone(), typ: TYPE.to_owned() };
        let header = serde_json::to_vec(&header).map_err(|_| JwksError("the id of a signing key cannot be written"))?;
        Ok(Self { head: format!("{}.", STRICT.encode(header)), id, pair })
    }

    /// Its id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The public halves of these keys.
    pub fn public<'a>(keys: impl IntoIterator<Item = &'a Self>) -> Result<JwkSet, JwksError> {
        let mut set = JwkSet::default();
        for key in keys {
            let bytes = key.pair.public_key().as_ref().try_into();
            set.insert(key.id.clone(), bytes.map_err(|_| JwksError("an Ed25519 public key has 32 bytes"))?)?;
        }
        Ok(set)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// From when to when an assertion holds. It never outlives the proof that it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    issued: Timestamp,
    expires: Timestamp,
    proof_expires: Timestamp,
}

impl Validity {
    /// From `now` for `lifetime`, or until the proof ends, whichever is sooner; in whole seconds, rounded down.
    pub fn new(now: Timestamp, lifetime: Duration, proof_expires: Timestamp) -> Self {
        let seconds = |time: Timestamp| Timestamp::from_seconds(time.as_seconds());
        let proof_expires = seconds(proof_expires);
        Self { issued: seconds(now), expires: seconds(now.after(lifetime)).min(proof_expires), proof_expires }
    }

    /// When it was issued.
    pub fn issued(self) -> Timestamp {
        self.issued
    }

    /// When it ends.
    pub fn expires(self) -> Timestamp {
        self.expires
    }

    /// When the proof ends; until then the assertion can be renewed.
    pub fn proof_expires(self) -> Timestamp {
        self.proof_expires
    }
}

/// What an assertion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who issues it: the identity service of the suite.
    pub issuer: String,
    /// The suite that it is for.
    pub audience: String,
    /// The callers that may present it; 1 to [`MAX_PRESENTERS`].
    pub presenters: Vec<CallerName>,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The session.
    pub session: SessionId,
    /// When the session started; carried in whole seconds.
    pub session_start: Timestamp,
    /// The session's epoch.
    pub epoch: u32,
    /// Who the contact is; the attributes are sealed.
    pub contact: Contact,
    /// How that was proven.
    pub method: Method,
    /// The mark of the key that proved it; nothing for who was proven by no key. Sealed.
    pub proven_by: Option<String>,
    /// When it holds.
    pub validity: Validity,
}

/// An assertion that was not made. Each of these is a fault of ours or of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Nobody, or too many, could present it.
    #[error("an assertion needs 1 to {MAX_PRESENTERS} presenters")]
    Presenters,
    /// It would have ended before it was issued.
    #[error("the proof has ended; nothing can be asserted on it")]
    Ended,
    /// It would not be accepted.
    #[error("the assertion would have more than {MAX_LEN} bytes; send fewer or shorter attributes")]
    TooLong,
    /// The attributes could not be sealed.
    #[error("the attributes cannot be sealed")]
    Seal,
    /// The signature could not be made.
    #[error("the assertion cannot be signed")]
    Signature,
}

/// Makes the assertion.
pub fn sign(claims: &Claims, key: &SigningKey, seal: &dyn Seal) -> Result<String, SignError> {
    if claims.presenters.is_empty() || claims.presenters.len() > MAX_PRESENTERS {
        return Err(SignError::Presenters);
    }
    let validity = claims.validity;
    if validity.expires <= validity.issued {
        return Err(SignError::Ended);
    }
    let owner = Owner { workspace: &claims.workspace, session: &claims.session, contact: &claims.contact.id };
    let Contact { attributes, proven, .. } = &claims.contact;
    let known = Known {
        attributes: Cow::Borrowed(attributes),
        proven: Cow::Borrowed(proven),
        proven_by: claims.proven_by.as_deref().map(Cow::Borrowed),
    };
    let known = sealed::seal(seal, &owner, &known).map_err(|_| SignError::Seal)?;
    let payload = Payload {
        iss: Cow::Borrowed(&claims.issuer),
        aud: Cow::Borrowed(&claims.audience),
        azp: Cow::Borrowed(&claims.presenters),
        iat: validity.issued.as_seconds(),
        exp: validity.expires.as_seconds(),
        pxp: validity.proof_expires.as_seconds(),
        wsp: Cow::Borrowed(&claims.workspace),
        sid: Cow::Borrowed(&claims.session),
        sst: claims.session_start.as_seconds(),
        sep: claims.epoch,
        sub: Cow::Borrowed(&claims.contact.id),
        knd: claims.contact.kind,
        mth: claims.method,
        att: STRICT.encode(known).into(),
    };
    let mut token = String::with_capacity(1024);
    token.push_str(&key.head);
    let payload = serde_json::to_vec(&payload).map_err(|_| SignError::Signature)?;
    STRICT.encode_string(payload, &mut token);
    let signature = key.pair.try_sign(token.as_bytes()).map_err(|_| SignError::Signature)?;
    token.push('.');
    STRICT.encode_string(signature.as_ref(), &mut token);
    if token.len() > MAX_LEN { Err(SignError::TooLong) } else { Ok(token) }
}
