use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use proptest::prelude::*;
use safeconduct_types::SeededRandom;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const FORCED: (Timestamp, bool) = (NOW, true);

/// Stages and promotes in one go, whoever may not have it yet.
fn rotate_suite(keys: &Path, purpose: Purpose, random: &SeededRandom) -> Result<KeyId, KeyringError> {
    let id = stage_suite(keys, purpose, NOW, random)?;
    promote_suite(keys, purpose, &id, FORCED, random)?;
    Ok(id)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn suite() -> (tempfile::TempDir, SeededRandom) {
    let directory = tempfile::tempdir().unwrap();
    let random = SeededRandom::new(7);
    create_suite(&directory.path().join("keys"), &random).unwrap();
    (directory, random)
}

fn ring(directory: &tempfile::TempDir, service: &str) -> Keyring {
    Keyring::load(&directory.path().join(format!("keys/{service}.keys"))).unwrap()
}

fn sealer(keyring: &Keyring) -> Sealer {
    Sealer::new(keyring, Purpose::ClaimSealing, Arc::new(SeededRandom::new(9))).unwrap()
}

#[test]
fn shared_keys_are_the_same_in_every_file_and_all_others_differ() {
    let (directory, _) = suite();
    let rings = ["identity", "otp", "connector", "admission"].map(|service| ring(&directory, service));
    for purpose in Purpose::ALL {
        let mut keys: Vec<_> =
            rings.iter().flat_map(|ring| ring.all(purpose)).map(|key| key.secret().expose().to_vec()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        let shared = matches!(purpose, Purpose::ClaimSealing | Purpose::TraceHashing);
        assert_eq!(keys.len(), if shared { 1 } else { count }, "{purpose}");
    }
}

#[test]
fn key_files_are_readable_by_their_owner_only_also_after_a_change() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    rotate_suite(&keys, Purpose::ClaimSealing, &random).unwrap();
    assert_eq!(mode(&keys), 0o700);
    let files: Vec<_> = std::fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "no draft is left behind: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600);
    }
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_remedy() {
    let (directory, _) = suite();
    let file = directory.path().join("keys/otp.keys");
    for bad in [0o640, 0o604, 0o660, 0o610] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bad)).unwrap();
        let told = Keyring::load(&file).unwrap_err().to_string();
        assert!(told.contains("chmod 600") && told.contains("otp.keys"), "{told}");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    Keyring::load(&file).unwrap();
}

#[test]
fn a_suite_is_not_made_twice() {
    let (directory, random) = suite();
    let told = create_suite(&directory.path().join("keys"), &random).unwrap_err().to_string();
    assert!(told.contains("already there"), "{told}");
}

#[test]
fn after_a_rotation_every_service_seals_with_the_new_key_and_opens_the_old() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    let old = sealer(&ring(&directory, "identity")).seal(b"claim", b"context").unwrap();
    let id = rotate_suite(&keys, Purpose::ClaimSealing, &random).unwrap();
    let new = sealer(&ring(&directory, "otp")).seal(b"claim", b"context").unwrap();
    for service in ["identity", "otp", "connector"] {
        let ring = ring(&directory, service);
        assert_eq!(ring.primary(Purpose::ClaimSealing).unwrap().id(), &id);
        assert_eq!(*sealer(&ring).open(&old, b"context").unwrap(), b"claim");
        assert_eq!(*sealer(&ring).open(&new, b"context").unwrap(), b"claim");
    }
}

#[test]
fn a_staged_key_opens_but_seals_only_once_it_is_promoted() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    let before = ring(&directory, "otp").primary(Purpose::ClaimSealing).unwrap().id().clone();
    let id = stage_suite(&keys, Purpose::ClaimSealing, NOW, &random).unwrap();
    let staged = ring(&directory, "otp");
    assert_eq!(staged.primary(Purpose::ClaimSealing).unwrap().id(), &before);
    promote_suite(&keys, Purpose::ClaimSealing, &id, FORCED, &random).unwrap();
    let sealed = sealer(&ring(&directory, "identity")).seal(b"claim", b"").unwrap();
    assert_eq!(*sealer(&staged).open(&sealed, b"").unwrap(), b"claim");
}

