//! What the calls of one process share, whichever listener and runtime they run on.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::layers::{Gate, Metrics};
use crate::server::Health;
use crate::tasks::Tasks;

/// Bounds on calls.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Calls in flight in the process, over all listeners; more are refused as overload. Health probes and calls
    /// between services of the process do not count.
    pub max_in_flight: usize,
    /// The deadline of a call that brings none.
    pub default_deadline: Duration,
    /// The longest deadline of a call; a later one is brought forward.
    pub max_deadline: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { max_in_flight: 4096, default_deadline: Duration::from_secs(20), max_deadline: Duration::from_mins(1) }
    }
}

/// The shared part of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Process {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Work beside the calls.
    pub tasks: Tasks,
    /// What is in service.
    pub health: Health,
    /// Counters.
    pub metrics: Arc<Metrics>,
    pub(crate) limits: CallLimits,
    pub(crate) gate: Arc<Gate>,
    /// Fires when connections are told to end.
    pub(crate) draining: CancellationToken,
}

impl Process {
    /// A process that serves the contracts in `descriptors` (encoded `FileDescriptorSet`s).
    pub fn new(clock: Arc<dyn Clock>, descriptors: &[&[u8]], limits: CallLimits) -> Result<Self, prost::DecodeError> {
        Ok(Self {
            clock,
            tasks: Tasks::new(),
            health: Health::new(),
            metrics: Arc::new(Metrics::new(descriptors)?),
            limits,
            gate: Arc::new(Gate::new(limits.max_in_flight)),
            draining: CancellationToken::new(),
        })
    }
}
