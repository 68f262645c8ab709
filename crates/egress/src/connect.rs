//! Opening a socket, to a checked address and to no other.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper_util::rt::TokioIo;
use safeconduct_types::Clock;
use tokio::net::TcpStream;
use tower::Service;

use crate::error::Cause;
use crate::policy::{AddressPolicy, PublicAddress};
use crate::resolve::Resolver;
use crate::target::{Target, TargetHost};

/// How long one attempt is alone before the next address is tried besides (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to one upstream. What the URI of a request says is not asked: the target was checked when it was made.
#[derive(Clone, Debug)]
pub(crate) struct GuardedConnector {
    host: Host,
    policy: Arc<AddressPolicy>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Host {
    Address(SocketAddr),
    Name(Arc<Resolver>),
}

/// Why no socket was opened; travels inside the client's own error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConnectError(pub(crate) Cause);

impl GuardedConnector {
    pub(crate) fn new(target: &Target, policy: AddressPolicy, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        let host = match target.host() {
            TargetHost::Address(ip) => Host::Address(SocketAddr::new(*ip, target.port())),
            TargetHost::Name(name) => Host::Name(Resolver::system(name, target.port(), clock)),
        };
        Self { host, policy: Arc::new(policy), timeout }
    }

    async fn addresses(&self) -> Result<Vec<PublicAddress>, ConnectError> {
        let found = match &self.host {
            Host::Address(address) => [*address].into(),
            Host::Name(resolver) => resolver.addresses().await.ok_or(ConnectError(Cause::Resolve))?,
        };
        // One bad address condemns the name: whoever controls it must not get a second draw.
        found
            .iter()
            .map(|address| self.policy.check(*address).map_err(|refused| ConnectError(Cause::Refused(refused))))
            .collect()
    }

    /// Its addresses in the order in which they are to be tried, all of them checked.
    pub(crate) async fn checked(&self) -> Result<Vec<PublicAddress>, ConnectError> {
        Ok(alternating(self.addresses().await?))
    }

    async fn open(self) -> Result<TokioIo<TcpStream>, ConnectError> {
        let addresses = self.checked().await?;
        let connect = |address: PublicAddress| TcpStream::connect(address.socket());
        let stream = race(addresses, HEAD_START, connect).await.ok_or(ConnectError(Cause::Connect))?;
        let _ = stream.set_nodelay(true);
        Ok(TokioIo::new(stream))
    }
}

/// The families in turn, each in the resolver's order, beginning with the one that it put first.
fn alternating(addresses: Vec<PublicAddress>) -> Vec<PublicAddress> {
    let first_is_v6 = addresses.first().is_some_and(|first| first.socket().is_ipv6());
    let count = addresses.len();
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.socket().is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

/// The first connection that stands; the other attempts are dropped. The next address is tried when the latest attempt
/// has had its head start, or at once when one fails.
async fn race<S, F>(
    addresses: Vec<PublicAddress>,
    head_start: Duration,
    connect: impl Fn(PublicAddress) -> F,
) -> Option<S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.extend(waiting.next().map(&connect));
        let ended = if waiting.len() == 0 {
            attempts.next().await
        } else {
            match tokio::time::timeout(head_start, attempts.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(stream)) => return Some(stream),
            Some(Err(_)) => {}
            None => return None,
        }
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let timeout = this.timeout;
            tokio::time::timeout(timeout, this.open())
                .await
                .unwrap_or(Err(ConnectError(Cause::Connect)))
                .map_err(io::Error::other)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use safeconduct_types::{ManualClock, SystemClock, Timestamp};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);
    const BRIEF: Duration = Duration::from_millis(1);

    fn public(addresses: &[&str]) -> Vec<PublicAddress> {
        let check = |address: &&str| AddressPolicy::default().check(address.parse().unwrap()).unwrap();
        addresses.iter().map(check).collect()
    }

    /// What was tried, in order, and how many attempts are still under way.
    #[derive(Default)]
    struct Seen {
        tried: Mutex<Vec<String>>,
        under_way: AtomicUsize,
    }

