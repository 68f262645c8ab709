//! A key file that is taken anew while the process runs.
//!
//! Whoever uses keys holds a [`Live`] value made of them: reading it costs an atomic load and no lock. A change of the
//! file is seen at the next look; everything that was made of its keys is made anew before any of it is exchanged, so
//! a file that is broken, lacks a key or changes one that must stay leaves all as it was, which is logged and counted.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use safeconduct_types::{Clock, Random, Timestamp};

use super::{Keyring, KeyringError, Purpose, Sealer};
use crate::file_stamp::Stamp;
use crate::tasks::Tasks;

/// How often a key file is looked at. What is retired in it stops counting here within so long.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A value that is exchanged as a whole. Clones share it.
pub struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    /// A value that nobody exchanges.
    pub fn fixed(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value in force.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Exchanges it, for all clones.
    pub fn set(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Makes something anew of a keyring; what it answers puts that in force.
type Follower = Box<dyn Fn(&Keyring) -> Result<Box<dyn FnOnce()>, String> + Send + Sync>;

/// What a look at the file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is as it was.
    Unchanged,
    /// Its keys are in force from now on.
    Taken,
    /// It cannot be used; the last good keys stay in force.
    Refused,
}

/// The keys of one file, as they are now. Clones share them.
#[derive(Clone)]
pub struct LiveKeyring(Arc<Inner>);

struct Inner {
    held: ArcSwap<Keyring>,
    looked: Mutex<Looked>,
    followers: Mutex<Vec<Follower>>,
    taken: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Looked {
    stamp: Option<Stamp>,
    /// Why the file as it is now is not in force; told once.
    problem: Option<String>,
}

impl fmt::Debug for LiveKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveKeyring").field(&self.0.held.load().path()).finish()
    }
}

