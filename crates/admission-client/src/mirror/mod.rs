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

use crate::mark::{key, mark};
use state::{News, State};

/// Heartbeats come several times a second; a stream that is silent for this long is opened anew.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two streams: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

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
    /// Whether a full set was ever heard.
    ready: Sender<bool>,
}

impl Mirror {
    /// A mirror that has heard nothing.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.instant();
        let (changes, ready) = (Sender::new(0), Sender::new(false));
        Self(Arc::new(Shared { clock, start, state: RwLock::default(), changes, ready }))
    }

    /// Whether one of these marks is met at `now`, on the process's clock.
    pub fn check(&self, checks: &[MarkCheck], now: Instant) -> MirrorAnswer {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).check(checks, now)
    }

    /// Whether nothing was heard for too long at `now`, on the process's clock.
    pub fn is_lagging(&self, now: Instant) -> bool {
        matches!(self.check(&[], now), MirrorAnswer::Lagging(_))
    }

    /// Changes whenever a mark was set, so that whoever waits can look again.
    pub fn changes(&self) -> Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Waits until everything was heard once.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // The sender lives as long as this does.
        let _ = ready.wait_for(|ready| *ready).await;
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
                Ok(Some(proto::WatchMarksResponse { event: Some(event) })) => self.take_in(event, resume),
                Ok(Some(proto::WatchMarksResponse { event: None })) => {}
                Ok(None) => return Status::unavailable("the stream has ended"),
                Err(status) => return status,
            }
        }
    }

    fn take_in(&self, event: Event, resume: &mut String) {
        let news = match event {
            Event::Reset(_) => {
                // Half a set is nothing to resume from.
                resume.clear();
                Some(News::Reset)
            }
            Event::Set(set) => mark(set).map(News::Set),
            Event::Cleared(cleared) => key(&cleared).map(News::Cleared),
            Event::Heartbeat(heartbeat) => {
                *resume = heartbeat.resume_token;
                heartbeat.time.as_ref().and_then(timestamp).map(News::Heartbeat)
            }
        };
        let Some(news) = news else {
            tracing::warn!("admission told of a mark that this version does not know; it is not heeded here");
            return;
        };
        let is_heartbeat = matches!(news, News::Heartbeat(_));
        let changed = {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            state.take_in(news, self.0.start, self.0.clock.instant())
        };
        if changed {
            self.0.changes.send_modify(|count| *count += 1);
        }
        if is_heartbeat {
            self.0.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }

    /// Tells the mirror that just these marks are in force now, without an admission.
    #[cfg(any(test, feature = "testing"))]
    pub fn tell(&self, marks: impl IntoIterator<Item = Mark>) {
        let now = self.0.clock.instant();
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let heartbeat = News::Heartbeat(self.0.clock.now());
        for news in [News::Reset].into_iter().chain(marks.into_iter().map(News::Set)).chain([heartbeat]) {
            state.take_in(news, self.0.start, now);
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
