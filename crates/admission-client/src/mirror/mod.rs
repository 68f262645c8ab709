//! The mirror: every mark in force, in the memory of every process that must heed them.
//!
//! It follows admission's `WatchMarks` and is asked on every call and before each attempt; asking costs a look into a
//! hash map. What it has not heard within a second it does not vouch for: then it answers [`MirrorAnswer::Lagging`], and
//! whoever asked asks admission, or refuses.

mod state;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::admission_service_client::AdmissionServiceClient;
use safeconduct_proto::admission::v1::watch_marks_response::Event;
use safeconduct_service::channel::SisterChannel;
use safeconduct_service::wire::timestamp;
use safeconduct_types::{Clock, Mark, MarkCheck, NextAction, Reason, Refusal, Subject};
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::mark::{closed_by_unknown, key, mark};
use state::{LAGGING_AFTER, News, State};

/// Heartbeats come several times a second; a stream that is silent for this long is opened anew.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two streams: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long after a mirror has begun to lag it is worth waiting for it.
const HICCUP: Duration = Duration::from_millis(300);

/// What the mirror knows of some marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorAnswer {
    /// None of them was set up to a second ago.
    Clear,
    /// This one closes the way: the first in the order asked.
    Met(Arc<Mark>),
    /// The mirror is older than a second. With the mark that was met as far as it knows.
    Lagging(Option<Arc<Mark>>),
}

/// All marks in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Mirror(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    start: Instant,
    state: RwLock<State>,
    /// Counts what was set.
    changes: Sender<u64>,
    /// Counts heartbeats; 0 until a full set was heard.
    beats: Sender<u64>,
}

