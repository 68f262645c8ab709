//! What a mirror knows, and how well it knows it: pure, time is an argument.

use std::borrow::Borrow;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use safeconduct_types::{Mark, MarkCheck, MarkKey, Timestamp};

use super::MirrorAnswer;

/// A mirror that has heard nothing for longer than this does not know what was set in the meantime.
pub(super) const LAGGING_AFTER: Duration = Duration::from_secs(1);
/// Heartbeats that a late one is told by.
const SAMPLES: usize = 32;

/// News of admission.
#[derive(Clone, Debug)]
pub(super) enum News {
    Reset,
    Set(Mark),
    Cleared(MarkKey),
    /// A mark of a kind that this version does not know: it is taken to close this.
    Unknown(MarkKey),
    /// Something was told that cannot be read.
    Unreadable,
    /// Everything up to this time, on the store's clock, has been told.
    Heartbeat(Timestamp),
}

/// A mark, found by its key. There can be hundreds of thousands, so none has its key twice.
#[derive(Debug)]
struct ByKey(Arc<Mark>);

impl Borrow<MarkKey> for ByKey {
    fn borrow(&self) -> &MarkKey {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

/// What is in force.
#[derive(Debug, Default)]
struct Marks {
    known: HashSet<ByKey>,
    /// What marks of unknown kinds are taken to close. That ends with the next full set.
    unknown: HashSet<MarkKey>,
    /// Something in force could not be read at all.
    is_unreadable: bool,
}

impl Marks {
    fn get(&self, check: &MarkCheck, store_now: Timestamp) -> Option<Arc<Mark>> {
        let known = self.known.get(&check.key).map(|one| &one.0);
        let met = known.filter(|mark| mark.in_force(store_now) && mark.is_met(check));
        met.map(Arc::clone).or_else(|| self.unknown.get(&check.key).map(|key| Arc::new(stand_in(key.clone()))))
    }
}

/// The mark that is met where one of an unknown kind closes the way.
fn stand_in(key: MarkKey) -> Mark {
    Mark {
        key,
        effective: Timestamp::from_millis(i64::MAX),
        expires: None,
        reason: String::new(),
        actor: String::new(),
        revision: 0,
        min_epoch: 0,
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    marks: Marks,
    /// A new set that is not yet complete. Until it is, the old one counts, as long as it is not too old.
    coming: Option<Marks>,
    /// When admission knew what is known here, and what time the store said it was.
    heard: Option<(Instant, Timestamp)>,
    /// How much later than the store said the last heartbeats came in, from an arbitrary start, in ms.
    lateness: VecDeque<i64>,
}

impl State {
    /// The last heartbeat, as far as it was not late.
    pub(super) const fn heard(&self) -> Option<(Instant, Timestamp)> {
        self.heard
    }

    pub(super) fn len(&self) -> usize {
        self.marks.known.len()
    }

    /// How long ago the last thing was heard.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|(at, _)| now.saturating_duration_since(at))
    }

    /// Takes in news at `now`; `start` is any fixed moment before. Whether somebody who waits should look again.
    pub(super) fn take_in(&mut self, news: News, start: Instant, now: Instant) -> bool {
        match news {
            News::Reset => {
                self.coming = Some(Marks::default());
                // Another replica of the store may have another clock.
                self.lateness.clear();
                false
            }
            News::Set(mark) => {
                let is_new = self.coming.is_none();
                // Why, and by whom, is for people who ask admission; here it would only lie about.
                let mark = Mark { reason: String::new(), actor: String::new(), ..mark };
                self.latest().known.replace(ByKey(Arc::new(mark)));
                is_new
            }
            News::Cleared(key) => {
                self.latest().known.remove(&key);
                false
            }
            News::Unknown(key) => {
                self.latest().unknown.insert(key);
                self.coming.is_none()
            }
            News::Unreadable => {
                self.latest().is_unreadable = true;
                self.coming.is_none()
            }
            News::Heartbeat(time) => {
                let coming = self.coming.take();
                let changed = coming.is_some();
                if let Some(coming) = coming {
                    self.marks = coming;
                }
                self.heard = Some((self.known_at(time, start, now), time));
                changed
            }
        }
    }

    /// What news is about: the new set, if one is coming.
    fn latest(&mut self) -> &mut Marks {
        self.coming.as_mut().unwrap_or(&mut self.marks)
    }

    /// When admission knew what a heartbeat of `time` says that comes in at `now`. The way takes at least as long as it
    /// took the fastest of the last ones; whatever came in later than that was under way for longer.
    fn known_at(&mut self, time: Timestamp, start: Instant, now: Instant) -> Instant {
        let since_start = i64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(i64::MAX);
        let late = since_start.saturating_sub(time.as_millis());
        self.lateness.push_back(late);
        if self.lateness.len() > SAMPLES {
            self.lateness.pop_front();
        }
        let least = self.lateness.iter().copied().min().unwrap_or(late);
        let under_way = u64::try_from(late.saturating_sub(least)).unwrap_or(0);
        now.checked_sub(Duration::from_millis(under_way)).unwrap_or(start)
    }

    /// Whether one of the marks is met at `now`.
    pub(super) fn check(&self, checks: &[MarkCheck], now: Instant) -> MirrorAnswer {
        let is_known = self.age(now).is_some_and(|age| age <= LAGGING_AFTER) && !self.marks.is_unreadable;
        let store_now =
            self.heard.map_or(Timestamp::default(), |(at, time)| time.after(now.saturating_duration_since(at)));
        let met = checks.iter().find_map(|check| self.marks.get(check, store_now));
        match (is_known, met) {
            (true, Some(mark)) => MirrorAnswer::Met(mark),
            (true, None) => MirrorAnswer::Clear,
            (false, last_known) => MirrorAnswer::Lagging(last_known),
        }
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{Clock as _, ManualClock, Subject};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);

    struct Fixture {
        clock: ManualClock,
        start: Instant,
        state: State,
    }

    impl Fixture {
        fn new() -> Self {
            let clock = ManualClock::at(NOON);
            Self { start: clock.instant(), clock, state: State::default() }
        }

        fn hear(&mut self, news: News) -> bool {
            self.state.take_in(news, self.start, self.clock.instant())
        }

        fn heartbeat(&mut self) -> bool {
            let time = safeconduct_types::Clock::now(&self.clock);
            self.hear(News::Heartbeat(time))
        }

        fn check(&self) -> MirrorAnswer {
            self.state.check(&[MarkCheck::any(key())], self.clock.instant())
        }
    }

    fn key() -> MarkKey {
        MarkKey::new("acme".parse().unwrap(), Subject::WorkspaceDisabled)
    }

    fn mark(expires: Option<Timestamp>) -> Mark {
        let (reason, actor) = (String::new(), String::new());
        Mark { key: key(), effective: NOON, expires, reason, actor, revision: 1, min_epoch: 0 }
    }

    #[test]
    fn a_mirror_lags_until_it_has_everything_and_when_heartbeats_stop() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.check(), MirrorAnswer::Lagging(None));
        fixture.hear(News::Reset);
        assert!(!fixture.hear(News::Set(mark(None))), "not complete");
        assert_eq!(fixture.check(), MirrorAnswer::Lagging(None));
        assert!(fixture.heartbeat());
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)));
        fixture.clock.advance(LAGGING_AFTER);
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)));
        fixture.clock.advance(MS);
        assert!(matches!(fixture.check(), MirrorAnswer::Lagging(Some(_))));
        fixture.heartbeat();
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)));
    }

    #[test]
    fn while_a_new_set_comes_in_the_old_one_counts() {
        let mut fixture = Fixture::new();
        fixture.hear(News::Reset);
        fixture.hear(News::Set(mark(None)));
        fixture.heartbeat();
        fixture.hear(News::Reset);
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)));
        fixture.heartbeat();
        assert_eq!(fixture.check(), MirrorAnswer::Clear, "it was not in the new set");
    }

    #[test]
    fn what_was_cleared_or_has_expired_is_not_met() {
        let mut fixture = Fixture::new();
        fixture.hear(News::Reset);
        fixture.heartbeat();
        assert!(fixture.hear(News::Set(mark(Some(NOON.after(MS * 300))))), "wakes whoever waits");
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)));
        fixture.clock.advance(MS * 300);
        assert_eq!(fixture.check(), MirrorAnswer::Clear);
        fixture.hear(News::Set(mark(None)));
        fixture.hear(News::Cleared(key()));
        assert_eq!(fixture.check(), MirrorAnswer::Clear);
    }

    #[test]
    fn a_heartbeat_that_was_long_under_way_is_as_old_as_what_it_says() {
        let mut fixture = Fixture::new();
        fixture.hear(News::Reset);
        fixture.heartbeat();
        let then = safeconduct_types::Clock::now(&fixture.clock).after(MS * 200);
        fixture.clock.advance(MS * 2_200);
        fixture.hear(News::Heartbeat(then));
        assert_eq!(fixture.check(), MirrorAnswer::Lagging(None), "two seconds late");
        fixture.heartbeat();
        assert_eq!(fixture.check(), MirrorAnswer::Clear);
    }

    #[test]
    fn a_store_whose_clock_was_set_back_is_believed_after_a_while() {
        let mut fixture = Fixture::new();
        fixture.hear(News::Reset);
        fixture.heartbeat();
        let mut waited = 0;
        while fixture.check() != MirrorAnswer::Clear || waited == 0 {
            fixture.clock.advance(MS * 200);
            let time = safeconduct_types::Clock::now(&fixture.clock).before(Duration::from_hours(1));
            fixture.hear(News::Heartbeat(time));
            waited += 1;
            assert!(waited <= SAMPLES, "within some seconds");
        }
    }

    #[test]
    fn what_cannot_be_read_is_taken_to_close_until_everything_is_heard_anew() {
        let mut fixture = Fixture::new();
        fixture.hear(News::Reset);
        fixture.heartbeat();
        assert!(fixture.hear(News::Unknown(key())), "wakes whoever waits");
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)));
        fixture.hear(News::Cleared(key()));
        assert!(matches!(fixture.check(), MirrorAnswer::Met(_)), "that was another mark");
        fixture.hear(News::Unreadable);
        fixture.heartbeat();
        assert!(matches!(fixture.check(), MirrorAnswer::Lagging(Some(_))));
        fixture.hear(News::Reset);
        fixture.hear(News::Unreadable);
        fixture.heartbeat();
        assert_eq!(fixture.check(), MirrorAnswer::Lagging(None), "it is in the new set, too");
        fixture.hear(News::Reset);
        fixture.heartbeat();
        assert_eq!(fixture.check(), MirrorAnswer::Clear);
    }

    #[test]
    fn what_people_wrote_is_not_kept() {
        let mut fixture = Fixture::new();
        fixture.hear(News::Reset);
        fixture.hear(News::Set(Mark { reason: "Ada Byron called".into(), actor: "desk".into(), ..mark(None) }));
        fixture.heartbeat();
        assert_eq!(fixture.check(), MirrorAnswer::Met(Arc::new(mark(None))));
    }
}
