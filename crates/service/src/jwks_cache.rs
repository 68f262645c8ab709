//! A sister's public keys, kept so that checking an assertion asks nobody.
//!
//! One cache serves all runtimes of the process. It holds what was fetched last and outlives an absence of identity:
//! a fetch that fails leaves the keys in force. It knows nothing of keys: the text is parsed by whoever uses it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use safeconduct_types::{Clock, Refusal};

/// After this the keys are fetched again, so that a key that was withdrawn stops counting.
const REFRESH: Duration = Duration::from_mins(5);
/// Keys that could not be fetched again for so long no longer count: a withdrawn key must not live on in a service
/// that is cut off.
const MAX_STALE: Duration = Duration::from_hours(1);
/// Between two fetches, however many unknown keys are named: whoever sends tokens chooses those names.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two fetches as long as there are no keys at all.
const PAUSE_EMPTY: Duration = Duration::from_millis(500);
/// The longest that one fetch may take.
const FETCH_WAIT: Duration = Duration::from_secs(2);

type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<String, Refusal>> + Send + Sync>;
type Parse<K> = Box<dyn Fn(&str) -> Result<K, String> + Send + Sync>;

/// Keys of type `K`, fetched and parsed.
pub struct JwksCache<K> {
    fetch: Fetch,
    parse: Parse<K>,
    clock: Arc<dyn Clock>,
    state: Mutex<State<K>>,
    /// Held while fetching: one fetch at a time, whoever asks.
    fetching: tokio::sync::Mutex<()>,
    fetch_wait: Duration,
}

struct State<K> {
    keys: Option<(Arc<K>, Instant)>,
    tried: Option<Instant>,
    failure: Option<Refusal>,
}

impl<K> JwksCache<K> {
    /// A cache that has nothing yet. `fetch` asks identity and answers the set's JSON text; `parse` makes keys of it.
    pub fn new<F, A>(
        fetch: F,
        parse: impl Fn(&str) -> Result<K, String> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
    ) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, Refusal>> + Send + 'static,
    {
        Self {
            fetch: Box::new(move || fetch().boxed()),
            parse: Box::new(parse),
            clock,
            state: Mutex::new(State { keys: None, tried: None, failure: None }),
            fetching: tokio::sync::Mutex::new(()),
            fetch_wait: FETCH_WAIT,
        }
    }

    /// The keys in force. Asks identity only if there are none, or if they are due and nobody is asking yet. Refused,
    /// as the fetch was, if there are none to be had.
    pub async fn current(&self) -> Result<Arc<K>, Refusal> {
        match self.held() {
            Some((keys, age)) if age < REFRESH => return Ok(keys),
            Some((keys, age)) if age < MAX_STALE => {
                // One caller pays for the refresh, the others go on with what there is.
                if let Ok(_turn) = self.fetching.try_lock() {
                    self.fetch_unless_just_tried(PAUSE).await;
                }
                return Ok(self.held().map_or(keys, |(newest, _)| newest));
            }
            Some(_) | None => {}
        }
        let _turn = self.fetching.lock().await;
        // Whoever had the turn before may have brought them.
        if self.held().is_none_or(|(_, age)| age >= REFRESH) {
            self.fetch_unless_just_tried(PAUSE_EMPTY).await;
        }
        match self.held() {
            Some((keys, age)) if age < MAX_STALE => Ok(keys),
            Some(_) | None => Err(self.failure()),
        }
    }

    /// Keys newer than `known`, which lacks the key that a token names; `known` again if there are none, or if it is
    /// too soon to ask.
    pub async fn newer_than(&self, known: &Arc<K>) -> Arc<K> {
        let newest = || self.held().map(|(keys, _)| keys).filter(|keys| !Arc::ptr_eq(keys, known));
        if let Some(keys) = newest() {
            return keys;
        }
        let _turn = self.fetching.lock().await;
        if newest().is_none() {
            self.fetch_unless_just_tried(PAUSE).await;
        }
        newest().unwrap_or_else(|| Arc::clone(known))
    }

    async fn fetch_unless_just_tried(&self, pause: Duration) {
        let now = self.clock.instant();
        let just_tried =
            self.locked(|state| state.tried.is_some_and(|tried| now.saturating_duration_since(tried) < pause));
        if just_tried {
            return;
        }
        // Noted before the wait: a caller that gives up half-way has used the turn, too.
        self.locked(|state| state.tried = Some(now));
        let fetched = tokio::time::timeout(self.fetch_wait, (self.fetch)()).await;
        let outcome = match fetched {
            Err(_) => Err(Refusal::internal("identity's public keys were not answered in time")),
            Ok(Err(refusal)) => Err(refusal),
            Ok(Ok(text)) => (self.parse)(&text)
                .map_err(|problem| Refusal::internal(format!("identity's public keys cannot be used: {problem}"))),
        };
        // Noted again after it: whoever queued behind a fetch that hung must not hang in turn.
        self.locked(|state| state.tried = Some(self.clock.instant()));
        match outcome {
            Ok(keys) => self.locked(|state| {
                state.keys = Some((Arc::new(keys), now));
                state.failure = None;
            }),
            Err(refusal) => {
                tracing::warn!(reason = refusal.reason().as_str(), %refusal, "identity's public keys were not fetched");
                self.locked(|state| state.failure = Some(refusal));
            }
        }
    }

    fn held(&self) -> Option<(Arc<K>, Duration)> {
        let now = self.clock.instant();
        self.locked(|state| {
            state.keys.as_ref().map(|(keys, since)| (Arc::clone(keys), now.saturating_duration_since(*since)))
        })
    }

    fn failure(&self) -> Refusal {
        self.locked(|state| state.failure.clone())
            .unwrap_or_else(|| Refusal::internal("identity's public keys are not there yet"))
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
    async fn an_unknown_key_is_asked_for_once_in_a_while() {
        let (identity, clock, cache) = setup();
        let known = cache.current().await.unwrap();
        for _ in 0..10 {
            assert!(Arc::ptr_eq(&cache.newer_than(&known).await, &known), "too soon");
        }
        clock.advance(PAUSE);
        let newer = futures_util::future::join_all((0..10).map(|_| cache.newer_than(&known))).await;
        assert!(newer.iter().all(|keys| **keys == "keys 1"));
        assert_eq!(asked(&identity), 2);
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
        cache.fetch_wait = Duration::from_millis(1);
        assert_eq!(cache.current().await.unwrap_err().reason(), Reason::Internal);
    }
}
