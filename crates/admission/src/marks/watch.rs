//! `WatchMarks`: a cursor on the board, woken with it. A stream holds one page of changes and nothing else; one that is
//! read too slowly finds that its cursor has become too old, and begins again.

use std::collections::VecDeque;

use futures_util::stream::{Stream, unfold};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::watch_marks_response::Event;
use safeconduct_service::wire::{to_mark, to_mark_key, to_timestamp};
use safeconduct_types::{OperationId, WorkspaceId};
use tokio::sync::watch::Receiver;
use tonic::Status;

use super::board::{Change, Cursor, Page};
use super::{Marks, Progress};

/// Changes that are taken off the board at once.
const AT_ONCE: usize = 256;

/// Which workspaces a stream is about.
pub(super) type Filter = Box<dyn Fn(&WorkspaceId) -> bool + Send + Sync>;

/// The state that a resume token names: a revision, and the operation that made it.
pub(super) type Token = (u64, OperationId);

struct Watching {
    marks: Marks,
    filter: Filter,
    progress: Receiver<Progress>,
    /// `None`: begin, which says `reset` first.
    cursor: Option<Cursor>,
    ready: VecDeque<Event>,
    /// The last look that a heartbeat was sent for. At first, the last one before anybody watched: a heartbeat is
    /// never older than its stream.
    heard: u64,
}

impl Marks {
    pub(super) fn watch(
        &self,
        filter: Filter,
        resume: Option<Token>,
    ) -> impl Stream<Item = Result<proto::WatchMarksResponse, Status>> + Send + 'static {
        let progress = self.subscribe();
        let heard = progress.borrow().looks;
        let cursor = resume.and_then(|(revision, stamp)| self.read(|board| board.resume(revision, stamp)));
        let watching = Watching { marks: self.clone(), filter, progress, cursor, ready: VecDeque::new(), heard };
        unfold(watching, |mut watching| async {
            let event = watching.next().await?;
            Some((Ok(proto::WatchMarksResponse { event: Some(event) }), watching))
        })
    }
}

impl Watching {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // What the board has now has all changes up to that time.
            let progress = *self.progress.borrow_and_update();
            if self.heard == 0 && progress.looks == 0 {
                self.progress.changed().await.ok()?;
                continue;
            }
            if self.take_page() {
                continue;
            }
            if progress.looks > self.heard {
                self.heard = progress.looks;
                let token = self.marks.read(|board| board.stamp().map(|stamp| token(board.revision(), stamp)));
                let resume_token = token.unwrap_or_default();
                self.ready.push_back(Event::Heartbeat(proto::MarksHeartbeat {
                    time: Some(to_timestamp(progress.time)),
                    resume_token,
                }));
                continue;
            }
            self.progress.changed().await.ok()?;
        }
    }

    /// Takes the next page off the board; whether there was anything on it.
    fn take_page(&mut self) -> bool {
        let Some(mut cursor) = self.cursor else {
            let (cursor, history) = self.marks.read(|board| (board.begin(), board.history()));
            self.cursor = Some(cursor);
            self.ready.push_back(Event::Reset(proto::MarksReset { store_epoch: history.to_string() }));
            return true;
        };
        match self.marks.read(|board| board.after(cursor, AT_ONCE)) {
            Page::Lost => {
                self.cursor = None;
                true
            }
            Page::Changes(changes) => {
                let was_any = !changes.is_empty();
                for (place, change) in changes {
                    cursor.at = place;
                    if (self.filter)(&change.key().workspace) {
                        self.ready.push_back(event(change));
                    }
                }
                self.cursor = Some(cursor);
                was_any
            }
        }
    }
}

fn event(change: Change) -> Event {
    match change {
        Change::Set(mark) => Event::Set(to_mark(safeconduct_types::Mark::clone(&mark))),
        Change::Cleared(key) => Event::Cleared(to_mark_key(safeconduct_types::MarkKey::clone(&key))),
    }
}

fn token(revision: u64, stamp: OperationId) -> String {
    format!("{revision}.{stamp}")
}

/// The state that a token names. One that names none is too old.
pub(super) fn parse_token(token: &str) -> Option<Token> {
    let (revision, stamp) = token.split_once('.')?;
    Some((revision.parse().ok()?, stamp.parse().ok()?))
}
