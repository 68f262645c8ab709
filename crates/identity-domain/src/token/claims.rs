//! What a token says, once it is known who signed it (RFC 7519, section 4.1).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use safeconduct_types::{Refusal, Timestamp};
use serde_json::{Map, Value};

use super::Token;
use super::jws::refused;
use super::key::TokenKey;
use super::spec::{Subject, TokenPolicy};
use crate::contact::{Identifier, Identity};
use crate::strict_json;

/// How far the clock of whoever signed may be from ours.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Claims that say something of the token and nothing of the person.
const ABOUT_THE_TOKEN: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];
/// Most bytes of a name.
const MAX_NAME: usize = 256;
/// Most bytes of an issuer or of a token's own id.
const MAX_TEXT: usize = 256;
/// The end of the year 9999, in seconds: no time that is meant lies beyond.
const LAST_SECOND: i64 = 253_402_300_799;

/// A token that a key of the workspace has signed. Only [`super::KeySet::verify`] makes one.
#[must_use]
pub struct Signed<'t, 'k> {
    token: &'t Token<'t>,
    key: &'k TokenKey,
}

/// Who a token proves, and what it says of them. Only [`Signed::prove`] makes one.
#[derive(Clone, PartialEq)]
pub struct ProvenToken {
    identity: Identity,
    attributes: BTreeMap<String, Value>,
    said: Timestamp,
    expires: Timestamp,
    once: Option<Once>,
}

/// What makes a token count once: its id, within its issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct Once {
    /// Who gave the id; empty if the token does not say.
    pub issuer: String,
    /// The id.
    pub id: String,
    /// Until when it must be remembered: from then on the token is refused for its age.
    pub until: Timestamp,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("until", &self.until).finish_non_exhaustive()
    }
}

/// The values are personal.
impl fmt::Debug for ProvenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvenToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl ProvenToken {
    /// Whom it proves, byte for byte.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it says of them besides, by name: `email`, `name`, and the attributes that the workspace declares.
    pub fn attributes(&self) -> &BTreeMap<String, Value> {
        &self.attributes
    }

    /// When it was made (`iat`), and never later than when it was checked. If it does not say, the longest life before
    /// its end: it may have been made then. What was said of the person since is newer.
    pub fn said(&self) -> Timestamp {
        self.said
    }

    /// From when on it proves nothing, the leeway not counted.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// What must be used up before it counts, where the workspace wants single use.
    pub fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }
}

impl<'t, 'k> Signed<'t, 'k> {
    pub(super) fn by(key: &'k TokenKey, token: &'t Token<'t>) -> Self {
        Self { token, key }
    }

    /// The key that signed it.
    pub fn key(&self) -> &'k TokenKey {
        self.key
    }

    /// Holds the token against what the workspace wants. `is_declared` tells the names of its attributes.
    pub fn prove(
        &self,
        policy: &TokenPolicy,
        is_declared: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<ProvenToken, Refusal> {
        check_type(self.token.typ(), policy.typ())?;
        let claims = Claims::read(self.token.payload())?;
        let expires = claims.times(policy, now)?;
        let issuer = claims.issuer(policy)?;
        claims.audience(policy)?;
        let (name, identity) = match policy.subject() {
            Subject::UserId => ("user_id", claims.text("user_id")?),
            Subject::Sub => ("sub", claims.text("sub")?),
        };
        let identity = identity.ok_or_else(|| refused(&format!("its claim {name} is missing; it names the user")))?;
        let identity = Identity::parse(Identifier::UserId, identity, name)
            .map_err(|problem| refused(&format!("its claim {name} {}", problem.description)))?;
        let once = match claims.text("jti")? {
            _ if !policy.single_use() => None,
            Some(id) if !id.is_empty() && id.len() <= MAX_TEXT => {
                let until = expires.after(LEEWAY);
                Some(Once { issuer: issuer.unwrap_or_default().to_owned(), id: id.to_owned(), until })
            }
            Some(_) => return Err(refused("its claim jti must have 1 to 256 bytes")),
            None => return Err(refused("its claim jti is missing; here a token counts once, by that id")),
        };
        // Without `iat`: as early as it can have been, so that bringing it again makes it no newer.
        let said = claims.time("iat")?.unwrap_or_else(|| expires.before(policy.max_lifetime())).min(now);
        Ok(ProvenToken { identity, attributes: claims.attributes(is_declared)?, said, expires, once })
    }
}

/// RFC 8725, section 3.11: a token of another type is not taken for one of these. The prefix `application/` may be
/// left out, and case does not count (RFC 7515, section 4.1.9).
fn check_type(found: Option<&str>, wanted: Option<&str>) -> Result<(), Refusal> {
    let plain = |typ: &str| {
        let typ = typ.to_ascii_lowercase();
        typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
    };
    let fits = match (found.map(plain), wanted.map(plain)) {
        (Some(found), Some(wanted)) => found == wanted,
        (found, None) => found.is_none_or(|found| found == "jwt"),
        (None, Some(_)) => false,
    };
    if fits { Ok(()) } else { Err(refused("its typ is another one than the workspace wants")) }
}

