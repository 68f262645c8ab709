//! What the demo runs on: files, processes, channels.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use safeconduct_egress::{AddressPolicy, Call, Target, Upstream, UpstreamOptions, client_tls};
use safeconduct_telemetry::collector::Collector;
use safeconduct_types::{Clock as _, Deadline, Random, SecretText, SystemClock, SystemRandom};
use serde_json::Value;

use super::teller::Teller;
use crate::command::client::{self, Authenticated};
use crate::exit::Failure;

const SETTINGS: &str = include_str!("../../../sample/safeconduct.toml");
const FILES: [(&str, &str); 4] = [
    ("workspace.yaml", include_str!("../../../sample/workspaces/workspace.yaml")),
    ("orders.yaml", include_str!("../../../sample/workspaces/orders.yaml")),
    ("refund-order.yaml", include_str!("../../../sample/workspaces/refund-order.yaml")),
    ("lead-orders.yaml", include_str!("../../../sample/workspaces/lead-orders.yaml")),
];
/// Where the sample workspace's upstream stands until the shop has a port.
const PLACEHOLDER: &str = "http://127.0.0.1:1/";
/// As the comments in the sample's settings say.
const TOKENS: [(&str, &str); 2] = [("agent", "demo-agent-token"), ("website", "demo-website-token")];
/// How long a code may take to be printed.
const MAIL_WITHIN: Duration = Duration::from_secs(20);
const START_WITHIN: Duration = Duration::from_secs(30);
const LISTENERS: [(&str, u16); 5] =
    [("identity", 50051), ("otp", 50052), ("connector", 50053), ("admission", 50054), ("operations", 9464)];

/// The workspace of the demo.
pub(crate) const WORKSPACE: &str = "demo-shop";

/// Everything that runs. Ends with it.
pub(crate) struct Site {
    dir: PathBuf,
    addresses: BTreeMap<String, String>,
    shop: Upstream,
    pub(crate) secret: SecretText,
    pub(crate) agent: Authenticated,
    pub(crate) website: Authenticated,
    /// The website again, on its way to otp.
    pub(crate) otp: Authenticated,
    pub(crate) collector: Collector,
    _processes: Vec<Running>,
    _temporary: Option<tempfile::TempDir>,
}

