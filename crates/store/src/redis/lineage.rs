//! Whose past a master continues.
//!
//! A Redis names its history by a replication id. A replica that takes over begins a new one, and so does a server that
//! is started again; either may lack what was acknowledged last. So each master carries a *note*: the id that was last
//! seen on it. Whoever finds another id than noted, or than it remembers itself, works out from what the server says
//! whether anything can have been lost, and if so notes since when writes are held back: by the store's clock, for all
//! processes alike, and a process that starts during the hold finds it noted. The note is written before the first
//! record and waited for by the replicas that are there, so a server without a note has no past that could be lost.
//!
//! On a cluster the note lies in the lowest slot of its master, and moves with that. A master that finds another's note
//! has got it with the slot if that other one is there, is a master still and has lost nothing, and if nothing says that
//! it has lost something itself. Its own past it then has from who saw it by the slot that was its lowest before. While
//! the slot of the note is on its way, what was found out before stands for the same process and history.
//!
//! What cannot be seen from here: a master that is cut off from its replicas and acknowledges writes until it finds out
//! (`min-replicas-to-write` and `min-replicas-max-lag` bound that), and slots that are moved out of a held-back shard
//! without its note.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};

/// What a server says about itself, as far as it tells its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The history that it writes.
    pub(super) id: String,
    /// The one that it continues, if it was a replica.
    pub(super) second: Option<String>,
    /// The process.
    pub(super) run: String,
    /// The address at which it was reached, hashed.
    pub(super) place: String,
    /// Whether it reads its log when it starts. (From a snapshot it would take over a `second` id.)
    pub(super) logs: bool,
    /// Whether that log is on disk before a write is answered.
    pub(super) logs_at_once: bool,
}

/// A server as it was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    id: String,
    run: String,
    place: String,
}

impl Known {
    fn of(lineage: &Lineage) -> Self {
        Self { id: lineage.id.clone(), run: lineage.run.clone(), place: lineage.place.clone() }
    }
}

/// What is believed not to lose anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Every replica has acknowledged what was answered.
    pub(super) replicated: bool,
    /// A restart loses what was not on disk.
    pub(super) hold_after_restart: bool,
}

impl Policy {
    /// Whether `now` may lack what was acknowledged by the server that was `known`.
    fn may_have_lost(self, known: &Known, now: &Lineage) -> bool {
        if now.id == known.id {
            return false;
        }
        match &now.second {
            // The same process, and never a replica: it only gave up waiting for its former replicas.
            None if now.run == known.run => false,
            // A restart, if it is the same server.
            None => !(now.place == known.place && now.logs && (now.logs_at_once || !self.hold_after_restart)),
            // A replica of the one that was known.
            Some(second) => !(self.replicated && now.logs && *second == known.id),
        }
    }
}

/// The note on a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    known: Known,
    /// The id before, empty if there was none.
    before: String,
    /// When a hold began, in microseconds on the store's clock; 0 if none did.
    since: i64,
}

impl Note {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut word = || words.next().map(str::to_owned);
        if word()? != "1" {
            return None;
        }
        let known = Known { id: word()?, run: word()?, place: word()? };
        let (before, since) = (word()?.trim_start_matches('-').to_owned(), word()?.parse().ok()?);
        Some(Self { known, before, since })
    }

    /// The master that it was written about.
    pub(super) fn place(&self) -> &str {
        &self.known.place
    }

    /// Whether this could be the note of another master than `now`: of one that it does not continue.
    pub(super) fn may_be_of_another(&self, now: &Lineage) -> bool {
        self.known.place != now.place && self.known.run != now.run && now.second.as_ref() != Some(&self.known.id)
    }

    /// Whether the master that it was written about is `there`, and lacks nothing.
    pub(super) fn is_of(&self, there: &Lineage, policy: Policy) -> bool {
        self.known.place == there.place && !policy.may_have_lost(&self.known, there)
    }

    /// The note of `now` in its place, which came with a slot: what was held back there still is. Whoever saw the other
    /// master by that slot is told so.
    pub(super) fn adopted(&self, now: &Lineage) -> Self {
        Self { known: Known::of(now), before: self.known.id.clone(), since: self.since }
    }

    /// The note with a hold that ends no sooner than at `ends`, as [`Note::ends`].
    pub(super) fn until(self, ends: i64, hold: Duration) -> Self {
        let length = i64::try_from(hold.as_micros()).unwrap_or(i64::MAX);
        let since = if ends == 0 { self.since } else { self.since.max(ends.saturating_sub(length)) };
        Self { since, ..self }
    }

    pub(super) fn text(&self) -> String {
        let Known { id, run, place } = &self.known;
        format!("1 {id} {run} {place} -{} {}", self.before, self.since)
    }

    /// When the hold ends or ended, in microseconds; 0 if there was none. What was written before then may be lost.
    pub(super) fn ends(&self, hold: Duration) -> i64 {
        let hold = i64::try_from(hold.as_micros()).unwrap_or(i64::MAX);
        if self.since == 0 { 0 } else { self.since.saturating_add(hold) }
    }

    /// How much of the hold is left.
    pub(super) fn left(&self, hold: Duration, now: i64) -> Duration {
        if self.since == 0 {
            return Duration::ZERO;
        }
        // A note from the future is of a clock that was set back.
        let passed = u64::try_from(now.saturating_sub(self.since)).unwrap_or(0);
        hold.saturating_sub(Duration::from_micros(passed))
    }
}

