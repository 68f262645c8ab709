//! The service in process: its RPCs, a store, fakes at its own ports, a clock and chance that the test holds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use safeconduct_admission_client::{
    Admit, AdmitAnswer, Charge, Denied, Extend, ExtendAnswer, LimitKind, Lookup, LookupAnswer, Remaining, Settle,
    Settled, Shape, Take, TakeAnswer, Taken, Usage, Window,
};
use safeconduct_identity_domain::assertion::{Claims, SealError, SigningKey, Validity, sign};
use safeconduct_identity_domain::contact::{Attributes, Contact, ContactKind, Method, Proven as Proofs};
use safeconduct_otp_domain::policy::OtpPolicy;
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::otp::v1 as pb;
use safeconduct_proto::otp::v1::otp_service_server::OtpService as _;
use safeconduct_service::caller::{Authenticator, Caller};
use safeconduct_service::config::{Config, LoadOptions};
use safeconduct_service::keyring::{KeyId, Look};
use safeconduct_service::status::refusal_in;
use safeconduct_store::EmbeddedStore;
use safeconduct_types::{
    ContactId, Deadline, ManualClock, Mark, OperationId, Reason, Secret, SeededRandom, SessionId, SystemClock,
    Timestamp, WorkspaceId,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::super::*;
use crate::outbox::{Challenges as _, Delivery, Due};

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(super) const ANN: &str = "ann@example.com";

/// Each with the SHA-256 of `token-of-NAME`.
const CALLERS: &str = r#"
[[callers]]
name = "agent"
roles = ["agent"]
workspaces = ["*"]
token_sha256 = ["08324bbf996a273a2708f3c62f50545a3fb61bc47eedb43e8ca8cc074289b0e4"]
[[callers]]
name = "messenger"
roles = ["messenger"]
workspaces = ["*"]
token_sha256 = ["7bc44f4accc4ecedbaeef927e224a4515dbc8b34400f0b2f8fcbd383d94692a6"]
"#;

/// Hides nothing.
#[derive(Debug)]
struct Glass;

impl Seal for Glass {
    fn seal(&self, _: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(plain.to_vec())
    }

    fn open(&self, _: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        Ok(Zeroizing::new(sealed.to_vec()))
    }
}

#[derive(Debug)]
struct Directory(Arc<OtpPolicy>);

impl WorkspaceDirectory for Directory {
    fn otp_policy(&self, workspace: &WorkspaceId) -> Option<Arc<OtpPolicy>> {
        (workspace.as_str() == "acme").then(|| Arc::clone(&self.0))
    }
}

/// Counts caps as admission does, within windows that never end unless told.
#[derive(Debug, Default)]
pub(super) struct Counting {
    counts: Mutex<HashMap<(String, [u8; 32]), i64>>,
    done: Mutex<HashMap<OperationId, bool>>,
    pub(super) away: Mutex<bool>,
    /// How many charges each call brought.
    pub(super) calls: Mutex<Vec<usize>>,
}

impl Counting {
    /// What was taken under this name, over all counters of it.
    pub(super) fn taken(&self, name: &str) -> i64 {
        self.counts.lock().unwrap().iter().filter(|((of, _), _)| of == name).map(|(_, count)| count).sum()
    }

    pub(super) fn forget(&self) {
        self.counts.lock().unwrap().clear();
    }

    fn key(charge: &Charge) -> (String, [u8; 32]) {
        (charge.limit.name.clone(), charge.limit.dimensions.unwrap())
    }
}

fn gone<T>() -> Result<T, Refusal> {
    Err(Refusal::new(Reason::StoreUnavailable, "admission is away"))
}

#[async_trait]
impl Admission for Counting {
    async fn take(&self, asked: Take, _: Deadline) -> Result<TakeAnswer, Refusal> {
        if *self.away.lock().unwrap() {
            return gone();
        }
        self.calls.lock().unwrap().push(asked.charges.len());
        let mut done = self.done.lock().unwrap();
        let mut counts = self.counts.lock().unwrap();
        if done.get(&asked.operation) == Some(&true) {
            return Ok(TakeAnswer::Taken(Taken::default()));
        }
        for charge in &asked.charges {
            let Shape::Count { window: Window::Rolling(_), max } = charge.limit.shape else { panic!("{charge:?}") };
            let left = max - counts.get(&Self::key(charge)).copied().unwrap_or_default();
            if left < charge.amount {
                let (name, kind) = (charge.limit.name.clone(), LimitKind::Count);
                let resets = Some(NOW.after(Duration::from_hours(1)));
                let limit = Remaining { name, kind, unit: String::new(), left, max, resets };
                let retry_after = Some(Duration::from_mins(5));
                return Ok(TakeAnswer::Denied(Denied { limit, retry_after, remaining: Vec::new() }));
            }
        }
        for charge in &asked.charges {
            *counts.entry(Self::key(charge)).or_default() += charge.amount;
        }
        done.insert(asked.operation, true);
        Ok(TakeAnswer::Taken(Taken::default()))
    }

    async fn lookup(&self, _: Lookup, _: Deadline) -> Result<LookupAnswer, Refusal> {
        gone()
    }

    async fn admit(&self, _: Admit, _: Deadline) -> Result<AdmitAnswer, Refusal> {
        gone()
    }

    async fn extend(&self, _: Extend, _: Deadline) -> Result<ExtendAnswer, Refusal> {
        gone()
    }

    async fn settle(&self, _: Settle, _: Deadline) -> Result<Settled, Refusal> {
        gone()
    }

    async fn usage(&self, _: Usage, _: Deadline) -> Result<Taken, Refusal> {
        gone()
    }
}

/// Takes note of what was proven.
#[derive(Debug, Default)]
pub(super) struct Issuing {
    pub(super) proven: Mutex<Vec<Proven>>,
    pub(super) away: Mutex<bool>,
}

#[async_trait]
impl IdentityPort for Issuing {
    async fn issue_assertion(&self, proven: Proven, _: Deadline) -> Result<Issued, Refusal> {
        if *self.away.lock().unwrap() {
            return Err(Refusal::new(Reason::StoreUnavailable, "identity is away"));
        }
        let expires = Some(proven.at.after(proven.lifetime));
        let assertion = format!("assertion of {}", proven.verification);
        self.proven.lock().unwrap().push(proven);
        let contact = "cnt_of_lead".to_owned();
        Ok(Issued { assertion, expires, proof_expires: expires, contact, kind: common::ContactKind::Lead })
    }
}

/// Keeps messages.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) messages: Mutex<Vec<Message>>,
    pub(super) away: Mutex<bool>,
}

