//! Which service gets what.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission::Admission;
use safeconduct_admission_client::{Admission as Port, GrpcAdmission, Mirror};
use safeconduct_connector as connector;
use safeconduct_identity::{ClaimSealer, Identity, JWKS_PATH, Keys, Ports, Settings};
use safeconduct_identity_domain::assertion::JwkSet;
use safeconduct_proto::admission::v1::admission_service_server::AdmissionServiceServer;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use safeconduct_proto::identity::v1::GetJwksRequest;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_proto::identity::v1::identity_service_server::IdentityServiceServer;
use safeconduct_proto::otp::v1::otp_service_server::OtpServiceServer;
use safeconduct_service::caller::Authenticator;
use safeconduct_service::channel::{SisterChannel, with_deadline};
use safeconduct_service::config::{Config, ListenerConfig, StoreConfig};
use safeconduct_service::jwks_cache::JwksCache;
use safeconduct_service::keyring::{Keyring, Purpose, Sealer, create_suite};
use safeconduct_service::layers::layered;
use safeconduct_service::process::Process;
use safeconduct_service::secrets::Secrets;
use safeconduct_service::server::{Document, ListenerSpec, RoutesFactory};
use safeconduct_service::status::from_sister;
use safeconduct_store::{Store, StoreKeyer};
use safeconduct_telemetry::ContactHasher;
use safeconduct_types::{Clock, Deadline, Random, SystemRandom};
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::cli::Which;
use crate::exit::Failure;
use crate::serve::marks::Marks;
use crate::serve::probe::StoreProbe;
use crate::workspaces::{self, Directory, Found};

/// Between two looks at whether the store would take a write.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// A suite, or a part of one, ready to be bound.
pub(super) struct Suite {
    pub(super) process: Process,
    pub(super) listeners: Vec<ListenerSpec>,
    /// What the operations port shows besides.
    pub(super) documents: Vec<Document>,
}

/// What all services are built from.
struct Builder<'a> {
    config: &'a Config,
    which: Which,
    process: Process,
    authenticator: Arc<Authenticator>,
    secrets: Arc<Secrets>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    listeners: Vec<ListenerSpec>,
    documents: Vec<Document>,
}

impl Suite {
    pub(super) async fn build(
        which: Which,
        config: &Config,
        environment: Vec<(String, String)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let process = Process::new(Arc::clone(&clock), &[safeconduct_proto::FILE_DESCRIPTOR_SET], config.call_limits())
            .map_err(Failure::internal)?;
        let authenticator = Arc::new(Authenticator::new(config, Arc::clone(&clock)).map_err(Failure::usage)?);
        let secrets = Arc::new(Secrets::new(config.secrets_dir.clone(), environment, Arc::clone(&clock)));
        prepare_directories(which, config, &*random)?;
        let (listeners, documents) = (Vec::new(), Vec::new());
        let mut builder =
            Builder { config, which, process, authenticator, secrets, clock, random, listeners, documents };
        builder.services().await?;
        Ok(Self { process: builder.process, listeners: builder.listeners, documents: builder.documents })
    }
}

/// The embedded store's folder, and in a suite of one process on a new embedded store the key files, are made when they
/// are missing. Beside a store that is there already they are not: records are found by a keyed hash, so with other
/// keys nothing that was done would be found, and all of it could be done again.
fn prepare_directories(which: Which, config: &Config, random: &dyn Random) -> Result<(), Failure> {
    let keys = &config.keyring_dir;
    let missing = !keys.join("identity.keys").exists() || !keys.join("admission.keys").exists();
    let made_when_missing = match &config.store {
        StoreConfig::Embedded { dir } => {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::unavailable(format!("{}: cannot be made ({error})", dir.display())))?;
            !["identity", "admission"].iter().any(|service| dir.join(format!("{service}.redb")).exists())
        }
        StoreConfig::Redis(_) => false,
    };
    if which != Which::All || !missing {
        return Ok(());
    }
    if !made_when_missing {
        return Err(Failure::usage(format!(
            "{}: the key files are missing, but there is a store that was written with some; restore them, or name their \
             folder (keyring_dir). For a new Redis make them once with `safeconduct keys init --dir {}` and give every \
             process the same",
            keys.display(),
            keys.display()
        )));
    }
    let made = create_suite(keys, random).map_err(Failure::usage)?;
    tracing::info!(directory = %keys.display(), files = made.len(), "made the suite's key files");
    Ok(())
}

