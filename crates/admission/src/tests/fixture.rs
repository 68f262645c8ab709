//! One suite of layers around the service, and requests to it.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{
    Admit, AdmitAnswer, Admitted, CalendarUnit, Charge, Extend, GrpcAdmission, Key, KeyKind, Limit, LimitScope, Lookup,
    Settle, Settlement, Shape, Target, Window,
};
use safeconduct_proto::FILE_DESCRIPTOR_SET;
use safeconduct_service::caller::Authenticator;
use safeconduct_service::channel::SisterChannel;
use safeconduct_service::config::{Config, LoadOptions};
use safeconduct_service::layers::{Layered, Routes, layered};
use safeconduct_service::process::{CallLimits, Process};
use safeconduct_store::{EmbeddedStore, Records, StoreKeyer};
use safeconduct_types::{
    Clock, ContactId, Deadline, ExecutionId, ManualClock, OperationId, Random, Secret, SeededRandom, SystemRandom,
    Timestamp, WorkspaceId,
};
use tempfile::TempDir;

use super::faulty::Faulty;
use crate::Admission;
use crate::engine::{EmbeddedEngine, Engine};

/// Of role agent; its hash stands in the configuration.
pub(crate) const AGENT_TOKEN: &str = "sct_agent";
/// Of role gateway.
pub(crate) const GATEWAY_TOKEN: &str = "sct_gateway";

const CALLERS: &str = r#"
[[callers]]
name = "support-agent"
roles = ["agent"]
workspaces = ["acme"]
token_sha256 = ["785975014826a3a7c05c44dcb2d33ec7e305797789f4282ac3bb3f51f4b4f0ad"]

[[callers]]
name = "edge"
roles = ["gateway"]
domains = ["shop"]
token_sha256 = ["0bbd17e5688e9dd8f5429f152eb6108219d409bfe7bb6b8a2e703982bb8199f5"]
"#;

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) layered: Layered,
    pub(crate) client: GrpcAdmission,
    pub(crate) admission: Admission,
    pub(crate) random: SystemRandom,
    records: Arc<dyn Records>,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::wrapped(|engine| engine).await
    }

    /// With something between the service and its engine.
    pub(crate) async fn wrapped(wrap: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let store = EmbeddedStore::open(directory.path().join("admission.redb"), clock.clone()).await.unwrap();
        let engine = wrap(Arc::new(EmbeddedEngine::new(store.clone())));
        Self { _directory: Some(directory), ..Self::over(engine, Arc::new(store), clock) }
    }

    /// With an engine that fails when told to.
    pub(crate) async fn faulty() -> (Self, Arc<Faulty>) {
        let mut kept = None;
        let fixture = Self::wrapped(|engine| {
            let faulty = Faulty::new(engine);
            kept = Some(Arc::clone(&faulty));
            faulty
        });
        let fixture = fixture.await;
        (fixture, kept.unwrap())
    }

    pub(crate) fn over(engine: Arc<dyn Engine>, records: Arc<dyn Records>, clock: Arc<ManualClock>) -> Self {
        let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
        let admission = Admission::over(engine, Arc::clone(&records), keyer, clock.clone());
        let layered = layers(&clock, Routes::new(admission.server()));
        let client = GrpcAdmission::new(SisterChannel::in_process("connector", layered.clone(), clock.clone()));
        Self { clock, layered, client, admission, random: SystemRandom, records, _directory: None }
    }

    /// The same store, served by another process.
    pub(crate) fn another_process(&self) -> GrpcAdmission {
        let (engine, records) = (Arc::clone(&self.admission.ledger.engine), Arc::clone(&self.records));
        Self::over(engine, records, Arc::clone(&self.clock)).client
    }

    /// Another process with an engine of its own on the same store.
    pub(super) fn beside(&self, engine: Arc<dyn Engine>) -> Self {
        Self::over(engine, Arc::clone(&self.records), Arc::clone(&self.clock))
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::within(self.clock.instant(), Duration::from_secs(50))
    }

    pub(crate) fn operation(&self) -> OperationId {
        OperationId::generate(&self.random)
    }

    /// A request of the one contact, with a lease of 10 s.
    pub(crate) fn request(&self, keys: &[Key]) -> Admit {
        Admit {
            workspace: workspace(),
            contact: contact(),
            execution: ExecutionId::generate(&workspace(), &contact(), &self.random),
            operation: self.operation(),
            keys: keys.to_vec(),
            fingerprint: [1; 32],
            retain: None,
            lease: Duration::from_secs(10),
            intent: b"intent".to_vec(),
            resume: None,
            charges: Vec::new(),
            marks: Vec::new(),
            wait: Duration::ZERO,
            consume: Vec::new(),
        }
    }

    /// The word of whoever was admitted on how it ended.
    pub(crate) fn word(&self, of: &Admitted, settlement: Settlement) -> Settle {
        Settle {
            workspace: workspace(),
            contact: contact(),
            execution: of.execution.clone(),
            operation: self.operation(),
            token: of.token,
            settlement,
        }
    }

    pub(crate) fn completed(&self, of: &Admitted) -> Settle {
        self.word(of, Settlement::Completed { outcome: b"done".to_vec(), retain: None, actual: Vec::new() })
    }

    /// Nothing was sent.
    #[allow(clippy::unused_self, reason = "reads as the other ends do")]
    pub(crate) fn nothing(&self) -> Settlement {
        Settlement::Released { bytes_sent: false, outcome: None, keep_for_caller_key: false, doubt_resolved: false }
    }

    /// A request for as much time again.
    pub(crate) fn more(&self, of: &Admitted) -> Extend {
        Extend {
            workspace: workspace(),
            contact: contact(),
            execution: of.execution.clone(),
            operation: self.operation(),
            token: of.token,
            lease: Some(Duration::from_secs(10)),
            checkpoint: None,
            charges: Vec::new(),
            marks: Vec::new(),
        }
    }

    pub(crate) fn find(&self, keys: &[Key]) -> Lookup {
        let target = Target::Keys { contact: contact(), keys: keys.to_vec(), fingerprint: None };
        Lookup::only(workspace(), self.operation(), target)
    }
}

