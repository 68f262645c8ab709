//! The services beside which ours is measured: the contract's `Lookup` with one rate, or `Admit`, and nothing around it.

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

/// The least that a script can do for a write: its key with what was intended, two such rates and the sum of a day.
const WRITE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = redis.call('MGET', unpack(KEYS))
if found[1] then return {2, found[1]} end
local rates = {}
for i = 1, 2 do
  local step, room = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local at = math.max(tonumber(found[1 + i] or 0), now) + step
  if at - room > now then return {0, at - room - now} end
  rates[i] = at
end
local used = tonumber(found[4] or 0) + tonumber(ARGV[6])
if used > tonumber(ARGV[7]) then return {0, 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', 259200000)
for i = 1, 2 do
  redis.call('SET', KEYS[1 + i], string.format('%.0f', rates[i]), 'PX', math.ceil((rates[i] - now) / 1000) + 1)
end
redis.call('SET', KEYS[4], string.format('%.0f', used), 'PX', 86400000)
return {1, used}
";

/// Decides with one call of a script, or of a library.
trait Decide: Send + Sync + 'static {
    fn decide(&self, contact: &str) -> impl Future<Output = Result<bool, Status>> + Send;

    /// The whole admission of a write.
    fn write(&self, _: &admission::AdmitRequest) -> impl Future<Output = Result<bool, Status>> + Send {
        async { not_here().map(|_: Response<()>| false) }
    }
}

struct Floor {
    connection: MultiplexedConnection,
    script: redis::Script,
    write: redis::Script,
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

    async fn write(&self, request: &admission::AdmitRequest) -> Result<bool, Status> {
        let mut connection = self.connection.clone();
        let contact = &request.contact_id;
        let keys = request.idempotency.as_ref().map(|it| it.keys.as_slice()).unwrap_or_default();
        let digest = keys.first().map(|key| key.digest.as_ref()).unwrap_or_default();
        let record = [b"{", contact.as_bytes(), b"}", digest].concat();
        let answer: (i64, i64) = self
            .write
            .key(record)
            .key(format!("{{{contact}}}burst"))
            .key(format!("{{{contact}}}steady"))
            .key(format!("{{{contact}}}money-out"))
            .arg(request.intent.as_ref())
            .arg((1, 1_000_000, 60, 60_000_000, 500, 1_i64 << 50))
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
    let (script, write) = (redis::Script::new(SCRIPT), redis::Script::new(WRITE));
    serve(Floor { connection, script, write }).await
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
    Err(Status::unimplemented("only Lookup and Admit are measured here"))
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

    async fn admit(
        &self,
        request: Request<admission::AdmitRequest>,
    ) -> Result<Response<admission::AdmitResponse>, Status> {
        use admission::admit_response::Decision;
        let decision = if self.0.write(request.get_ref()).await? {
            Decision::Admitted(admission::Admitted::default())
        } else {
            Decision::Denied(admission::Denied::default())
        };
        Ok(Response::new(admission::AdmitResponse { decision: Some(decision) }))
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
