//! Where an upstream's name leads, asked of the system's resolver without letting it take the process along.
//!
//! The system's resolver blocks a thread for as long as it likes. So a process asks it for a few names at a time only,
//! and an upstream for its own once at a time, whoever waits; what came of it serves for a moment. What is found here
//! is not checked: whoever connects does that, each time.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_types::Clock;
use tokio::sync::{Semaphore, watch};

/// How long an answer serves.
const FRESH: Duration = Duration::from_secs(5);

/// Lookups under way in the process. Each holds a thread of the pool that file reads need, too, so that a resolver
/// that hangs must not get them all.
static PLACES: Semaphore = Semaphore::const_new(16);

type Lookup = Box<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;
/// None: the name has no address, or that could not be found out.
type Found = Option<Arc<[SocketAddr]>>;

/// The addresses of one name.
pub(crate) struct Resolver {
    name: String,
    port: u16,
    lookup: Lookup,
    places: &'static Semaphore,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// Somebody asks already; what comes of it is told here.
    Asking(watch::Receiver<Option<Found>>),
    Known(Arc<[SocketAddr]>, Instant),
}

/// What there is to do.
enum Turn {
    Take(Arc<[SocketAddr]>),
    Wait(watch::Receiver<Option<Found>>),
    Ask(watch::Sender<Option<Found>>),
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Resolver {
    /// Asks the system.
    pub(crate) fn system(name: &str, port: u16, clock: Arc<dyn Clock>) -> Arc<Self> {
        let lookup = |name: &str, port: u16| (name, port).to_socket_addrs().map(Iterator::collect);
        Self::new(name, port, lookup, &PLACES, clock)
    }

    pub(crate) fn new(
        name: &str,
        port: u16,
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        places: &'static Semaphore,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let (name, lookup, state) = (name.to_owned(), Box::new(lookup), Mutex::new(State::Idle));
        Arc::new(Self { name, port, lookup, places, clock, state })
    }

    /// At least one address, not checked; none if the name has none, or if that could not be found out.
    pub(crate) async fn addresses(self: &Arc<Self>) -> Found {
        loop {
            let mut told = match self.turn() {
                Turn::Take(addresses) => return Some(addresses),
                Turn::Wait(told) => told,
                Turn::Ask(tell) => return self.ask(tell).await,
            };
            if let Ok(found) = told.wait_for(Option::is_some).await {
                return found.clone().flatten();
            }
            // Whoever wanted to ask gave up before it got a place. Somebody else's turn.
        }
    }

    async fn ask(self: &Arc<Self>, tell: watch::Sender<Option<Found>>) -> Found {
        let mut told = tell.subscribe();
        let place = self.places.acquire().await.ok()?;
        let this = Arc::clone(self);
        // Goes on without us if we give up, and keeps its place until the resolver has really answered.
        drop(tokio::task::spawn_blocking(move || {
            let found = (this.lookup)(&this.name, this.port).ok().filter(|found| !found.is_empty()).map(Arc::from);
            this.keep(&found);
            tell.send_replace(Some(found));
            drop(place);
        }));
        told.wait_for(Option::is_some).await.ok().and_then(|found| found.clone().flatten())
    }

    fn turn(&self) -> Turn {
        let now = self.clock.instant();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Known(addresses, since) if now.saturating_duration_since(*since) < FRESH => {
                return Turn::Take(Arc::clone(addresses));
            }
            State::Asking(told) if told.has_changed().is_ok() => return Turn::Wait(told.clone()),
            State::Known(..) | State::Asking(_) | State::Idle => {}
        }
        let (tell, told) = watch::channel(None);
        *state = State::Asking(told);
        Turn::Ask(tell)
    }

    fn keep(&self, found: &Found) {
        let state = found.clone().map_or(State::Idle, |addresses| State::Known(addresses, self.clock.instant()));
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use safeconduct_types::{ManualClock, Timestamp};

    use super::*;

    const ADDRESS: &str = "192.0.2.1:443";

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(Timestamp::from_seconds(1)))
    }

    /// A resolver that answers when it is let to, and counts.
    struct Slow {
        resolver: Arc<Resolver>,
        /// Dropped: everybody is answered.
        answer: mpsc::Sender<()>,
        begun: Arc<AtomicUsize>,
    }

    fn slow(places: &'static Semaphore, clock: &Arc<ManualClock>) -> Slow {
        let (answer, wait) = mpsc::channel();
        let (wait, begun) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let lookup = move |_: &str, _: u16| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = wait.lock().unwrap().recv();
            Ok(vec![ADDRESS.parse().unwrap()])
        };
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Slow { resolver: Resolver::new("a.example", 443, lookup, places, clock), answer, begun }
    }

    /// Polls once: far enough to have asked.
    async fn start<T>(work: &mut (impl Future<Output = T> + Unpin)) {
        tokio::select! {
            biased;
            _ = work => panic!("it must wait"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn one_upstream_asks_once_at_a_time_also_if_whoever_asked_gave_up() {
        static PLACES: Semaphore = Semaphore::const_new(9);
        let Slow { resolver, answer, begun } = slow(&PLACES, &clock());
        let mut first = Box::pin(resolver.addresses());
        start(&mut first).await;
        drop(first);
        let mut others: Vec<_> = (0..5).map(|_| Box::pin(resolver.addresses())).collect();
        for other in &mut others {
            start(other).await;
        }
        drop(answer);
        for other in others {
            assert_eq!(&*other.await.unwrap(), [ADDRESS.parse().unwrap()]);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_lookup_that_hangs_keeps_its_place_although_nobody_waits() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let (one, other) = (slow(&PLACES, &clock()), slow(&PLACES, &clock()));
        let mut hung = Box::pin(one.resolver.addresses());
        start(&mut hung).await;
        drop(hung);
        let mut waiting = Box::pin(other.resolver.addresses());
        start(&mut waiting).await;
        assert_eq!((PLACES.available_permits(), other.begun.load(Ordering::SeqCst)), (0, 0));
        drop((one.answer, other.answer));
        assert!(waiting.await.is_some(), "the place is free once the resolver has answered");
    }

    #[tokio::test]
    async fn whoever_waits_for_one_that_gave_up_without_a_place_asks_itself() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let Slow { resolver, answer, begun } = slow(&PLACES, &clock());
        let taken = PLACES.acquire().await.unwrap();
        let (mut first, mut second) = (Box::pin(resolver.addresses()), Box::pin(resolver.addresses()));
        start(&mut first).await;
        start(&mut second).await;
        drop((first, taken, answer));
        assert!(second.await.is_some());
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_answer_serves_for_a_moment_and_a_failure_for_none() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let clock = clock();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let lookup = move |_: &str, _: u16| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            1 => Ok(Vec::new()),
            _ => Ok(vec![ADDRESS.parse().unwrap()]),
        };
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let resolver = Resolver::new("a.example", 443, lookup, &PLACES, shared);
        assert!(resolver.addresses().await.is_none() && resolver.addresses().await.is_none());
        assert!(resolver.addresses().await.is_some());
        clock.advance(FRESH.saturating_sub(Duration::from_millis(1)));
        assert!(resolver.addresses().await.is_some());
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        clock.advance(Duration::from_millis(1));
        assert!(resolver.addresses().await.is_some());
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