/// A child process that does not outlive the demo.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    pub(crate) async fn start(dir: Option<&Path>, once: bool) -> Result<Self, Failure> {
        let (dir, temporary) = if let Some(dir) = dir {
            (dir.to_owned(), None)
        } else {
            let made = tempfile::Builder::new().prefix("safeconduct-demo-").tempdir().map_err(Failure::unavailable)?;
            (made.path().to_owned(), Some(made))
        };
        fs::create_dir_all(&dir).map_err(Failure::unavailable)?;
        let dir = dir.canonicalize().map_err(Failure::unavailable)?;
        let collector = Collector::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(Failure::unavailable)?;
        let mut processes = Vec::new();
        let (shop, shop_address) = {
            let mut command = own_command()?;
            command.args(["sample-shop", "--listen", "127.0.0.1:0"]);
            let mut shop = start(command, &dir, "shop")?;
            let ready = ready(&mut shop, &dir, "shop").await?;
            (shop, ready.get("shop").cloned().unwrap_or_default())
        };
        processes.push(shop);
        let secret = write_files(&dir, &shop_address)?;
        let mut suite = start(suite_command(&dir, &collector, once)?, &dir, "suite")?;
        let addresses = ready(&mut suite, &dir, "suite").await?;
        processes.push(suite);
        let channel = |service: &str, token: &str| {
            let address = addresses.get(service).cloned().unwrap_or_default();
            client::connect(&format!("http://{address}"), &SecretText::new(token.to_owned()), None)
        };
        Ok(Self {
            agent: channel("connector", "demo-agent-token")?,
            website: channel("identity", "demo-website-token")?,
            otp: channel("otp", "demo-website-token")?,
            shop: shop_client(&shop_address)?,
            dir,
            addresses,
            secret,
            collector,
            _processes: processes,
            _temporary: temporary,
        })
    }

    /// What has happened at the shop.
    pub(crate) async fn effects(&self) -> Result<Value, Failure> {
        let url = format!("http://{}:{}/_shop/effects", self.shop.target().host_str(), self.shop.target().port());
        let call = Call {
            method: Method::GET,
            url: url.parse().map_err(Failure::internal)?,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            deadline: Deadline::within(SystemClock.instant(), Duration::from_secs(5)),
            max_bytes: 1 << 20,
        };
        let answer = self.shop.call(call).await.map_err(Failure::internal)?;
        serde_json::from_slice(&answer.body.map_err(Failure::internal)?).map_err(Failure::internal)
    }

    /// Keeps an assertion for the commands that are shown at the end.
    pub(crate) fn keep_assertion(&self, assertion: &str) -> Result<(), Failure> {
        fs::write(self.dir.join("ada.assertion"), assertion).map_err(Failure::unavailable)
    }

    /// The newest message that the suite printed to this address, once it is there: all of it, and the code in it.
    pub(crate) async fn mail(&self, to: &str) -> Result<(String, String), Failure> {
        let deadline = Deadline::within(SystemClock.instant(), MAIL_WITHIN);
        loop {
            let printed = fs::read_to_string(self.dir.join("suite.log")).unwrap_or_default();
            if let Some(found) = newest_mail(&printed, to) {
                return Ok(found);
            }
            if deadline.remaining(SystemClock.instant()).is_zero() {
                return Err(Failure::unavailable("no code was printed"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of the suite's log, for when something went wrong.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.dir.join("suite.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.len().saturating_sub(20);
        format!("the end of the suite's log:\n{}", lines.get(last..).unwrap_or_default().join("\n"))
    }

    pub(crate) fn print_commands(&self, teller: &Teller) {
        let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let at = |name: &str| self.addresses.get(name).cloned().unwrap_or_default();
        let dir = self.dir.display();
        let (connector, identity, operations) = (at("connector"), at("identity"), at("operations"));
        teller.title("It stays up. In another terminal:");
        teller.say(&format!(
            "\n  # what the agent does\n  {program} call list-orders --address http://{connector} \\\n      \
             --token-file {dir}/agent.token --assertion-file {dir}/ada.assertion\n  {program} call refund-order \
             --address http://{connector} \\\n      --token-file {dir}/agent.token --assertion-file {dir}/ada.assertion \
             \\\n      --inputs '{{\"order_id\":\"ord_d4e5f6\",\"amount\":500}}'\n\n  # a fresh assertion (they last 15 \
             minutes)\n  {program} sign assertion --workspace {WORKSPACE} --user-id cust_ada --address http://{identity} \
             \\\n      --secret-file {dir}/config/secrets/{WORKSPACE}/messenger --token-file {dir}/website.token \\\n      \
             --presenter support-agent > {dir}/ada.assertion\n\n  # any gRPC client, by reflection\n  buf curl \
             --protocol grpc --http2-prior-knowledge -H 'authorization: Bearer demo-agent-token' \\\n      -d \
             \"{{\\\"assertion\\\":\\\"$(cat {dir}/ada.assertion)\\\",\\\"connector\\\":\\\"list-orders\\\"}}\" \\\n      \
             http://{connector}/safeconduct.connector.v1.ConnectorService/Execute\n\n  # definitions, log, metrics\n  \
             {program} check {dir}/config/workspaces\n  tail -f {dir}/suite.log\n  curl http://{operations}/metrics\n\n\
             Ctrl-C ends it."
        ));
    }
}

/// The newest whole message to this address, and the first six digits in a row of it.
fn newest_mail(printed: &str, to: &str) -> Option<(String, String)> {
    let (_, after) = printed.rsplit_once(&format!("\nto: {to}\n"))?;
    let (mail, _) = after.split_once("---- end ----")?;
    let code = mail.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 6)?;
    Some((mail.trim().to_owned(), code.to_owned()))
}

fn own_command() -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe().map_err(Failure::internal)?);
    command.stdin(Stdio::null());
    Ok(command)
}

