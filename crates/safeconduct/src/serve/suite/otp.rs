//! The otp service: its keys, its store, its sisters, and the worker that sends what waits.

use std::sync::Arc;

use safeconduct_admission_client::{GrpcAdmission, Mirror};
use safeconduct_identity::ClaimSealer;
use safeconduct_otp::delivery::{Console, Deliveries};
use safeconduct_otp::outbox::{Challenges, Parts, StoreOutbox, Worker};
use safeconduct_otp::{GrpcIdentity, Keys, Otp, Ports, Settings, Verifications};
use safeconduct_proto::otp::v1::otp_service_server::OtpServiceServer;
use safeconduct_service::channel::SisterChannel;
use safeconduct_service::keyring::Purpose;
use safeconduct_service::layers::Routes;
use safeconduct_service::server::RoutesFactory;
use safeconduct_store::Records;
use tonic::server::NamedService;

use super::{Builder, pause};
use crate::exit::Failure;
use crate::workspaces::{Found, OtpDirectory, otp_routes};

/// How otp reaches its sisters, and what it hears.
pub(super) struct Sisters {
    pub(super) identity: SisterChannel,
    pub(super) admission: SisterChannel,
    pub(super) mirror: Mirror,
}

impl Builder<'_> {
    pub(super) async fn otp(&mut self, found: &Found, sisters: Sisters) -> Result<(), Failure> {
        let keyring = self.keyring("otp")?;
        let claims = keyring.sealer(Purpose::ClaimSealing, Arc::clone(&self.random)).map_err(Failure::usage)?;
        let seal = Arc::new(ClaimSealer::new(Arc::new(claims)));
        let keys = Keys::follow(&keyring, seal, Arc::clone(&self.random)).map_err(Failure::usage)?;
        let records = self.store("otp").await?.records();
        let console = self.config.otp_console.then(Console::standard_output);
        let routes = otp_routes(&found.workspaces);
        let (deliveries, refused) = Deliveries::new(routes, &self.secrets, console.as_ref(), &self.clock);
        for one in refused {
            tracing::error!("{one}; one-time passwords are not offered there");
        }
        let sealer = keyring.sealer(Purpose::RecordSealing, Arc::clone(&self.random)).map_err(Failure::usage)?;
        let outbox =
            Arc::new(StoreOutbox::new(Arc::clone(&records), keys.store.clone(), sealer, Arc::clone(&self.random)));
        let assertion = &self.config.assertion;
        let settings = Settings { issuer: assertion.issuer.clone(), audience: assertion.audience.clone() };
        let workspaces = OtpDirectory::new(&found.workspaces, |workspace| deliveries.serves(workspace));
        let service = Otp::new(
            &settings,
            keys,
            Ports {
                records: Arc::clone(&records),
                workspaces: Arc::new(workspaces),
                admission: Arc::new(GrpcAdmission::new(sisters.admission)),
                mirror: sisters.mirror.clone(),
                jwks: self.jwks(sisters.identity.clone()),
                identity: Arc::new(GrpcIdentity::new(sisters.identity)),
                outbox: Arc::<StoreOutbox>::clone(&outbox),
                clock: Arc::clone(&self.clock),
                random: Arc::clone(&self.random),
            },
        );
        let challenges: Arc<dyn Challenges> = Arc::<Verifications>::clone(service.verifications());
        let deliveries = Arc::new(deliveries);
        let worker = Worker::new(Parts { outbox, deliveries, challenges, clock: Arc::clone(&self.clock) });
        let counted = Arc::clone(&worker);
        self.process.metrics.show(move |text| counted.metrics(text));
        drop(self.process.tasks.spawn_background(move |stop| worker.run(stop)));
        self.watch_otp(records, sisters.mirror).await;
        let limit = self.config.limits.message_bytes;
        let routes: RoutesFactory = Arc::new(move || {
            let server = safeconduct_otp::server(Arc::clone(&service));
            Routes::new(server.max_decoding_message_size(limit).max_encoding_message_size(limit))
        });
        let config = self.config;
        self.listen("otp", &config.otp, vec![OtpServiceServer::<()>::NAME], routes)
    }

    /// Otp works while its store takes writes and it is known what was revoked. Known when this comes back.
    async fn watch_otp(&self, records: Arc<dyn Records>, mirror: Mirror) {
        let health = self.process.health.clone();
        let clock = Arc::clone(&self.clock);
        let name = OtpServiceServer::<()>::NAME;
        let works = async move || records.ping().await.is_ok() && !mirror.is_lagging(clock.instant());
        health.set(name, works().await).await;
        drop(self.process.tasks.spawn_background(move |stop| async move {
            while pause(&stop).await {
                health.set(name, works().await).await;
            }
        }));
    }
}
