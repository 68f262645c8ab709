//! `keys used`: on what evidence a workspace's secret or key can be taken away.

use safeconduct_proto::identity::v1::{ListProofKeysRequest, ProofKey, ProofKeyKind};
use serde_json::json;

use super::client;
use crate::cli::{Output, UsedArgs};
use crate::command::call;
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

pub(crate) fn run(args: &UsedArgs) -> Outcome {
    let token = client::read_text(&args.token_file)?;
    let answer = call::runtime()?.block_on(async {
        let channel = client::connect(&args.address, &token, args.ca.as_deref())?;
        let request = ListProofKeysRequest { workspace_id: args.workspace.clone() };
        let answer = client::identity(&channel).list_proof_keys(request).await;
        answer.map_err(|status| Failure::refused(client::explain(&status)))
    })?;
    let keys = answer.into_inner().keys;
    match args.output {
        Output::Human if keys.is_empty() => say!("nothing verifies proofs in this workspace"),
        Output::Human => {
            for key in &keys {
                let last = last_use(key).unwrap_or_else(|| "not used within 400 days".to_owned());
                say!("{:<24} {:<17} {:<13} {last}", key.key_id, kind(key), state(key));
            }
        }
        Output::Json => {
            let keys = keys.iter().map(|key| {
                json!({
                    "id": key.key_id, "kind": kind(key), "primary": key.primary, "accepted": key.accepted,
                    "last_use_time": last_use(key),
                })
            });
            say!("{}", json!({"keys": keys.collect::<Vec<_>>()}));
        }
    }
    Ok(Code::SUCCESS)
}

fn last_use(key: &ProofKey) -> Option<String> {
    key.last_use_time.map(|time| time.to_string())
}

fn kind(key: &ProofKey) -> &'static str {
    match key.kind() {
        ProofKeyKind::UserHashSecret => "user-hash-secret",
        ProofKeyKind::TokenSecret => "token-secret",
        ProofKeyKind::PublicKey => "public-key",
        ProofKeyKind::FetchedKey => "fetched-key",
        ProofKeyKind::Unspecified => "unknown",
    }
}

const fn state(key: &ProofKey) -> &'static str {
    match (key.accepted, key.primary) {
        (false, _) => "not accepted",
        (true, true) => "primary",
        (true, false) => "accepted",
    }
}
