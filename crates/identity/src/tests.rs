//! The service in process: its RPCs, an embedded store, a clock and chance that the test holds.

mod addresses;
mod fetched;
mod people;
mod proofs;
mod revocations;
mod sessions;

use std::collections::HashMap;
use std::sync::Mutex;

use safeconduct_admission_client::{ClearMark, SetMark};
use safeconduct_identity_domain::assertion::{JwkSet, VerifiedContact};
use safeconduct_identity_domain::contact::ContactKind;
use safeconduct_identity_domain::user_hash;
use safeconduct_identity_domain::workspace::IdentityPolicy;
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::identity::v1 as pb;
use safeconduct_proto::identity::v1::identity_service_server::IdentityService as _;
use safeconduct_service::caller::{Authenticator, Caller};
use safeconduct_service::config::{Config, LoadOptions};
use safeconduct_service::keyring::{Keyring, LiveKeyring, Purpose};
use safeconduct_service::status::refusal_in;
use safeconduct_store::EmbeddedStore;
use safeconduct_types::{
    CallerName, ContactId, Deadline, ManualClock, Mark, MarkCheck, MarkKey, Provenance, Reason, Refusal, Secret,
    SeededRandom, Subject, Timestamp, WorkspaceId,
};
use tempfile::TempDir;
use tonic::{Request, Status};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SECRET: &[u8] = b"the messenger's secret of 2026";
const SPARE: &[u8] = b"the messenger's secret of 2025";

/// Each with the SHA-256 of `token-of-NAME`.
const CALLERS: &str = r#"
[[callers]]
name = "agent"
roles = ["agent"]
workspaces = ["acme", "nowhere", "tokens", "mailers", "broken"]
token_sha256 = ["08324bbf996a273a2708f3c62f50545a3fb61bc47eedb43e8ca8cc074289b0e4"]
[[callers]]
name = "messenger"
roles = ["messenger"]
workspaces = ["*"]
token_sha256 = ["7bc44f4accc4ecedbaeef927e224a4515dbc8b34400f0b2f8fcbd383d94692a6"]
[[callers]]
name = "backend"
roles = ["backend"]
workspaces = ["*"]
token_sha256 = ["fe7bffd1c505fda7cfebc1b884d0a0b0ecc74a73a778ae8a420a1c878c838cfb"]
[[callers]]
name = "otp"
roles = ["service"]
workspaces = ["*"]
token_sha256 = ["565126026eeebf1d1b5bee35ac4246bfc35510c8f5f1789015561ef01e608c84"]
[[callers]]
name = "operator"
roles = ["operator"]
workspaces = ["*"]
token_sha256 = ["18480fd309fa2cc658eb41b2df7eebc20f8f515b6331fa8417b15c198f9559da"]
"#;

#[derive(Debug)]
struct Directory(
    Mutex<Vec<(&'static str, Arc<IdentityPolicy>)>>,
    /// Secrets of `acme` that are not what they were at first.
    Mutex<HashMap<&'static str, Option<Vec<u8>>>>,
);

impl WorkspaceDirectory for Directory {
    fn identity_policy(&self, workspace: &WorkspaceId) -> Option<Arc<IdentityPolicy>> {
        let all = self.0.lock().unwrap();
        all.iter().find(|(name, _)| *name == workspace.as_str()).map(|(_, policy)| Arc::clone(policy))
    }

    fn attribute_policy(&self, _: &WorkspaceId) -> Arc<AttributePolicy> {
        Arc::new(AttributePolicy::parse(&serde_json::from_str(people::DECLARED).unwrap()).unwrap())
    }

    fn secret(&self, workspace: &WorkspaceId, name: &str) -> Option<Secret> {
        if let Some(changed) = self.1.lock().unwrap().get(name) {
            return changed.clone().map(Secret::new);
        }
        match (workspace.as_str(), name) {
            ("acme", "tokens") => Some(Secret::new(proofs::TOKENS.to_vec())),
            ("acme" | "mailers", "current") => Some(Secret::new(SECRET.to_vec())),
            ("acme", "spare") => Some(Secret::new(SPARE.to_vec())),
            ("broken", "current") => Some(Secret::new(b"short".to_vec())),
            _ => None,
        }
    }
}

fn policy(text: &str) -> Arc<IdentityPolicy> {
    Arc::new(serde_json::from_str(text).unwrap())
}

const ONE: &str = r#"{"secrets":[{"id":"s1","secret":"current","use":"user_hash"}],"user_hash":{"over":"user_id"}}"#;
const TWO: &str = r#"{"secrets":[{"id":"s2","secret":"current","use":"user_hash","primary":true},
    {"id":"s1","secret":"spare","use":"user_hash"}],"user_hash":{"over":"user_id"}}"#;
