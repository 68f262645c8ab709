//! `grpc.health.v1`: what this process says about its services.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::layers::Routes;

/// Which services are in service. Clones share their state. Once the process drains, nothing is in service again.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    serving: BTreeMap<String, bool>,
    draining: bool,
}

impl Health {
    /// Nothing is in service yet.
    pub fn new() -> Self {
        Self { reporter: HealthReporter::new(), state: Arc::default() }
    }

    /// Says whether `name` is in service: a service's full name, `connector.read`, `connector.write`, or `""` for the
    /// process as a whole. Takes no effect while the process drains.
    pub async fn set(&self, name: &str, serving: bool) {
        let mut state = self.state.lock().await;
        state.serving.insert(name.to_owned(), serving);
        let serving = serving && !state.draining;
        self.report(name, serving).await;
    }

    /// Whether the process as a whole is in service: what `/readyz` answers.
    pub async fn ready(&self) -> bool {
        let state = self.state.lock().await;
        !state.draining && state.serving.get("").copied().unwrap_or(false)
    }

    /// Puts those names in service about which nobody has said anything yet.
    pub(crate) async fn start(&self, names: &[&str]) {
        for name in names {
            let known = self.state.lock().await.serving.contains_key(*name);
            if !known {
                self.set(name, true).await;
            }
        }
    }

    /// Takes everything out of service, for good.
    pub(crate) async fn drain(&self) {
        let mut state = self.state.lock().await;
        state.draining = true;
        for name in state.serving.keys() {
            self.report(name, false).await;
        }
    }

    /// The routes with the health service added: each listener's have it already.
    pub fn serve(&self, routes: Routes) -> Routes {
        routes.add_service(HealthServer::new(HealthService::from_health_reporter(self.reporter.clone())))
    }

    async fn report(&self, name: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_drains_does_not_come_back() {
        let health = Health::new();
        assert!(!health.ready().await, "nothing is ready before it is said");
        health.set("", true).await;
        assert!(health.ready().await);
        health.drain().await;
        health.set("", true).await;
        assert!(!health.ready().await);
    }

    #[tokio::test]
    async fn starting_leaves_alone_what_was_said_before() {
        let health = Health::new();
        health.set("", false).await;
        health.start(&["", "a.B"]).await;
        assert!(!health.ready().await);
    }
}
