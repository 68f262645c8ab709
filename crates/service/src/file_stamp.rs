//! Whether a file is still what it was when it was read, told without reading it again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use safeconduct_types::Timestamp;

/// A file that changed so shortly before it was read may have changed once more without looking different: the times
/// of a file system come in steps.
const SETTLED: Duration = Duration::from_secs(2);

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// Nobody can set this one back.
    changed: (i64, i64),
    settled: bool,
}

impl Stamp {
    /// Of a file as it was found at `now`.
    pub(crate) fn of(found: &Metadata, now: Timestamp) -> Self {
        let changed = Timestamp::from_seconds(found.ctime());
        Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            settled: now.since(changed) > SETTLED,
        }
    }

    /// Whether a file that looks like `now` has still the content that was read when it looked like this.
    pub(crate) fn holds(self, now: Self) -> bool {
        self.settled && self == now
    }

    /// Its length in bytes.
    pub(crate) const fn len(self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_file_that_just_changed_is_not_trusted_to_look_different_after_the_next_change() {
        let stamp = |seconds: i64, path: &Path| {
            let found = fs::metadata(path).unwrap();
            Stamp::of(&found, Timestamp::from_seconds(found.ctime() + seconds))
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "one").unwrap();
        let (early, late) = (stamp(1, &file), stamp(60, &file));
        assert!(!early.holds(early) && !early.holds(late));
        assert!(late.holds(late));
    }
}