const MAIL: &str = r#"{"secrets":[{"id":"s1","secret":"current","use":"user_hash"}],"user_hash":{"over":"email"}}"#;

struct Suite {
    grpc: IdentityGrpc,
    identity: Arc<Identity>,
    clock: Arc<ManualClock>,
    directory: Arc<Directory>,
    authenticator: Authenticator,
    mirror: Mirror,
    /// The marks in force.
    marks: Mutex<Vec<Mark>>,
    marking: Arc<Marked>,
    admission: Arc<proofs::Counting>,
    tasks: Tasks,
    keyring: LiveKeyring,
    _dir: TempDir,
}

/// Takes note of the marks that are set.
#[derive(Debug, Default)]
struct Marked(Mutex<Vec<SetMark>>, Mutex<Timestamp>);

#[tonic::async_trait]
impl Marking for Marked {
    async fn set_mark(&self, asked: SetMark, _: Deadline) -> Result<Mark, Refusal> {
        self.0.lock().unwrap().push(asked.clone());
        let effective = asked.effective.unwrap_or(*self.1.lock().unwrap());
        let (expires, min_epoch) = (asked.expires, asked.min_epoch);
        Ok(Mark { effective, expires, min_epoch, ..mark(asked.key) })
    }

    async fn clear_mark(&self, _: ClearMark, _: Deadline) -> Result<bool, Refusal> {
        Ok(false)
    }
}

#[tonic::async_trait]
impl Erasing for Marked {
    async fn erase_contact(
        &self,
        _: WorkspaceId,
        _: ContactId,
        _: safeconduct_types::OperationId,
        _: Deadline,
    ) -> Result<bool, Refusal> {
        Ok(true)
    }
}

fn mark(key: MarkKey) -> Mark {
    let (reason, actor) = (String::new(), String::new());
    Mark { key, effective: NOW, expires: None, reason, actor, revision: 1, min_epoch: 0 }
}

impl Suite {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let policies = vec![
            ("acme", policy(ONE)),
            ("globex", policy(ONE)),
            ("mailers", policy(MAIL)),
            ("broken", policy(ONE)),
            ("tokens", policy("{}")),
        ];
        let directory = Arc::new(Directory(Mutex::new(policies), Mutex::default()));
        let purposes = [
            Purpose::AssertionSigning,
            Purpose::ClaimSealing,
            Purpose::RecordSealing,
            Purpose::StoreHashing,
            Purpose::ContactHashing,
            Purpose::TraceHashing,
        ];
        let keyring = Keyring::generate(&dir.path().join("identity.keys"), &purposes, &*random);
        let keyring = LiveKeyring::of(keyring);
        let keys = Keys::from_keyring(&keyring, Arc::clone(&random)).unwrap();
        let store_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let records = EmbeddedStore::open(dir.path().join("store.redb"), Arc::clone(&store_clock)).await.unwrap();
        let workspaces: Arc<dyn WorkspaceDirectory> = Arc::<Directory>::clone(&directory);
        let mirror = Mirror::new(Arc::clone(&store_clock));
        let marking = Arc::<Marked>::default();
        let admission = Arc::<proofs::Counting>::default();
        let tasks = Tasks::new();
        let ports = Ports {
            records: Arc::new(records),
            workspaces,
            clock: store_clock,
            random,
            mirror: mirror.clone(),
            marking: Arc::<Marked>::clone(&marking),
            erasing: Arc::<Marked>::clone(&marking),
            admission: Arc::<proofs::Counting>::clone(&admission),
            tasks: tasks.clone(),
        };
        let identity = Identity::new(Settings::default(), keys, ports);
        let clock_of_callers: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let grpc = IdentityGrpc::over(Arc::clone(&identity));
        let authenticator = authenticator(&dir, clock_of_callers);
        let marks = Mutex::default();
        Self {
            grpc,
            identity,
            clock,
            directory,
            authenticator,
            mirror,
            marks,
            marking,
            admission,
            tasks,
            keyring,
            _dir: dir,
        }
    }

    fn request<T>(&self, caller: &str, message: T) -> Request<T> {
        let header = format!("Bearer token-of-{caller}");
        let caller: Arc<Caller> = self.authenticator.authenticate(None, Some(&header), NOW).unwrap();
        let mut request = Request::new(message);
        request.extensions_mut().insert(caller);
        request
    }

    async fn begin(&self, caller: &str, message: pb::StartSessionRequest) -> Result<pb::StartSessionResponse, Refusal> {
        self.mirror.tell(self.marks.lock().unwrap().clone());
        plain(self.grpc.start_session(self.request(caller, message)).await)
    }

    async fn verify(
        &self,
        caller: &str,
        message: pb::VerifyIdentityRequest,
    ) -> Result<pb::VerifyIdentityResponse, Refusal> {
        self.mirror.tell(self.marks.lock().unwrap().clone());
        plain(self.grpc.verify_identity(self.request(caller, message)).await)
    }

    fn read(&self, assertion: &str, presenter: &str) -> Result<VerifiedContact, Refusal> {
        let presenter: CallerName = presenter.parse().unwrap();
        self.identity.verifier().verify(assertion, self.identity.ports.clock.now(), &presenter, "safeconduct")
    }
}

