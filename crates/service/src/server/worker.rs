//! Where connections are served.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::{self, Connection};
use super::lend::{Lender, Lending};
use super::{BindError, RunError, RuntimeKind, ServerOptions, Stack, TransportOptions};
use crate::layers::Layered;
use crate::process::Process;

/// An accepted connection on its way to a worker.
pub(super) struct Job {
    pub(super) stream: TcpStream,
    /// Which listener accepted it.
    pub(super) listener: usize,
    pub(super) slot: OwnedSemaphorePermit,
}

/// All workers, and the connections that they have.
pub(super) struct Workers {
    all: Vec<Worker>,
    connections: TaskTracker,
    /// The worker on the caller's own runtime.
    shared: JoinSet<()>,
    end: CancellationToken,
    /// Ends the threads, too, if the server is dropped.
    _end: DropGuard,
}

struct Worker {
    load: Arc<AtomicUsize>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Worker {
    fn new() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (jobs, inbox) = mpsc::unbounded_channel();
        (Self { load: Arc::default(), jobs }, inbox)
    }
}

impl Workers {
    /// Starts them; comes back when each of them has its routes and is ready.
    pub(super) async fn start(
        options: &ServerOptions,
        stacks: Vec<Stack>,
        process: &Process,
    ) -> Result<Self, RunError> {
        let (connections, end) = (TaskTracker::new(), CancellationToken::new());
        let mut workers =
            Self { all: Vec::new(), connections, shared: JoinSet::new(), _end: end.clone().drop_guard(), end };
        let runtimes = runtimes(options)?;
        // The caller's own runtime if there are none.
        let handles = runtimes.iter().map(|runtime| runtime.handle().clone());
        let lenders: Arc<[_]> = match runtimes.len() {
            0 => [Lender::new(Handle::current())].into(),
            _ => handles.map(Lender::new).collect(),
        };
        let began = process.clock.instant();
        let seat = |own, inbox, load: &Arc<AtomicUsize>, workers: &Self| Seat {
            stacks: stacks.clone(),
            inbox,
            load: Arc::clone(load),
            connections: workers.connections.clone(),
            end: workers.end.clone(),
            transport: options.transport,
            process: process.clone(),
            lending: Lending { workers: Arc::clone(&lenders), own, clock: Arc::clone(&process.clock), began },
        };
        if runtimes.is_empty() {
            let (worker, inbox) = Worker::new();
            let (ready, started) = oneshot::channel();
            let seat = seat(0, inbox, &worker.load, &workers);
            workers.shared.spawn(seat.work(ready));
            workers.seated(worker, started).await?;
        }
        for (own, runtime) in runtimes.into_iter().enumerate() {
            let (worker, inbox) = Worker::new();
            let (ready, started) = oneshot::channel();
            let seat = seat(own, inbox, &worker.load, &workers);
            std::thread::Builder::new().name(format!("worker-{own}")).spawn(move || {
                runtime.block_on(seat.work(ready));
                // What is still running has had its time.
                runtime.shutdown_background();
            })?;
            workers.seated(worker, started).await?;
        }
        Ok(workers)
    }

    async fn seated(&mut self, worker: Worker, started: oneshot::Receiver<Started>) -> Result<(), RunError> {
        started.await.map_err(|_| RunError::WorkerGone)??;
        self.all.push(worker);
        Ok(())
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

/// A runtime for each worker; none if calls are served on the caller's own.
fn runtimes(options: &ServerOptions) -> io::Result<Vec<Runtime>> {
    let count = match options.runtime {
        RuntimeKind::Shared => 0,
        RuntimeKind::PerCore if options.workers == 0 => {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        }
        RuntimeKind::PerCore => options.workers,
    };
    (0..count).map(|_| Builder::new_current_thread().enable_all().build()).collect()
}

type Started = Result<(), BindError>;

/// One worker's own part.
struct Seat {
    stacks: Vec<Stack>,
    inbox: mpsc::UnboundedReceiver<Job>,
    load: Arc<AtomicUsize>,
    connections: TaskTracker,
    end: CancellationToken,
    transport: TransportOptions,
    process: Process,
    lending: Lending,
}

impl Seat {
    async fn work(mut self, ready: oneshot::Sender<Started>) {
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
            tls: stack.tls.clone(),
            service: service.clone(),
            metrics: Arc::clone(&self.process.metrics),
            lending: self.lending.clone(),
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
