//! A real Envoy asks admission for rate limits, and does what it is told. The limits are in the form that
//! `envoyproxy/ratelimit` reads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use safeconduct_testkit::{Layout, Options, Process, Store, Suite, run, token, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::clients::works;

const WAIT: Duration = Duration::from_secs(20);

/// Units are long, so that nothing comes back while a test runs.
const LIMITS: &str = "
domain: shop-front
descriptors:
  - key: user
    rate_limit: {name: per-user, unit: day, requests_per_unit: 5}
  - key: user
    value: blocked
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: quiet
    shadow_mode: true
    rate_limit: {unit: day, requests_per_unit: 1}
  - key: path
    value: /api/*
    share_threshold: true
    rate_limit: {unit: day, requests_per_unit: 1000, burst: 2}
";

const ENVOY: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route:
                  cluster: upstream
                  rate_limits:
                  - actions: [{request_headers: {header_name: x-user, descriptor_key: user}}]
                  - actions: [{request_headers: {header_name: x-quiet, descriptor_key: quiet}}]
                  - actions: [{request_headers: {header_name: ":path", descriptor_key: path}}]
          http_filters:
          - name: envoy.filters.http.ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: shop-front
              failure_mode_deny: true
              timeout: 10s
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              rate_limit_service:
                transport_api_version: V3
                grpc_service:
                  envoy_grpc: {cluster_name: safeconduct}
                  initial_metadata: [{key: authorization, value: "Bearer TOKEN"}]
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment:
      cluster_name: upstream
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: UPSTREAM}}}}]}]
  - name: safeconduct
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: safeconduct
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ADMISSION}}}}]}]
"#;

/// An Envoy between a client and an upstream, with admission beside it.
struct Gateway {
    suite: Suite,
    front: SocketAddr,
    _envoy: Process,
    _upstream: JoinSet<()>,
    folder: tempfile::TempDir,
}

/// An HTTP answer: status and headers.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
}

impl Gateway {
    /// None: there is no Envoy on this machine, and it may do without.
    async fn start(store: Store) -> Option<Self> {
        if !works("envoy", &["--version"]).await {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let limits = folder.path().join("limits.yaml");
        std::fs::write(&limits, LIMITS).unwrap();
        let options = Options::new(Layout::Only("admission"), store)
            .set("SAFECONDUCT_ADMISSION__ENVOY__DESCRIPTORS", &limits.to_string_lossy());
        let suite = Suite::start(options).await.unwrap();
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = |address: SocketAddr| address.port().to_string();
        let config = ENVOY
            .replace("TOKEN", token::GATEWAY)
            .replace("UPSTREAM", &port(upstream.local_addr().unwrap()))
            .replace("ADMISSION", &port(suite.address("admission").unwrap().parse().unwrap()));
        std::fs::write(folder.path().join("envoy.yaml"), config).unwrap();
        let (envoy, front) = envoy(folder.path()).await.unwrap();
        Some(Self { suite, front, _envoy: envoy, _upstream: serve(upstream), folder })
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        get(self.front, path, headers).await.unwrap()
    }

    fn write_limits(&self, text: &str) {
        std::fs::write(self.folder.path().join("limits.yaml"), text).unwrap();
    }

    async fn metrics(&self) -> String {
        let address = self.suite.address("operations").unwrap().parse().unwrap();
        ask(address, "/metrics", &[]).await.unwrap()
    }
}

/// Starts Envoy and finds where it listens.
async fn envoy(folder: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let admin = folder.join("admin");
    let mut command = Command::new("envoy");
    command.args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]);
    command.arg("--config-path").arg(folder.join("envoy.yaml")).arg("--admin-address-path").arg(&admin);
    let mut process = Process::spawn("envoy", command, folder)?;
    let front = until("Envoy to listen", WAIT, async || {
        if let Ok(status) = process.exit(Duration::ZERO).await {
            anyhow::bail!("Envoy ended with {status}:\n{}", process.log());
        }
        let Ok(admin) = std::fs::read_to_string(&admin).unwrap_or_default().trim().parse() else { return Ok(None) };
        let Ok(listeners) = ask(admin, "/listeners", &[]).await else { return Ok(None) };
        Ok(listeners.lines().find_map(|line| line.trim().strip_prefix("front::")?.parse().ok()))
    });
    let front = front.await?;
    Ok((process, front))
}

/// An upstream that says yes to everything.
fn serve(listener: TcpListener) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    tasks
}

async fn ask(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let request = format!("GET {path} HTTP/1.1\r\nhost: front\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
    let text = ask(address, path, headers).await?;
    let (head, _) = text.split_once("\r\n\r\n").context("no answer")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status")?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Answer { status, headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect() })
}

async fn exactly_a_burst_passes(store: Store) {
    let Some(gateway) = Gateway::start(store).await else { return };
    let mut statuses = Vec::new();
    let mut last = None;
    for _ in 0..8 {
        let answer = gateway.get("/", &[("x-user", "ada")]).await;
        statuses.push(answer.status);
        if answer.status == 200 {
            let left = 5 - statuses.len();
            assert!(answer.headers["ratelimit"].starts_with(&format!("\"per-user\";r={left};t=")), "{answer:?}");
            assert_eq!(answer.headers["ratelimit-policy"], "\"per-user\";q=5;w=86400");
        }
        last = Some(answer);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    let refused = last.unwrap();
    let retry: u64 = refused.headers["retry-after"].parse().unwrap();
    // A fifth of a day.
    assert!((17_200..=17_280).contains(&retry), "{refused:?}");
    assert!(refused.headers["ratelimit"].starts_with("\"per-user\";r=0;t="), "{refused:?}");
    // Envoy makes its own headers of what it is told of each descriptor.
    assert_eq!(refused.headers["x-ratelimit-remaining"], "0", "{refused:?}");

    // Somebody else has a count of their own, and however many ask at once, no more than a burst passes.
    let mut asking = JoinSet::new();
    let front = gateway.front;
    for _ in 0..60 {
        asking.spawn(async move { get(front, "/", &[("x-user", "grace")]).await.unwrap().status });
    }
    let answers = asking.join_all().await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 5, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 429).count(), 55, "{answers:?}");
}

#[tokio::test]
async fn envoy_lets_exactly_a_burst_through_with_the_embedded_store() {
    exactly_a_burst_passes(Store::Embedded).await;
}

#[tokio::test]
async fn envoy_lets_exactly_a_burst_through_with_redis() {
    exactly_a_burst_passes(Store::Redis).await;
}

#[tokio::test]
async fn shadow_mode_patterns_and_closed_values_do_what_their_file_says() {
    let Some(gateway) = Gateway::start(Store::Embedded).await else { return };
    for _ in 0..4 {
        let answer = gateway.get("/", &[("x-quiet", "anybody")]).await;
        assert_eq!(answer.status, 200, "a limit in shadow mode refuses nothing");
        assert!(!answer.headers.contains_key("ratelimit"), "{answer:?}");
    }
    let metrics = gateway.metrics().await;
    let counted = |result: &str, limit: &str, count: u64| {
        let line = format!(
            "safeconduct_gateway_hits_total{{domain=\"shop-front\",limit=\"{limit}\",result=\"{result}\"}} {count}\n"
        );
        assert!(metrics.contains(&line), "{line}{metrics}");
    };
    counted("ok", "quiet", 1);
    counted("shadow_over", "quiet", 3);

    let blocked = gateway.get("/", &[("x-user", "blocked")]).await;
    assert_eq!(blocked.status, 429);
    assert!(!blocked.headers.contains_key("retry-after"), "waiting does not help: {blocked:?}");

    // One count for all that the pattern stands for.
    let paths = ["/api/a", "/api/b", "/api/c"];
    let mut statuses = Vec::new();
    for path in paths {
        statuses.push(gateway.get(path, &[]).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(gateway.get("/elsewhere", &[]).await.status, 200);
}

#[tokio::test]
async fn limits_are_taken_anew_when_their_file_changes_and_kept_when_it_breaks() {
    let Some(gateway) = Gateway::start(Store::Embedded).await else { return };
    let blocked = ("x-user", "blocked");
    assert_eq!(gateway.get("/", &[blocked]).await.status, 429);
    gateway.write_limits("domain: shop-front\ndescriptors:\n  - {key: user, value: blocked, rate_limits: {}}\n");
    until("the refusal of a broken file", WAIT, async || {
        let logs = gateway.suite.logs();
        Ok((logs.contains("limits.yaml:3:") && logs.contains("stay in force")).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(gateway.get("/", &[blocked]).await.status, 429, "the last good limits stay in force");
    gateway.write_limits("domain: shop-front\n");
    until("limits without the block", WAIT, async || {
        Ok((gateway.get("/", &[blocked]).await.status == 200).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn wrong_limits_stop_the_start_with_their_place_and_the_check_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let limits = folder.path().join("limits.yaml");
    std::fs::write(&limits, "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: eon, requests_per_unit: 1}}\n")
        .unwrap();
    let path = limits.to_string_lossy();
    let data = folder.path().join("data");
    let environment = [("SAFECONDUCT_ADMISSION__ENVOY__DESCRIPTORS", &*path)];
    let started = run(&["serve", "all", "--data-dir", &data.to_string_lossy()], &environment).await.unwrap();
    assert_eq!(started.code, Some(64), "{}", started.text());
    for part in ["admission.envoy.descriptors", "limits.yaml:3:", "second, minute, hour"] {
        assert!(started.text().contains(part), "{part}: {}", started.text());
    }
    let checked = run(&["check", "--envoy", &path], &[]).await.unwrap();
    assert_eq!(checked.code, Some(65), "{}", checked.text());
    assert!(checked.text().contains("limits.yaml:3:"), "{}", checked.text());
    std::fs::write(&limits, LIMITS).unwrap();
    let checked = run(&["check", "--envoy", &path], &[]).await.unwrap();
    assert_eq!(checked.code, Some(0), "{}", checked.text());
}