fn authenticator(dir: &TempDir, clock: Arc<dyn Clock>) -> Authenticator {
    let file = dir.path().join("safeconduct.toml");
    std::fs::write(&file, CALLERS).unwrap();
    let config = Config::load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
    Authenticator::new(&config, clock).unwrap()
}

fn plain<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, Refusal> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| refusal_in(&status).expect("every refusal carries ErrorInfo"))
}

fn visitor() -> pb::StartSessionRequest {
    pb::StartSessionRequest { workspace_id: "acme".to_owned(), ..Default::default() }
}

fn hashed(user: &str, secret: &[u8]) -> pb::VerifyIdentityRequest {
    let hash = user_hash::compute(&Secret::new(secret.to_vec()), user);
    let subject = Some(pb::user_hash::Subject::UserId(user.to_owned()));
    pb::VerifyIdentityRequest {
        workspace_id: "acme".to_owned(),
        proof: Some(pb::verify_identity_request::Proof::UserHash(pb::UserHash { subject, hash })),
        ..Default::default()
    }
}

fn within(assertion: &str, request: pb::VerifyIdentityRequest) -> pb::VerifyIdentityRequest {
    pb::VerifyIdentityRequest { session_assertion: assertion.to_owned(), ..request }
}

#[track_caller]
fn reason<T: fmt::Debug>(answer: Result<T, Refusal>) -> Reason {
    answer.unwrap_err().reason()
}

#[tokio::test]
async fn a_visitor_gets_a_session_and_an_assertion_of_nothing() {
    let suite = Suite::start().await;
    let one = suite.begin("messenger", visitor()).await.unwrap();
    let read = suite.read(&one.assertion, "messenger").unwrap();
    assert_eq!(read.session().as_str(), one.session_id);
    assert_eq!((read.contact().kind, read.epoch(), read.contact().attributes.len()), (ContactKind::Visitor, 1, 0));
    assert_eq!(one.expire_time.unwrap().seconds, NOW.as_seconds() + 900);
    let two = suite.begin("messenger", visitor()).await.unwrap();
    assert_ne!(one.session_id, two.session_id);
    assert_ne!(suite.read(&two.assertion, "messenger").unwrap().contact().id, read.contact().id);
}

