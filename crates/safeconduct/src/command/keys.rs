//! `keys`: the suite's key files.

use std::path::Path;

use safeconduct_service::keyring::{
    KeyId, Purpose, SuiteKey, TAKEN_WITHIN, Wanting, complete_suite, create_suite, list_suite, promote_suite,
    retire_suite, stage_suite,
};
use safeconduct_types::{Clock as _, SystemClock, SystemRandom, Timestamp};
use serde_json::{Value, json};

use crate::cli::{KeyArgs, KeysCommand, KeysDir, Output};
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

pub(crate) fn run(what: &KeysCommand) -> Outcome {
    match what {
        KeysCommand::Init { dir, missing } => init(dir, *missing)?,
        KeysCommand::List(dir) => list(dir)?,
        KeysCommand::Stage { dir, purpose } => {
            let purpose = purpose_named(purpose)?;
            let id = stage(&dir.dir, purpose)?;
            let promote_after = now().after(purpose.known_before());
            let said = format!(
                "{id} is staged; promote it in {} s or later, once every process has its file",
                purpose.known_before().as_secs()
            );
            let fields = json!({"promote_after": promote_after.as_seconds()});
            tell(dir, "staged", purpose, &id, &fields, &said);
        }
        KeysCommand::Promote(key) => {
            let (purpose, id) = named(key)?;
            promote(&key.dir.dir, purpose, &id, key.force)?;
            let said = format!("{id} is primary; older keys still open and verify");
            tell(&key.dir, "promoted", purpose, &id, &json!({}), &said);
        }
        KeysCommand::Rotate { dir, purpose, force } => rotate(dir, purpose_named(purpose)?, *force)?,
        KeysCommand::Retire(key) => {
            let (purpose, id) = named(key)?;
            retire_suite(&key.dir.dir, purpose, &id, (now(), key.force), &SystemRandom).map_err(Failure::usage)?;
            let said = format!("{id} is gone; what it sealed or signed no longer opens or verifies");
            tell(&key.dir, "retired", purpose, &id, &json!({}), &said);
        }
        KeysCommand::Used(args) => return super::keys_used::run(args),
    }
    Ok(Code::SUCCESS)
}

fn init(dir: &KeysDir, missing: bool) -> Result<(), Failure> {
    let made: Vec<(String, Option<Purpose>)> = if missing {
        let added = complete_suite(&dir.dir, Wanting::Made, &SystemRandom).map_err(Failure::usage)?;
        added.into_iter().map(|one| (one.file.display().to_string(), Some(one.purpose))).collect()
    } else {
        let files = create_suite(&dir.dir, &SystemRandom).map_err(Failure::usage)?;
        files.into_iter().map(|file| (file.display().to_string(), None)).collect()
    };
    match dir.output {
        Output::Human => {
            for (file, purpose) in &made {
                say!("{file}{}", purpose.map(|purpose| format!(": {purpose}")).unwrap_or_default());
            }
            if made.is_empty() {
                say!("nothing is missing");
            }
        }
        Output::Json => {
            let made =
                made.iter().map(|(file, purpose)| json!({"file": file, "purpose": purpose.map(Purpose::as_str)}));
            say!("{}", json!({"made": made.collect::<Vec<_>>()}));
        }
    }
    Ok(())
}

fn list(dir: &KeysDir) -> Result<(), Failure> {
    let keys = list_suite(&dir.dir).map_err(Failure::usage)?;
    match dir.output {
        Output::Human => {
            for key in &keys {
                let (file, purpose, id) = (file_name(&key.file), key.purpose.as_str(), key.id.as_str());
                say!("{file:<20} {purpose:<18} {id:<24} {}", state(key));
            }
        }
        Output::Json => {
            let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_seconds);
            let keys = keys.iter().map(|key| {
                json!({
                    "file": file_name(&key.file), "purpose": key.purpose.as_str(), "id": key.id.as_str(),
                    "state": state(key), "staged": seconds(key.staged), "replaced": seconds(key.replaced),
                })
            });
            say!("{}", json!({"keys": keys.collect::<Vec<_>>()}));
        }
    }
    Ok(())
}

/// What a key does: makes things, waits for its turn, or still opens and verifies.
const fn state(key: &SuiteKey) -> &'static str {
    match (key.primary, key.replaced) {
        (true, _) => "primary",
        (false, Some(_)) => "replaced",
        (false, None) => "staged",
    }
}

/// Stages, waits until processes that follow these very files have taken them, and promotes.
fn rotate(dir: &KeysDir, purpose: Purpose, force: bool) -> Result<(), Failure> {
    if purpose.known_before() > TAKEN_WITHIN && !force {
        return Err(Failure::usage(format!(
            "a key for {purpose} must be known for {} s before it counts, so it is not replaced in one go: `safeconduct \
             keys stage`, then `promote`; or do it all the same with --force (services of this suite ask again within a \
             second, other readers of the public keys may not)",
            purpose.known_before().as_secs()
        )));
    }
    let id = stage(&dir.dir, purpose)?;
    std::thread::sleep(TAKEN_WITHIN);
    promote(&dir.dir, purpose, &id, true)?;
    tell(dir, "promoted", purpose, &id, &json!({}), &format!("{id} is primary; older keys still open and verify"));
    Ok(())
}

fn stage(dir: &Path, purpose: Purpose) -> Result<KeyId, Failure> {
    stage_suite(dir, purpose, now(), &SystemRandom).map_err(Failure::usage)
}

fn promote(dir: &Path, purpose: Purpose, id: &KeyId, force: bool) -> Result<(), Failure> {
    promote_suite(dir, purpose, id, (now(), force), &SystemRandom).map_err(Failure::usage)
}

fn tell(dir: &KeysDir, done: &str, purpose: Purpose, id: &KeyId, more: &Value, said: &str) {
    match dir.output {
        Output::Human => say!("{said}"),
        Output::Json => {
            let mut told = json!({"purpose": purpose.as_str(), "id": id.as_str(), "state": done});
            if let (Some(told), Some(more)) = (told.as_object_mut(), more.as_object()) {
                told.extend(more.clone());
            }
            say!("{told}");
        }
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn named(key: &KeyArgs) -> Result<(Purpose, KeyId), Failure> {
    Ok((purpose_named(&key.purpose)?, key.id.parse().map_err(Failure::usage)?))
}

fn purpose_named(name: &str) -> Result<Purpose, Failure> {
    name.parse().map_err(|known| Failure::usage(format!("there is no purpose `{name}`: {known}")))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
