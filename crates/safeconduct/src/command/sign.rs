//! `sign`: proofs for trying out.

use aws_lc_rs::hmac;
use safeconduct_identity_domain::token::{Algorithm, sign};
use safeconduct_proto::identity::v1 as pb;
use safeconduct_types::{Clock as _, Secret, SecretText, SystemClock};
use serde_json::{Map, Value};

use super::client;
use crate::cli::SignCommand;
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

pub(crate) fn run(what: SignCommand) -> Outcome {
    match what {
        SignCommand::UserHash { user_id, secret_file } => {
            say!("{}", user_hash(&client::read_text(&secret_file)?, &user_id));
            Ok(Code::SUCCESS)
        }
        SignCommand::Token { user_id, secret_file, alg, lifetime, claims } => {
            say!("{}", token(&client::read_text(&secret_file)?, &user_id, &alg, lifetime, &claims)?);
            Ok(Code::SUCCESS)
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
            say!("{}", answer.into_inner().assertion);
            Ok(Code::SUCCESS)
        }
    }
}

/// The proof that the customer's backend makes for its own user.
pub(crate) fn user_hash(secret: &SecretText, user_id: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    hex::encode(hmac::sign(&key, user_id.as_bytes()))
}

/// A token of these claims that holds from now on.
fn token(secret: &SecretText, user_id: &str, alg: &str, lifetime: u32, claims: &str) -> Result<String, Failure> {
    let mut all: Map<String, Value> =
        serde_json::from_str(claims).map_err(|error| Failure::usage(format!("--claims is no JSON object: {error}")))?;
    let now = SystemClock.now().as_seconds();
    for (name, value) in [("user_id", user_id.into()), ("iat", now.into()), ("exp", (now + i64::from(lifetime)).into())]
    {
        all.entry(name).or_insert(value);
    }
    let secret = Secret::new(secret.expose().as_bytes().to_vec());
    let signed = Algorithm::from_name(alg).and_then(|alg| sign(alg, &secret, &all));
    signed.ok_or_else(|| Failure::usage("--alg must be HS256, HS384 or HS512"))
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
