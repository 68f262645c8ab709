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
    /// The master that most of those name that answer within this time. One that is cut off from the others names the
    /// old one for ever; where as many name another, nobody is believed.
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
        elected(named).unwrap_or(Err(why))
    }
}

/// Whom most have named, if anybody was.
fn elected(named: HashMap<Address, usize>) -> Option<Result<Address, StoreError>> {
    let most = named.values().max().copied()?;
    let mut first = named.into_iter().filter(|(_, votes)| *votes == most).map(|(address, _)| address);
    let (address, rival) = (first.next()?, first.next());
    Some(match rival {
        None => Ok(address),
        Some(_) => Err(StoreError::Unavailable("the Sentinels do not agree on the master".into())),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(votes: &[(u16, usize)]) -> Option<Result<Address, StoreError>> {
        elected(votes.iter().map(|(port, votes)| (Address::new("host", *port), *votes)).collect())
    }

    #[test]
    fn most_votes_win_and_a_tie_names_nobody() {
        assert_eq!(vote(&[]), None);
        assert_eq!(vote(&[(1, 1)]), Some(Ok(Address::new("host", 1))));
        assert_eq!(vote(&[(1, 1), (2, 2)]), Some(Ok(Address::new("host", 2))));
        assert!(matches!(vote(&[(1, 1), (2, 1)]), Some(Err(StoreError::Unavailable(_)))));
        assert!(matches!(vote(&[(1, 1), (2, 2), (3, 2)]), Some(Err(_))));
    }
}
