//! Whether admission would take reads and writes, asked over the very way that they take.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admission, GrpcAdmission, Lookup, Target};
use safeconduct_proto::admission::v1::admission_service_server::AdmissionServiceServer;
use safeconduct_service::channel::{SisterChannel, with_deadline};
use safeconduct_types::{Clock, ContactId, Deadline, ExecutionId, OperationId, Random, WorkspaceId};
use tonic::server::NamedService;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The longest that one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the connector can do with admission as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Keys are looked up and rates are taken.
    pub(super) reads: bool,
    /// Executions are recorded, too.
    pub(super) writes: bool,
}

/// Asks admission what it would take.
#[derive(Debug)]
pub(super) struct StoreProbe {
    health: HealthClient<SisterChannel>,
    admission: GrpcAdmission,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl StoreProbe {
    pub(super) fn new(admission: SisterChannel, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { health: HealthClient::new(admission.clone()), admission: GrpcAdmission::new(admission), clock, random }
    }

    /// Whether admission answers us, for health is open to anybody and its other calls are not; and whether it says of
    /// itself that it takes writes, which it finds out by writing.
    pub(super) async fn standing(&mut self) -> Standing {
        let deadline = Deadline::within(self.clock.instant(), ANSWER_WITHIN);
        let asked = HealthCheckRequest { service: AdmissionServiceServer::<()>::NAME.to_owned() };
        let answer = self.health.check(with_deadline(asked, Some(deadline))).await;
        let serving = answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving);
        let reads = match self.nobody() {
            Some(asked) => self.admission.lookup(asked, deadline).await.is_ok(),
            None => false,
        };
        Standing { reads, writes: reads && serving }
    }

    /// An execution that nobody has, to ask for.
    fn nobody(&self) -> Option<Lookup> {
        let workspace: WorkspaceId = "health-probe".parse().ok()?;
        let contact = ContactId::from_digest(&self.random.bytes());
        let execution = ExecutionId::generate(&workspace, &contact, &*self.random);
        let operation = OperationId::generate(&*self.random);
        Some(Lookup::only(workspace, operation, Target::Execution { execution, contact: None }))
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_admission as admission;
    use safeconduct_proto::FILE_DESCRIPTOR_SET;
    use safeconduct_service::caller::Authenticator;
    use safeconduct_service::config::{Config, LoadOptions};
    use safeconduct_service::layers::{Authenticate, CallerExtension, Routes, layered};
    use safeconduct_service::process::{CallLimits, Process};
    use safeconduct_store::{EmbeddedStore, StoreKeyer};
    use safeconduct_types::{Refusal, Secret, SystemClock, SystemRandom};

    use super::*;

    const ADMISSION: &str = AdmissionServiceServer::<()>::NAME;

    struct Fixture {
        process: Process,
        routes: Routes,
        authenticator: Arc<dyn Authenticate>,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        async fn new() -> Self {
            let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock));
            let store = EmbeddedStore::open(directory.path().join("a.redb"), clock.clone()).await.unwrap();
            let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
            let service = admission::Admission::embedded(store, keyer, clock.clone());
            let process = Process::new(clock.clone(), &[FILE_DESCRIPTOR_SET], CallLimits::default()).unwrap();
            let config = Config::load(&LoadOptions::default()).unwrap();
            Self {
                routes: process.health.serve(Routes::new(service.server())),
                process,
                authenticator: Arc::new(Authenticator::new(&config, clock).unwrap()),
                _directory: directory,
            }
        }

        async fn takes_writes(&self) -> bool {
            let stack = layered(&self.process, Arc::clone(&self.authenticator), false, self.routes.clone());
            let channel = SisterChannel::in_process("connector", stack, Arc::new(SystemClock));
            StoreProbe::new(channel, Arc::new(SystemClock), Arc::new(SystemRandom)).standing().await.writes
        }
    }

    #[tokio::test]
    async fn a_store_that_answers_and_takes_no_writes_takes_writes_out_of_service() {
        let fixture = Fixture::new().await;
        assert!(!fixture.takes_writes().await, "nothing was said yet");
        fixture.process.health.set(ADMISSION, true).await;
        assert!(fixture.takes_writes().await);
        fixture.process.health.set(ADMISSION, false).await;
        assert!(!fixture.takes_writes().await, "reading from it works");
    }

    /// Knows nobody.
    struct Stranger;

    impl Authenticate for Stranger {
        fn authenticate(&self, _: Option<&[u8]>, _: Option<&str>) -> Result<CallerExtension, Refusal> {
            Ok(CallerExtension::new("stranger", ()))
        }

        fn in_process(&self, _: &'static str) -> CallerExtension {
            CallerExtension::new("stranger", ())
        }
    }

    #[tokio::test]
    async fn an_admission_that_does_not_let_us_in_takes_no_writes() {
        let mut fixture = Fixture::new().await;
        fixture.process.health.set(ADMISSION, true).await;
        fixture.authenticator = Arc::new(Stranger);
        assert!(!fixture.takes_writes().await);
    }
}
