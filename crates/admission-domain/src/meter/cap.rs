//! Caps: what was taken, and when, within a window.

use safeconduct_types::Timestamp;

use super::{Corrupt, Judged, Keep, MAX_NUMBER, Reading as AnyReading, Remaining, number, put};
use crate::calendar::Boundaries;

/// The most entries of a state. More are merged on a grid ([`GRID`]).
pub const MAX_ENTRIES: usize = 1024;

/// Into how many parts a rolling window is divided when there are too many entries: each entry is then counted up to
/// one part longer than it should, never shorter.
pub const GRID: i64 = 1000;

/// How many times the grid may get twice as coarse: far more than a clock that went back can make necessary.
pub const COARSER: usize = 24;

/// How many windows a calendar cap remembers (those in which something was taken): a clock that goes back into one of
/// them finds it as it was.
pub const KEPT_WINDOWS: usize = 8;

/// How long a state is kept after it has lost its meaning, in milliseconds: 4 days, so that a clock set wrong and
/// right again costs nothing.
pub const GRACE_MS: i64 = 4 * 86_400_000;

/// Bytes of one entry.
const ENTRY: usize = 13;

/// Where now has to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// In one of three windows of the calendar: the previous, the present and the next one, as the caller estimates
    /// the time.
    Calendar(Boundaries),
    /// The last `length_ms` milliseconds: an entry counts while `time > now - length`.
    Rolling {
        /// Its length, 1 s to 400 days.
        length_ms: i64,
    },
}

/// Takes `amount` if no more than `max` is then used. An amount of 0 only asks: it always passes and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The window.
    pub window: Window,
    /// The maximum in force, `0..=MAX_NUMBER`.
    pub max: i64,
    /// How much, `0..=MAX_NUMBER`.
    pub amount: i64,
}

/// Where something was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this window of the calendar.
    Calendar {
        /// Its beginning.
        start_ms: i64,
        /// Its end.
        end_ms: i64,
    },
    /// In a rolling window.
    Rolling {
        /// Its length.
        length_ms: i64,
        /// When it was taken: the step's now, rounded down.
        at_ms: i64,
    },
}

/// Corrects what was taken at `place` by `delta`: negative gives back, positive counts more. Never denied; what is
/// used never gets negative. A delta of 0 only asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjust {
    /// Where it was taken.
    pub place: Place,
    /// By how much, at most [`MAX_NUMBER`] either way.
    pub delta: i64,
}

/// What was taken at one time. Calendar: at the beginning of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since the epoch, below 2^48.
    pub time_ms: i64,
    /// How much, `1..=MAX_NUMBER`.
    pub amount: i64,
}

/// What is stored of a cap: entries by rising time, 13 bytes each, big endian: time (6), amount (7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Vec<Entry>);

/// What is answered of a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether it passes; an adjustment always does.
    pub passed: bool,
    /// What is used in the window: after the request if it passed, before it if not. At most [`MAX_NUMBER`].
    pub used: i64,
    /// When nothing will be used any more if nothing else is taken: the end of the calendar window, or when the last
    /// entry leaves a rolling one. `None` if nothing is used.
    pub reset_ms: Option<i64>,
    /// If it did not pass: from when on it would if nothing else is taken. `None`: never, it asks for more than the
    /// maximum.
    pub retry_ms: Option<i64>,
}

