//! Asks Sentinels for the master.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::{AsyncConnectionConfig, RedisError, cmd};
use tokio::task::JoinSet;

use super::fault::Fault;
use super::options::{Address, Reach};
use crate::StoreError;

/// The Sentinels that watch one master.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<Address>,
    pub(super) reach: Reach,
    pub(super) master: String,
}

impl Sentinels {
    /// The master that most of them name. One that is cut off from the others names the old one for ever; it is
    /// believed only if no more of them answer within this time.
    pub(super) async fn ask(&self, within: Duration) -> Result<Address, StoreError> {
        let mut asked = JoinSet::new();
        for address in &self.addresses {
            asked.spawn(ask(self.reach.clone(), address.clone(), self.master.clone()));
        }
        let mut named: HashMap<Address, usize> = HashMap::new();
        let mut why = StoreError::Unavailable("no Sentinel answers".into());
        let answers = async {
            while let Some(answer) = asked.join_next().await {
                match answer {
                    Ok(Ok(address)) => {
                        let votes = named.entry(address).or_default();
                        *votes += 1;
                        if *votes > self.addresses.len() / 2 {
                            return;
                        }
                    }
                    Ok(Err(error)) => why = error,
                    Err(_) => {}
                }
            }
        };
        // Whoever has not answered by then does not vote.
        let _ = tokio::time::timeout(within, answers).await;
        named.into_iter().max_by_key(|(_, votes)| *votes).map(|(address, _)| address).ok_or(why)
    }
}

async fn ask(reach: Reach, sentinel: Address, master: String) -> Result<Address, StoreError> {
    let unavailable = |error: RedisError| {
        StoreError::Unavailable(format!("no master from a Sentinel: {}", StoreError::from(Fault::of(&error))).into())
    };
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut connection =
        reach.client(&sentinel)?.get_multiplexed_async_connection_with_config(&config).await.map_err(unavailable)?;
    let mut question = cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(master);
    let answer: Option<(String, u16)> = question.query_async(&mut connection).await.map_err(unavailable)?;
    match answer {
        Some((host, port)) => Ok(Address::new(&host, port)),
        None => {
            Err(StoreError::Unavailable("the Sentinels know no master of that name; see store.sentinel.master".into()))
        }
    }
}
