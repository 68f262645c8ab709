//! One suite of layers around the service, and requests to it.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admit, AdmitAnswer, Admitted, GrpcAdmission, Key, KeyKind, Lookup, Target};
use safeconduct_proto::FILE_DESCRIPTOR_SET;
use safeconduct_service::caller::Authenticator;
use safeconduct_service::channel::SisterChannel;
use safeconduct_service::config::{Config, LoadOptions};
use safeconduct_service::layers::{Layered, layered};
use safeconduct_service::process::{CallLimits, Process};
use safeconduct_store::{EmbeddedRecords, Records, StoreKeyer};
use safeconduct_types::{
    Clock, ContactId, Deadline, ExecutionId, ManualClock, OperationId, Random, Secret, SeededRandom, SystemRandom,
    Timestamp, WorkspaceId,
};
use tempfile::TempDir;
use tonic::service::Routes;

use crate::Admission;

/// Of role agent; its hash stands in the configuration.
pub(super) const AGENT_TOKEN: &str = "sct_agent";

const CALLERS: &str = r#"
[[callers]]
name = "support-agent"
roles = ["agent"]
workspaces = ["acme"]
token_sha256 = ["785975014826a3a7c05c44dcb2d33ec7e305797789f4282ac3bb3f51f4b4f0ad"]
"#;

#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) clock: Arc<ManualClock>,
    pub(super) layered: Layered,
    pub(super) client: GrpcAdmission,
    pub(super) admission: Admission,
    pub(super) random: SystemRandom,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let records = EmbeddedRecords::open(directory.path().join("admission.redb"), clock.clone()).await.unwrap();
        Self { _directory: Some(directory), ..Self::over(Arc::new(records), clock) }
    }

    pub(super) fn over(records: Arc<dyn Records>, clock: Arc<ManualClock>) -> Self {
        let admission = Admission::new(records, StoreKeyer::new(&Secret::new(vec![7; 32])));
        let process = Process::new(clock.clone(), &[FILE_DESCRIPTOR_SET], CallLimits::default()).unwrap();
        let settings = tempfile::tempdir().unwrap();
        let file = settings.path().join("safeconduct.toml");
        std::fs::write(&file, CALLERS).unwrap();
        let config = Config::load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
        let authenticator = Authenticator::new(&config, clock.clone()).unwrap();
        let layered = layered(&process, Arc::new(authenticator), false, Routes::new(admission.server()));
        let client = GrpcAdmission::new(SisterChannel::in_process("connector", layered.clone(), clock.clone()));
        Self { clock, layered, client, admission, random: SystemRandom, _directory: None }
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::within(self.clock.instant(), Duration::from_secs(50))
    }

    pub(super) fn operation(&self) -> OperationId {
        OperationId::generate(&self.random)
    }

    /// A request of the one contact, with a lease of 10 s.
    pub(super) fn request(&self, keys: &[Key]) -> Admit {
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
        }
    }

    pub(super) fn find(&self, keys: &[Key]) -> Lookup {
        let target = Target::Keys { contact: contact(), keys: keys.to_vec(), fingerprint: None };
        Lookup { workspace: workspace(), operation: self.operation(), target }
    }
}

pub(super) fn workspace() -> WorkspaceId {
    "acme".parse().unwrap()
}

pub(super) fn contact() -> ContactId {
    ContactId::from_digest(&[1; 16])
}

fn digest(number: u64) -> [u8; 32] {
    let random: &dyn Random = &SeededRandom::new(number);
    random.bytes()
}

pub(super) fn caller(number: u64) -> Key {
    Key { kind: KeyKind::Caller, digest: digest(number) }
}

pub(super) fn same(number: u64) -> Key {
    Key { kind: KeyKind::Same, digest: digest(number) }
}

pub(super) fn admitted(answer: AdmitAnswer) -> Admitted {
    let AdmitAnswer::Admitted(it) = answer else { panic!("should have been admitted: {answer:?}") };
    it
}