impl Entries {
    /// The entries in these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Corrupt> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY>();
        if chunks.is_empty() || chunks.len() > MAX_ENTRIES || !rest.is_empty() {
            return Err(Corrupt);
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(chunks.len().saturating_add(1));
        for chunk in chunks {
            let (time, amount) = chunk.split_first_chunk::<6>().ok_or(Corrupt)?;
            let entry = Entry { time_ms: number(time), amount: number(amount) };
            let rises = entries.last().is_none_or(|last| last.time_ms < entry.time_ms);
            if !rises || !(1..=MAX_NUMBER).contains(&entry.amount) {
                return Err(Corrupt);
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// Their bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_mul(ENTRY));
        for entry in &self.0 {
            put(&mut bytes, entry.time_ms, 6);
            put(&mut bytes, entry.amount, 7);
        }
        bytes
    }

    /// The entries, by rising time.
    pub fn as_slice(&self) -> &[Entry] {
        &self.0
    }

    /// What the entries of `start..end` add up to.
    fn used(&self, start: i64, end: i64) -> i64 {
        let within = self.0.iter().filter(|entry| (start..end).contains(&entry.time_ms));
        within.fold(0, |sum, entry| sum_of(sum, entry.amount))
    }

    /// Forgets what has left a rolling window.
    fn leave(&mut self, now_ms: i64, length_ms: i64) {
        self.0.retain(|entry| entry.time_ms > now_ms.saturating_sub(length_ms));
    }

    /// Counts `amount` at `time_ms`.
    fn add(&mut self, time_ms: i64, amount: i64) {
        match self.0.binary_search_by_key(&time_ms, |entry| entry.time_ms) {
            Ok(place) => {
                if let Some(entry) = self.0.get_mut(place) {
                    entry.amount = sum_of(entry.amount, amount);
                }
            }
            Err(place) => self.0.insert(place, Entry { time_ms, amount }),
        }
    }

    /// Gives back up to `amount` at `time_ms`, never more than is there; says what could not be given back.
    fn give_back(&mut self, time_ms: i64, amount: i64) -> i64 {
        let Ok(place) = self.0.binary_search_by_key(&time_ms, |entry| entry.time_ms) else { return amount };
        let Some(entry) = self.0.get_mut(place) else { return amount };
        if entry.amount == MAX_NUMBER {
            // It stands for more than it says: it stays.
            return 0;
        }
        let back = amount.min(entry.amount);
        entry.amount = entry.amount.saturating_sub(back);
        if entry.amount == 0 {
            self.0.remove(place);
        }
        amount.saturating_sub(back)
    }

    /// Gives back up to `amount` that was taken from a rolling window at `at_ms`: there, or where [`Self::compact`] has
    /// put it since. Nothing else is touched: it may be somebody else's.
    fn give_back_rolling(&mut self, at_ms: i64, length_ms: i64, amount: i64) {
        let mut rest = self.give_back(at_ms, amount);
        let mut grid = grid_of(length_ms);
        for _ in 0..COARSER {
            if rest == 0 {
                return;
            }
            let time_ms = round_up(at_ms, grid);
            if time_ms != at_ms {
                rest = self.give_back(time_ms, rest);
            }
            grid = grid.saturating_mul(2);
        }
    }

    /// Brings a rolling window back to [`MAX_ENTRIES`]: times are rounded up to a grid, twice as coarse each time that
    /// is not enough (a clock that went back leaves entries of more than one window).
    fn compact(&mut self, length_ms: i64) {
        let mut grid = grid_of(length_ms);
        for _ in 0..COARSER {
            if self.0.len() <= MAX_ENTRIES {
                return;
            }
            let mut merged: Vec<Entry> = Vec::with_capacity(MAX_ENTRIES);
            for entry in &self.0 {
                let time_ms = round_up(entry.time_ms, grid);
                match merged.last_mut() {
                    Some(last) if last.time_ms == time_ms => last.amount = sum_of(last.amount, entry.amount),
                    Some(_) | None => merged.push(Entry { time_ms, amount: entry.amount }),
                }
            }
            self.0 = merged;
            grid = grid.saturating_mul(2);
        }
    }

    /// Forgets the oldest windows of the calendar, never the one that begins at `start_ms`.
    fn forget(&mut self, start_ms: i64) {
        while self.0.len() > KEPT_WINDOWS {
            let Some(oldest) = self.0.iter().position(|entry| entry.time_ms != start_ms) else { return };
            self.0.remove(oldest);
        }
    }

    /// What becomes of the stored state. `longest_ms` is the length of the window, `end_ms` the end of the one that was
    /// changed.
    fn keep(&self, longest_ms: i64, end_ms: i64) -> Keep {
        let Some(last) = self.0.last() else { return Keep::Delete };
        let ends = end_ms.max(last.time_ms.saturating_add(longest_ms));
        Keep::Put { state: self.to_bytes(), expires_ms: ends.saturating_add(GRACE_MS) }
    }
}

/// The finest grid of a rolling window: a thousandth of it, at least, and at least a millisecond.
fn grid_of(length_ms: i64) -> i64 {
    length_ms.saturating_add(GRID - 1).div_euclid(GRID).max(1)
}

/// The first multiple of `grid` that is not before `time_ms`.
fn round_up(time_ms: i64, grid: i64) -> i64 {
    time_ms.saturating_add(grid - 1).div_euclid(grid).saturating_mul(grid)
}

/// The sum, at most [`MAX_NUMBER`].
const fn sum_of(one: i64, other: i64) -> i64 {
    let sum = one.saturating_add(other);
    if sum > MAX_NUMBER { MAX_NUMBER } else { sum }
}

impl Take {
    /// Decides at `now_ms`.
    pub(super) fn judge(&self, now_ms: i64, mut entries: Entries) -> Judged {
        match self.window {
            Window::Calendar(boundaries) => {
                let Some((start, end)) = boundaries.window(now_ms) else { return Judged::Outside };
                let used = entries.used(start, end);
                let retry = (self.amount <= self.max).then_some(end);
                let Some(used) = self.taken(used) else { return denied(used, (used > 0).then_some(end), retry) };
                let reset = (used > 0).then_some(end);
                if self.amount == 0 {
                    return passed(used, reset, None);
                }
                entries.add(start, self.amount);
                entries.forget(start);
                passed(used, reset, Some(entries.keep(end.saturating_sub(start), end)))
            }
            Window::Rolling { length_ms } => {
                entries.leave(now_ms, length_ms);
                let before = entries.used(0, i64::MAX);
                let Some(used) = self.taken(before) else {
                    let retry = self.rolling_retry(before, length_ms, &entries);
                    return denied(before, leaves(&entries, length_ms), retry);
                };
                if self.amount == 0 {
                    return passed(used, leaves(&entries, length_ms), None);
                }
                entries.add(now_ms, self.amount);
                entries.compact(length_ms);
                let keep = entries.keep(length_ms, 0);
                passed(used, leaves(&entries, length_ms), Some(keep))
            }
        }
    }

    /// What is used after it, if it passes.
    fn taken(&self, used: i64) -> Option<i64> {
        // Written so that no sum gets larger than Lua can hold.
        (self.amount == 0 || self.amount <= self.max.saturating_sub(used)).then(|| used.saturating_add(self.amount))
    }

    /// When so much has left the window that this would pass.
    fn rolling_retry(&self, used: i64, length_ms: i64, entries: &Entries) -> Option<i64> {
        if self.amount > self.max {
            return None;
        }
        let mut rest = used;
        for entry in &entries.0 {
            rest = rest.saturating_sub(entry.amount);
            if self.amount <= self.max.saturating_sub(rest) {
                return Some(entry.time_ms.saturating_add(length_ms));
            }
        }
        leaves(entries, length_ms)
    }
}

impl Adjust {
    /// Corrects at `now_ms`.
    pub(super) fn judge(&self, now_ms: i64, mut entries: Entries) -> Judged {
        match self.place {
            Place::Calendar { start_ms, end_ms } => {
                let before = entries.clone();
                match self.delta {
                    1.. => entries.add(start_ms, self.delta),
                    0 => {}
                    ..0 => {
                        entries.give_back(start_ms, self.delta.saturating_neg());
                    }
                }
                entries.forget(start_ms);
                let used = entries.used(start_ms, end_ms);
                let keep = (entries != before).then(|| entries.keep(end_ms.saturating_sub(start_ms), end_ms));
                passed(used, (used > 0).then_some(end_ms), keep)
            }
            Place::Rolling { length_ms, at_ms } => {
                let before = entries.clone();
                entries.leave(now_ms, length_ms);
                // What has left the window has left it: nothing to correct.
                if at_ms > now_ms.saturating_sub(length_ms) {
                    match self.delta {
                        1.. => entries.add(at_ms, self.delta),
                        0 => {}
                        ..0 => entries.give_back_rolling(at_ms, length_ms, self.delta.saturating_neg()),
                    }
                    entries.compact(length_ms);
                }
                let keep = (self.delta != 0 && entries != before).then(|| entries.keep(length_ms, 0));
                passed(entries.used(0, i64::MAX), leaves(&entries, length_ms), keep)
            }
        }
    }
}

impl Reading {
    pub(super) fn remaining(&self, max: i64) -> Remaining {
        Remaining {
            left: max.saturating_sub(self.used).max(0),
            max,
            resets: self.reset_ms.map(Timestamp::from_millis),
            retry: self.retry_ms.map(Timestamp::from_millis),
        }
    }
}

/// When the last entry leaves a rolling window.
fn leaves(entries: &Entries, length_ms: i64) -> Option<i64> {
    entries.0.last().map(|last| last.time_ms.saturating_add(length_ms))
}

fn passed(used: i64, reset_ms: Option<i64>, keep: Option<Keep>) -> Judged {
    Judged::Read { reading: AnyReading::Cap(Reading { passed: true, used, reset_ms, retry_ms: None }), keep }
}

fn denied(used: i64, reset_ms: Option<i64>, retry_ms: Option<i64>) -> Judged {
    Judged::Read { reading: AnyReading::Cap(Reading { passed: false, used, reset_ms, retry_ms }), keep: None }
}

#[cfg(test)]
mod tests;