/// What to do about a note.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It says what is so.
    Stands(Note),
    /// It must be replaced by this one.
    Replace(Note),
}

/// What this process has seen of each master: under the tag of its note, or its address if it has none.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<String, Seen>>);

#[derive(Clone, Debug)]
struct Seen {
    known: Known,
    until: Option<Instant>,
    lost: i64,
}

impl Memory {
    /// Compares what a server says with its note and with what was seen of it.
    pub(super) fn judge(&self, tag: &str, note: Option<&Note>, now: &Lineage, policy: Policy, time: i64) -> Finding {
        let seen = self.lock().get(tag).map(|seen| seen.known.clone());
        judge(seen.as_ref(), note, now, policy, time)
    }

    /// Remembers the server, and until when its writes are held back: a hold gets no shorter by a clock that jumps.
    /// `lost`: as [`Note::ends`].
    pub(super) fn keep(&self, tag: &str, lineage: &Lineage, until: Option<Instant>, lost: i64) -> Option<Instant> {
        let mut all = self.lock();
        let seen = all.get(tag);
        let until = until.max(seen.and_then(|seen| seen.until));
        let lost = lost.max(seen.map_or(0, |seen| seen.lost));
        all.insert(tag.to_owned(), Seen { known: Known::of(lineage), until, lost });
        until
    }

    /// What was seen of this server by whichever of its slots: until when its writes are held back, and as
    /// [`Note::ends`].
    pub(super) fn of(&self, now: &Lineage) -> (Option<Instant>, i64) {
        let all = self.lock();
        let own = all.values().filter(|seen| seen.known.place == now.place && seen.known.run == now.run);
        own.fold((None, 0), |(until, lost), seen| (until.max(seen.until), lost.max(seen.lost)))
    }

    /// Whether a note was compared with this very process and its history, by whichever of its slots.
    pub(super) fn has_judged(&self, now: &Lineage) -> bool {
        let known = Known::of(now);
        self.lock().iter().any(|(name, seen)| *name != now.place && seen.known == known)
    }

    /// Whether this server lacks nothing that it had when it was seen, by whichever of its slots; if it never was, whether
    /// it cannot have taken over from another one.
    pub(super) fn vouches_for(&self, now: &Lineage, policy: Policy) -> bool {
        let all = self.lock();
        let mut own = all.values().filter(|seen| seen.known.place == now.place).peekable();
        if own.peek().is_none() {
            return now.second.is_none();
        }
        own.all(|seen| !policy.may_have_lost(&seen.known, now))
    }