#[async_trait]
impl Outbox for Kept {
    async fn enqueue(&self, message: Message) -> Result<(), Refusal> {
        if *self.away.lock().unwrap() {
            return gone();
        }
        self.messages.lock().unwrap().push(message);
        Ok(())
    }

    async fn enqueue_again(&self, message: Message) -> Result<(), Refusal> {
        self.enqueue(message).await
    }
}

pub(super) struct World {
    pub(super) grpc: OtpGrpc,
    pub(super) otp: Arc<Otp>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) admission: Arc<Counting>,
    pub(super) identity: Arc<Issuing>,
    pub(super) outbox: Arc<Kept>,
    pub(super) marks: Mutex<Vec<Mark>>,
    mirror: Mirror,
    authenticator: Authenticator,
    keyring: LiveKeyring,
    random: Arc<dyn Random>,
    _dir: TempDir,
}

fn signing() -> SigningKey {
    SigningKey::from_seed("k1".to_owned().try_into().unwrap(), &Secret::new(vec![1; 32])).unwrap()
}

pub(super) fn policy(extra: &Value) -> Value {
    let mut spec = json!({
        "brand": "Acme",
        "email": {"from": "no-reply@acme.example", "via": ["dev"]},
        "sms": {"via": ["dev"], "countries": ["IE"]},
        "purposes": {"look-up-order": {"en": "look up your order"}, "refund": {"en": "get a refund"}},
        "delivery": {"dev": {"console": true}},
    });
    for (name, value) in extra.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

pub(super) fn session(number: u32) -> SessionId {
    format!("ses_{number:032x}").parse().unwrap()
}

pub(super) fn contact(number: u32) -> ContactId {
    safeconduct_identity_domain::contact::visitor(&"acme".parse().unwrap(), &session(number))
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(&json!({})).await
    }

    pub(super) async fn with(extra: &Value) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let store = EmbeddedStore::open(dir.path().join("store.redb"), of_store).await.unwrap();
        Self::over(Arc::new(store), clock, dir, extra)
    }

    pub(super) fn over(records: Arc<dyn Records>, clock: Arc<ManualClock>, dir: TempDir, extra: &Value) -> Self {
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let purposes = [Purpose::CodeDerivation, Purpose::StoreHashing, Purpose::RecordSealing, Purpose::TraceHashing];
        let keyring = Keyring::generate(&dir.path().join("otp.keys"), &purposes, &*random);
        keyring.save(&*random).unwrap();
        let keyring = LiveKeyring::of(keyring);
        let keys = Keys::follow(&keyring, Arc::new(Glass), Arc::clone(&random)).unwrap();
        let fetch = || async { Ok(SigningKey::public([&signing()]).unwrap().render()) };
        let parse = |text: &str| JwkSet::parse(text).map_err(|error| error.to_string());
        let (admission, identity, outbox) =
            (Arc::<Counting>::default(), Arc::<Issuing>::default(), Arc::<Kept>::default());
        let mirror = Mirror::new(Arc::clone(&shared));
        let policy: OtpPolicy = serde_json::from_value(policy(extra)).unwrap();
        let ports = Ports {
            records,
            workspaces: Arc::new(Directory(Arc::new(policy))),
            admission: Arc::<Counting>::clone(&admission),
            mirror: mirror.clone(),
            jwks: JwksCache::new(fetch, parse, Arc::clone(&shared)),
            identity: Arc::<Issuing>::clone(&identity),
            outbox: Arc::<Kept>::clone(&outbox),
            clock: Arc::clone(&shared),
            random: Arc::clone(&random),
        };
        let otp = Otp::new(&Settings::default(), keys, ports);
        let file = dir.path().join("safeconduct.toml");
        std::fs::write(&file, CALLERS).unwrap();
        let config = Config::load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
        let authenticator = Authenticator::new(&config, shared).unwrap();
        let (grpc, marks) = (OtpGrpc::over(Arc::clone(&otp)), Mutex::default());
        Self { grpc, otp, clock, admission, identity, outbox, marks, mirror, authenticator, keyring, random, _dir: dir }
    }

    /// Changes the key file and lets it be looked at.
    pub(super) fn edit_keys(&self, edit: impl FnOnce(&mut Keyring, &dyn Random)) {
        let mut keyring = Keyring::load(self.keyring.current().path()).unwrap();
        edit(&mut keyring, &*self.random);
        keyring.save(&*self.random).unwrap();
        assert_eq!(self.keyring.look(SystemClock.now()), Look::Taken);
    }

    /// The id of the key that new codes are derived with.
    pub(super) fn code_key(&self) -> KeyId {
        self.keyring.current().primary(Purpose::CodeDerivation).unwrap().id().clone()
    }

    /// The id of the key that seals records.
    pub(super) fn sealing_key(&self) -> KeyId {
        self.keyring.current().primary(Purpose::RecordSealing).unwrap().id().clone()
    }

    /// An assertion of a visitor in the session of this number.
    pub(super) fn assertion(&self, number: u32) -> String {
        self.assertion_in("acme", number)
    }

    pub(super) fn assertion_in(&self, workspace: &str, number: u32) -> String {
        let now = self.clock.now();
        let validity = Validity::new(now, Duration::from_mins(15), now.after(Duration::from_hours(12)));
        let claims = Claims {
            issuer: "safeconduct".to_owned(),
            audience: "safeconduct".to_owned(),
            presenters: vec!["messenger".parse().unwrap(), "agent".parse().unwrap()],
            workspace: workspace.parse().unwrap(),
            session: session(number),
            session_start: now,
            epoch: 1,
            contact: visitor(number),
            method: Method::None,
            proven_by: None,
            validity,
        };
        sign(&claims, &signing(), &Glass).unwrap()
    }

    pub(super) fn request<T>(&self, caller: &str, message: T) -> Request<T> {
        self.mirror.tell(self.marks.lock().unwrap().clone());
        let header = format!("Bearer token-of-{caller}");
        let caller: Arc<Caller> = self.authenticator.authenticate(None, Some(&header), NOW).unwrap();
        let mut request = Request::new(message);
        request.extensions_mut().insert(caller);
        request
    }

    pub(super) fn asked(&self, number: u32, network: &str, address: &str) -> pb::StartVerificationRequest {
        let channel = if address.starts_with('+') { pb::Channel::Sms } else { pb::Channel::Email };
        pb::StartVerificationRequest {
            assertion: self.assertion(number),
            channel: channel.into(),
            address: address.to_owned(),
            locale: String::new(),
            purpose: "look-up-order".to_owned(),
            client_context: device(network),
        }
    }

    pub(super) async fn begin(
        &self,
        number: u32,
        network: &str,
        address: &str,
    ) -> Result<pb::StartVerificationResponse, Refusal> {
        self.send(self.asked(number, network, address)).await
    }

    pub(super) async fn send(
        &self,
        message: pb::StartVerificationRequest,
    ) -> Result<pb::StartVerificationResponse, Refusal> {
        plain(self.grpc.start_verification(self.request("messenger", message)).await)
    }

    pub(super) async fn resend(&self, number: u32, id: &str) -> Result<pb::ResendCodeResponse, Refusal> {
        let message = pb::ResendCodeRequest {
            assertion: self.assertion(number),
            verification_id: id.to_owned(),
            client_context: None,
        };
        plain(self.grpc.resend_code(self.request("messenger", message)).await)
    }

    pub(super) async fn check(
        &self,
        number: u32,
        network: &str,
        id: &str,
        code: &str,
    ) -> Result<pb::CheckVerificationResponse, Refusal> {
        let message = pb::CheckVerificationRequest {
            assertion: self.assertion(number),
            verification_id: id.to_owned(),
            code: code.to_owned(),
            client_context: device(network),
        };
        plain(self.grpc.check_verification(self.request("messenger", message)).await)
    }

    pub(super) async fn cancel(&self, number: u32, id: &str) -> Result<pb::Verification, Refusal> {
        let message =
            pb::CancelVerificationRequest { assertion: self.assertion(number), verification_id: id.to_owned() };
        let answer = plain(self.grpc.cancel_verification(self.request("messenger", message)).await)?;
        Ok(answer.verification.unwrap())
    }

    pub(super) async fn get(&self, number: u32, id: &str) -> Result<pb::Verification, Refusal> {
        let message = pb::GetVerificationRequest { assertion: self.assertion(number), verification_id: id.to_owned() };
        let answer = plain(self.grpc.get_verification(self.request("messenger", message)).await)?;
        Ok(answer.verification.unwrap())
    }

    /// The messages about this verification.
    pub(super) fn messages(&self, id: &str) -> Vec<Message> {
        let all = self.outbox.messages.lock().unwrap();
        all.iter().filter(|message| message.verification_id == id).cloned().collect()
    }

    /// The code of a verification whose message was not sent yet.
    pub(super) async fn code(&self, id: &str) -> String {
        let message = self.messages(id).pop().expect("there is a message");
        let content = self.otp.verifications().content(&message).await.unwrap();
        let Due::Send(content) = content else { panic!("the code is to be sent: {content:?}") };
        content.code.expose().to_owned()
    }

    pub(super) async fn report(&self, id: &str, delivery: Delivery) {
        let message = self.messages(id).pop().expect("there is a message");
        self.otp.verifications().report(&message, delivery).await.unwrap();
    }
}

fn visitor(number: u32) -> Contact {
    let (id, kind) = (contact(number), ContactKind::Visitor);
    Contact { id, kind, attributes: Attributes::new(), proven: Proofs::default() }
}

pub(super) fn device(network: &str) -> Option<common::ClientContext> {
    (!network.is_empty()).then(|| common::ClientContext { ip_address: network.to_owned(), user_agent: String::new() })
}

pub(super) fn plain<T>(answer: Result<Response<T>, Status>) -> Result<T, Refusal> {
    answer.map(Response::into_inner).map_err(|status| refusal_in(&status).expect("every refusal carries ErrorInfo"))
}

#[track_caller]
pub(super) fn reason<T: fmt::Debug>(answer: Result<T, Refusal>) -> Reason {
    answer.unwrap_err().reason()
}

/// A code of the same form that is not this one.
pub(super) fn other_than(code: &str) -> String {
    let first = if code.starts_with('0') || code.starts_with('B') { '1' } else { '0' };
    format!("{first}{}", &code[1..])
}