impl LiveKeyring {
    /// Reads a key file, which must be good to begin with.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        Keyring::load(path).map(Self::of)
    }

    /// Begins with these keys; their file, if there is one, is looked at later.
    pub fn of(keyring: Keyring) -> Self {
        Self(Arc::new(Inner {
            held: ArcSwap::from_pointee(keyring),
            looked: Mutex::default(),
            followers: Mutex::default(),
            taken: AtomicU64::new(1),
            refused: AtomicU64::new(0),
        }))
    }

    /// The keys in force. For what is made of keys that never change; all else wants [`Self::derive`].
    pub fn current(&self) -> Arc<Keyring> {
        self.0.held.load_full()
    }

    /// What `make` makes of the keys, now and after each change. A file that it makes nothing of is not taken.
    pub fn derive<T, E>(&self, make: impl Fn(&Keyring) -> Result<T, E> + Send + Sync + 'static) -> Result<Live<T>, E>
    where
        T: Send + Sync + 'static,
        E: fmt::Display,
    {
        // Held throughout: a change that came in between would be missed.
        let mut followers = locked(&self.0.followers);
        let live = Live::fixed(make(&self.current())?);
        let followed = live.clone();
        followers.push(Box::new(move |keyring| {
            let newest = make(keyring).map_err(|error| error.to_string())?;
            let followed = followed.clone();
            Ok(Box::new(move || followed.set(newest)))
        }));
        Ok(live)
    }

    /// A sealer that follows the keys.
    pub fn sealer(&self, purpose: Purpose, random: Arc<dyn Random>) -> Result<Sealer, KeyringError> {
        let keys = self.derive(move |keyring| super::sealer::Keys::of(keyring, purpose))?;
        Ok(Sealer::following(keys, random))
    }

    /// Looks at the file at `now` and takes what has changed.
    pub fn look(&self, now: Timestamp) -> Look {
        let held = self.current();
        let mut looked = locked(&self.0.looked);
        let stamp = fs::metadata(held.path()).ok().map(|found| Stamp::of(&found, now));
        if let (Some(before), Some(now)) = (looked.stamp, stamp)
            && before.holds(now)
        {
            return if looked.problem.is_some() { Look::Refused } else { Look::Unchanged };
        }
        let taken = Keyring::load(held.path()).map_err(|error| error.to_string()).and_then(|keyring| {
            if keyring.same_as(&held) {
                return Ok(false);
            }
            keyring.may_follow(&held).map_err(|error| error.to_string())?;
            self.exchange(keyring)?;
            Ok(true)
        });
        looked.stamp = stamp;
        match taken {
            Ok(changed) => {
                let mended = looked.problem.take().is_some();
                if changed || mended {
                    tracing::info!(file = %held.path().display(), "took the key file as it is now");
                }
                if changed { Look::Taken } else { Look::Unchanged }
            }
            Err(problem) => {
                if looked.problem.as_ref() != Some(&problem) {
                    self.0.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(problem, "the key file was not taken; the last good keys stay in force");
                    looked.problem = Some(problem);
                }
                Look::Refused
            }
        }
    }

    fn exchange(&self, keyring: Keyring) -> Result<(), String> {
        let followers = locked(&self.0.followers);
        let ready = followers.iter().map(|follower| follower(&keyring)).collect::<Result<Vec<_>, _>>()?;
        for put_in_force in ready {
            put_in_force();
        }
        self.0.held.store(Arc::new(keyring));
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at the file every [`LOOK_EVERY`], as long as the process serves.
    pub fn watch(&self, tasks: &Tasks, clock: Arc<dyn Clock>) {
        let (keyring, blocking) = (self.clone(), tasks.clone());
        drop(tasks.spawn_background(move |stop| async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let (keyring, clock) = (keyring.clone(), Arc::clone(&clock));
                // A look that panicked has changed nothing; the next one tries again.
                let _ = blocking.spawn_blocking(move || keyring.look(clock.now())).await;
            }
        }));
    }

    /// Adds the counters of these files, in the text format of Prometheus.
    pub fn metrics(all: &[Self], text: &mut String) {
        type Value = fn(&Inner) -> u64;
        let taken: Value = |inner| inner.taken.load(Ordering::Relaxed);
        let refused: Value = |inner| inner.refused.load(Ordering::Relaxed);
        let broken: Value = |inner| locked(&inner.looked).problem.is_some().into();
        for (name, kind, help, value) in [
            ("safeconduct_key_file_taken_total", "counter", "How often keys were taken from the file.", taken),
            ("safeconduct_key_file_refused_total", "counter", "Changes of the file that were not taken.", refused),
            ("safeconduct_key_file_broken", "gauge", "1 while the file is not what is in force.", broken),
        ] {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for one in all {
                let held = one.0.held.load();
                let file =
                    held.path().file_name().unwrap_or_default().to_string_lossy().replace(['"', '\\', '\n'], "_");
                let _ = writeln!(text, "{name}{{file=\"{file}\"}} {}", value(&one.0));
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use safeconduct_types::{SeededRandom, SystemClock};

    use super::super::Key;
    use super::*;

    const PURPOSES: [Purpose; 2] = [Purpose::ClaimSealing, Purpose::StoreHashing];

    struct Fixture {
        directory: tempfile::TempDir,
        random: Arc<SeededRandom>,
        keyring: LiveKeyring,
        sealer: Sealer,
    }

    impl Fixture {
        fn new() -> Self {
            let (directory, random) = (tempfile::tempdir().unwrap(), Arc::new(SeededRandom::new(3)));
            let path = directory.path().join("otp.keys");
            Keyring::generate(&path, &PURPOSES, &*random).save(&*random).unwrap();
            let keyring = LiveKeyring::open(&path).unwrap();
            let sealer = keyring.sealer(Purpose::ClaimSealing, Arc::<SeededRandom>::clone(&random)).unwrap();
            Self { directory, random, keyring, sealer }
        }

        fn edit(&self, edit: impl FnOnce(&mut Keyring)) -> Look {
            let mut keyring = Keyring::load(&self.directory.path().join("otp.keys")).unwrap();
            edit(&mut keyring);
            keyring.save(&*self.random).unwrap();
            self.look()
        }

        fn look(&self) -> Look {
            self.keyring.look(SystemClock.now())
        }

        fn metrics(&self) -> String {
            let mut text = String::new();
            LiveKeyring::metrics(std::slice::from_ref(&self.keyring), &mut text);
            text
        }
    }

    #[test]
    fn a_rotated_key_is_taken_by_whoever_seals_and_a_retired_one_opens_no_more() {
        let fixture = Fixture::new();
        let old = fixture.keyring.current().primary(Purpose::ClaimSealing).unwrap().id().clone();
        let before = fixture.sealer.seal(b"plain", b"").unwrap();
        assert_eq!(fixture.look(), Look::Unchanged);
        let now = Timestamp::from_seconds(1000);
        assert_eq!(
            fixture.edit(|ring| drop(ring.rotate(Purpose::ClaimSealing, now, &*fixture.random).unwrap())),
            Look::Taken
        );
        let after = fixture.sealer.seal(b"plain", b"").unwrap();
        assert_ne!(before[..16], after[..16], "the new key is named");
        assert_eq!(*fixture.sealer.open(&before, b"").unwrap(), b"plain");
        assert!(fixture.sealer.is_current(&after) && !fixture.sealer.is_current(&before));
        assert_eq!(fixture.edit(|ring| ring.retire(Purpose::ClaimSealing, &old, now, true).unwrap()), Look::Taken);
        assert!(fixture.sealer.open(&before, b"").is_err());
        assert!(fixture.metrics().contains("safeconduct_key_file_taken_total{file=\"otp.keys\"} 3"));
    }

    #[test]
    fn a_broken_or_lost_file_leaves_the_last_good_keys_and_is_counted_once() {
        let fixture = Fixture::new();
        let path = fixture.directory.path().join("otp.keys");
        let good = fs::read(&path).unwrap();
        let sealed = fixture.sealer.seal(b"plain", b"").unwrap();
        fs::write(&path, "[[key]]\nnonsense").unwrap();
        assert_eq!((fixture.look(), fixture.look()), (Look::Refused, Look::Refused));
        assert_eq!(*fixture.sealer.open(&sealed, b"").unwrap(), b"plain");
        assert!(fixture.metrics().contains("refused_total{file=\"otp.keys\"} 1"), "{}", fixture.metrics());
        assert!(fixture.metrics().contains("broken{file=\"otp.keys\"} 1"));
        fs::remove_file(&path).unwrap();
        assert_eq!(fixture.look(), Look::Refused);
        assert_eq!(*fixture.sealer.open(&sealed, b"").unwrap(), b"plain");
        fs::write(&path, good).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(fixture.look(), Look::Unchanged);
        assert!(fixture.metrics().contains("broken{file=\"otp.keys\"} 0"));
    }

    #[test]
    fn a_key_that_names_stored_things_is_not_exchanged_while_the_process_runs() {
        let fixture = Fixture::new();
        let sealed = fixture.sealer.seal(b"plain", b"").unwrap();
        let (random, path) = (SeededRandom::new(99), fixture.directory.path().join("otp.keys"));
        Keyring::generate(&path, &PURPOSES, &random).save(&random).unwrap();
        assert_eq!(fixture.look(), Look::Refused);
        assert_eq!(*fixture.sealer.open(&sealed, b"").unwrap(), b"plain", "nothing of the file is taken");
        let problem = locked(&fixture.keyring.0.looked).problem.clone().unwrap();
        assert!(problem.contains("store-hashing") && problem.contains("otp.keys"), "{problem}");
    }

    #[test]
    fn a_file_that_lacks_what_somebody_needs_is_not_taken_by_anybody() {
        let fixture = Fixture::new();
        let count = fixture.keyring.derive(|ring| Ok::<_, String>(ring.list().len())).unwrap();
        let look = fixture.edit(|ring| {
            ring.keys.push(Key::generate(Purpose::RecordSealing, true, &*fixture.random));
            ring.keys.retain(|key| key.purpose() != Purpose::ClaimSealing);
        });
        assert_eq!((look, *count.get()), (Look::Refused, 2));
    }

    #[test]
    fn keys_of_a_purpose_that_is_new_are_taken() {
        let fixture = Fixture::new();
        let look = fixture.edit(|ring| {
            ring.keys.push(Key::generate(Purpose::CodeDerivation, true, &*fixture.random));
        });
        assert_eq!(look, Look::Taken);
    }
}