/// The layers of the suite around these services.
pub(crate) fn layers(clock: &Arc<ManualClock>, routes: Routes) -> Layered {
    let process = Process::new(clock.clone(), &[FILE_DESCRIPTOR_SET], CallLimits::default()).unwrap();
    let settings = tempfile::tempdir().unwrap();
    let file = settings.path().join("safeconduct.toml");
    std::fs::write(&file, CALLERS).unwrap();
    let config = Config::load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
    let authenticator = Authenticator::new(&config, clock.clone()).unwrap();
    layered(&process, Arc::new(authenticator), false, routes)
}

/// One of a day's maximum, of each contact apart.
pub(crate) fn own_count(name: &str, max: i64) -> Charge {
    charge(name, true, max)
}

/// One of a day's maximum over all contacts.
pub(crate) fn count(name: &str, max: i64) -> Charge {
    charge(name, false, max)
}

fn charge(name: &str, per_contact: bool, max: i64) -> Charge {
    let window = Window::Calendar(CalendarUnit::Day, "Europe/Dublin".to_owned());
    let shape = Shape::Count { window, max };
    limited(name, per_contact, shape)
}

/// One of a limit of this shape.
pub(crate) fn limited(name: &str, per_contact: bool, shape: Shape) -> Charge {
    let scope = LimitScope::Workspace;
    let limit = Limit { name: name.to_owned(), scope, per_contact, dimensions: None, shape };
    Charge { limit, amount: 1, unit: String::new() }
}

pub(crate) fn workspace() -> WorkspaceId {
    "acme".parse().unwrap()
}

pub(crate) fn contact() -> ContactId {
    ContactId::from_digest(&[1; 16])
}

fn digest(number: u64) -> [u8; 32] {
    let random: &dyn Random = &SeededRandom::new(number);
    random.bytes()
}

pub(crate) fn caller(number: u64) -> Key {
    Key { kind: KeyKind::Caller, digest: digest(number) }
}

pub(crate) fn same(number: u64) -> Key {
    Key { kind: KeyKind::Same, digest: digest(number) }
}

pub(crate) fn admitted(answer: AdmitAnswer) -> Admitted {
    let AdmitAnswer::Admitted(it) = answer else { panic!("should have been admitted: {answer:?}") };
    it
}
