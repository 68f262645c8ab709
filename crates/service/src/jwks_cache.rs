//! Somebody else's public keys (a sister's, or those that a workspace names), kept so that checking what they signed
//! asks nobody.
//!
//! One cache serves all runtimes of the process. It holds what was fetched last and outlives an absence of its source:
//! a fetch that fails leaves the keys in force. It knows nothing of keys: the text is parsed by whoever uses it, and the
//! same text stays the same keys, so that what was checked with them can be kept until they change. Identity's are asked
//! for several times a second ([`JwksCache::follow`]): a key that it withdraws stops counting within a second.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use safeconduct_types::{Clock, Refusal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// After this the keys are fetched again, so that a key that was withdrawn stops counting.
const REFRESH: Duration = Duration::from_mins(5);
/// Keys that could not be fetched again for so long no longer count: a withdrawn key must not live on in a service
/// that is cut off.
const MAX_STALE: Duration = Duration::from_hours(1);

/// How long fetched keys serve.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What the keys are of, for logs and refusals: `identity`.
    pub whose: &'static str,
    /// After this the keys are fetched again, if their source does not say.
    pub refresh: Duration,
    /// The shortest and the longest time that a source may ask for instead.
    pub within: (Duration, Duration),
    /// Keys of this age no longer count, if they could not be fetched again.
    pub stale: Duration,
}

/// What a fetch brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The keys, to be parsed.
    pub text: String,
    /// How long their source says that they serve.
    pub max_age: Option<Duration>,
}

/// How often [`JwksCache::follow`] asks. With the time in which identity sees a change of its key file
/// ([`crate::keyring::LOOK_EVERY`]) and a round trip it has to stay below a second.
const POLL: Duration = Duration::from_millis(300);
/// Between two fetches because of keys that identity is not known to have.
const PAUSE_UNKNOWN: Duration = Duration::from_millis(500);
/// Between two fetches, however many unknown keys are named: whoever sends tokens chooses those names.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two fetches as long as there are no keys at all.
const PAUSE_EMPTY: Duration = Duration::from_millis(500);
/// The longest that one fetch may take.
const FETCH_WAIT: Duration = Duration::from_secs(2);

type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Fetched, Refusal>> + Send + Sync>;
type Parse<K> = Box<dyn Fn(&str) -> Result<K, String> + Send + Sync>;

/// Keys of type `K`, fetched and parsed. Clones share them.
pub struct JwksCache<K>(Arc<Inner<K>>);

impl<K> Clone for JwksCache<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K> {
    fetch: Fetch,
    parse: Parse<K>,
    clock: Arc<dyn Clock>,
    state: Mutex<State<K>>,
    /// Held while fetching: one fetch at a time, whoever asks.
    fetching: tokio::sync::Mutex<()>,
    /// When the last fetch that has ended began, however it ended.
    fetched: watch::Sender<Option<Instant>>,
    fetch_wait: Duration,
    bounds: Bounds,
    /// Whether [`JwksCache::follow`] keeps asking.
    is_followed: bool,
}

struct State<K> {
    keys: Option<Held<K>>,
    tried: Option<Instant>,
    /// When they were last fetched because of a key that was not known.
    unknown: Option<Instant>,
    failure: Option<Refusal>,
}

struct Held<K> {
    text: String,
    keys: Arc<K>,
    since: Instant,
    /// From this age on they are fetched again.
    refresh: Duration,
}

/// Keys in force, and whether they are due to be fetched again, or too old.
struct Found<K> {
    keys: Arc<K>,
    is_due: bool,
    is_over: bool,
}

impl<K> JwksCache<K> {
    /// A cache of identity's keys that has nothing yet, and is to be followed. `fetch` asks identity and answers the
    /// set's JSON text; `parse` makes keys of it.
    pub fn new<F, A>(
        fetch: F,
        parse: impl Fn(&str) -> Result<K, String> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
    ) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, Refusal>> + Send + 'static,
    {
        let bounds = Bounds { whose: "identity", refresh: REFRESH, within: (REFRESH, REFRESH), stale: MAX_STALE };
        let fetch = move || {
            let text = fetch();
            async { text.await.map(|text| Fetched { text, max_age: None }) }
        };
        Self::made(fetch, parse, clock, (bounds, true))
    }

    /// A cache that has nothing yet, of keys of anybody.
    pub fn bounded<F, A>(
        fetch: F,
        parse: impl Fn(&str) -> Result<K, String> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
        bounds: Bounds,
    ) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Fetched, Refusal>> + Send + 'static,
    {
        Self::made(fetch, parse, clock, (bounds, false))
    }