#[tokio::test]
async fn a_user_hash_proves_a_user_and_upgrades_the_session() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let proven = suite.verify("messenger", within(&session.assertion, hashed("u1", SECRET))).await.unwrap();
    assert_eq!(proven.session_id, session.session_id);
    let read = suite.read(&proven.assertion, "messenger").unwrap();
    assert_eq!((read.contact().kind, read.epoch()), (ContactKind::User, 2));
    let attribute = &read.contact().attributes["user_id"];
    assert_eq!((attribute.value.as_str(), attribute.provenance), (Some("u1"), Provenance::SignedHash));
    assert_eq!(attribute.proof_time, NOW);
    let contact = proven.contact.unwrap();
    assert_eq!(
        (contact.contact_id.as_str(), contact.kind),
        (read.contact().id.as_str(), common::ContactKind::User.into())
    );
    assert_eq!(contact.attributes["user_id"].value_json, r#""u1""#);
    assert_eq!(proven.proof_expire_time.unwrap().seconds, NOW.as_seconds() + 12 * 3600);
    assert!(!proven.assertion.contains("u1") && proven.assertion.len() < 1024, "{} bytes", proven.assertion.len());
}

#[tokio::test]
async fn an_upgrade_ends_the_assertions_from_before_it_and_not_its_own() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let proven = suite.verify("messenger", within(&session.assertion, hashed("u1", SECRET))).await.unwrap();
    let set = suite.marking.0.lock().unwrap().clone();
    let [asked] = set.as_slice() else { panic!("one mark: {set:?}") };
    let stale = Mark {
        effective: asked.effective.unwrap(),
        expires: asked.expires,
        min_epoch: asked.min_epoch,
        ..mark(asked.key.clone())
    };
    let meets = |assertion: &str| {
        let checks: Vec<MarkCheck> = suite.read(assertion, "messenger").unwrap().marks();
        checks.iter().any(|check| check.key == stale.key && stale.is_met(check))
    };
    assert!(meets(&session.assertion));
    assert!(!meets(&proven.assertion));
    assert!(stale.in_force(NOW.after(suite.identity.settings.assertion_lifetime)), "as long as there can be any");
    // The old assertion will still do to ask once more for an answer that got lost.
    *suite.marks.lock().unwrap() = vec![stale.clone()];
    suite.verify("messenger", within(&session.assertion, hashed("u1", SECRET))).await.unwrap();
}

#[tokio::test]
async fn who_is_blocked_and_a_workspace_that_is_disabled_get_no_assertion() {
    let suite = Suite::start().await;
    let proven = suite.verify("messenger", hashed("u1", SECRET)).await.unwrap();
    let contact: ContactId = proven.contact.unwrap().contact_id.parse().unwrap();
    let key = |subject| MarkKey::new("acme".parse().unwrap(), subject);
    let close = |subject| *suite.marks.lock().unwrap() = vec![mark(key(subject))];
    close(Subject::ContactBlocked(contact));
    let refused = suite.verify("messenger", hashed("u1", SECRET)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AssertionRevoked);
    suite.verify("messenger", hashed("u2", SECRET)).await.unwrap();
    close(Subject::WorkspaceDisabled);
    for refused in [
        suite.verify("messenger", hashed("u2", SECRET)).await.unwrap_err(),
        suite.begin("messenger", visitor()).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason(), Reason::ConnectorDisabled);
    }
}

#[tokio::test]
async fn a_revoked_session_is_upgraded_by_nobody() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let read = suite.read(&session, "messenger").unwrap();
    let subject = Subject::SessionRevoked(read.contact().id.clone(), read.session().clone());
    *suite.marks.lock().unwrap() = vec![mark(MarkKey::new("acme".parse().unwrap(), subject))];
    let refused = suite.verify("messenger", within(&session, hashed("u1", SECRET))).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AssertionRevoked);
}

#[tokio::test]
async fn one_user_is_one_contact_in_every_session() {
    let suite = Suite::start().await;
    let one = suite.verify("messenger", hashed("u1", SECRET)).await.unwrap();
    let two = suite.verify("agent", hashed("u1", SECRET)).await.unwrap();
    let other = suite.verify("agent", hashed("u2", SECRET)).await.unwrap();
    let id = |answer: &pb::VerifyIdentityResponse| answer.contact.as_ref().unwrap().contact_id.clone();
    assert_eq!(id(&one), id(&two));
    assert_ne!(id(&one), id(&other));
    assert_ne!(one.session_id, two.session_id);
    assert_eq!(suite.read(&one.assertion, "messenger").unwrap().epoch(), 1);
}

