//! Who a request is for: the one way from a token to a contact.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use safeconduct_connector_domain::contact::{AttributeValue, ContactKind, ContactView, ProvenAddresses};
use safeconduct_connector_domain::fingerprint::Digest;
use safeconduct_identity_domain::assertion::{JwkSet, Seal, VerifiedContact, Verifier};
use safeconduct_identity_domain::contact as identity;
use safeconduct_service::jwks_cache::JwksCache;
use safeconduct_types::{CallerName, Clock, Refusal, Timestamp};

/// The most assertions that are remembered: at 4 KiB at most each, some tens of megabytes.
const MAX_REMEMBERED: usize = 10_000;

/// Checks assertions with identity's public keys; asks identity only for keys it does not know. An agent presents the
/// same assertion with each call, so what was checked is remembered: for this very token and presenter, until it
/// expires, and under these very keys. What was refused is not.
pub struct Contacts {
    keys: JwksCache<JwkSet>,
    seal: Arc<dyn Seal>,
    issuer: Arc<str>,
    audience: Arc<str>,
    clock: Arc<dyn Clock>,
    checked: Mutex<Option<Checked>>,
}

/// What was checked with one set of keys.
struct Checked {
    keys: Arc<JwkSet>,
    verifier: Arc<Verifier>,
    contacts: HashMap<Digest, Arc<VerifiedContact>>,
}

impl Checked {
    fn remembered(&self, place: &Digest, now: Timestamp) -> Option<Arc<VerifiedContact>> {
        self.contacts.get(place).filter(|one| now < one.expires()).cloned()
    }

    fn remember(&mut self, place: Digest, verified: Arc<VerifiedContact>, now: Timestamp) {
        if self.contacts.len() >= MAX_REMEMBERED {
            self.contacts.retain(|_, one| now < one.expires());
        }
        if self.contacts.len() >= MAX_REMEMBERED {
            // Every other one, whichever: it costs a check to have one back.
            let mut keep = false;
            self.contacts.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        self.contacts.insert(place, verified);
    }
}

impl fmt::Debug for Contacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contacts")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Contacts {
    /// Assertions of `issuer` for the suite `audience`; `seal` opens their attributes.
    pub fn new(
        keys: JwksCache<JwkSet>,
        seal: Arc<dyn Seal>,
        issuer: &str,
        audience: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let checked = Mutex::default();
        Self { keys, seal, issuer: issuer.into(), audience: audience.into(), clock, checked }
    }

    pub(crate) async fn verify(&self, token: &str, presenter: &CallerName) -> Result<Arc<VerifiedContact>, Refusal> {
        let place = Digest::of("safeconduct/checked-assertion/v1", &[token.as_bytes(), presenter.as_str().as_bytes()]);
        let mut keys = self.keys.current().await?;
        let now = self.clock.now();
        if let Some(known) = self.under(&keys, |checked| checked.remembered(&place, now)) {
            return Ok(known);
        }
        let mut verifier = self.verifier(&keys);
        if verifier.needs_newer_keys(token) {
            keys = self.keys.newer_than(&keys).await;
            verifier = self.verifier(&keys);
        }
        let now = self.clock.now();
        let contact = Arc::new(verifier.verify(token, now, presenter, &self.audience)?);
        self.under(&keys, |checked| checked.remember(place, Arc::clone(&contact), now));
        Ok(contact)
    }

    fn verifier(&self, keys: &Arc<JwkSet>) -> Arc<Verifier> {
        self.under(keys, |checked| Arc::clone(&checked.verifier))
    }

    /// Works on what was checked with these keys; what was checked with others is forgotten.
    fn under<T>(&self, keys: &Arc<JwkSet>, work: impl FnOnce(&mut Checked) -> T) -> T {
        let mut held = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let same = held.take_if(|checked| Arc::ptr_eq(&checked.keys, keys));
        let others = held.take();
        let done = work(held.insert(same.unwrap_or_else(|| self.nothing_checked(keys))));
        drop(held);
        // Not while others wait: it may be long.
        drop(others);
        done
    }