#[test]
fn a_retired_key_opens_nothing_and_a_primary_one_cannot_be_retired() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    let ring_before = ring(&directory, "connector");
    let old = ring_before.primary(Purpose::ClaimSealing).unwrap().id().clone();
    let sealed = sealer(&ring_before).seal(b"claim", b"").unwrap();
    assert!(retire_suite(&keys, Purpose::ClaimSealing, &old, FORCED, &random).is_err());
    rotate_suite(&keys, Purpose::ClaimSealing, &random).unwrap();
    retire_suite(&keys, Purpose::ClaimSealing, &old, FORCED, &random).unwrap();
    assert_eq!(sealer(&ring(&directory, "connector")).open(&sealed, b""), Err(NotOpened));
    assert!(list_suite(&keys).unwrap().iter().all(|key| key.id != old));
}

#[test]
fn a_key_that_names_stored_things_is_not_replaced() {
    let (directory, random) = suite();
    for purpose in [Purpose::StoreHashing, Purpose::ContactHashing, Purpose::TraceHashing] {
        assert!(rotate_suite(&directory.path().join("keys"), purpose, &random).is_err(), "{purpose}");
    }
}

#[test]
fn a_key_signs_only_once_whoever_caches_the_public_keys_has_it() {
    let random = SeededRandom::new(5);
    let mut ring = Keyring::generate(Path::new("x"), &[Purpose::AssertionSigning], &random);
    let first = ring.primary(Purpose::AssertionSigning).unwrap().id().clone();
    let id = ring.stage(Purpose::AssertionSigning, NOW, &random).unwrap();
    let early = NOW.after(JWKS_MAX_AGE).before(Duration::from_millis(1));
    let told = ring.promote(Purpose::AssertionSigning, &id, early, false).unwrap_err().to_string();
    assert!(told.contains("promote it in 1 s") && told.contains("--force"), "{told}");
    assert_eq!(ring.primary(Purpose::AssertionSigning).unwrap().id(), &first);
    ring.promote(Purpose::AssertionSigning, &id, NOW.after(JWKS_MAX_AGE), false).unwrap();
    assert_eq!(ring.primary(Purpose::AssertionSigning).unwrap().id(), &id);
    // Back to what was there all the time, at once.
    ring.promote(Purpose::AssertionSigning, &first, NOW.after(JWKS_MAX_AGE), false).unwrap();
    assert_eq!(ring.primary(Purpose::AssertionSigning).unwrap().replaced(), None);
}

#[test]
fn a_key_stays_as_long_as_something_that_it_made_can_count() {
    let random = SeededRandom::new(5);
    for purpose in [Purpose::AssertionSigning, Purpose::ClaimSealing, Purpose::CodeDerivation] {
        let mut ring = Keyring::generate(Path::new("x"), &[purpose], &random);
        let old = ring.primary(purpose).unwrap().id().clone();
        ring.rotate(purpose, NOW, &random).unwrap();
        let over = NOW.after(purpose.needed_after().unwrap());
        let told = ring.retire(purpose, &old, over.before(Duration::from_secs(90)), false).unwrap_err().to_string();
        assert!(told.contains("can still count; retire it in 90 s"), "{told}");
        ring.retire(purpose, &old, over, false).unwrap();
        assert!(ring.get(purpose, old.as_str()).is_none());
    }
    let mut ring = Keyring::generate(Path::new("x"), &[Purpose::RecordSealing], &random);
    let old = ring.primary(Purpose::RecordSealing).unwrap().id().clone();
    ring.rotate(Purpose::RecordSealing, NOW, &random).unwrap();
    let much_later = NOW.after(Duration::from_hours(24 * 365 * 10));
    assert!(ring.retire(Purpose::RecordSealing, &old, much_later, false).is_err(), "records may live for ever");
    ring.retire(Purpose::RecordSealing, &old, NOW, true).unwrap();
    // What was only ever staged has made nothing.
    let staged = ring.stage(Purpose::RecordSealing, NOW, &random).unwrap();
    ring.retire(Purpose::RecordSealing, &staged, NOW, false).unwrap();
}