    /// As [`Note::ends`], of the latest hold.
    pub(super) fn lost(&self, tag: &str) -> i64 {
        self.lock().get(tag).map_or(0, |seen| seen.lost)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(seen: Option<&Known>, note: Option<&Note>, now: &Lineage, policy: Policy, time: i64) -> Finding {
    let lost_since_seen = seen.is_some_and(|seen| policy.may_have_lost(seen, now));
    let new =
        |before: &str, since: i64| Finding::Replace(Note { known: Known::of(now), before: before.to_owned(), since });
    let Some(note) = note else {
        let before = seen.filter(|seen| seen.id != now.id).map_or("", |seen| &seen.id);
        return new(before, if lost_since_seen { time } else { 0 });
    };
    if note.known.id == now.id {
        // Somebody else may have found it first.
        let told = seen.is_some_and(|seen| seen.id == note.before);
        return if lost_since_seen && !told {
            new(seen.map_or("", |seen| &seen.id), time)
        } else {
            Finding::Stands(note.clone())
        };
    }
    let seen_apart = lost_since_seen && seen.is_some_and(|seen| seen.id != note.known.id);
    let since = if seen_apart || policy.may_have_lost(&note.known, now) { time } else { note.since };
    new(&note.known.id, since)
}

/// A short hash of a text that is no secret.
pub(super) fn short(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()).as_ref().get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Policy = Policy { replicated: false, hold_after_restart: true };
    const REPLICATED: Policy = Policy { replicated: true, hold_after_restart: true };

    fn server(id: &str, second: &str, run: &str, place: &str) -> Lineage {
        Lineage {
            id: id.to_owned(),
            second: Some(second.to_owned()).filter(|second| !second.is_empty()),
            run: run.to_owned(),
            place: place.to_owned(),
            logs: true,
            logs_at_once: true,
        }
    }

    fn note(lineage: &Lineage, before: &str, since: i64) -> Note {
        Note { known: Known::of(lineage), before: before.to_owned(), since }
    }

    #[test]
    fn a_server_that_may_lack_what_was_acknowledged_is_told_from_one_that_does_not() {
        let known = Known::of(&server("a", "", "r1", "here"));
        let loses = |policy: Policy, now: &Lineage| policy.may_have_lost(&known, now);
        let same = server("a", "", "r1", "here");
        let promoted = server("b", "a", "r2", "there");
        let promoted_from_another = server("c", "x", "r2", "there");
        let restarted = server("b", "", "r2", "here");
        let elsewhere = server("b", "", "r2", "there");
        let gave_up_its_replicas = server("b", "", "r1", "here");
        let every_second = Lineage { logs_at_once: false, ..restarted.clone() };
        let without_log = Lineage { logs: false, ..restarted.clone() };
        let promoted_without_log = Lineage { logs: false, ..promoted.clone() };
        for (now, local, replicated) in [
            (&same, false, false),
            (&promoted, true, false),
            (&promoted_from_another, true, true),
            (&restarted, false, false),
            (&elsewhere, true, true),
            (&gave_up_its_replicas, false, false),
            (&every_second, true, true),
            (&without_log, true, true),
            (&promoted_without_log, true, true),
        ] {
            assert_eq!((loses(LOCAL, now), loses(REPLICATED, now)), (local, replicated), "{now:?}");
        }
        assert!(!loses(Policy { hold_after_restart: false, ..LOCAL }, &every_second));
        assert!(loses(Policy { hold_after_restart: false, ..LOCAL }, &without_log));
    }

    #[test]
    fn a_first_note_begins_no_hold_and_a_fail_over_does_for_everybody() {
        let (a, b) = (server("a", "", "r1", "here"), server("b", "a", "r2", "there"));
        assert_eq!(judge(None, None, &a, LOCAL, 7), Finding::Replace(note(&a, "", 0)));
        assert_eq!(judge(None, Some(&note(&a, "", 0)), &a, LOCAL, 7), Finding::Stands(note(&a, "", 0)));
        // A process that has just started finds the note of the old master.
        assert_eq!(judge(None, Some(&note(&a, "", 0)), &b, LOCAL, 7), Finding::Replace(note(&b, "a", 7)));
        // The next one finds that it was found.
        let held = note(&b, "a", 7);
        assert_eq!(judge(None, Some(&held), &b, LOCAL, 9), Finding::Stands(held.clone()));
        assert_eq!(judge(Some(&Known::of(&a)), Some(&held), &b, LOCAL, 9), Finding::Stands(held));
        assert_eq!(judge(None, Some(&note(&a, "", 0)), &b, REPLICATED, 7), Finding::Replace(note(&b, "a", 0)));
    }

    #[test]
    fn a_lost_note_and_a_master_that_comes_back_are_noticed_by_who_saw_it() {
        let (a, b) = (server("a", "", "r1", "here"), server("b", "a", "r2", "there"));
        let (saw_a, saw_b) = (Known::of(&a), Known::of(&b));
        assert_eq!(judge(Some(&saw_a), None, &b, LOCAL, 7), Finding::Replace(note(&b, "a", 7)));
        // Cut in two: this process was with `b` and is now with `a` again, which knows nothing of that.
        assert_eq!(judge(Some(&saw_b), Some(&note(&a, "", 0)), &a, LOCAL, 7), Finding::Replace(note(&a, "b", 7)));
    }

    #[test]
    fn a_note_that_came_with_a_slot_is_no_past_and_its_hold_goes_on() {
        let (from, to) = (server("a", "", "r1", "here"), server("b", "", "r2", "there"));
        let came = note(&from, "", 7);
        assert!(came.may_be_of_another(&to) && came.is_of(&from, LOCAL));
        assert!(!came.may_be_of_another(&server("b", "a", "r2", "there")), "a replica of it that took over");
        assert!(!came.may_be_of_another(&server("b", "", "r2", "here")), "it was started again");
        assert!(!came.is_of(&server("c", "x", "r1", "here"), LOCAL), "it is there, and has lost something");
        let adopted = came.adopted(&to);
        assert_eq!(adopted.since, 7);
        for seen in [None, Some(&Known::of(&from)), Some(&Known::of(&to))] {
            assert_eq!(judge(seen, Some(&adopted), &to, LOCAL, 9), Finding::Stands(adopted.clone()));
        }
    }

    #[test]
    fn what_was_seen_of_a_server_by_another_slot_counts() {
        let memory = Memory::default();
        let server = server("b", "a", "r2", "there");
        assert_eq!(memory.of(&server), (None, 0));
        memory.keep("low", &server, None, 30_000_000);
        let (_, ends) = memory.of(&server);
        let hold = Duration::from_secs(10);
        assert_eq!(note(&server, "", 0).until(ends, hold).since, 20_000_000);
        assert_eq!(note(&server, "", 25_000_000).until(ends, hold).since, 25_000_000, "the later one counts");
        assert_eq!(note(&server, "", 5).until(0, hold).since, 5);
        assert_eq!(memory.of(&Lineage { run: "r3".to_owned(), ..server }), (None, 0), "another process");
    }

    #[test]
    fn only_what_was_compared_with_a_note_is_judged_and_only_as_long_as_the_history_goes_on() {
        let memory = Memory::default();
        let server = server("a", "", "r1", "here");
        memory.keep("here", &server, None, 0);
        assert!(!memory.has_judged(&server), "it was met without a slot");
        memory.keep("low", &server, None, 0);
        assert!(memory.has_judged(&server));
        assert!(!memory.has_judged(&Lineage { run: "r2".to_owned(), ..server.clone() }), "another process");
        assert!(!memory.has_judged(&Lineage { id: "b".to_owned(), ..server }), "another history");
    }

    #[test]
    fn a_server_that_may_have_lost_its_own_past_is_not_vouched_for() {
        let memory = Memory::default();
        let new = server("a", "", "r1", "here");
        assert!(memory.vouches_for(&new, LOCAL), "nobody saw it, and it is nobody's replica");
        assert!(!memory.vouches_for(&server("b", "a", "r2", "there"), LOCAL), "nobody saw it take over");
        memory.keep("low", &new, None, 0);
        let restarted = server("b", "", "r2", "here");
        assert!(memory.vouches_for(&new, LOCAL) && memory.vouches_for(&restarted, LOCAL));
        assert!(!memory.vouches_for(&Lineage { logs_at_once: false, ..restarted }, LOCAL), "a second is lost");
        assert!(!memory.vouches_for(&server("c", "b", "r3", "here"), LOCAL), "it took over");
    }

    #[test]
    fn a_harmless_change_does_not_end_a_hold() {
        let (b, again) = (server("b", "a", "r2", "there"), server("c", "", "r3", "there"));
        assert_eq!(judge(None, Some(&note(&b, "a", 7)), &again, LOCAL, 9), Finding::Replace(note(&again, "b", 7)));
    }

    #[test]
    fn a_hold_ends_after_its_time_and_never_lasts_longer_than_that() {
        let hold = Duration::from_secs(10);
        let at = note(&server("b", "a", "r2", "there"), "a", 5_000_000);
        assert_eq!(at.left(hold, 6_000_000), Duration::from_secs(9));
        assert_eq!(at.left(hold, 15_000_000), Duration::ZERO);
        assert_eq!(at.left(hold, 1_000_000), hold);
    }

    #[test]
    fn a_note_reads_back_and_anything_else_is_none() {
        let a = server("a", "", "r1", "here");
        for before in ["", "b"] {
            let written = note(&a, before, 7);
            assert_eq!(Note::parse(&written.text()), Some(written));
        }
        for text in ["", "1", "2 a r1 here - 0", "1 a r1 here - x"] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
    }
}