#[tokio::test]
async fn without_a_valid_hash_nobody_is_a_user() {
    let suite = Suite::start().await;
    let mut other_user = hashed("u2", SECRET);
    if let Some(pb::verify_identity_request::Proof::UserHash(proof)) = &mut other_user.proof {
        proof.subject = Some(pb::user_hash::Subject::UserId("u1".to_owned()));
    }
    assert_eq!(reason(suite.verify("agent", other_user).await), Reason::ProofInvalid);
    assert_eq!(reason(suite.verify("agent", hashed("u1", b"another workspace's secret")).await), Reason::ProofInvalid);
    assert_eq!(reason(suite.verify("agent", hashed("u1", SPARE)).await), Reason::ProofInvalid, "not accepted yet");
}

#[tokio::test]
async fn secrets_rotate_without_an_outage() {
    let suite = Suite::start().await;
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(TWO))];
    suite.verify("agent", hashed("u1", SPARE)).await.unwrap();
    suite.verify("agent", hashed("u1", SECRET)).await.unwrap();
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(ONE))];
    assert_eq!(reason(suite.verify("agent", hashed("u1", SPARE)).await), Reason::ProofInvalid, "revoked at once");
}

#[tokio::test]
async fn nothing_is_renewed_on_a_proof_whose_secret_was_withdrawn() {
    let suite = Suite::start().await;
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(TWO))];
    let session = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let leaked = suite.verify("messenger", within(&session, hashed("u1", SPARE))).await.unwrap().assertion;
    let good = suite.verify("messenger", hashed("u1", SECRET)).await.unwrap().assertion;
    let renew = async |assertion: &str| {
        let request = pb::RenewAssertionRequest { assertion: assertion.to_owned() };
        suite.renew_assertion("messenger", request).await
    };
    renew(&leaked).await.unwrap();
    // Another secret has its id now, and the good one another id.
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(ONE))];
    assert_eq!(reason(renew(&leaked).await), Reason::AssertionStale);
    renew(&good).await.unwrap();
    // A new proof in the same session heals it.
    let again = suite.verify("messenger", within(&leaked, hashed("u1", SECRET))).await.unwrap().assertion;
    renew(&again).await.unwrap();
}

#[tokio::test]
async fn a_session_never_changes_hands() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let first = suite.verify("messenger", within(&session, hashed("u1", SECRET))).await.unwrap();
    for held in [&session, &first.assertion] {
        assert_eq!(reason(suite.verify("messenger", within(held, hashed("u2", SECRET))).await), Reason::SessionBound);
        let again = suite.verify("messenger", within(held, hashed("u1", SECRET))).await.unwrap();
        assert_eq!(suite.read(&again.assertion, "messenger").unwrap().epoch(), 2, "proving again is no upgrade");
    }
}

#[tokio::test]
async fn of_many_that_bind_one_session_at_once_one_contact_wins() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let (a, b, c) = tokio::join!(
        suite.verify("messenger", within(&session, hashed("u1", SECRET))),
        suite.verify("messenger", within(&session, hashed("u2", SECRET))),
        suite.verify("messenger", within(&session, hashed("u3", SECRET))),
    );
    let (won, lost): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|answer| reason(answer) == Reason::SessionBound));
}

#[tokio::test]
async fn a_session_is_upgraded_only_by_who_may_present_it_and_where_it_belongs() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let stolen = suite.verify("agent", within(&session, hashed("u1", SECRET))).await;
    assert_eq!(reason(stolen), Reason::AudienceMismatch);
    let mut elsewhere = within(&session, hashed("u1", SECRET));
    elsewhere.workspace_id = "globex".to_owned();
    assert_eq!(reason(suite.verify("messenger", elsewhere).await), Reason::AssertionInvalid);
    let garbage = suite.verify("messenger", within("not.an.assertion", hashed("u1", SECRET))).await;
    assert_eq!(reason(garbage), Reason::AssertionInvalid);

    let shared = pb::StartSessionRequest { presenters: vec!["agent".to_owned(), "messenger".to_owned()], ..visitor() };
    let session = suite.begin("messenger", shared).await.unwrap().assertion;
    suite.verify("agent", within(&session, hashed("u1", SECRET))).await.unwrap();
}

