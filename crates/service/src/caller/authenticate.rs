//! From a credential to a caller: a pure function of certificate, header and time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{Validation, decode, decode_header};
use rustls_pki_types::CertificateDer;
use safeconduct_types::{Clock, Reason, Refusal, Timestamp};
use serde::Deserialize;

use super::Caller;
use super::jwks::{self, IssuerKey};
use crate::config::{CallerConfig, Config, ConfigError, Credential, IssuerConfig, Origin, San};
use crate::layers::{Authenticate, CallerExtension};

/// Tokens longer than this many bytes are refused unread.
const LONGEST_TOKEN: usize = 8192;

/// How far an issuer's clock may be off, in seconds.
const LEEWAY: i64 = 30;

/// Knows all callers by their credentials.
pub struct Authenticator {
    clock: Arc<dyn Clock>,
    tokens: Vec<([u8; 32], Arc<Caller>)>,
    sans: BTreeMap<San, Arc<Caller>>,
    issuers: Vec<Issuer>,
}

struct Issuer {
    name: String,
    audience: String,
    keys: Vec<IssuerKey>,
    subjects: BTreeMap<String, Arc<Caller>>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("tokens", &self.tokens.len())
            .field("sans", &self.sans.len())
            .field("issuers", &self.issuers.len())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

impl Authenticator {
    /// Reads the issuers' keys and indexes the callers.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        let issuers = config.issuers.iter().map(issuer).collect::<Result<_, _>>()?;
        let mut authenticator = Self { clock, tokens: Vec::new(), sans: BTreeMap::new(), issuers };
        for caller in &config.callers {
            authenticator.add(caller);
        }
        Ok(authenticator)
    }

    fn add(&mut self, config: &CallerConfig) {
        let caller = Arc::new(Caller {
            name: config.name.clone(),
            roles: config.roles.clone(),
            workspaces: config.workspaces.clone(),
            connectors: config.connectors.clone(),
            effects: config.effects.clone(),
            domains: config.domains.clone(),
        });
        match &config.credential {
            Credential::Token(hashes) => {
                self.tokens.extend(hashes.iter().map(|hash| (hash.0, Arc::clone(&caller))));
            }
            Credential::San(san) => {
                self.sans.insert(san.clone(), caller);
            }
            Credential::Jwt { issuer, subject } => {
                for known in self.issuers.iter_mut().filter(|known| known.name == *issuer) {
                    known.subjects.insert(subject.clone(), Arc::clone(&caller));
                }
            }
        }
    }