#[test]
fn the_times_of_a_key_are_kept_in_its_file() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    let old = ring(&directory, "identity").primary(Purpose::AssertionSigning).unwrap().id().clone();
    let id = rotate_suite(&keys, Purpose::AssertionSigning, &random).unwrap();
    let ring = ring(&directory, "identity");
    let times = |id: &KeyId| {
        let key = ring.get(Purpose::AssertionSigning, id.as_str()).unwrap();
        (key.staged(), key.replaced())
    };
    assert_eq!((times(&id), times(&old)), ((Some(NOW), None), (None, Some(NOW))));
}

#[test]
fn a_key_that_only_one_service_has_is_another_one_in_each_file_also_after_a_rotation() {
    let (directory, random) = suite();
    let id = rotate_suite(&directory.path().join("keys"), Purpose::RecordSealing, &random).unwrap();
    let mut secrets: Vec<_> = ["identity", "otp", "connector"]
        .map(|service| ring(&directory, service).get(Purpose::RecordSealing, id.as_str()).unwrap().secret().clone())
        .iter()
        .map(|secret| secret.expose().to_vec())
        .collect();
    secrets.dedup();
    assert_eq!(secrets.len(), 3);
}

#[test]
fn files_of_an_earlier_version_get_the_keys_that_they_lack() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    for service in ["identity", "otp"] {
        let mut old = ring(&directory, service);
        let is_new = |key: &Key| matches!(key.purpose(), Purpose::RecordSealing | Purpose::CodeDerivation);
        old.keys.retain(|key| !is_new(key));
        if service == "otp" {
            old.keys.retain(|key| key.purpose() != Purpose::ClaimSealing);
        }
        old.save(&random).unwrap();
    }
    let before = ring(&directory, "identity");
    let added = complete_suite(&keys, Wanting::Refused, &random).unwrap();
    assert_eq!(added.len(), 4, "{added:?}");
    let secret = |service: &str, purpose| ring(&directory, service).primary(purpose).unwrap().secret().clone();
    assert_eq!(
        secret("otp", Purpose::ClaimSealing).expose(),
        secret("identity", Purpose::ClaimSealing).expose(),
        "what is shared is the same"
    );
    let after = ring(&directory, "identity");
    assert!(before.list().iter().all(|key| after.list().iter().any(|other| other.same_as(key))), "nothing is replaced");
    assert!(complete_suite(&keys, Wanting::Refused, &random).unwrap().is_empty());
}

#[test]
fn a_lost_key_that_names_stored_things_is_made_anew_only_when_told() {
    let (directory, random) = suite();
    let keys = directory.path().join("keys");
    let mut old = ring(&directory, "connector");
    old.keys.retain(|key| key.purpose() != Purpose::StoreHashing);
    old.save(&random).unwrap();
    let told = complete_suite(&keys, Wanting::Refused, &random).unwrap_err().to_string();
    assert!(told.contains("connector.keys") && told.contains("init --missing"), "{told}");
    assert_eq!(complete_suite(&keys, Wanting::Made, &random).unwrap().len(), 1);
}

#[test]
fn no_file_has_more_keys_of_a_purpose_than_a_key_set_can_show() {
    let random = SeededRandom::new(5);
    let mut ring = Keyring::generate(Path::new("x"), &[Purpose::AssertionSigning], &random);
    for _ in 1..MAX_KEYS {
        ring.stage(Purpose::AssertionSigning, NOW, &random).unwrap();
    }
    assert!(ring.stage(Purpose::AssertionSigning, NOW, &random).is_err());
}

