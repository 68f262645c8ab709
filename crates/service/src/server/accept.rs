//! Accepting connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::worker::{Job, Workers};

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1024;

/// Binds a listening socket.
pub(super) fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart does not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The acceptors of all listeners.
pub(super) struct Accepting {
    acceptors: JoinSet<()>,
    stop: CancellationToken,
}

impl Accepting {
    /// Accepts what the kernel holds already, then closes the sockets.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.acceptors.join_next().await.is_some() {}
    }
}

pub(super) fn start(
    sockets: Vec<(TcpListener, &'static str)>,
    workers: &Arc<Workers>,
    max_connections: usize,
) -> io::Result<Accepting> {
    let slots = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    let stop = CancellationToken::new();
    let mut acceptors = JoinSet::new();
    for (index, (socket, name)) in sockets.into_iter().enumerate() {
        let listener = tokio::net::TcpListener::from_std(socket)?;
        let acceptor = Acceptor { index, name, workers: Arc::clone(workers), slots: Arc::clone(&slots) };
        acceptors.spawn(acceptor.run(listener, stop.clone()));
    }
    Ok(Accepting { acceptors, stop })
}

struct Acceptor {
    index: usize,
    name: &'static str,
    workers: Arc<Workers>,
    slots: Arc<Semaphore>,
}

impl Acceptor {
    async fn run(self, listener: tokio::net::TcpListener, stop: CancellationToken) {
        stop.run_until_cancelled(self.accept(&listener)).await;
        // Whoever is in the backlog believes to be connected; closing the socket now would reset them.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            let Ok((stream, _)) = listener.accept() else { return };
            self.workers.take(Job { stream, listener: self.index, slot });
        }
    }

    async fn accept(&self, listener: &tokio::net::TcpListener) {
        while let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
            match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.workers.take(Job { stream, listener: self.index, slot }),
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "a connection could not be accepted");
                    // Out of file descriptors, most likely: some will be closed soon.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}