    struct Attempt<'a>(&'a Seen);

    impl Drop for Attempt<'_> {
        fn drop(&mut self) {
            self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Seen {
        /// `1.*` never answers, `2.*` refuses, everything else connects.
        async fn connect(&self, address: PublicAddress) -> io::Result<String> {
            let address = address.socket().ip().to_string();
            self.tried.lock().unwrap().push(address.clone());
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let _attempt = Attempt(self);
            match address.get(..2) {
                Some("1.") => std::future::pending().await,
                Some("2.") => Err(io::ErrorKind::ConnectionRefused.into()),
                _ => Ok(address),
            }
        }

        async fn race(&self, addresses: &[&str], head_start: Duration) -> Option<String> {
            let race = race(public(addresses), head_start, |address| self.connect(address));
            tokio::time::timeout(Duration::from_secs(20), race).await.expect("somebody is waited for who must not be")
        }
    }

    #[test]
    fn the_families_take_turns() {
        let ordered = |addresses: &[&str]| -> Vec<String> {
            alternating(public(addresses)).iter().map(|address| address.socket().ip().to_string()).collect()
        };
        let mixed = ["[2a00::1]:1", "[2a00::2]:1", "[2a00::3]:1", "8.8.8.1:1", "8.8.8.2:1"];
        assert_eq!(ordered(&mixed), ["2a00::1", "8.8.8.1", "2a00::2", "8.8.8.2", "2a00::3"]);
        assert_eq!(ordered(&["8.8.8.1:1", "8.8.8.2:1", "[2a00::1]:1"]), ["8.8.8.1", "2a00::1", "8.8.8.2"]);
        assert!(ordered(&[]).is_empty());
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_costs_a_head_start_only() {
        let seen = Seen::default();
        let won = seen.race(&["1.0.0.1:1", "1.0.0.2:1", "8.8.8.8:1", "9.9.9.9:1"], BRIEF).await;
        assert_eq!(won.as_deref(), Some("8.8.8.8"));
        assert_eq!(*seen.tried.lock().unwrap(), ["1.0.0.1", "1.0.0.2", "8.8.8.8"]);
        assert_eq!(seen.under_way.load(Ordering::SeqCst), 0, "the losers are dropped");
    }

    #[tokio::test]
    async fn after_a_failure_the_next_address_is_tried_at_once() {
        let won = Seen::default().race(&["2.0.0.1:1", "2.0.0.2:1", "8.8.8.8:1"], LONG).await;
        assert_eq!(won.as_deref(), Some("8.8.8.8"));
        assert_eq!(Seen::default().race(&["2.0.0.1:1", "2.0.0.2:1"], LONG).await, None);
    }

    #[tokio::test]
    async fn whoever_is_quick_enough_is_alone() {
        let seen = Seen::default();
        assert_eq!(seen.race(&["8.8.8.8:1", "9.9.9.9:1"], LONG).await.as_deref(), Some("8.8.8.8"));
        assert_eq!(*seen.tried.lock().unwrap(), ["8.8.8.8"]);
    }

    fn connector(found: Vec<SocketAddr>, allowed: &str, timeout: Duration) -> GuardedConnector {
        static PLACES: Semaphore = Semaphore::const_new(9);
        let lookup = move |_: &str, _: u16| Ok(found.clone());
        let resolver = Resolver::new("a.example", 443, lookup, &PLACES, Arc::new(SystemClock));
        let policy = Arc::new(AddressPolicy::allowing(vec![allowed.parse().unwrap()]));
        GuardedConnector { host: Host::Name(resolver), policy, timeout }
    }

    #[tokio::test]
    async fn one_bad_address_condemns_the_name_before_any_socket_is_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let bad = "10.0.0.1:443".parse().unwrap();
        for found in [vec![good, bad], vec![bad, good]] {
            let refused = connector(found, "127.0.0.0/8", LONG).open().await.unwrap_err();
            assert!(matches!(refused.0, Cause::Refused(_)), "{refused:?}");
        }
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("a socket was opened"),
            () = std::future::ready(()) => {}
        }
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        connector(vec![dead, good], "127.0.0.0/8", LONG).open().await.unwrap();
    }

    #[tokio::test]
    async fn a_known_answer_is_checked_at_each_use() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connector = connector(vec![listener.local_addr().unwrap()], "127.0.0.0/8", LONG);
        connector.clone().open().await.unwrap();
        connector.policy = Arc::default();
        assert!(matches!(connector.open().await.unwrap_err().0, Cause::Refused(_)));
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_costs_the_connect_timeout_and_no_more() {
        static PLACES: Semaphore = Semaphore::const_new(0);
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1)));
        let resolver = Resolver::new("a.example", 443, |_, _| Ok(Vec::new()), &PLACES, clock);
        let mut connector = connector(Vec::new(), "127.0.0.0/8", BRIEF);
        connector.host = Host::Name(resolver);
        assert!(connector.call(Uri::from_static("http://a.example")).await.is_err());
    }
}
