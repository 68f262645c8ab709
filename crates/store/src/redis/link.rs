//! The one connection, kept alive.
//!
//! Up -> Connecting (a call found it broken) -> Up, or Down (an attempt failed) -> Up.
//!
//! While Connecting, calls wait for the outcome, so that a dropped connection is not noticed; while Down they fail
//! at once, so that a dead server does not cost each of them a time-out.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Dialer;
use crate::StoreError;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often a server that was unsafe is looked at again.
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// What a call is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

#[derive(Clone)]
enum State {
    Up(Up),
    Connecting,
    Down(StoreError),
}

/// A live connection.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) connection: MultiplexedConnection,
    /// Tells this connection from those before: who reports it broken names it.
    pub(super) generation: u64,
    hazard: Option<StoreError>,
}

pub(crate) struct Link {
    state: Arc<watch::Sender<State>>,
    dialer: Dialer,
    /// Ends with the link.
    _keeper: JoinSet<()>,
}

impl Link {
    pub(super) async fn open(dialer: Dialer) -> Result<Self, StoreError> {
        let (connection, hazard) = dialer.dial().await?;
        warn_of(hazard.as_ref());
        let state = Arc::new(watch::Sender::new(State::Up(Up { connection, generation: 0, hazard })));
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(Arc::clone(&state), dialer.clone()));
        Ok(Self { state, dialer, _keeper: keeper })
    }

    /// The connection, or why there is none. Waits only while the first attempt at a new one is under way.
    pub(super) async fn get(&self, purpose: Use) -> Result<Up, StoreError> {
        // Most calls find the link settled and need not subscribe.
        let mut found = settled(&self.state.borrow());
        if found.is_none() {
            let mut changes = self.state.subscribe();
            while found.is_none() {
                found = settled(&changes.borrow_and_update());
                if found.is_none() && changes.changed().await.is_err() {
                    break;
                }
            }
        }
        let up = found.unwrap_or_else(|| Err(StoreError::Unavailable("the store is closing".into())))?;
        match (purpose, &up.hazard) {
            (Use::Write, Some(hazard)) => Err(hazard.clone()),
            (Use::Read | Use::Write, _) => Ok(up),
        }
    }

    /// Reports that the connection of this generation is of no use. Said twice, or of an older one, it does nothing.
    pub(super) fn lost(&self, generation: u64, why: &StoreError) {
        lose(&self.state, generation, why);
    }

    /// Looks at the server anew: mended or gone unsafe, it is known afterwards.
    pub(super) async fn ping(&self, timeout: Duration) -> Result<(), StoreError> {
        let look = async {
            let up = self.get(Use::Read).await?;
            look_again(&self.state, &self.dialer, up).await;
            self.get(Use::Write).await
        };
        tokio::time::timeout(timeout, look)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no reply within the reply time-out".into())))
            .map(drop)
    }

    /// Waits until the link is up, or until it is known to be down.
    #[cfg(test)]
    pub(crate) async fn wait(&self, up: bool) {
        let mut changes = self.state.subscribe();
        let wanted = |state: &State| match state {
            State::Up(_) => up,
            State::Down(_) => !up,
            State::Connecting => false,
        };
        changes.wait_for(wanted).await.unwrap();
    }
}

fn settled(state: &State) -> Option<Result<Up, StoreError>> {
    match state {
        State::Up(up) => Some(Ok(up.clone())),
        State::Down(why) => Some(Err(why.clone())),
        State::Connecting => None,
    }
}

fn lose(state: &watch::Sender<State>, generation: u64, why: &StoreError) {
    let was_up = state.send_if_modified(|state| {
        let is_up = matches!(state, State::Up(up) if up.generation == generation);
        if is_up {
            *state = State::Connecting;
        }
        is_up
    });
    if was_up {
        tracing::warn!(error = %why, "connection to the store lost");
    }
}

fn warn_of(hazard: Option<&StoreError>) {
    if let Some(hazard) = hazard {
        tracing::warn!(error = %hazard, "writes to the store are refused");
    }
}

async fn look_again(state: &watch::Sender<State>, dialer: &Dialer, mut up: Up) {
    match tokio::time::timeout(dialer.timeout, dialer.inspect(&mut up.connection)).await {
        Ok(Ok(hazard)) => {
            let changed = state.send_if_modified(|state| match state {
                State::Up(now) if now.generation == up.generation && now.hazard != hazard => {
                    now.hazard.clone_from(&hazard);
                    true
                }
                State::Up(_) | State::Connecting | State::Down(_) => false,
            });
            if changed {
                warn_of(hazard.as_ref());
            }
        }
        Ok(Err(why)) => lose(state, up.generation, &why),
        Err(_) => lose(state, up.generation, &StoreError::Unavailable("no reply to a check".into())),
    }
}

/// Keeps the link up, for as long as it is polled.
async fn keep(state: Arc<watch::Sender<State>>, dialer: Dialer) {
    let mut changes = state.subscribe();
    let mut generation = 0;
    let mut pause = FIRST_PAUSE;
    loop {
        let current = changes.borrow_and_update().clone();
        match current {
            State::Up(up) if up.hazard.is_some() => {
                if tokio::time::timeout(SECOND_LOOK, changes.changed()).await.is_err() {
                    look_again(&state, &dialer, up).await;
                }
            }
            State::Up(_) => {
                // Its sender is ours: it cannot end before us.
                let _ = changes.changed().await;
            }
            State::Connecting | State::Down(_) => match dialer.dial().await {
                Ok((connection, hazard)) => {
                    generation += 1;
                    pause = FIRST_PAUSE;
                    warn_of(hazard.as_ref());
                    tracing::info!("connection to the store is back");
                    state.send_replace(State::Up(Up { connection, generation, hazard }));
                }
                Err(why) => {
                    state.send_replace(State::Down(why));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
        }
    }
}