    fn made<F, A>(
        fetch: F,
        parse: impl Fn(&str) -> Result<K, String> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
        (bounds, is_followed): (Bounds, bool),
    ) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Fetched, Refusal>> + Send + 'static,
    {
        Self(Arc::new(Inner {
            fetch: Box::new(move || fetch().boxed()),
            parse: Box::new(parse),
            clock,
            state: Mutex::new(State { keys: None, tried: None, unknown: None, failure: None }),
            fetching: tokio::sync::Mutex::new(()),
            fetched: watch::Sender::new(None),
            fetch_wait: FETCH_WAIT,
            bounds,
            is_followed,
        }))
    }

    /// Fetches again and again, until `stop`, so that what is withdrawn stops counting within a second.
    pub async fn follow(self, stop: CancellationToken) {
        loop {
            {
                let _turn = self.0.fetching.lock().await;
                self.0.fetch().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// The keys in force. Asks identity only if there are none, or if they are due and nobody is asking yet. Refused,
    /// as the fetch was, if there are none to be had.
    pub async fn current(&self) -> Result<Arc<K>, Refusal> {
        match self.0.held() {
            Some(found) if !found.is_due => return Ok(found.keys),
            Some(found) if !found.is_over => {
                // One caller pays for the refresh, the others go on with what there is.
                if let Ok(_turn) = self.0.fetching.try_lock() {
                    self.0.fetch_unless_just_tried(PAUSE).await;
                }
                return Ok(self.0.held().map_or(found.keys, |newest| newest.keys));
            }
            Some(_) | None => {}
        }
        let _turn = self.0.fetching.lock().await;
        // Whoever had the turn before may have brought them.
        if self.0.held().is_none_or(|found| found.is_due) {
            self.0.fetch_unless_just_tried(PAUSE_EMPTY).await;
        }
        match self.0.held() {
            Some(found) if !found.is_over => Ok(found.keys),
            Some(_) | None => Err(self.0.failure()),
        }
    }

    /// Keys newer than `known`, which lacks the key that a token names; `known` again if there are none. If it is too
    /// soon to ask, the next fetch is waited for where keys are followed: who presents what was signed with a withdrawn
    /// key must not have a key refused that has just been published.
    pub async fn newer_than(&self, known: &Arc<K>) -> Arc<K> {
        let asked = self.0.clock.instant();
        let newest = || self.0.held().map(|found| found.keys).filter(|keys| !Arc::ptr_eq(keys, known));
        if let Some(keys) = newest() {
            return keys;
        }
        {
            let _turn = self.0.fetching.lock().await;
            if newest().is_none() && self.0.may_ask_for_unknown() {
                self.0.fetch().await;
            }
        }
        if newest().is_none() && self.0.is_followed {
            let mut fetched = self.0.fetched.subscribe();
            let since = fetched.wait_for(|began| began.is_some_and(|began| began >= asked));
            // Over in vain only when nobody follows any more: the process ends.
            let _ = tokio::time::timeout(POLL + FETCH_WAIT, since).await;
        }
        newest().unwrap_or_else(|| Arc::clone(known))
    }
}

impl<K> Inner<K> {
    async fn fetch_unless_just_tried(&self, pause: Duration) {
        let now = self.clock.instant();
        let just_tried =
            self.locked(|state| state.tried.is_some_and(|tried| now.saturating_duration_since(tried) < pause));
        if !just_tried {
            self.fetch().await;
        }
    }

    /// Whether a key that nobody knows is a reason to fetch. Where keys are followed this is not measured by the other
    /// fetches: the last of them may have begun just before the key was there.
    fn may_ask_for_unknown(&self) -> bool {
        let now = self.clock.instant();
        self.locked(|state| {
            let (last, pause) = if self.is_followed { (state.unknown, PAUSE_UNKNOWN) } else { (state.tried, PAUSE) };
            let may = last.is_none_or(|last| now.saturating_duration_since(last) >= pause);
            if may {
                state.unknown = Some(now);
            }
            may
        })
    }

    /// For whoever has the turn.
    async fn fetch(&self) {
        let now = self.clock.instant();
        // Noted before the wait: a caller that gives up half-way has used the turn, too.
        self.locked(|state| state.tried = Some(now));
        let fetched = tokio::time::timeout(self.fetch_wait, (self.fetch)()).await;
        let whose = self.bounds.whose;
        let outcome = match fetched {
            Err(_) => Err(Refusal::internal(format!("the public keys of {whose} were not answered in time"))),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(Fetched { text, max_age })) => match self.parsed(&text) {
                Ok(keys) => Ok((text, keys, max_age)),
                Err(problem) => Err(Refusal::internal(format!("the public keys of {whose} cannot be used: {problem}"))),
            },
        };
        // Noted again after it: whoever queued behind a fetch that hung must not hang in turn.
        self.locked(|state| state.tried = Some(self.clock.instant()));
        match outcome {
            Ok((text, keys, max_age)) => {
                let (least, most) = self.bounds.within;
                let refresh = max_age.map_or(self.bounds.refresh, |asked| asked.clamp(least, most));
                self.locked(|state| {
                    state.keys = Some(Held { text, keys, since: now, refresh });
                    state.failure = None;
                });
            }
            Err(refusal) => {
                // Told once in a row: they are asked for several times a second.
                if self.locked(|state| state.failure.replace(refusal.clone())).is_none() {
                    tracing::warn!(whose, reason = refusal.reason().as_str(), %refusal, "public keys were not fetched");
                }
            }
        }
        self.fetched.send_replace(Some(now));
    }

    /// The keys of this text: those in force, if it is theirs.
    fn parsed(&self, text: &str) -> Result<Arc<K>, String> {
        let known = self
            .locked(|state| state.keys.as_ref().filter(|held| held.text == text).map(|held| Arc::clone(&held.keys)));
        known.map_or_else(|| (self.parse)(text).map(Arc::new), Ok)
    }

    fn held(&self) -> Option<Found<K>> {
        let now = self.clock.instant();
        let stale = self.bounds.stale;
        self.locked(|state| {
            state.keys.as_ref().map(|held| {
                let age = now.saturating_duration_since(held.since);
                Found { keys: Arc::clone(&held.keys), is_due: age >= held.refresh, is_over: age >= stale }
            })
        })
    }

    fn failure(&self) -> Refusal {
        self.locked(|state| state.failure.clone())
            .unwrap_or_else(|| Refusal::internal(format!("the public keys of {} are not there yet", self.bounds.whose)))
    }

    fn locked<T>(&self, with: impl FnOnce(&mut State<K>) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K> fmt::Debug for JwksCache<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use safeconduct_types::{ManualClock, Reason, Timestamp};

    use super::*;

    #[derive(Default)]
    struct Identity {
        asked: AtomicUsize,
        away: AtomicBool,
    }

    fn cache(identity: &Arc<Identity>, clock: &Arc<ManualClock>) -> JwksCache<String> {
        let identity = Arc::clone(identity);
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        JwksCache::new(
            move || {
                let identity = Arc::clone(&identity);
                async move {
                    let asked = identity.asked.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    if identity.away.load(Ordering::SeqCst) {
                        Err(Refusal::new(Reason::Draining, "away"))
                    } else {
                        Ok(format!("keys {asked}"))
                    }
                }
            },
            |text| Ok(text.to_owned()),
            clock,
        )
    }

    fn setup() -> (Arc<Identity>, Arc<ManualClock>, JwksCache<String>) {
        let identity = Arc::new(Identity::default());
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1000)));
        let cache = cache(&identity, &clock);
        (identity, clock, cache)
    }