    fn nothing_checked(&self, keys: &Arc<JwkSet>) -> Checked {
        let verifier = Verifier::new(Arc::clone(keys), Arc::clone(&self.seal), Arc::clone(&self.issuer));
        Checked { keys: Arc::clone(keys), verifier: Arc::new(verifier), contacts: HashMap::new() }
    }
}

/// The contact as connectors see it.
pub(crate) fn view(verified: &VerifiedContact) -> ContactView {
    let contact = verified.contact();
    let value = |one: &identity::Attribute| AttributeValue {
        value: one.value.clone(),
        provenance: one.provenance,
        proof_time: Some(one.proof_time),
    };
    let attributes = contact.attributes.iter().map(|(name, one)| (name.clone(), value(one))).collect();
    let proven = ProvenAddresses {
        email: contact.proven.email.as_ref().map(value),
        phone: contact.proven.phone.as_ref().map(value),
    };
    let kind = match contact.kind {
        identity::ContactKind::Visitor => ContactKind::Visitor,
        identity::ContactKind::Lead => ContactKind::Lead,
        identity::ContactKind::User => ContactKind::User,
    };
    let known_by = verified.method().proves();
    ContactView { id: contact.id.clone(), kind, known_by, attributes, proven }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use safeconduct_identity_domain::assertion::{Claims, SealError, SigningKey, Validity, sign};
    use safeconduct_types::{ContactId, ManualClock, Reason, Secret};
    use zeroize::Zeroizing;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    /// Hides nothing; counts how often an assertion was really checked.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Seal for Counting {
        fn seal(&self, _: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
            Ok(plain.to_vec())
        }

        fn open(&self, _: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Zeroizing::new(sealed.to_vec()))
        }
    }

    struct Fixture {
        contacts: Contacts,
        clock: Arc<ManualClock>,
        seal: Arc<Counting>,
        /// The seed of the key that identity has; it may get another one.
        seed: Arc<Mutex<u8>>,
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(format!("k{seed}").try_into().unwrap(), &Secret::new(vec![seed; 32])).unwrap()
    }

    fn name(text: &str) -> CallerName {
        text.parse().unwrap()
    }

    fn fixture() -> Fixture {
        let (clock, seal, seed) = (Arc::new(ManualClock::at(NOW)), Arc::<Counting>::default(), Arc::new(Mutex::new(1)));
        let of_identity = Arc::clone(&seed);
        let fetch = move || {
            let set = SigningKey::public([&key(*of_identity.lock().unwrap())]).unwrap();
            async move { Ok(set.render()) }
        };
        let parse = |text: &str| JwkSet::parse(text).map_err(|error| error.to_string());
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let keys = JwksCache::new(fetch, parse, Arc::clone(&shared));
        let opening: Arc<dyn Seal> = Arc::<Counting>::clone(&seal);
        Fixture { contacts: Contacts::new(keys, opening, "identity", "suite", shared), clock, seal, seed }
    }

    impl Fixture {
        fn checks(&self) -> usize {
            self.seal.0.load(Ordering::SeqCst)
        }

        async fn verify(&self, token: &str, presenter: &str) -> Result<Arc<VerifiedContact>, Reason> {
            self.contacts.verify(token, &name(presenter)).await.map_err(|refusal| refusal.reason())
        }
    }

    fn token(issued: Timestamp, lifetime: Duration, seed: u8) -> String {
        let claims = Claims {
            issuer: "identity".to_owned(),
            audience: "suite".to_owned(),
            presenters: vec![name("agent-one")],
            workspace: "acme".parse().unwrap(),
            session: "ses_00112233445566778899aabbccddeeff".parse().unwrap(),
            session_start: issued,
            epoch: 0,
            contact: identity::Contact {
                id: ContactId::from_digest(&[5; 16]),
                kind: identity::ContactKind::User,
                attributes: identity::Attributes::default(),
                proven: identity::Proven::default(),
            },
            method: identity::Method::UserHash,
            proven_by: None,
            validity: Validity::new(issued, lifetime, issued.after(MINUTE * 60)),
        };
        sign(&claims, &key(seed), &Counting::default()).unwrap()
    }

    #[tokio::test]
    async fn an_assertion_is_checked_once_and_counts_until_it_expires() {
        let fixture = fixture();
        let token = token(NOW, MINUTE, 1);
        let first = fixture.verify(&token, "agent-one").await.unwrap();
        fixture.clock.advance(MINUTE.saturating_sub(Duration::from_millis(1)));
        assert_eq!(fixture.verify(&token, "agent-one").await.unwrap(), first);
        assert_eq!(fixture.checks(), 1);
        fixture.clock.advance(Duration::from_millis(1));
        assert_eq!(fixture.verify(&token, "agent-one").await, Err(Reason::AssertionExpired));
    }

    #[tokio::test]
    async fn what_was_checked_for_one_presenter_says_nothing_for_another() {
        let fixture = fixture();
        let token = token(NOW, MINUTE, 1);
        fixture.verify(&token, "agent-one").await.unwrap();
        assert_eq!(fixture.verify(&token, "agent-two").await, Err(Reason::AudienceMismatch));
        let forged = format!("{}A", token.strip_suffix(|_: char| true).unwrap());
        assert_eq!(fixture.verify(&forged, "agent-one").await, Err(Reason::AssertionInvalid));
        fixture.verify(&token, "agent-one").await.unwrap();
        assert_eq!(fixture.checks(), 1);
    }

    #[tokio::test]
    async fn what_was_checked_with_a_key_that_is_withdrawn_counts_no_more() {
        let fixture = fixture();
        let (old, new) = (token(NOW, MINUTE * 30, 1), token(NOW, MINUTE * 30, 2));
        fixture.verify(&old, "agent-one").await.unwrap();
        *fixture.seed.lock().unwrap() = 2;
        fixture.clock.advance(MINUTE);
        assert!(fixture.verify(&old, "agent-one").await.is_ok(), "nobody has heard of it yet");
        fixture.verify(&new, "agent-one").await.unwrap();
        assert_eq!(fixture.verify(&old, "agent-one").await, Err(Reason::AssertionInvalid));
        fixture.verify(&new, "agent-one").await.unwrap();
        assert_eq!(fixture.checks(), 2);
    }

    #[tokio::test]
    async fn a_refusal_is_not_remembered() {
        let fixture = fixture();
        let early = token(NOW.after(MINUTE), MINUTE, 1);
        assert_eq!(fixture.verify(&early, "agent-one").await, Err(Reason::AssertionInvalid));
        fixture.clock.advance(MINUTE);
        assert!(fixture.verify(&early, "agent-one").await.is_ok());
    }

    #[tokio::test]
    async fn no_more_is_remembered_than_fits_and_the_expired_go_first() {
        let fixture = fixture();
        let (short, long) = (token(NOW, MINUTE, 1), token(NOW, MINUTE * 2, 1));
        let short = fixture.verify(&short, "agent-one").await.unwrap();
        let long = fixture.verify(&long, "agent-one").await.unwrap();
        let keys = fixture.contacts.keys.current().await.unwrap();
        let place = |number: usize| Digest::of("test", &[&number.to_be_bytes()]);
        fixture.contacts.under(&keys, |checked| {
            checked.contacts.clear();
            for number in 0..MAX_REMEMBERED {
                let one = if number % 10 == 0 { &long } else { &short };
                checked.remember(place(number), Arc::clone(one), NOW);
            }
            assert_eq!(checked.contacts.len(), MAX_REMEMBERED);
            checked.remember(place(MAX_REMEMBERED), Arc::clone(&long), NOW.after(MINUTE));
            assert_eq!(checked.contacts.len(), MAX_REMEMBERED / 10 + 1);
            assert!(checked.remembered(&place(0), NOW).is_some());
            for number in 0..3 * MAX_REMEMBERED {
                checked.remember(place(number), Arc::clone(&long), NOW);
                assert!(checked.contacts.len() <= MAX_REMEMBERED);
            }
        });
    }
}
