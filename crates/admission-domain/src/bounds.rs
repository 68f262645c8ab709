//! What is too short, too long or too big to be kept.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// The shortest lease: below it, an ordinary pause of a process would read as a crash.
pub const MIN_LEASE: Duration = Duration::from_secs(1);
/// The longest lease: so long an execution may read as running after its executor died.
pub const MAX_LEASE: Duration = Duration::from_mins(10);
/// The shortest retention of a final record.
pub const MIN_RETENTION: Duration = Duration::from_mins(1);
/// The retention of a final record, unless told otherwise.
pub const DEFAULT_RETENTION: Duration = Duration::from_hours(72);
/// The longest retention of a final record.
pub const MAX_RETENTION: Duration = Duration::from_hours(30 * 24);
/// The most bytes of a sealed intent, checkpoint or outcome.
pub const MAX_SEALED: usize = 256 * 1024;
/// The most single-use ids of one request.
pub const MAX_SINGLE_USE: usize = 4;
/// How long a record is kept that only says that a request was denied, or that only remembers an operation.
pub const BRIEF: Duration = Duration::from_mins(10);
/// How long a released record is kept at least if it took from shared limits: what it took is returned by whoever meets
/// the hold, who must be able to see that it was released.
pub(crate) const SHARED_TOMBSTONE: Duration = Duration::from_hours(24);
/// The most keys of one request.
pub const MAX_KEYS: usize = 4;

/// A value out of its bounds. Says what would be right, never what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BoundsError(pub(crate) &'static str);

/// How long an executor may act before others may take over: 1 s to 10 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Duration);

impl Lease {
    /// The lease of this length.
    pub fn parse(length: Duration) -> Result<Self, BoundsError> {
        if (MIN_LEASE..=MAX_LEASE).contains(&length) {
            Ok(Self(length))
        } else {
            Err(BoundsError("must be between 1 s and 10 min"))
        }
    }

    /// Its length.
    pub const fn length(self) -> Duration {
        self.0
    }
}

/// How long a record is kept after it became final: 1 min to 30 days, 72 h by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(Duration);

impl Retention {
    /// The retention of this length.
    pub fn parse(length: Duration) -> Result<Self, BoundsError> {
        if (MIN_RETENTION..=MAX_RETENTION).contains(&length) {
            Ok(Self(length))
        } else {
            Err(BoundsError("must be between 1 min and 30 days"))
        }
    }

    /// Its length.
    pub const fn length(self) -> Duration {
        self.0
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self(DEFAULT_RETENTION)
    }
}

/// A digest that somebody else made, compared and never understood: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest that these bytes are.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest that these bytes are.
    pub fn parse(bytes: &[u8]) -> Result<Self, BoundsError> {
        bytes.try_into().map(Self).map_err(|_| BoundsError("must be a digest of exactly 32 bytes"))
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Bytes that only their owner can open: an intent, a checkpoint, an outcome; at most 256 KiB. Kept and handed back as
/// they are, never copied; not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sealed(Bytes);

impl Sealed {
    /// Takes the bytes over.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, BoundsError> {
        let bytes = bytes.into();
        if bytes.len() <= MAX_SEALED { Ok(Self(bytes)) } else { Err(BoundsError("must have at most 256 KiB")) }
    }

    pub(crate) const fn stored(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, taken out.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_between_a_second_and_ten_minutes() {
        for (millis, good) in [(999, false), (1000, true), (600_000, true), (600_001, false)] {
            assert_eq!(Lease::parse(Duration::from_millis(millis)).is_ok(), good, "{millis} ms");
        }
    }

    #[test]
    fn a_record_is_kept_for_three_days_unless_told_otherwise_and_never_over_thirty() {
        assert_eq!(Retention::default().length(), Duration::from_hours(72));
        assert!(Retention::parse(Duration::from_hours(720)).is_ok());
        assert!(Retention::parse(Duration::from_secs(30 * 86_400 + 1)).is_err());
        assert!(Retention::parse(Duration::ZERO).is_err());
    }

    #[test]
    fn what_is_too_big_is_refused_at_the_edge() {
        assert!(Sealed::parse(vec![0; 262_144]).is_ok());
        assert!(Sealed::parse(vec![0; 262_145]).is_err());
        assert!(Digest::parse(&[0; 31]).is_err());
        assert!(Digest::parse(&[0; 33]).is_err());
    }

    #[test]
    fn sealed_bytes_and_digests_are_not_printed() {
        let shown = format!("{:?} {:?}", Sealed::stored(Bytes::from_static(b"hello")), Digest::new([77; 32]));
        assert!(!shown.contains("104") && !shown.contains("77"), "{shown}");
    }
}
