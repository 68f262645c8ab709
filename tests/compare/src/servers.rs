//! The services beside which ours is measured: the contract's `Lookup` with one rate, and nothing around it.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use limitador::limit::{Context, Limit, Namespace};
use limitador::storage::redis::AsyncRedisStorage;
use limitador::{AsyncRateLimiter, RateLimiter};
use redis::aio::MultiplexedConnection;
use safeconduct_proto::admission::v1 as admission;
use safeconduct_proto::admission::v1::admission_service_server::{AdmissionService, AdmissionServiceServer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// One GCRA rate by hand: the least that a script can do for it.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + step
if at - room > now then return {0, at - room - now} end
redis.call('SET', KEYS[1], string.format('%.0f', at), 'PX', math.ceil((at - now) / 1000) + 1)
return {1, at - now}
";

/// Decides with one call of a script, or of a library.
trait Decide: Send + Sync + 'static {
    fn decide(&self, contact: &str) -> impl Future<Output = Result<bool, Status>> + Send;
}

struct Floor {
    connection: MultiplexedConnection,
    script: redis::Script,
}

impl Decide for Floor {
    async fn decide(&self, contact: &str) -> Result<bool, Status> {
        let mut connection = self.connection.clone();
        let answer: (i64, i64) = self
            .script
            .key(contact)
            .arg(1)
            .arg(1_000_000)
            .invoke_async(&mut connection)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(answer.0 == 1)
    }
}

/// The least: a tonic service that makes one script call.
pub async fn floor(redis: &str) -> anyhow::Result<()> {
    let client = redis::Client::open(redis).context("a url of Redis")?;
    let timing = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let connection = client.get_multiplexed_async_connection_with_config(&timing).await?;
    serve(Floor { connection, script: redis::Script::new(SCRIPT) }).await
}

fn limit() -> anyhow::Result<Limit> {
    let contact = "contact".try_into().map_err(|_| anyhow::anyhow!("a variable"))?;
    Ok(Limit::new("bench", 1_000_000_000, 60, vec![], vec![contact]))
}

fn context(contact: &str) -> (Namespace, HashMap<String, String>) {
    ("bench".into(), HashMap::from([("contact".to_owned(), contact.to_owned())]))
}

struct OverRedis(AsyncRateLimiter);

impl Decide for OverRedis {
    async fn decide(&self, contact: &str) -> Result<bool, Status> {
        let (namespace, values) = context(contact);
        let values = Context::from(values);
        let answer = self.0.check_rate_limited_and_update(&namespace, &values, 1).await;
        answer.map(|found| !found.limited).map_err(|error| Status::unavailable(error.to_string()))
    }
}

struct InMemory(RateLimiter);

impl Decide for InMemory {
    async fn decide(&self, contact: &str) -> Result<bool, Status> {
        let (namespace, values) = context(contact);
        let values = Context::from(values);
        let answer = self.0.check_rate_limited_and_update(&namespace, &values, 1);
        answer.map(|found| !found.limited).map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// The published library over Redis, exactly (without its cache, which may let more pass).
pub async fn limitador_redis(redis: &str) -> anyhow::Result<()> {
    let storage = AsyncRedisStorage::new(redis).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let limiter = AsyncRateLimiter::new_with_storage(Box::new(storage));
    limiter.add_limit(limit()?);
    serve(OverRedis(limiter)).await
}

/// The published library in memory.
pub async fn limitador_memory() -> anyhow::Result<()> {
    let limiter = RateLimiter::new(100_000);
    limiter.add_limit(limit()?);
    serve(InMemory(limiter)).await
}

struct Service<D>(D);

async fn serve(decide: impl Decide) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    // How whoever started it learns where it listens.
    println!("{}", listener.local_addr()?);
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    let mut server = server.max_concurrent_streams(1024);
    let service = AdmissionServiceServer::new(Service(decide));
    server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("only Lookup is measured here"))
}

#[tonic::async_trait]
impl<D: Decide> AdmissionService for Service<D> {
    async fn lookup(
        &self,
        request: Request<admission::LookupRequest>,
    ) -> Result<Response<admission::LookupResponse>, Status> {
        use admission::lookup_response::Answer;
        let passed = self.0.decide(&request.into_inner().contact_id).await?;
        let answer = if passed {
            Answer::Absent(admission::Absent::default())
        } else {
            Answer::Denied(admission::Denied::default())
        };
        Ok(Response::new(admission::LookupResponse { answer: Some(answer) }))
    }

    async fn admit(&self, _: Request<admission::AdmitRequest>) -> Result<Response<admission::AdmitResponse>, Status> {
        not_here()
    }

    async fn extend(
        &self,
        _: Request<admission::ExtendRequest>,
    ) -> Result<Response<admission::ExtendResponse>, Status> {
        not_here()
    }

    async fn settle(
        &self,
        _: Request<admission::SettleRequest>,
    ) -> Result<Response<admission::SettleResponse>, Status> {
        not_here()
    }

    async fn get_usage(
        &self,
        _: Request<admission::GetUsageRequest>,
    ) -> Result<Response<admission::GetUsageResponse>, Status> {
        not_here()
    }

    async fn list_records(
        &self,
        _: Request<admission::ListRecordsRequest>,
    ) -> Result<Response<admission::ListRecordsResponse>, Status> {
        not_here()
    }

    async fn erase_contact(
        &self,
        _: Request<admission::EraseContactRequest>,
    ) -> Result<Response<admission::EraseContactResponse>, Status> {
        not_here()
    }

    async fn set_mark(
        &self,
        _: Request<admission::SetMarkRequest>,
    ) -> Result<Response<admission::SetMarkResponse>, Status> {
        not_here()
    }

    async fn clear_mark(
        &self,
        _: Request<admission::ClearMarkRequest>,
    ) -> Result<Response<admission::ClearMarkResponse>, Status> {
        not_here()
    }

    type WatchMarksStream = tokio_stream::Empty<Result<admission::WatchMarksResponse, Status>>;

    async fn watch_marks(
        &self,
        _: Request<admission::WatchMarksRequest>,
    ) -> Result<Response<Self::WatchMarksStream>, Status> {
        not_here()
    }
}
