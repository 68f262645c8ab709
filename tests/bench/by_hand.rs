//! The least program that verifies a user hash as ours does and answers the same: the caller's token, the proof, the
//! contact's sealed record out of the same embedded database, the sealed attributes and the signed assertion, written
//! down one after the other. It has no deadlines, limits, traces, metrics, marks, roles, rotation or policies, one
//! workspace, and all its keys in memory. What it costs more than the echo, which is built and run as it is, is what no
//! service can leave out.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, TableDefinition};
use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use serde::Deserialize;
use tonic::{Request, Response, Status};

use crate::echo::{listen, not_here};

/// What makes this program this service.
pub(crate) const WORD: &str = "identity-by-hand";

const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");

#[derive(Deserialize)]
struct Stored {
    form: u8,
    value: Contact,
}

#[derive(Deserialize)]
struct Contact {
    named: Named,
    created: u64,
    updated: u64,
}

#[derive(Deserialize)]
struct Named {
    user: String,
}

struct ByHand {
    caller: Vec<u8>,
    users: hmac::Key,
    contacts: hmac::Key,
    places: hmac::Key,
    seal: LessSafeKey,
    pair: Ed25519KeyPair,
    header: String,
    records: ReadOnlyTable<&'static str, &'static [u8]>,
    _database: Database,
}

fn key(name: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, name.as_bytes())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

impl ByHand {
    fn new(users: usize, directory: &Path) -> Self {
        let database = Database::create(directory.join("by-hand.redb")).expect("a database");
        let seal = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key"));
        let (contacts, places) = (key("contacts"), key("places"));
        let writing = database.begin_write().expect("a transaction");
        {
            let mut records = writing.open_table(RECORDS).expect("a table");
            for user in 0..users {
                let user = format!("bench_{user}");
                let record = format!(
                    r#"{{"form":1,"value":{{"named":{{"user":"{user}"}},"created":{0},"updated":{0}}}}}"#,
                    now() * 1000
                );
                let place = place(&places, &contact(&contacts, &user));
                let sealed = sealed(&seal, place.as_bytes(), record.into_bytes());
                records.insert(place.as_str(), sealed.as_slice()).expect("it is inserted");
            }
        }
        writing.commit().expect("it is committed");
        let records = database.begin_read().expect("a transaction").open_table(RECORDS).expect("a table");
        Self {
            caller: digest(&SHA256, safeconduct_testkit::token::WEBSITE.as_bytes()).as_ref().to_vec(),
            users: key(safeconduct_testkit::MESSENGER_SECRET),
            contacts,
            places,
            seal,
            pair: Ed25519KeyPair::generate().expect("a key"),
            header: format!("{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","kid":"k1","typ":"at+jwt"}"#)),
            records,
            _database: database,
        }
    }

    fn verify(&self, request: Request<pb::VerifyIdentityRequest>) -> Option<pb::VerifyIdentityResponse> {
        let token = request.metadata().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        if digest(&SHA256, token.as_bytes()).as_ref() != self.caller {
            return None;
        }
        let asked = request.into_inner();
        let pb::verify_identity_request::Proof::UserHash(proof) = asked.proof? else { return None };
        let pb::user_hash::Subject::UserId(user) = proof.subject? else { return None };
        let mut hash = [0; 32];
        hex::decode_to_slice(&proof.hash, &mut hash).ok()?;
        hmac::verify(&self.users, user.as_bytes(), &hash).ok()?;
        let contact = contact(&self.contacts, &user);
        let place = place(&self.places, &contact);
        let found = self.records.get(place.as_str()).ok()??;
        let record: Stored = serde_json::from_slice(&opened(&self.seal, place.as_bytes(), found.value())?).ok()?;
        if record.form != 1 || record.value.named.user != user {
            return None;
        }
        let now = now();
        let mut session = [0; 16];
        rand::fill(&mut session).ok()?;
        let session = format!("ses_{}", hex::encode(session));
        let known =
            format!(r#"{{"a":{{"user_id":{{"v":"{user}","p":"SIGNED_HASH","t":{now}}}}},"k":"0123456789abcdef"}}"#);
        let known = URL_SAFE_NO_PAD.encode(sealed(&self.seal, session.as_bytes(), known.into_bytes()));
        let claims = format!(
            r#"{{"iss":"safeconduct","aud":"safeconduct","azp":["website"],"iat":{now},"exp":{},"pxp":{},"wsp":"{}","sid":"{session}","sst":{now},"sep":1,"sub":"{contact}","knd":"user","mth":"user_hash","att":"{known}"}}"#,
            now + 900,
            now + 3600,
            asked.workspace_id,
        );
        let mut assertion = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(claims, &mut assertion);
        let signature = self.pair.sign(assertion.as_bytes());
        assertion.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut assertion);
        let at = |seconds| prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(0), nanos: 0 };
        let attribute =
            pb::Attribute { value_json: format!("\"{user}\""), prove_time: Some(at(now)), ..<_>::default() };
        Some(pb::VerifyIdentityResponse {
            contact: Some(pb::Contact {
                contact_id: contact,
                user_id: user,
                attributes: [("user_id".to_owned(), attribute)].into(),
                create_time: Some(at(record.value.created / 1000)),
                update_time: Some(at(record.value.updated / 1000)),
                ..pb::Contact::default()
            }),
            assertion,
            expire_time: Some(at(now + 900)),
            proof_expire_time: Some(at(now + 3600)),
            session_id: session,
        })
    }
}

fn contact(key: &hmac::Key, user: &str) -> String {
    format!("usr_{}", hex::encode(hmac::sign(key, user.as_bytes())))
}

/// Where the record is: the slot, and the key in it.
fn place(key: &hmac::Key, contact: &str) -> String {
    let slot = hex::encode(hmac::sign(key, contact.as_bytes()));
    format!("{slot}:{}", hex::encode(hmac::sign(key, slot.as_bytes())))
}

fn sealed(key: &LessSafeKey, context: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).expect("chance");
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut plain)
        .expect("it is sealed");
    plain.extend_from_slice(&nonce);
    plain
}

fn opened(key: &LessSafeKey, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, nonce) = sealed.split_last_chunk::<NONCE_LEN>()?;
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    Some(key.open_in_place(nonce, Aad::from(context), &mut body).ok()?.to_vec())
}

/// Serves until its parent ends it, with a database in this directory, which is the parent's.
pub(crate) async fn serve(directory: &Path) {
    listen(IdentityServiceServer::new(ByHand::new(crate::identity::USERS, directory))).await;
}

#[tonic::async_trait]
impl IdentityService for ByHand {
    async fn verify_identity(
        &self,
        request: Request<pb::VerifyIdentityRequest>,
    ) -> Result<Response<pb::VerifyIdentityResponse>, Status> {
        self.verify(request).map(Response::new).ok_or_else(|| Status::unauthenticated("not verified"))
    }

    not_here!();
}
