//! `sign`: proofs for trying out.

use std::process::ExitCode;

use aws_lc_rs::hmac;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_types::SecretText;

use super::client;
use crate::cli::SignCommand;
use crate::exit::{Failure, Outcome};

pub(crate) fn run(what: SignCommand) -> Outcome {
    match what {
        SignCommand::UserHash { user_id, secret_file } => {
            println!("{}", user_hash(&client::read_text(&secret_file)?, &user_id));
            Ok(ExitCode::SUCCESS)
        }
        SignCommand::Assertion { workspace, user_id, secret_file, address, token_file, presenter, ca } => {
            let hash = user_hash(&client::read_text(&secret_file)?, &user_id);
            let runtime = super::call::runtime()?;
            let token = client::read_text(&token_file)?;
            let answer = runtime.block_on(async {
                let channel = client::connect(&address, &token, ca.as_deref())?;
                let request = verify_request(workspace, user_id, hash, presenter);
                let answer = client::identity(&channel).verify_identity(request).await;
                answer.map_err(|status| Failure::refused(client::explain(&status)))
            })?;
            println!("{}", answer.into_inner().assertion);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The proof that the customer's backend makes for its own user.
pub(crate) fn user_hash(secret: &SecretText, user_id: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    hex::encode(hmac::sign(&key, user_id.as_bytes()))
}

pub(crate) fn verify_request(
    workspace_id: String,
    user_id: String,
    hash: String,
    presenters: Vec<String>,
) -> pb::VerifyIdentityRequest {
    use pb::user_hash::Subject;
    use pb::verify_identity_request::Proof;
    pb::VerifyIdentityRequest {
        workspace_id,
        proof: Some(Proof::UserHash(pb::UserHash { subject: Some(Subject::UserId(user_id)), hash })),
        presenters,
        ..pb::VerifyIdentityRequest::default()
    }
}
