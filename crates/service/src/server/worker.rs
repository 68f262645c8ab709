//! Where connections are served.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Connection};
use super::{BindError, RunError, RuntimeKind, ServerOptions, Stack, TransportOptions};
use crate::layers::Layered;
use crate::process::Process;

/// An accepted connection on its way to a worker.
pub(super) struct Job {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Which listener accepted it.
    pub(super) listener: usize,
    pub(super) slot: OwnedSemaphorePermit,
}

/// All workers, and the connections that they have.
pub(super) struct Workers {
    all: Vec<Worker>,
    connections: TaskTracker,
    /// Keeps the workers on the shared runtime going.
    _seats: JoinSet<()>,
    end: CancellationToken,
}

struct Worker {
    load: Arc<AtomicUsize>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Workers {
    /// Starts them; comes back when each of them has its routes and is ready.
    pub(super) async fn start(
        options: &ServerOptions,
        stacks: Vec<Stack>,
        process: &Process,
    ) -> Result<Self, RunError> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = match options.runtime {
            RuntimeKind::Shared => 1,
            RuntimeKind::PerCore if options.workers == 0 => cores(),
            RuntimeKind::PerCore => options.workers,
        };
        let (connections, end) = (TaskTracker::new(), CancellationToken::new());
        let mut seats = JoinSet::new();
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let (jobs, inbox) = mpsc::unbounded_channel();
            let load = Arc::new(AtomicUsize::new(0));
            let seat = Seat {
                stacks: stacks.clone(),
                inbox,
                load: Arc::clone(&load),
                connections: connections.clone(),
                end: end.clone(),
                transport: options.transport,
                process: process.clone(),
            };
            let (ready, started) = oneshot::channel();
            match options.runtime {
                RuntimeKind::Shared => {
                    seats.spawn(seat.work(ready));
                }
                RuntimeKind::PerCore => {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                        runtime.block_on(seat.work(ready));
                        // What is still running has had its time.
                        runtime.shutdown_background();
                    })?;
                }
            }
            started.await.map_err(|_| RunError::WorkerGone)??;
            workers.push(Worker { load, jobs });
        }
        Ok(Self { all: workers, connections, _seats: seats, end })
    }

    /// Gives the connection to the worker that has the fewest: a caller that opens as many connections as there are
    /// cores gets all of them, which hashing would not give it.
    pub(super) fn take(&self, job: Job) {
        if let Some(worker) = self.all.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) {
            worker.load.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone drops the connection, which tells the peer.
            let _gone = worker.jobs.send(job);
        }
    }

    /// Waits until no connection is left. There must be no acceptor any more.
    pub(super) async fn idle(&self) {
        while self.connections() > 0 {
            self.connections.close();
            self.connections.wait().await;
            tokio::task::yield_now().await;
        }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.all.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum()
    }

    /// Ends the workers with whatever they still have.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

/// One worker's own part.
struct Seat {
    stacks: Vec<Stack>,
    inbox: mpsc::UnboundedReceiver<Job>,
    load: Arc<AtomicUsize>,
    connections: TaskTracker,
    end: CancellationToken,
    transport: TransportOptions,
    process: Process,
}

impl Seat {
    async fn work(mut self, ready: oneshot::Sender<Result<(), BindError>>) {
        let made: Result<Vec<Layered>, BindError> = self.stacks.iter().map(Stack::layered).collect();
        let layered = match made {
            Ok(layered) => layered,
            Err(error) => {
                let _gone = ready.send(Err(error));
                return;
            }
        };
        let _gone = ready.send(Ok(()));
        let end = self.end.clone();
        end.run_until_cancelled(async {
            while let Some(job) = self.inbox.recv().await {
                self.serve(job, &layered);
            }
            // The last connections are still being served.
            std::future::pending::<()>().await;
        })
        .await;
    }

    fn serve(&self, job: Job, layered: &[Layered]) {
        let held = Held { load: Arc::clone(&self.load), process: self.process.clone(), _slot: job.slot };
        self.process.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let (Some(service), Some(stack)) = (layered.get(job.listener), self.stacks.get(job.listener)) else { return };
        let connection = Connection {
            peer: job.peer,
            tls: stack.tls.clone(),
            service: service.clone(),
            transport: self.transport,
            draining: self.process.draining.clone(),
        };
        let end = self.end.clone();
        self.connections.spawn(async move {
            let _held = held;
            end.run_until_cancelled(connection::serve(job.stream, connection)).await;
        });
    }
}

/// A connection's place, given back however the connection ends.
struct Held {
    load: Arc<AtomicUsize>,
    process: Process,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.process.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
