//! Meters: the arithmetic of rates and caps, as pure functions from a stored state to an answer and a new state.
//!
//! The same arithmetic runs in Lua on Redis; a property test feeds both the same history. So everything here is whole
//! numbers of at most [`MAX_NUMBER`] (what Lua holds exactly), additions, subtractions and comparisons. Rates count
//! in microseconds, caps in milliseconds (`now` rounded down).
//!
//! A state is bytes, or absent. Absent means that nothing is taken; bytes that are no state are [`Corrupt`] and never
//! read as absent.

pub mod cap;
pub mod rate;

use safeconduct_types::Timestamp;

/// The largest number that a meter takes or keeps: 2^53 - 1, the largest that Lua can tell from the next.
pub const MAX_NUMBER: i64 = 9_007_199_254_740_991;

/// The last moment that meters reckon with, in microseconds (in the year 2153): `now` is clamped to `0..=MAX_NOW`, so
/// that no sum of a time and a full burst exceeds [`MAX_NUMBER`].
pub const MAX_NOW: i64 = 5_800_000_000_000_000;

/// Stored bytes that are no state of a meter. Nothing may be concluded from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored state of a limit has an unknown format")]
pub struct Corrupt;

/// One limit's part in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Takes from a rate.
    Rate(rate::Params),
    /// Takes from a cap.
    Take(cap::Take),
    /// Corrects what was taken from a cap. Never denied.
    Adjust(cap::Adjust),
}

/// What kind of counter a state belongs to: where it lives, and what its loss means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Ephemeral: its loss may admit one burst.
    Rate,
    /// Durable before it is answered.
    Cap,
}

impl Meter {
    /// What kind of counter it works on.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Rate(_) => Kind::Rate,
            Self::Take(_) | Self::Adjust(_) => Kind::Cap,
        }
    }

    /// What the meter says at `now_us` (microseconds since the epoch) of the state that was found.
    pub fn judge(&self, now_us: i64, state: Option<&[u8]>) -> Result<Judged, Corrupt> {
        let now_us = now_us.clamp(0, MAX_NOW);
        match self {
            Self::Rate(params) => {
                let (reading, kept) = params.judge(now_us, state.map(rate::State::parse).transpose()?);
                Ok(Judged::Read { reading: Reading::Rate(reading), keep: kept })
            }
            Self::Take(take) => Ok(take.judge(now_us / 1000, entries(state)?)),
            Self::Adjust(adjust) => Ok(adjust.judge(now_us / 1000, entries(state)?)),
        }
    }

    /// The same meter, taking nothing: what a repeat reads.
    #[must_use]
    pub fn asking(&self) -> Self {
        match self {
            Self::Rate(params) => Self::Rate(params.asking()),
            Self::Take(take) => Self::Take(cap::Take { amount: 0, ..take.clone() }),
            Self::Adjust(adjust) => Self::Adjust(cap::Adjust { delta: 0, ..adjust.clone() }),
        }
    }
}

fn entries(state: Option<&[u8]>) -> Result<cap::Entries, Corrupt> {
    state.map_or_else(|| Ok(cap::Entries::default()), cap::Entries::parse)
}

/// What a meter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Now lies outside the calendar boundaries that came with the meter: nothing is known.
    Outside,
    /// An answer.
    Read {
        /// What is answered.
        reading: Reading,
        /// What is to be kept if the whole step passes; `None`: what was there. A meter that does not pass keeps
        /// nothing new.
        keep: Option<Keep>,
    },
}

/// What becomes of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// These bytes, until then.
    Put {
        /// The new state; never empty.
        state: Vec<u8>,
        /// Milliseconds since the epoch from which on the state says no more than its absence would.
        expires_ms: i64,
    },
    /// Nothing: all has been given back.
    Delete,
}

/// What is answered of one meter, in the numbers that the store reckons with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Of a rate.
    Rate(rate::Reading),
    /// Of a cap.
    Cap(cap::Reading),
}

impl Reading {
    /// Whether the meter lets the request pass.
    pub const fn passed(&self) -> bool {
        match self {
            Self::Rate(reading) => reading.passed,
            Self::Cap(reading) => reading.passed,
        }
    }
}

/// What is left of a limit, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// What may still be taken; never negative.
    pub left: i64,
    /// The maximum in force; for a rate, the burst.
    pub max: i64,
    /// When `left` is `max` again if nothing else is taken. `None` where nothing is taken.
    pub resets: Option<Timestamp>,
    /// For a request that did not pass: from when on the same would pass if nothing else is taken. `None`: it passed,
    /// or it never will, because it asks for more than there can be.
    pub retry: Option<Timestamp>,
}

/// What `reading` of `meter` means to people. The reading must be of this meter; else nothing is left.
pub fn remaining(meter: &Meter, reading: &Reading) -> Remaining {
    match (meter, reading) {
        (Meter::Rate(params), Reading::Rate(reading)) => params.remaining(reading),
        (Meter::Take(take), Reading::Cap(reading)) => reading.remaining(take.max),
        (Meter::Adjust(_), Reading::Cap(reading)) => reading.remaining(reading.used),
        (Meter::Rate(_), Reading::Cap(_)) | (Meter::Take(_) | Meter::Adjust(_), Reading::Rate(_)) => {
            Remaining { left: 0, max: 0, resets: None, retry: None }
        }
    }
}

/// Big-endian bytes of a number into the end of `bytes`; `width` of them.
fn put(bytes: &mut Vec<u8>, number: i64, width: usize) {
    bytes.extend(number.to_be_bytes().iter().skip(8_usize.saturating_sub(width)));
}

/// The number in these big-endian bytes, at most 7 of them.
fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}