    /// Who is calling: by the `authorization` header if there is one, by the client certificate (DER, already
    /// verified against the listener's CA by TLS) otherwise. A header that does not verify is refused even beside a
    /// good certificate: whoever sent it meant it.
    pub fn authenticate(
        &self,
        certificate: Option<&[u8]>,
        authorization: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refusal> {
        match (authorization, certificate) {
            (Some(header), _) => self.by_header(header, now),
            (None, Some(certificate)) => self.by_certificate(certificate),
            (None, None) => Err(refused("send `authorization: Bearer TOKEN`, or show a client certificate")),
        }
    }

    fn by_header(&self, header: &str, now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        const UNKNOWN: &str = "the bearer token belongs to no caller that is configured here";
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(refused("the authorization header must read `Bearer TOKEN`")),
        };
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(refused("the bearer token is empty or too long"));
        }
        if let Some(caller) = self.by_hash(token) {
            return Ok(caller);
        }
        if self.issuers.is_empty() || token.matches('.').count() != 2 {
            return Err(refused(UNKNOWN));
        }
        self.by_jwt(token, now)
    }

    /// Compares with every hash, in constant time: neither a prefix nor a place in the list shows.
    fn by_hash(&self, token: &str) -> Option<Arc<Caller>> {
        let given = digest(&SHA256, token.as_bytes());
        let mut found = None;
        for (hash, caller) in &self.tokens {
            if verify_slices_are_equal(given.as_ref(), hash).is_ok() {
                found = Some(caller);
            }
        }
        found.cloned()
    }

    fn by_jwt(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        const INVALID: &str = "the JWT does not verify; its signature, issuer and audience must be as configured here";
        let header = decode_header(token).map_err(|_| refused(INVALID))?;
        if header.crit.is_some() {
            return Err(refused("the JWT demands an extension (`crit`) that is not supported"));
        }
        let verified = self.issuers.iter().find_map(|issuer| {
            let key = issuer.keys.iter().find(|key| key.id.is_none() || key.id == header.kid)?;
            // The algorithm is the key's. The token's own must be that one, and is otherwise not looked at.
            let mut validation = Validation::new(key.algorithm);
            validation.set_issuer(&[&issuer.name]);
            validation.set_audience(&[&issuer.audience]);
            validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
            // Times are checked below, against the time that was passed in.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            Some((issuer, decode::<Claims>(token, &key.key, &validation).ok()?.claims))
        });
        let (issuer, claims) = verified.ok_or_else(|| refused(INVALID))?;
        in_time(&claims, now)?;
        issuer
            .subjects
            .get(&claims.sub)
            .cloned()
            .ok_or_else(|| refused("the JWT verifies, but no caller is configured with its subject"))
    }

    fn by_certificate(&self, certificate: &[u8]) -> Result<Arc<Caller>, Refusal> {
        const UNKNOWN: &str = "the client certificate names no caller that is configured here";
        let der = CertificateDer::from(certificate);
        let certificate =
            webpki::EndEntityCert::try_from(&der).map_err(|_| refused("the client certificate cannot be read"))?;
        let dns = certificate.valid_dns_names().map(|name| San::Dns(name.to_ascii_lowercase()));
        let uris = certificate.valid_uri_names().map(|uri| San::Uri(uri.to_owned()));
        let callers: BTreeMap<_, _> =
            dns.chain(uris).filter_map(|san| self.sans.get(&san)).map(|caller| (&caller.name, caller)).collect();
        let names: BTreeSet<_> = callers.keys().collect();
        match (names.len(), callers.values().next()) {
            (1, Some(caller)) => Ok(Arc::clone(caller)),
            (0, _) => Err(refused(UNKNOWN)),
            _ => Err(refused("the client certificate names several callers; give each its own")),
        }
    }
}

/// Handlers find the caller as `Arc<Caller>`: see [`super::caller`].
impl Authenticate for Authenticator {
    fn authenticate(
        &self,
        peer_certificate: Option<&[u8]>,
        authorization: Option<&str>,
    ) -> Result<CallerExtension, Refusal> {
        let caller = Self::authenticate(self, peer_certificate, authorization, self.clock.now())?;
        let name: Arc<str> = Arc::from(caller.name.as_str());
        Ok(CallerExtension::new::<Arc<Caller>>(name, caller))
    }

    fn in_process(&self, service: &'static str) -> CallerExtension {
        match service.parse() {
            Ok(name) => CallerExtension::new(service, Arc::new(Caller::sister(name))),
            // A service whose name is no name becomes nobody: handlers find no caller and refuse.
            Err(_) => CallerExtension::new(service, ()),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds since the epoch are exact in a double for millennia")]
fn in_time(claims: &Claims, now: Timestamp) -> Result<(), Refusal> {
    let (seconds, leeway) = (now.as_seconds() as f64, LEEWAY as f64);
    if claims.exp + leeway <= seconds {
        return Err(refused("the JWT has expired; get a new one"));
    }
    if claims.nbf.is_some_and(|from| from - leeway > seconds) {
        return Err(refused("the JWT is not valid yet; check the issuer's clock"));
    }
    Ok(())
}

fn issuer(config: &IssuerConfig) -> Result<Issuer, ConfigError> {
    let wrong =
        |message: String| ConfigError::one(Origin::File(config.jwks_file.clone()), "issuers.jwks_file", message);
    let text = std::fs::read_to_string(&config.jwks_file)
        .map_err(|error| wrong(format!("cannot be read ({}); put the issuer's JWKS there", error.kind())))?;
    let keys = jwks::parse(&text).map_err(wrong)?;
    let (name, audience) = (config.issuer.clone(), config.audience.clone());
    Ok(Issuer { name, audience, keys, subjects: BTreeMap::new() })
}

fn refused(detail: &'static str) -> Refusal {
    Refusal::new(Reason::CallerUnauthenticated, detail)
}