struct Claims(Map<String, Value>);

impl Claims {
    fn read(payload: &[u8]) -> Result<Self, Refusal> {
        strict_json::object(payload)
            .map(Self)
            .map_err(|_| refused("its claims are no JSON object of members that occur once"))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(refused(&format!("its claim {name} must be a string"))),
        }
    }

    /// Seconds since the epoch; a fraction counts to the millisecond (RFC 7519, section 2, `NumericDate`).
    fn time(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let wrong = || refused(&format!("its claim {name} must be a number of seconds since 1970"));
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(wrong()) };
        let time = match number.as_i64() {
            Some(whole) => Timestamp::from_seconds(whole),
            #[allow(clippy::cast_possible_truncation, reason = "within the bounds milliseconds are exact")]
            None => number
                .as_f64()
                .filter(|value| (0.0..1e12).contains(value))
                .map(|value| Timestamp::from_millis((value * 1e3).round() as i64))
                .ok_or_else(wrong)?,
        };
        if (0..=LAST_SECOND).contains(&time.as_seconds()) { Ok(Some(time)) } else { Err(wrong()) }
    }

    /// When it ends, if it holds now. Without `exp` it ends when the longest life from its `iat` is over.
    fn times(&self, policy: &TokenPolicy, now: Timestamp) -> Result<Timestamp, Refusal> {
        let (exp, nbf, iat) = (self.time("exp")?, self.time("nbf")?, self.time("iat")?);
        let ends = match (exp, iat) {
            (Some(exp), _) => exp,
            (None, _) if policy.require_exp() => return Err(refused("its claim exp is missing; say when it ends")),
            (None, Some(iat)) => iat.after(policy.max_lifetime()),
            (None, None) => return Err(refused("it has neither exp nor iat, so that it would never end")),
        };
        let soon = now.after(LEEWAY);
        if now >= ends.after(LEEWAY) {
            return Err(refused("it has expired; make a new one"));
        }
        if nbf.is_some_and(|nbf| nbf > soon) || iat.is_some_and(|iat| iat > soon) {
            return Err(refused("it is not valid yet (nbf, iat); set the clocks"));
        }
        // What was signed earlier counts from then on, what does not say when from now on.
        if ends > iat.unwrap_or(soon).after(policy.max_lifetime()) {
            return Err(refused(&format!(
                "it lives longer than {} s; make it when it is needed, with an earlier exp",
                policy.max_lifetime().as_secs()
            )));
        }
        Ok(ends)
    }

    fn issuer(&self, policy: &TokenPolicy) -> Result<Option<&str>, Refusal> {
        let found = self.text("iss")?;
        if policy.issuer().is_some_and(|wanted| found != Some(wanted)) {
            return Err(refused("its claim iss is not the workspace's issuer"));
        }
        Ok(found)
    }

    /// A token that names an audience is for that audience and nobody else (RFC 7519, section 4.1.3): where the
    /// workspace has none, such a token is somebody else's.
    fn audience(&self, policy: &TokenPolicy) -> Result<(), Refusal> {
        let is_meant = |one: &Value| policy.audience().is_some_and(|wanted| one.as_str() == Some(wanted));
        let fits = match self.0.get("aud") {
            None => policy.audience().is_none(),
            Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(is_meant),
            Some(one) => is_meant(one),
        };
        if fits { Ok(()) } else { Err(refused("its claim aud does not name the audience that the workspace wants")) }
    }

    fn attributes(&self, is_declared: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Value>, Refusal> {
        let mut found = BTreeMap::new();
        if let Some(email) = self.text("email")? {
            Identity::parse(Identifier::Email, email, "email")
                .map_err(|problem| refused(&format!("its claim email {}", problem.description)))?;
            found.insert("email".to_owned(), email.into());
        }
        if let Some(name) = self.text("name")? {
            if name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(refused("its claim name must have at most 256 bytes, without control characters"));
            }
            found.insert("name".to_owned(), name.into());
        }
        for (name, value) in &self.0 {
            let is_own = ABOUT_THE_TOKEN.contains(&name.as_str()) || name == "user_id";
            if !is_own && !found.contains_key(name) && is_declared(name) {
                found.insert(name.clone(), value.clone());
            }
        }
        Ok(found)
    }
}

impl Token<'_> {
    /// Whom the token claims to prove. Nothing of it is proven: this names the budget of whoever failed.
    pub fn claimed(&self, policy: &TokenPolicy) -> Option<Identity> {
        let claims = Claims::read(self.payload()).ok()?;
        let name = match policy.subject() {
            Subject::UserId => "user_id",
            Subject::Sub => "sub",
        };
        Identity::parse(Identifier::UserId, claims.text(name).ok()??, name).ok()
    }
}