#[tokio::test]
async fn an_old_assertion_and_an_ended_session_are_refused() {
    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap().assertion;
    suite.clock.advance(Duration::from_mins(15));
    let late = suite.verify("messenger", within(&session, hashed("u1", SECRET))).await;
    assert_eq!(reason(late), Reason::AssertionExpired);
}

#[tokio::test]
async fn no_assertion_outlives_its_session() {
    let suite = Suite::start().await;
    let hour = Duration::from_hours(1);
    let mut held = suite.begin("messenger", visitor()).await.unwrap().assertion;
    for _ in 0..95 {
        suite.clock.advance(Duration::from_mins(15) - Duration::from_secs(1));
        held = suite.verify("messenger", within(&held, hashed("u1", SECRET))).await.unwrap().assertion;
    }
    let ends = NOW.after(24 * hour);
    let read = suite.read(&held, "messenger").unwrap();
    assert_eq!((read.session_start(), read.proof_expires()), (NOW, ends));
    suite.clock.set(ends.before(Duration::from_mins(10)));
    held = suite.verify("messenger", within(&held, hashed("u1", SECRET))).await.unwrap().assertion;
    assert_eq!(suite.read(&held, "messenger").unwrap().expires(), ends);
    suite.clock.set(ends);
    let over = suite.verify("messenger", within(&held, hashed("u1", SECRET))).await;
    assert_eq!(reason(over), Reason::AssertionExpired);
}

#[tokio::test]
async fn a_caller_acts_in_its_roles_and_workspaces_only() {
    let suite = Suite::start().await;
    let elsewhere = pb::StartSessionRequest { workspace_id: "globex".to_owned(), ..Default::default() };
    assert_eq!(reason(suite.begin("agent", elsewhere).await), Reason::CallerNotAllowed);
    assert_eq!(reason(suite.begin("operator", visitor()).await), Reason::CallerNotAllowed);
    assert_eq!(reason(suite.verify("operator", hashed("u1", SECRET)).await), Reason::CallerNotAllowed);
    let nowhere = pb::StartSessionRequest { workspace_id: "nowhere".to_owned(), ..Default::default() };
    assert_eq!(reason(suite.begin("agent", nowhere).await), Reason::WorkspaceUnknown);
    let unknown = suite.grpc.start_session(Request::new(visitor())).await;
    assert_eq!(reason(plain(unknown)), Reason::CallerUnauthenticated);
}

#[tokio::test]
async fn only_who_sees_the_device_says_what_it_is() {
    let suite = Suite::start().await;
    let device = common::ClientContext { ip_address: "203.0.113.9".to_owned(), ..Default::default() };
    let stated = pb::StartSessionRequest { client_context: Some(device), ..visitor() };
    suite.begin("messenger", stated.clone()).await.unwrap();
    assert_eq!(reason(suite.begin("agent", stated).await), Reason::CallerNotAllowed);
    let silent = pb::StartSessionRequest { client_context: Some(common::ClientContext::default()), ..visitor() };
    suite.begin("agent", silent).await.unwrap();
}

#[tokio::test]
async fn a_workspace_hashes_one_identifier_and_says_which() {
    let suite = Suite::start().await;
    let mut by_id = hashed("ann@example.com", SECRET);
    by_id.workspace_id = "mailers".to_owned();
    let refusal = suite.verify("agent", by_id.clone()).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::InputInvalid);
    assert_eq!(refusal.violations()[0].field, "user_hash.user_id");
    assert!(refusal.violations()[0].description.contains("email"));
    if let Some(pb::verify_identity_request::Proof::UserHash(proof)) = &mut by_id.proof {
        proof.subject = Some(pb::user_hash::Subject::Email("ann@example.com".to_owned()));
    }
    let proven = suite.verify("agent", by_id).await.unwrap();
    let contact = proven.contact.unwrap();
    assert_eq!((contact.user_id.as_str(), contact.attributes.len()), ("", 1));
    assert_eq!(contact.attributes["email"].value_json, r#""ann@example.com""#);
}