impl Mirror {
    /// A mirror that has heard nothing.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.instant();
        let (changes, beats) = (Sender::new(0), Sender::new(0));
        Self(Arc::new(Shared { clock, start, state: RwLock::default(), changes, beats }))
    }

    /// Whether one of these marks is met at `now`, on the process's clock.
    pub fn check(&self, checks: &[MarkCheck], now: Instant) -> MirrorAnswer {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).check(checks, now)
    }

    /// Whether nothing was heard for too long at `now`, on the process's clock.
    pub fn is_lagging(&self, now: Instant) -> bool {
        matches!(self.check(&[], now), MirrorAnswer::Lagging(_))
    }

    /// The same; if the mirror has only just begun to lag, it waits a moment, at most 300 ms, for the next
    /// heartbeat.
    pub async fn check_soon(&self, checks: &[MarkCheck]) -> MirrorAnswer {
        let answer = self.check(checks, self.0.clock.instant());
        if !matches!(answer, MirrorAnswer::Lagging(_)) {
            return answer;
        }
        let mut beats = self.0.beats.subscribe();
        loop {
            beats.mark_unchanged();
            let now = self.0.clock.instant();
            let answer = self.check(checks, now);
            let Some(left) = self.age(now).and_then(|age| (LAGGING_AFTER + HICCUP).checked_sub(age)) else {
                return answer;
            };
            if !matches!(answer, MirrorAnswer::Lagging(_)) || left.is_zero() {
                return answer;
            }
            if tokio::time::timeout(left, beats.changed()).await.is_err() {
                return self.check(checks, self.0.clock.instant());
            }
        }
    }

    /// Refuses what a mark closes, and, after the same wait, what cannot be known: for where everything is about a
    /// person, so that not knowing is a no.
    pub async fn heed(&self, checks: &[MarkCheck]) -> Result<(), Refusal> {
        match self.check_soon(checks).await {
            MirrorAnswer::Clear => Ok(()),
            MirrorAnswer::Met(mark) => Err(closed(&mark)),
            MirrorAnswer::Lagging(_) => Err(lagging()),
        }
    }

    /// How long ago, at `now`, the mirror knew everything; `None` if it never did.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).age(now)
    }

    /// Changes whenever a mark was set, so that whoever waits can look again.
    pub fn changes(&self) -> Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Waits until everything was heard once.
    pub async fn ready(&self) {
        let mut beats = self.0.beats.subscribe();
        // The sender lives as long as this does.
        let _ = beats.wait_for(|beats| *beats > 0).await;
    }

    /// Follows the admission at the other end of `channel` until `stop`.
    pub async fn follow(self, channel: SisterChannel, stop: CancellationToken) {
        let mut resume = String::new();
        let mut pause = PAUSES.0;
        loop {
            let before = self.heard();
            tokio::select! {
                () = stop.cancelled() => return,
                ended = self.listen(channel.clone(), &mut resume) => {
                    tracing::debug!(code = ?ended.code(), "the stream of marks has ended, opening it again");
                }
            }
            pause = if self.heard() == before { (pause * 2).min(PAUSES.1) } else { PAUSES.0 };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Hears one stream to its end.
    async fn listen(&self, channel: SisterChannel, resume: &mut String) -> Status {
        let request = proto::WatchMarksRequest { workspace_ids: Vec::new(), resume_token: resume.clone() };
        let mut client = AdmissionServiceClient::new(channel);
        let silent = |_| Status::deadline_exceeded("admission was silent");
        let opened = tokio::time::timeout(SILENCE, client.watch_marks(request)).await.map_err(silent);
        let mut stream = match opened.and_then(|opened| opened) {
            Ok(stream) => stream.into_inner(),
            Err(status) => return status,
        };
        loop {
            let next = tokio::time::timeout(SILENCE, stream.message()).await.map_err(silent);
            match next.and_then(|next| next) {
                Ok(Some(proto::WatchMarksResponse { event: Some(event) })) => {
                    if !self.take_in(event, resume) {
                        return Status::aborted("a mark of an unknown kind was cleared");
                    }
                }
                // Of a kind that this version does not know. It may have closed something.
                Ok(Some(proto::WatchMarksResponse { event: None })) => self.learn(News::Unreadable),
                Ok(None) => return Status::unavailable("the stream has ended"),
                Err(status) => return status,
            }
        }
    }

    /// Whether the stream can go on from here: what has ended of what is not known is only seen in a full set.
    fn take_in(&self, event: Event, resume: &mut String) -> bool {
        let news = match event {
            Event::Reset(_) => {
                // Half a set is nothing to resume from.
                resume.clear();
                News::Reset
            }
            Event::Set(set) => {
                let about = set.key.clone().unwrap_or_default();
                mark(set).map_or_else(|| unknown(&about), News::Set)
            }
            Event::Cleared(cleared) => {
                let Some(key) = key(&cleared) else {
                    resume.clear();
                    return false;
                };
                News::Cleared(key)
            }
            Event::Heartbeat(heartbeat) => match heartbeat.time.as_ref().and_then(timestamp) {
                Some(time) => {
                    *resume = heartbeat.resume_token;
                    News::Heartbeat(time)
                }
                None => News::Unreadable,
            },
        };
        self.learn(news);
        true
    }

    fn learn(&self, news: News) {
        let is_heartbeat = matches!(news, News::Heartbeat(_));
        let changed = {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            state.take_in(news, self.0.start, self.0.clock.instant())
        };
        if changed {
            self.0.changes.send_modify(|count| *count += 1);
        }
        if is_heartbeat {
            self.0.beats.send_modify(|count| *count += 1);
        }
    }

    /// Tells the mirror that just these marks are in force now, without an admission.
    #[cfg(any(test, feature = "testing"))]
    pub fn tell(&self, marks: impl IntoIterator<Item = Mark>) {
        let heartbeat = News::Heartbeat(self.0.clock.now());
        for news in [News::Reset].into_iter().chain(marks.into_iter().map(News::Set)).chain([heartbeat]) {
            self.learn(news);
        }
    }

    fn heard(&self) -> Option<Instant> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).heard().map(|(at, _)| at)
    }

    /// How many marks it holds.
    pub fn len(&self) -> usize {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A mark of a kind that this version does not know.
fn unknown(about: &proto::MarkKey) -> News {
    let closed = closed_by_unknown(about);
    tracing::warn!(
        kind = about.kind,
        closed = closed.as_ref().map(|key| key.subject.kind()),
        "admission told of a mark that this version does not know; it is taken to close what it is about"
    );
    closed.map_or(News::Unreadable, News::Unknown)
}

/// What is answered to whoever meets this mark.
pub fn closed(mark: &Mark) -> Refusal {
    match &mark.key.subject {
        Subject::SessionRevoked(..) => Refusal::new(Reason::AssertionRevoked, "the session was revoked; start a new one"),
        Subject::ContactSignedOut(_) => {
            Refusal::new(Reason::AssertionRevoked, "the contact was signed out; start a new session and prove again")
        }
        Subject::ContactErased(_) => {
            Refusal::new(Reason::AssertionRevoked, "the contact was erased; start a new session")
        }
        Subject::ContactBlocked(_) => Refusal::new(
            Reason::AssertionRevoked,
            "the contact is blocked until an operator or the backend lifts that; a new proof does not help",
        )
        .with_next_action(NextAction::Stop),
        Subject::AssertionStale(..) => Refusal::new(
            Reason::AssertionStale,
            "the session was upgraded, or a protected value changed, since the assertion was issued; use the newest one",
        )
        .with_metadata("changed", if mark.min_epoch > 0 { "session" } else { "contact" }),
        Subject::ResourceGone(..) => {
            Refusal::new(Reason::ResourceGone, "the upstream has said that this object is gone for good")
        }
        Subject::ConnectorGone(connector) => {
            Refusal::new(Reason::ConnectorGone, format!("the upstream has ended what `{connector}` calls"))
        }
        Subject::ConnectorDisabled(connector) => {
            Refusal::new(Reason::ConnectorDisabled, format!("an operator has disabled `{connector}`"))
        }
        Subject::VersionDisabled(connector, version) => {
            Refusal::new(Reason::ConnectorDisabled, format!("version `{version}` of `{connector}` is disabled"))
        }
        Subject::WorkspaceDisabled => Refusal::new(Reason::ConnectorDisabled, "an operator has disabled the workspace"),
    }
}

/// What is answered where nothing may be done without knowing.
pub fn lagging() -> Refusal {
    Refusal::new(
        Reason::MarksLagging,
        "this replica has not heard for a second whether something was revoked, so it does not act; ask again",
    )
    .with_retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use safeconduct_service::wire::{to_mark, to_mark_key, to_timestamp};
    use safeconduct_types::{ContactId, ManualClock, MarkKey, Timestamp};

    use super::*;

    const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);

    struct Fixture {
        clock: Arc<ManualClock>,
        mirror: Mirror,
        resume: String,
    }

    impl Fixture {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::at(NOON));
            let mirror = Mirror::new(clock.clone());
            mirror.tell([]);
            Self { clock, mirror, resume: String::new() }
        }

        fn hear(&mut self, event: Event) -> bool {
            self.mirror.take_in(event, &mut self.resume)
        }

        fn heartbeat(&mut self) {
            let time = Some(to_timestamp(self.clock.now()));
            self.hear(Event::Heartbeat(proto::MarksHeartbeat { time, resume_token: "7.x".to_owned() }));
        }

        fn meets(&self, subject: Subject) -> bool {
            let check = MarkCheck::any(MarkKey::new("acme".parse().unwrap(), subject));
            matches!(self.mirror.check(&[check], self.clock.instant()), MirrorAnswer::Met(_))
        }
    }

    fn of_a_later_version(about: Subject) -> proto::MarkKey {
        proto::MarkKey { kind: 999, ..to_mark_key(MarkKey::new("acme".parse().unwrap(), about)) }
    }

    fn contact(n: u8) -> ContactId {
        ContactId::from_digest(&[n; 16])
    }

    #[test]
    fn a_mark_of_an_unknown_kind_closes_what_it_is_about_and_nothing_else() {
        let connector = |name: &str| Subject::ConnectorDisabled(name.parse().unwrap());
        let mut fixture = Fixture::new();
        let set = |key| Event::Set(proto::Mark { key: Some(key), ..proto::Mark::default() });
        fixture.hear(set(of_a_later_version(Subject::ContactBlocked(contact(1)))));
        assert!(fixture.meets(Subject::ContactBlocked(contact(1))));
        assert!(!fixture.meets(Subject::ContactBlocked(contact(2))) && !fixture.meets(Subject::WorkspaceDisabled));
        fixture.hear(set(of_a_later_version(connector("refund"))));
        assert!(fixture.meets(connector("refund")) && !fixture.meets(connector("list")));
        fixture.hear(set(of_a_later_version(Subject::WorkspaceDisabled)));
        assert!(fixture.meets(Subject::WorkspaceDisabled));
        assert!(!fixture.mirror.is_lagging(fixture.clock.instant()));
        fixture.hear(set(proto::MarkKey::default()));
        assert!(fixture.mirror.is_lagging(fixture.clock.instant()), "nobody knows what it is about");
    }

    #[test]
    fn when_a_mark_of_an_unknown_kind_is_cleared_everything_is_heard_anew() {
        let mut fixture = Fixture::new();
        fixture.heartbeat();
        assert_eq!(fixture.resume, "7.x");
        assert!(!fixture.hear(Event::Cleared(of_a_later_version(Subject::WorkspaceDisabled))));
        assert_eq!(fixture.resume, "", "from the beginning");
        let blocked = MarkKey::new("acme".parse().unwrap(), Subject::ContactBlocked(contact(1)));
        let mark = Mark {
            key: blocked,
            effective: NOON,
            expires: None,
            reason: String::new(),
            actor: String::new(),
            revision: 1,
            min_epoch: 0,
        };
        assert!(fixture.hear(Event::Set(to_mark(mark))));
        assert!(fixture.meets(Subject::ContactBlocked(contact(1))), "known ones are heeded as ever");
    }

    #[tokio::test]
    async fn who_asks_in_a_hiccup_waits_for_a_heartbeat_and_later_not_at_all() {
        let fixture = Fixture::new();
        fixture.clock.advance(LAGGING_AFTER + Duration::from_millis(1));
        let mirror = fixture.mirror.clone();
        let tell = async {
            tokio::task::yield_now().await;
            mirror.tell([]);
        };
        assert_eq!(tokio::join!(fixture.mirror.check_soon(&[]), tell).0, MirrorAnswer::Clear);
        fixture.clock.advance(LAGGING_AFTER + HICCUP);
        let at_once = tokio::time::timeout(Duration::ZERO, fixture.mirror.check_soon(&[])).await;
        assert_eq!(at_once, Ok(MirrorAnswer::Lagging(None)));
        fixture.clock.advance(LAGGING_AFTER);
        let refused = fixture.mirror.heed(&[]).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::MarksLagging, "not knowing is a no");
        let fresh = Mirror::new(fixture.clock.clone());
        let at_once = tokio::time::timeout(Duration::ZERO, fresh.check_soon(&[])).await;
        assert_eq!(at_once, Ok(MirrorAnswer::Lagging(None)), "it has never heard a thing");
    }
}