fn suite_command(dir: &Path, collector: &Collector, once: bool) -> Result<Command, Failure> {
    let mut command = own_command()?;
    command.args(["serve", "all", "--config"]).arg(dir.join("config")).arg("--data-dir").arg(dir.join("data"));
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "200");
    // Well-known ports for commands to copy; any free ones where those are taken, or nobody will copy.
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    if once || !LISTENERS.iter().all(|(_, port)| free(*port)) {
        for (name, _) in LISTENERS {
            command.env(format!("SAFECONDUCT_{}__LISTEN", name.to_uppercase()), "127.0.0.1:0");
        }
    }
    Ok(command)
}

fn start(mut command: Command, dir: &Path, name: &str) -> Result<Running, Failure> {
    let log = File::create(dir.join(format!("{name}.log"))).map_err(Failure::unavailable)?;
    let again = log.try_clone().map_err(Failure::unavailable)?;
    let ready = ready_file(dir, name);
    // One that an earlier run left behind would be believed.
    let _ = fs::remove_file(&ready);
    command.arg("--ready-file").arg(ready).stdout(log).stderr(again);
    command.spawn().map(Running).map_err(|error| Failure::unavailable(format!("the {name} cannot be started: {error}")))
}

fn ready_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.ready"))
}

async fn ready(process: &mut Running, dir: &Path, name: &str) -> Result<BTreeMap<String, String>, Failure> {
    let deadline = Deadline::within(SystemClock.instant(), START_WITHIN);
    loop {
        if let Ok(text) = fs::read_to_string(ready_file(dir, name)) {
            return serde_json::from_str(&text).map_err(Failure::internal);
        }
        let ended = process.0.try_wait().map_err(Failure::internal)?;
        if ended.is_some() || deadline.remaining(SystemClock.instant()).is_zero() {
            let log = fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
            return Err(Failure::unavailable(format!("the {name} did not start:\n{log}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes the sample workspace; yields the workspace's secret.
fn write_files(dir: &Path, shop: &str) -> Result<SecretText, Failure> {
    let write = |path: PathBuf, text: &str| {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)
    };
    let random: &dyn Random = &SystemRandom;
    let secret = hex::encode(random.bytes::<32>());
    let config = dir.join("config");
    let secrets = config.join("secrets").join(WORKSPACE);
    let all = || -> std::io::Result<()> {
        write(config.join("safeconduct.toml"), SETTINGS)?;
        for (name, text) in FILES {
            write(config.join("workspaces").join(name), &text.replace(PLACEHOLDER, &format!("http://{shop}/")))?;
        }
        write(secrets.join("messenger"), &secret)?;
        write(secrets.join("shop-token"), safeconduct_sample_shop::TOKEN)?;
        for (name, token) in TOKENS {
            write(dir.join(format!("{name}.token")), token)?;
        }
        Ok(())
    };
    all().map_err(|error| Failure::unavailable(format!("{}: {error}", dir.display())))?;
    Ok(SecretText::new(secret))
}

fn shop_client(address: &str) -> Result<Upstream, Failure> {
    let target = Target::parse(&format!("http://{address}"), true).map_err(Failure::internal)?;
    let loopback = "127.0.0.0/8".parse().map_err(Failure::internal)?;
    let tls = client_tls().map_err(Failure::unavailable)?;
    let policy = AddressPolicy::allowing(vec![loopback]);
    Ok(Upstream::new(target, policy, tls, UpstreamOptions::default(), Arc::new(SystemClock)))
}
