//! The connector service: executes connectors for contacts.
//!
//! Owns the order in which a request is decided, made and answered (`execute.rs`), and the clients of the
//! workspaces' upstreams. Every rule it applies lives in `connector-domain`; the execution's one durable record lives
//! in admission. It keeps no state of its own that a crash could lose.
//!
//! Threat model. The agent chooses every input and may be under the influence of whoever talks to it; the upstream's
//! answers are written by strangers. So: the contact is who a verified assertion says, never who the inputs say;
//! nothing is sent before everything that can be refused has been; what comes back is cut down to the declared fields
//! before it is stored, logged or returned. A status with `ErrorInfo` is only answered while nothing was sent.

mod admin;
mod admit;
mod answer;
mod attempt;
mod contacts;
mod execute;
mod get;
mod grpc;
mod keys;
mod lease;
mod limits;
mod local;
mod marks;
mod recall;
mod render;
mod run;
mod vault;
mod wire;
mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{Admission, Marking, Mirror};
use safeconduct_service::tasks::Tasks;
use safeconduct_telemetry::ContactHasher;
use safeconduct_types::{Clock, Random};

/// Full names of the services that [`Service::servers`] makes.
pub const SERVICE_NAMES: [&str; 3] = [
    "safeconduct.connector.v1.ConnectorService",
    "safeconduct.connector.v1.CredentialService",
    "safeconduct.connector.v1.ConnectorAdminService",
];

pub use contacts::Contacts;
pub use grpc::{AdminGrpc, ConnectorGrpc, CredentialGrpc};
pub use limits::counters;
pub use vault::Vault;
pub use workspaces::{SetUpError, Workspaces};

/// Settings of the service.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an executor is taken to be alive without a word from it, 1 s to 10 min. Renewed while it works.
    pub lease: Duration,
}

/// The service: what its calls share.
#[derive(Debug)]
pub struct Service {
    workspaces: Workspaces,
    contacts: Contacts,
    admission: Arc<dyn Admission>,
    marking: Arc<dyn Marking>,
    mirror: Mirror,
    vault: Vault,
    settings: Settings,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    trace_names: ContactHasher,
    /// What holds reads back while the store is gone.
    local_rates: local::LocalRates,
    /// How many lost admissions are being looked for.
    give_backs: Arc<tokio::sync::Semaphore>,
}

/// What a service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The definitions in force and their upstreams.
    pub workspaces: Workspaces,
    /// Who contacts are.
    pub contacts: Contacts,
    /// Where executions are recorded.
    pub admission: Arc<dyn Admission>,
    /// Where marks are set.
    pub marking: Arc<dyn Marking>,
    /// Which marks are in force.
    pub mirror: Mirror,
    /// What seals intents and outcomes.
    pub vault: Vault,
    /// Settings.
    pub settings: Settings,
    /// Where work goes that must outlive its caller.
    pub tasks: Tasks,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Under which name a contact appears in a trace.
    pub trace_names: ContactHasher,
}

impl Service {
    /// A service made of these.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            workspaces,
            contacts,
            admission,
            marking,
            mirror,
            vault,
            settings,
            tasks,
            clock,
            random,
            trace_names,
        } = parts;
        let give_backs = Arc::new(tokio::sync::Semaphore::new(admit::GIVE_BACKS));
        Arc::new(Self {
            workspaces,
            contacts,
            admission,
            marking,
            mirror,
            vault,
            settings,
            tasks,
            clock,
            random,
            trace_names,
            local_rates: local::LocalRates::default(),
            give_backs,
        })
    }
}