#[test]
fn a_broken_key_file_is_refused_and_never_shown() {
    let (directory, random) = suite();
    let file = directory.path().join("broken.keys");
    let secret = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI=";
    let entry = |purpose: &str, id: &str, primary: bool, secret: &str| {
        format!("[[key]]\npurpose = \"{purpose}\"\nid = \"{id}\"\nprimary = {primary}\nsecret = \"{secret}\"\n")
    };
    let good = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (text, expected) in [
        (entry("claim-sealing", "k1", true, secret), "secret must be 32 bytes"),
        (entry("cooking", "k1", true, good), "purpose must be one of"),
        (entry("claim-sealing", "K/1", true, good), "id must be"),
        (entry("claim-sealing", "k1", false, good), "exactly one"),
        (entry("claim-sealing", "k1", true, good) + &entry("claim-sealing", "k2", true, good), "exactly one"),
        (entry("claim-sealing", "k1", true, good) + &entry("claim-sealing", "k1", false, good), "twice"),
        (format!("[[key]]\nsecret = \"{secret}"), "line 2: not a key file"),
        (format!("[[key]]\npassword = \"{secret}\""), "not a key file"),
    ] {
        Keyring::generate(&file, &[], &random).save(&random).unwrap();
        std::fs::write(&file, text).unwrap();
        let told = Keyring::load(&file).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("aHVu"), "{told}");
    }
}

#[test]
fn neither_keys_nor_sealers_print_a_secret() {
    let random = SeededRandom::new(1);
    let ring = Keyring::generate(Path::new("x"), &[Purpose::ClaimSealing], &random);
    let secret = ring.list()[0].secret().expose();
    let shown = format!("{ring:?} {:?}", sealer(&ring));
    assert!(!shown.contains(&hex::encode(secret)) && !shown.contains(&format!("{secret:?}")), "{shown}");
}

#[test]
fn a_purpose_that_does_not_seal_makes_no_sealer() {
    let random = SeededRandom::new(1);
    let ring = Keyring::generate(Path::new("x"), &[Purpose::StoreHashing], &random);
    assert!(Sealer::new(&ring, Purpose::StoreHashing, Arc::new(SeededRandom::new(2))).is_err());
}

proptest! {
    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing(plain in proptest::collection::vec(any::<u8>(), 16..200), context: Vec<u8>) {
        let random = SeededRandom::new(1);
        let sealer = sealer(&Keyring::generate(Path::new("x"), &[Purpose::ClaimSealing], &random));
        let sealed = sealer.seal(&plain, &context).unwrap();
        prop_assert_ne!(&sealed, &sealer.seal(&plain, &context).unwrap());
        prop_assert!(!sealed.windows(plain.len()).any(|window| window == plain));
        prop_assert_eq!(&*sealer.open(&sealed, &context).unwrap(), &plain);
    }

    #[test]
    fn whatever_was_changed_does_not_open(plain: Vec<u8>, context: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
        let random = SeededRandom::new(1);
        let sealer = sealer(&Keyring::generate(Path::new("x"), &[Purpose::ClaimSealing], &random));
        let sealed = sealer.seal(&plain, &context).unwrap();
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= flip;
        prop_assert_eq!(sealer.open(&changed, &context), Err(NotOpened));
        prop_assert_eq!(sealer.open(&sealed[..at.index(sealed.len())], &context), Err(NotOpened));
        let longer = [sealed.as_slice(), &[flip]].concat();
        prop_assert_eq!(sealer.open(&longer, &context), Err(NotOpened));
    }

    #[test]
    fn another_context_or_key_does_not_open(plain: Vec<u8>, context: Vec<u8>, other: Vec<u8>) {
        let random = SeededRandom::new(1);
        let ring = Keyring::generate(Path::new("x"), &[Purpose::ClaimSealing], &random);
        let sealed = sealer(&ring).seal(&plain, &context).unwrap();
        if context != other {
            prop_assert_eq!(sealer(&ring).open(&sealed, &other), Err(NotOpened));
        }
        // The same name, so that only the key itself differs.
        let mut foreign = Keyring::generate(Path::new("x"), &[Purpose::ClaimSealing], &random);
        foreign.keys[0].id = ring.keys[0].id.clone();
        prop_assert_eq!(sealer(&foreign).open(&sealed, &context), Err(NotOpened));
    }

    #[test]
    fn arbitrary_bytes_do_not_open(bytes: Vec<u8>) {
        let random = SeededRandom::new(1);
        let sealer = sealer(&Keyring::generate(Path::new("x"), &[Purpose::ClaimSealing], &random));
        prop_assert_eq!(sealer.open(&bytes, b""), Err(NotOpened));
    }
}