#[tokio::test]
async fn a_workspace_without_good_secrets_proves_nobody() {
    let suite = Suite::start().await;
    let at = |workspace: &str, secret: &[u8]| pb::VerifyIdentityRequest {
        workspace_id: workspace.to_owned(),
        ..hashed("u1", secret)
    };
    assert_eq!(reason(suite.verify("agent", at("broken", b"short")).await), Reason::Internal);
    assert_eq!(reason(suite.verify("agent", at("tokens", SECRET)).await), Reason::ProofInvalid);
}

#[tokio::test]
async fn everything_wrong_with_a_request_is_told_at_once() {
    let suite = Suite::start().await;
    let request = pb::VerifyIdentityRequest {
        workspace_id: "Acme".to_owned(),
        presenters: vec!["agent".to_owned(), "agent".to_owned(), "A B".to_owned()],
        client_context: Some(common::ClientContext { ip_address: "home".to_owned(), ..Default::default() }),
        proof: Some(pb::verify_identity_request::Proof::UserHash(pb::UserHash {
            subject: Some(pb::user_hash::Subject::UserId("u\u{0}1".to_owned())),
            hash: "xyz".to_owned(),
        })),
        ..Default::default()
    };
    let refusal = suite.verify("agent", request).await.unwrap_err();
    let fields: Vec<_> = refusal.violations().iter().map(|one| one.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "workspace_id",
            "presenters[1]",
            "presenters[2]",
            "client_context.ip_address",
            "user_hash.hash",
            "user_hash.user_id"
        ]
    );
    let empty = pb::VerifyIdentityRequest { workspace_id: "acme".to_owned(), ..Default::default() };
    assert_eq!(suite.verify("agent", empty).await.unwrap_err().violations()[0].field, "proof");
}

#[tokio::test]
async fn the_published_keys_check_what_was_issued() {
    let suite = Suite::start().await;
    let answer = plain(suite.grpc.get_jwks(suite.request("operator", pb::GetJwksRequest {})).await).unwrap();
    assert_eq!(answer.max_age.unwrap().seconds, 300);
    let keys = JwkSet::parse(&answer.jwks_json).unwrap();
    let assertion = suite.begin("agent", visitor()).await.unwrap().assertion;
    let verifier = Verifier::new(Arc::new(keys), Arc::clone(&suite.identity.seal), "safeconduct".into());
    verifier.verify(&assertion, NOW, &"agent".parse().unwrap(), "safeconduct").unwrap();
    assert!(plain(suite.grpc.get_jwks(Request::new(pb::GetJwksRequest {})).await).is_err(), "not without a caller");
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_users_nor_secrets_nor_assertions_are_in_logs_and_spans() {
    // For the whole process: one for this thread alone would miss spans whose call sites another thread met first.
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .init();

    let suite = Suite::start().await;
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let good = within(&session.assertion, hashed("usr_canary", SECRET));
    let proven = suite.verify("messenger", good.clone()).await.unwrap();
    let second = within(&session.assertion, hashed("usr_canary_two", SECRET));
    assert_eq!(reason(suite.verify("messenger", second).await), Reason::SessionBound);
    assert_eq!(reason(suite.verify("messenger", hashed("usr_canary", SPARE)).await), Reason::ProofInvalid);
    let mut wrong = good.clone();
    wrong.workspace_id = "usr_canary!".to_owned();
    assert_eq!(reason(suite.verify("messenger", wrong).await), Reason::InputInvalid);

    let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let contact = suite.read(&proven.assertion, "messenger").unwrap().contact().id.clone();
    let hashed_contact = suite.identity.trace.hash(&"acme".parse().unwrap(), contact.as_str());
    for expected in ["verify_identity", "SESSION_BOUND", "acme", "user", hashed_contact.as_str()] {
        assert!(told.contains(expected), "{expected} is not in: {told}");
    }
    let hash = user_hash::compute(&Secret::new(SECRET.to_vec()), "usr_canary");
    let secret = std::str::from_utf8(SECRET).unwrap();
    for kept in ["usr_canary", hash.as_str(), secret, contact.as_str(), &session.assertion, &proven.assertion] {
        assert!(!told.contains(kept), "{kept} is in: {told}");
    }
}