    fn asked(identity: &Identity) -> usize {
        identity.asked.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn many_callers_ask_identity_once() {
        let (identity, _, cache) = setup();
        let all = futures_util::future::join_all((0..50).map(|_| cache.current())).await;
        assert!(all.into_iter().all(|keys| *keys.unwrap() == "keys 0"));
        assert_eq!(asked(&identity), 1);
    }

    #[tokio::test]
    async fn keys_are_fetched_again_when_due() {
        let (identity, clock, cache) = setup();
        cache.current().await.unwrap();
        clock.advance(REFRESH.saturating_sub(Duration::from_secs(1)));
        assert_eq!(*cache.current().await.unwrap(), "keys 0");
        clock.advance(Duration::from_secs(1));
        assert_eq!(*cache.current().await.unwrap(), "keys 1");
        assert_eq!(asked(&identity), 2);
    }

    #[tokio::test]
    async fn keys_outlive_an_absence_of_identity_but_not_for_ever() {
        let (identity, clock, cache) = setup();
        cache.current().await.unwrap();
        identity.away.store(true, Ordering::SeqCst);
        clock.advance(MAX_STALE.saturating_sub(Duration::from_secs(1)));
        for _ in 0..10 {
            assert_eq!(*cache.current().await.unwrap(), "keys 0");
        }
        assert_eq!(asked(&identity), 2, "an absent identity is not asked by everyone");
        clock.advance(PAUSE);
        assert_eq!(cache.current().await.unwrap_err().reason(), Reason::Draining);
        identity.away.store(false, Ordering::SeqCst);
        clock.advance(PAUSE);
        assert_eq!(*cache.current().await.unwrap(), "keys 3");
    }

    #[tokio::test]
    async fn without_keys_nobody_queues_behind_the_failures_of_others() {
        let (identity, clock, cache) = setup();
        identity.away.store(true, Ordering::SeqCst);
        let all = futures_util::future::join_all((0..50).map(|_| cache.current())).await;
        assert!(all.into_iter().all(|refused| refused.unwrap_err().reason() == Reason::Draining));
        assert_eq!(asked(&identity), 1);
        identity.away.store(false, Ordering::SeqCst);
        clock.advance(PAUSE_EMPTY);
        assert_eq!(*cache.current().await.unwrap(), "keys 1");
    }

    #[tokio::test]
    async fn an_unknown_key_is_asked_for_at_once_and_then_once_in_a_while() {
        let (identity, clock, cache) = setup();
        let known = cache.current().await.unwrap();
        let newer = futures_util::future::join_all((0..10).map(|_| cache.newer_than(&known))).await;
        assert!(newer.iter().all(|keys| **keys == "keys 1"), "one fetch serves all");
        let known = cache.current().await.unwrap();
        for _ in 0..10 {
            assert!(Arc::ptr_eq(&cache.newer_than(&known).await, &known), "too soon");
        }
        assert_eq!(asked(&identity), 2);
        clock.advance(PAUSE_UNKNOWN);
        assert_eq!(*cache.newer_than(&known).await, "keys 2");
    }

    #[tokio::test]
    async fn a_key_that_was_just_published_is_found_although_another_unknown_one_was_just_asked_for() {
        let (identity, clock, cache) = setup();
        let first = cache.current().await.unwrap();
        cache.newer_than(&first).await;
        let stop = CancellationToken::new();
        let asks = async {
            let mut known = first;
            while *known != "keys 2" {
                tokio::task::yield_now().await;
                known = cache.current().await.unwrap();
            }
            clock.advance(PAUSE_UNKNOWN.saturating_sub(Duration::from_millis(1)));
            let newer = cache.newer_than(&known).await;
            assert_eq!(*newer, "keys 3", "identity was asked after the token came");
            identity.away.store(true, Ordering::SeqCst);
            let kept = cache.newer_than(&newer).await;
            assert!(Arc::ptr_eq(&kept, &newer), "who is away keeps nobody waiting for good");
            stop.cancel();
        };
        let both = async { tokio::join!(cache.clone().follow(stop.clone()), asks) };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    }

    #[tokio::test]
    async fn keys_that_are_followed_change_when_they_are_withdrawn_and_only_then() {
        const {
            let slowest = POLL.as_millis() + crate::keyring::LOOK_EVERY.as_millis();
            assert!(slowest < 700, "with a round trip it is to stay below a second");
        }
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_seconds(1)));
        let (said, asked) = (Arc::new(Mutex::new("one".to_owned())), Arc::new(AtomicUsize::new(0)));
        let (saying, counted) = (Arc::clone(&said), Arc::clone(&asked));
        let fetch = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(saying.lock().unwrap().clone()))
        };
        let cache: JwksCache<String> = JwksCache::new(fetch, |text| Ok(text.to_owned()), clock);
        let stop = CancellationToken::new();
        let told = async {
            let first = cache.current().await.unwrap();
            while asked.load(Ordering::SeqCst) < 3 {
                tokio::task::yield_now().await;
            }
            assert!(Arc::ptr_eq(&cache.current().await.unwrap(), &first), "what was checked with them is kept");
            "two".clone_into(&mut said.lock().unwrap());
            while *cache.current().await.unwrap() != "two" {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let both = async { tokio::join!(cache.clone().follow(stop.clone()), told) };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_hangs_in_turn_behind_a_fetch_that_hung() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (passing, counted) = (Arc::clone(&clock), Arc::clone(&asked));
        let slow = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let passing = Arc::clone(&passing);
            async move {
                tokio::task::yield_now().await;
                passing.advance(FETCH_WAIT);
                Err(Refusal::new(Reason::Draining, "away"))
            }
        };
        let cache: JwksCache<String> = JwksCache::new(slow, |text| Ok(text.to_owned()), clock);
        let all = futures_util::future::join_all((0..50).map(|_| cache.current())).await;
        assert!(all.into_iter().all(|refused| refused.is_err()));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_fetch_that_hangs_is_given_up() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_seconds(1)));
        let mut cache: JwksCache<String> =
            JwksCache::new(std::future::pending::<Result<String, Refusal>>, |text| Ok(text.to_owned()), clock);
        Arc::get_mut(&mut cache.0).unwrap().fetch_wait = Duration::from_millis(1);
        assert_eq!(cache.current().await.unwrap_err().reason(), Reason::Internal);
    }
}