impl Builder<'_> {
    fn runs(&self, which: Which) -> bool {
        self.which == which || self.which == Which::All
    }

    async fn services(&mut self) -> Result<(), Failure> {
        let found = if self.runs(Which::Identity) || self.runs(Which::Connector) {
            self.workspaces()?
        } else {
            Found::default()
        };
        let admission = if self.runs(Which::Admission) { Some(self.admission().await?) } else { None };
        let marks = if self.runs(Which::Identity) || self.runs(Which::Connector) {
            let channel = match admission {
                Some(channel) => channel,
                None => self.over_tcp(self.config.admission_channel())?,
            };
            Some(Marks::follow(channel, &self.process).await)
        } else {
            None
        };
        let identity = match &marks {
            Some(marks) if self.runs(Which::Identity) => Some(self.identity(&found, marks).await?),
            _ => None,
        };
        if self.runs(Which::Otp) {
            self.otp()?;
        }
        if let Some(marks) = marks.filter(|_| self.runs(Which::Connector)) {
            self.connector(&found, identity, marks)?;
        }
        Ok(())
    }

    fn workspaces(&self) -> Result<Found, Failure> {
        let dir = &self.config.workspaces_dir;
        if !dir.exists() {
            tracing::warn!(directory = %dir.display(), "there are no workspaces: nothing can be verified or executed");
            return Ok(Found::default());
        }
        let found = workspaces::read(std::slice::from_ref(dir)).map_err(Failure::data)?;
        for problem in &found.problems {
            tracing::warn!("{problem}");
        }
        // There is no earlier configuration that could stay in force instead.
        if found.errors > 0 && found.workspaces.is_empty() {
            return Err(Failure::data(format!(
                "{}\nno workspace can be taken; mend the errors above (`safeconduct check {}` shows them again)",
                found.problems.join("\n"),
                dir.display()
            )));
        }
        tracing::info!(workspaces = found.workspaces.len(), connectors = found.connectors, "took the workspaces");
        Ok(found)
    }

    async fn admission(&mut self) -> Result<SisterChannel, Failure> {
        let keyring = self.keyring("admission")?;
        let store = StoreKeyer::new(keyring.primary(Purpose::StoreHashing).map_err(Failure::usage)?.secret());
        let clock = Arc::clone(&self.clock);
        let service = match self.store("admission").await? {
            Store::Embedded(opened) => Admission::embedded(opened, store, clock),
            Store::Redis(opened) => Admission::redis(opened, store, clock),
        };
        let gateway = service.gateway(&self.config.envoy).map_err(Failure::usage)?;
        gateway.follow(&self.process.tasks);
        let counted = Arc::clone(&gateway);
        self.process.metrics.show(move |text| counted.metrics(text));
        let marks = service.clone();
        drop(self.process.tasks.spawn_background(move |stop| marks.follow_marks(stop)));
        self.watch_store(service.clone()).await;
        let routes: RoutesFactory = Arc::new(move || Routes::new(service.server()).add_service(gateway.server()));
        let channel = self.in_process("connector", &routes);
        let config = self.config;
        let names = vec![AdmissionServiceServer::<()>::NAME, RateLimitServiceServer::<()>::NAME];
        self.listen("admission", &config.admission, names, routes)?;
        Ok(channel)
    }

    async fn identity(&mut self, found: &Found, marks: &Marks) -> Result<SisterChannel, Failure> {
        let keyring = self.keyring("identity")?;
        let keys = Keys::from_keyring(&keyring, Arc::clone(&self.random)).map_err(Failure::usage)?;
        let assertion = &self.config.assertion;
        let settings = Settings {
            issuer: assertion.issuer.clone(),
            audience: assertion.audience.clone(),
            assertion_lifetime: assertion.lifetime,
            ..Settings::default()
        };
        let ports = Ports {
            records: self.store("identity").await?.records(),
            workspaces: Arc::new(Directory::new(&found.workspaces, Arc::clone(&self.secrets))),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            mirror: marks.mirror.clone(),
            marking: Arc::new(GrpcAdmission::new(marks.admission.clone())),
        };
        let service = Identity::new(settings, keys, ports).map_err(Failure::usage)?;
        self.documents.push(Document {
            path: JWKS_PATH,
            media_type: "application/jwk-set+json",
            text: service.jwks_json().to_owned(),
        });
        let limit = self.config.limits.message_bytes;
        let routes: RoutesFactory = Arc::new(move || {
            let server = safeconduct_identity::server(Arc::clone(&service));
            Routes::new(server.max_decoding_message_size(limit).max_encoding_message_size(limit))
        });
        let channel = self.in_process("connector", &routes);
        let config = self.config;
        self.listen("identity", &config.identity, vec![IdentityServiceServer::<()>::NAME], routes)?;
        Ok(channel)
    }

    fn otp(&mut self) -> Result<(), Failure> {
        let limit = self.config.limits.message_bytes;
        let routes: RoutesFactory = Arc::new(move || {
            let server = safeconduct_otp::server();
            Routes::new(server.max_decoding_message_size(limit).max_encoding_message_size(limit))
        });
        let config = self.config;
        self.listen("otp", &config.otp, vec![OtpServiceServer::<()>::NAME], routes)
    }

    fn connector(
        &mut self,
        found: &Found,
        identity: Option<SisterChannel>,
        Marks { admission, mirror }: Marks,
    ) -> Result<(), Failure> {
        let keyring = self.keyring("connector")?;
        let identity = match identity {
            Some(channel) => channel,
            None => self.over_tcp(self.config.identity_channel())?,
        };
        let sealer = |purpose| Sealer::new(&keyring, purpose, Arc::clone(&self.random)).map_err(Failure::usage);
        let port = Arc::new(GrpcAdmission::new(admission.clone()));
        let trace_key = keyring.primary(Purpose::TraceHashing).map_err(Failure::usage)?.secret();
        let taken = found.workspaces.iter().map(|one| Arc::clone(&one.workspace));
        let workspaces = connector::Workspaces::new(taken, &self.secrets, &self.clock).map_err(Failure::usage)?;
        let assertion = &self.config.assertion;
        let service = connector::Service::new(connector::Parts {
            workspaces,
            contacts: connector::Contacts::new(
                self.jwks(identity),
                Arc::new(ClaimSealer::new(Arc::new(sealer(Purpose::ClaimSealing)?))),
                &assertion.issuer,
                &assertion.audience,
                Arc::clone(&self.clock),
            ),
            admission: Arc::clone(&port) as Arc<dyn Port>,
            marking: port,
            mirror: mirror.clone(),
            vault: connector::Vault::new(sealer(Purpose::RecordSealing)?),
            settings: connector::Settings { lease: self.config.lease },
            tasks: self.process.tasks.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            trace_names: ContactHasher::new(trace_key),
        });
        self.watch_admission(admission, mirror, service.reads_without_store());
        let limit = self.config.limits.message_bytes;
        let routes: RoutesFactory = Arc::new(move || {
            let (executing, credentials, admin) = service.servers();
            Routes::new(executing.max_decoding_message_size(limit).max_encoding_message_size(limit))
                .add_service(credentials.max_decoding_message_size(limit).max_encoding_message_size(limit))
                .add_service(admin.max_decoding_message_size(limit).max_encoding_message_size(limit))
        });
        let config = self.config;
        self.listen("connector", &config.connector, connector::SERVICE_NAMES.to_vec(), routes)
    }

    fn jwks(&self, identity: SisterChannel) -> JwksCache<JwkSet> {
        let client = IdentityServiceClient::new(identity);
        let clock = Arc::clone(&self.clock);
        let fetch = move || {
            let mut client = client.clone();
            let deadline = Deadline::within(clock.instant(), Duration::from_secs(2));
            async move {
                let answer = client.get_jwks(with_deadline(GetJwksRequest {}, Some(deadline))).await;
                answer.map(|answer| answer.into_inner().jwks_json).map_err(|status| from_sister(&status, "identity"))
            }
        };
        let parse = |text: &str| JwkSet::parse(text).map_err(|error| error.to_string());
        JwksCache::new(fetch, parse, Arc::clone(&self.clock))
    }

    /// A sister in this process is reached through its own layers, so that there is no second way in.
    fn in_process(&self, from: &'static str, routes: &RoutesFactory) -> SisterChannel {
        let routes = self.process.health.serve(routes());
        let stack = layered(&self.process, self.authenticator.clone(), false, routes);
        SisterChannel::in_process(from, stack, Arc::clone(&self.clock))
    }

    fn over_tcp(
        &self,
        options: Result<safeconduct_service::channel::TcpOptions, safeconduct_service::config::ConfigError>,
    ) -> Result<SisterChannel, Failure> {
        let options = options.map_err(Failure::usage)?;
        SisterChannel::tcp(&options, Arc::clone(&self.clock)).map_err(Failure::usage)
    }

    fn listen(
        &mut self,
        name: &'static str,
        config: &ListenerConfig,
        services: Vec<&'static str>,
        routes: RoutesFactory,
    ) -> Result<(), Failure> {
        self.listeners.push(ListenerSpec {
            name,
            address: config.listen,
            tls: config.tls_options(name).map_err(Failure::usage)?,
            services,
            routes,
            authenticator: self.authenticator.clone(),
        });
        Ok(())
    }

    fn keyring(&self, service: &str) -> Result<Keyring, Failure> {
        let path = self.config.keyring_dir.join(format!("{service}.keys"));
        Keyring::load(&path).map_err(|error| missing_keys(&error, &path, &self.config.keyring_dir))
    }

    /// Each service has a store of its own; on the embedded engine that is a file of its own.
    async fn store(&self, service: &str) -> Result<Store, Failure> {
        let options = super::store::options(&self.config.store, service, &self.clock);
        safeconduct_store::open(options)
            .await
            .map_err(|error| Failure::unavailable(format!("the store of {service} cannot be opened: {error}")))
    }

    /// Admission's health is its store's. Known when this comes back, so that nobody who asks at once is put off.
    async fn watch_store(&self, service: Admission) {
        let health = self.process.health.clone();
        health.set(AdmissionServiceServer::<()>::NAME, service.ping().await.is_ok()).await;
        drop(self.process.tasks.spawn_background(move |stop| async move {
            while pause(&stop).await {
                health.set(AdmissionServiceServer::<()>::NAME, service.ping().await.is_ok()).await;
            }
        }));
    }

    /// Without an admission that takes writes, writes are out, and reads go on.
    fn watch_admission(&self, admission: SisterChannel, mirror: Mirror, reads_anyway: bool) {
        let health = self.process.health.clone();
        let clock = Arc::clone(&self.clock);
        let mut probe = StoreProbe::new(admission, Arc::clone(&self.clock), Arc::clone(&self.random));
        drop(self.process.tasks.spawn_background(move |stop| async move {
            health.set("connector.read", reads_anyway).await;
            loop {
                let standing = probe.standing().await;
                // What touches somebody's own waits until it is known again what was revoked.
                let is_known = !mirror.is_lagging(clock.instant());
                health.set("connector.read", standing.reads && is_known || reads_anyway).await;
                health.set("connector.write", standing.writes).await;
                if !pause(&stop).await {
                    break;
                }
            }
        }));
    }
}

/// Whether to go on.
async fn pause(stop: &tokio_util::sync::CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(PROBE_PAUSE) => true,
    }
}

fn missing_keys(error: &impl std::fmt::Display, path: &Path, dir: &Path) -> Failure {
    if path.exists() {
        Failure::usage(error)
    } else {
        Failure::usage(format!(
            "{}: there is no such key file; make the suite's key files once with `safeconduct keys init --dir {}` and \
             give each service its own",
            path.display(),
            dir.display()
        ))
    }
}
