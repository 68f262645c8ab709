//! Which service gets what.

mod otp;

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission::Admission;
use safeconduct_admission_client::{Admission as Port, GrpcAdmission};
use safeconduct_connector as connector;
use safeconduct_identity::{ClaimSealer, Identity, JWKS_PATH, Keys, Ports, Settings, SigningSet, StoredSigning};
use safeconduct_identity_domain::assertion::JwkSet;
use safeconduct_proto::admission::v1::admission_service_server::AdmissionServiceServer;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use safeconduct_proto::identity::v1::GetJwksRequest;
use safeconduct_proto::identity::v1::identity_service_client::IdentityServiceClient;
use safeconduct_proto::identity::v1::identity_service_server::IdentityServiceServer;
use safeconduct_service::caller::Authenticator;
use safeconduct_service::channel::{SisterChannel, unobserved, with_deadline};
use safeconduct_service::config::{Config, ListenerConfig};
use safeconduct_service::jwks_cache::JwksCache;
use safeconduct_service::keyring::{JWKS_MAX_AGE, Live, LiveKeyring, Purpose};
use safeconduct_service::layers::{Routes, layered};
use safeconduct_service::process::Process;
use safeconduct_service::secrets::Secrets;
use safeconduct_service::server::{Document, ListenerSpec, RoutesFactory};
use safeconduct_service::status::from_sister;
use safeconduct_store::{Records, Store, StoreKeyer};
use safeconduct_telemetry::ContactHasher;
use safeconduct_types::{Clock, Deadline, Random, SystemRandom};
use tonic::server::NamedService;

use crate::cli::Which;
use crate::exit::Failure;
use crate::serve::keys::{self, KeyFiles};
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
    key_files: KeyFiles,
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
        keys::prepare(which, config, &*random)?;
        let (listeners, documents, key_files) = (Vec::new(), Vec::new(), KeyFiles::default());
        let mut builder =
            Builder { config, which, process, authenticator, secrets, clock, random, listeners, documents, key_files };
        builder.services().await?;
        builder.key_files.show(&builder.process);
        Ok(Self { process: builder.process, listeners: builder.listeners, documents: builder.documents })
    }
}

