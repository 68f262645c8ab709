//! `keys`: the suite's key files.

use std::process::ExitCode;

use safeconduct_service::keyring::{KeyId, Purpose, create_suite, list_suite, retire_suite, rotate_suite};
use safeconduct_types::SystemRandom;

use crate::cli::KeysCommand;
use crate::exit::{Failure, Outcome};

pub(crate) fn run(what: KeysCommand) -> Outcome {
    match what {
        KeysCommand::Init(dir) => {
            for file in create_suite(&dir.dir, &SystemRandom).map_err(Failure::usage)? {
                println!("{}", file.display());
            }
        }
        KeysCommand::List(dir) => {
            for key in list_suite(&dir.dir).map_err(Failure::usage)? {
                let primary = if key.primary { "primary" } else { "" };
                println!("{:<20} {:<18} {:<24} {primary}", file_name(&key.file), key.purpose.as_str(), key.id.as_str());
            }
        }
        KeysCommand::Rotate { dir, purpose } => {
            let id = rotate_suite(&dir.dir, purpose_named(&purpose)?, &SystemRandom).map_err(Failure::usage)?;
            println!("{} is primary from the next start on; older keys still open and verify", id.as_str());
        }
        KeysCommand::Retire { dir, purpose, id } => {
            let key: KeyId = id.parse().map_err(Failure::usage)?;
            retire_suite(&dir.dir, purpose_named(&purpose)?, &key, &SystemRandom).map_err(Failure::usage)?;
            println!("{} is gone; what it sealed or signed no longer opens or verifies", key.as_str());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn purpose_named(name: &str) -> Result<Purpose, Failure> {
    Purpose::ALL.into_iter().find(|purpose| purpose.as_str() == name).ok_or_else(|| {
        let known: Vec<_> = Purpose::ALL.iter().map(|purpose| purpose.as_str()).collect();
        Failure::usage(format!("there is no purpose `{name}`; known are {}", known.join(", ")))
    })
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
