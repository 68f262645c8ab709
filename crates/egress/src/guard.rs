//! The same guard for connections that speak something else than HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_types::Clock;

use crate::connect::GuardedConnector;
use crate::error::Cause;
use crate::policy::{AddressPolicy, PublicAddress};
use crate::target::Target;

/// Where a host may be connected to: its name is resolved, and every address is checked.
#[derive(Clone, Debug)]
pub struct Guard {
    connector: GuardedConnector,
    timeout: Duration,
}

impl Guard {
    /// The host and port of `target`, under `policy`; finding its addresses takes `timeout` at the longest.
    pub fn new(target: &Target, policy: AddressPolicy, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { connector: GuardedConnector::new(target, policy, timeout, clock), timeout }
    }

    /// Its addresses, all of them checked; whoever connects takes one of these and asks no resolver again.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, Cause> {
        let found = tokio::time::timeout(self.timeout, self.connector.checked()).await;
        let found = found.map_err(|_| Cause::Resolve)?.map_err(|error| error.0)?;
        Ok(found.into_iter().map(PublicAddress::socket).collect())
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_types::SystemClock;

    use super::*;

    #[tokio::test]
    async fn an_address_that_must_not_be_called_is_refused_here_too() {
        let guard = |policy| {
            let target = Target::parse("https://127.0.0.1:25", false).unwrap();
            Guard::new(&target, policy, Duration::from_secs(1), Arc::new(SystemClock))
        };
        assert!(matches!(guard(AddressPolicy::default()).addresses().await, Err(Cause::Refused(_))));
        let allowed = AddressPolicy::allowing(vec!["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(guard(allowed).addresses().await.unwrap(), ["127.0.0.1:25".parse().unwrap()]);
    }
}
