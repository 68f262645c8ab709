//! The connections to one server: the one that is looked after, and one for each thread that serves calls.
//!
//! A connection is driven by a task on the runtime that made it. A call from another runtime wakes that task across
//! threads, and is woken by it in turn, which costs more than the call. So each runtime of one thread gets a connection
//! of its own, made behind the back of its first call. All of them lead to the same process: what is known of the server
//! is known of it once, and one that breaks breaks the link as a whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use tokio::runtime::{Handle, Id, RuntimeFlavor};
use tokio::task::JoinSet;

use super::dial::{Dialer, Process};
use super::options::Address;

/// How long to wait before a connection that could not be made is tried again. There is another one meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Pipes {
    first: MultiplexedConnection,
    /// The runtime that drives the first, if it has one thread.
    home: Option<Id>,
    /// By runtime; `None` while it is being made.
    own: RwLock<HashMap<Id, Option<MultiplexedConnection>>>,
    /// What makes them. Ends with the connections.
    making: Mutex<JoinSet<()>>,
}

impl Pipes {
    /// Connections beside this one, which was made here and now.
    pub(super) fn beside(first: MultiplexedConnection) -> Self {
        Self { first, home: runtime(), own: RwLock::default(), making: Mutex::default() }
    }

    /// The one that is looked after.
    pub(super) const fn first(&self) -> &MultiplexedConnection {
        &self.first
    }

    /// The one for a call from here: the runtime's own, if there is one by now.
    pub(super) fn here(
        self: &Arc<Self>,
        dialer: &Arc<Dialer>,
        address: &Address,
        process: &Process,
    ) -> MultiplexedConnection {
        let Some(runtime) = runtime().filter(|runtime| Some(*runtime) != self.home) else { return self.first.clone() };
        if let Some(known) = self.own.read().unwrap_or_else(PoisonError::into_inner).get(&runtime) {
            return known.as_ref().unwrap_or(&self.first).clone();
        }
        if self.own.write().unwrap_or_else(PoisonError::into_inner).insert(runtime, None).is_none() {
            self.make(runtime, Arc::clone(dialer), address.clone(), process.clone());
        }
        self.first.clone()
    }

    fn make(self: &Arc<Self>, runtime: Id, dialer: Arc<Dialer>, address: Address, process: Process) {
        let pipes = Arc::downgrade(self);
        let make = async move {
            loop {
                let made = dialer.another(&address, &process).await;
                let Some(pipes) = pipes.upgrade() else { return };
                match made {
                    Ok(connection) => {
                        pipes.own.write().unwrap_or_else(PoisonError::into_inner).insert(runtime, Some(connection));
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "no connection of its own for a thread"),
                }
                drop(pipes);
                tokio::time::sleep(PAUSE).await;
            }
        };
        self.making.lock().unwrap_or_else(PoisonError::into_inner).spawn(make);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        1 + self.own.read().unwrap().values().flatten().count()
    }
}

/// The runtime that this is called on, if it has one thread.
fn runtime() -> Option<Id> {
    let handle = Handle::try_current().ok()?;
    (handle.runtime_flavor() == RuntimeFlavor::CurrentThread).then(|| handle.id())
}