impl Builder<'_> {
    fn runs(&self, which: Which) -> bool {
        self.which == which || self.which == Which::All
    }

    async fn services(&mut self) -> Result<(), Failure> {
        // Whoever knows workspaces and contacts: everybody but admission.
        let knows_workspaces = self.which != Which::Admission;
        let found = if knows_workspaces { self.workspaces()? } else { Found::default() };
        let admission = if self.runs(Which::Admission) { Some(self.admission().await?) } else { None };
        if !knows_workspaces {
            return Ok(());
        }
        let marks = Marks::follow(self.admission_for("connector", admission.as_ref())?, &self.process).await;
        let identity = if self.runs(Which::Identity) { Some(self.identity(&found, &marks).await?) } else { None };
        if self.runs(Which::Otp) {
            let sisters = otp::Sisters {
                identity: self.identity_for("otp", identity.as_ref())?,
                admission: self.admission_for("otp", admission.as_ref())?,
                mirror: marks.mirror.clone(),
            };
            self.otp(&found, sisters).await?;
        }
        if self.runs(Which::Connector) {
            let identity = self.identity_for("connector", identity.as_ref())?;
            self.connector(&found, identity, marks)?;
        }
        Ok(())
    }

    /// Admission as this service reaches it: in this process, or over TCP.
    fn admission_for(&self, from: &'static str, here: Option<&RoutesFactory>) -> Result<SisterChannel, Failure> {
        match here {
            Some(routes) => Ok(self.in_process(from, routes)),
            None => self.over_tcp(self.config.admission_channel()),
        }
    }

    fn identity_for(&self, from: &'static str, here: Option<&RoutesFactory>) -> Result<SisterChannel, Failure> {
        match here {
            Some(routes) => Ok(self.in_process(from, routes)),
            None => self.over_tcp(self.config.identity_channel()),
        }
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

    async fn admission(&mut self) -> Result<RoutesFactory, Failure> {
        let keyring = self.keyring("admission")?;
        let keys = keyring.current();
        let store = StoreKeyer::new(keys.primary(Purpose::StoreHashing).map_err(Failure::usage)?.secret());
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
        let here = Arc::clone(&routes);
        let config = self.config;
        let names = vec![AdmissionServiceServer::<()>::NAME, RateLimitServiceServer::<()>::NAME];
        self.listen("admission", &config.admission, names, routes)?;
        Ok(here)
    }

    async fn identity(&mut self, found: &Found, marks: &Marks) -> Result<RoutesFactory, Failure> {
        let keyring = self.keyring("identity")?;
        let mut keys = Keys::from_keyring(&keyring, Arc::clone(&self.random)).map_err(Failure::usage)?;
        let records = self.store("identity").await?.records();
        if let Some(period) = self.config.signing_period {
            keys.signing = self.stored_signing(&keyring, &keys, &records, period).await?;
        }
        let assertion = &self.config.assertion;
        let settings = Settings {
            issuer: assertion.issuer.clone(),
            audience: assertion.audience.clone(),
            assertion_lifetime: assertion.lifetime,
            ..Settings::default()
        };
        let admission = Arc::new(GrpcAdmission::new(marks.admission.clone()));
        let ports = Ports {
            records,
            workspaces: Arc::new(Directory::new(&found.workspaces, Arc::clone(&self.secrets))),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            mirror: marks.mirror.clone(),
            marking: Arc::<GrpcAdmission>::clone(&admission),
            erasing: Arc::<GrpcAdmission>::clone(&admission),
            admission,
            tasks: self.process.tasks.clone(),
        };
        let service = Identity::new(settings, keys, ports);
        let counted = Arc::clone(&service);
        self.process.metrics.show(move |text| counted.metrics(text));
        let public = Arc::clone(&service);
        self.documents.push(Document {
            path: JWKS_PATH,
            media_type: "application/jwk-set+json",
            max_age: JWKS_MAX_AGE,
            text: Arc::new(move || public.jwks_json()),
        });
        let limit = self.config.limits.message_bytes;
        let routes: RoutesFactory = Arc::new(move || {
            let server = safeconduct_identity::server(Arc::clone(&service));
            Routes::new(server.max_decoding_message_size(limit).max_encoding_message_size(limit))
        });
        let here = Arc::clone(&routes);
        let config = self.config;
        self.listen("identity", &config.identity, vec![IdentityServiceServer::<()>::NAME], routes)?;
        Ok(here)
    }

    fn connector(
        &mut self,
        found: &Found,
        identity: SisterChannel,
        Marks { admission, mirror }: Marks,
    ) -> Result<(), Failure> {
        let keyring = self.keyring("connector")?;
        let sealer = |purpose| keyring.sealer(purpose, Arc::clone(&self.random)).map_err(Failure::usage);
        let port = Arc::new(GrpcAdmission::new(admission.clone()));
        let keys = keyring.current();
        let trace_key = keys.primary(Purpose::TraceHashing).map_err(Failure::usage)?.secret();
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
            mirror,
            vault: connector::Vault::new(sealer(Purpose::RecordSealing)?),
            settings: connector::Settings { lease: self.config.lease },
            tasks: self.process.tasks.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            trace_names: ContactHasher::new(trace_key),
        });
        self.watch_admission(admission, Arc::clone(&service));
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
                let answer = client.get_jwks(unobserved(with_deadline(GetJwksRequest {}, Some(deadline)))).await;
                answer.map(|answer| answer.into_inner().jwks_json).map_err(|status| from_sister(&status, "identity"))
            }
        };
        let parse = |text: &str| JwkSet::parse(text).map_err(|error| error.to_string());
        let cache = JwksCache::new(fetch, parse, Arc::clone(&self.clock));
        let followed = cache.clone();
        drop(self.process.tasks.spawn_background(move |stop| followed.follow(stop)));
        cache
    }

    /// Signing keys that identity makes itself, taken in turns from now on.
    async fn stored_signing(
        &self,
        file: &LiveKeyring,
        keys: &Keys,
        records: &Arc<dyn Records>,
        period: Duration,
    ) -> Result<Live<SigningSet>, Failure> {
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let sealed = (keys.records.clone(), file.clone());
        let stored =
            StoredSigning::new(Arc::clone(records), &keys.store, sealed, StoredSigning::turns(period), clock, random);
        let first = stored
            .take()
            .await
            .map_err(|refusal| Failure::unavailable(format!("the signing keys in identity's store: {refusal}")))?;
        let live = Live::fixed(first);
        let followed = live.clone();
        drop(self.process.tasks.spawn_background(move |stop| stored.follow(followed, stop)));
        Ok(live)
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

    fn keyring(&mut self, service: &str) -> Result<LiveKeyring, Failure> {
        self.key_files.open(&self.config.keyring_dir, service, &self.process, &self.clock)
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

    /// Without an admission that takes writes, writes are out; reads go on if all of them would.
    fn watch_admission(&self, admission: SisterChannel, service: Arc<connector::Service>) {
        let health = self.process.health.clone();
        let mut probe = StoreProbe::new(admission, Arc::clone(&self.clock), Arc::clone(&self.random));
        drop(self.process.tasks.spawn_background(move |stop| async move {
            health.set("connector.read", service.takes_reads(false)).await;
            loop {
                let standing = probe.standing().await;
                // What touches somebody's own waits until it is known again what was revoked.
                health.set("connector.read", service.takes_reads(standing.reads)).await;
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
