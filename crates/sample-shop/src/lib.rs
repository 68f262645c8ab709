//! A small shop API to try connectors against.
//!
//! It plays somebody else's API, seen from outside: it knows customers, orders, parcels and refunds, asks for a bearer
//! token, honours idempotency keys on refunds, and misbehaves when told to. It shares no code with the suite, and
//! nothing of it is part of the product.
//!
//! | call | what it does |
//! |---|---|
//! | `GET /v2/customers/{customer}/orders` | the customer's orders |
//! | `GET /v2/orders?email={email}` | what was ordered with this address |
//! | `GET /v2/orders/{order}` | one order, if the header `X-Customer` names its customer |
//! | `POST /v2/orders/{order}/refunds` | refunds `{"amount": minor units, "note": text}`; `Idempotency-Key` is honoured |
//! | `GET /v2/orders/{order}/parcel` | where the parcel is |
//! | `GET /_shop/effects` | what has happened so far, to count effects (no token needed) |
//! | `POST /_shop/faults` | misbehave in the next calls, see [`fault`] (no token needed) |

pub mod fault;
mod routes;
mod state;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

pub use state::{Effects, TOKEN};

/// Serves the shop on `listener` until the task is dropped.
#[allow(clippy::disallowed_methods, reason = "not part of the suite; the process ends with its connections")]
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let shop = Arc::new(state::Shop::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let shop = Arc::clone(&shop);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shop = Arc::clone(&shop);
                async move { Ok::<_, Infallible>(routes::answer(&shop, request).await) }
            });
            // A client that goes away is its own business.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Binds `address` (port 0: any free one), tells the address through `ready`, and serves.
pub async fn bind_and_serve(address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    ready(listener.local_addr()?);
    serve(listener).await
}
