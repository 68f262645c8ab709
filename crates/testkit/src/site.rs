//! A folder with everything that a suite is configured by: settings, workspaces, secrets, tokens.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use std::fmt::Write as _;
use std::io::Write as _;

/// The bearer tokens of the callers that are configured.
pub mod token {
    /// `support-agent`, role agent.
    pub const AGENT: &str = "demo-agent-token";
    /// `website`, roles messenger and backend.
    pub const WEBSITE: &str = "demo-website-token";
    /// `ops`, role operator.
    pub const OPS: &str = "demo-ops-token";
    /// `reader`, role agent, reads only.
    pub const READER: &str = "test-reader-token";
    /// `narrow`, role agent, `list-orders` only.
    pub const NARROW: &str = "test-narrow-token";
    /// `elsewhere`, role agent, in another workspace.
    pub const ELSEWHERE: &str = "test-elsewhere-token";
    /// `gateway`, role gateway.
    pub const GATEWAY: &str = "test-gateway-token";
    /// `sister`, role service: what services that run alone show each other.
    pub const SISTER: &str = "test-sister-token";
}

/// The workspace of the sample.
pub(crate) const WORKSPACE: &str = "demo-shop";

/// The secret with which the shop's backend makes user hashes.
pub const MESSENGER_SECRET: &str = "test-messenger-secret";

const SETTINGS: &str = include_str!("../../safeconduct/sample/safeconduct.toml");

const WORKSPACES: [(&str, &str); 4] = [
    ("workspace.yaml", include_str!("../../safeconduct/sample/workspaces/workspace.yaml")),
    ("orders.yaml", include_str!("../../safeconduct/sample/workspaces/orders.yaml")),
    ("refund-order.yaml", include_str!("../../safeconduct/sample/workspaces/refund-order.yaml")),
    ("lead-orders.yaml", include_str!("../../safeconduct/sample/workspaces/lead-orders.yaml")),
];

/// The sample's limits, and what stands instead where a test is about something else: as much as a test ever needs.
const LOOSENED: [(&str, &str, &str); 3] = [
    ("workspace.yaml", "max: {EUR: 5000}", "max: {EUR: 9000000000000000}"),
    ("refund-order.yaml", "count: true, max: 3,", "count: true, max: 9000000000000000,"),
    ("refund-order.yaml", "rate: 10/min, burst: 5", "rate: 1000000/s"),
];

/// What stands in the sample instead of the shop's address.
const PLACEHOLDER: &str = "http://127.0.0.1:1/";

/// Callers that only tests need: name, roles, workspace, connectors, effects, token.
const CALLERS: [(&str, &str, &str, &str, &str, &str); 5] = [
    ("reader", "agent", WORKSPACE, "\"*\"", "\"read\"", token::READER),
    ("narrow", "agent", WORKSPACE, "\"list-orders\"", "\"read\", \"write\"", token::NARROW),
    ("elsewhere", "agent", "other-shop", "\"*\"", "\"read\", \"write\"", token::ELSEWHERE),
    ("gateway", "gateway", "*", "", "", token::GATEWAY),
    ("sister", "service", "*", "", "", token::SISTER),
];

/// A configuration folder.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
}

impl Site {
    /// Writes the sample, with the shop at `shop` (`host:port`), into `folder`.
    pub fn write(folder: &Path, shop: &str) -> anyhow::Result<Self> {
        let site = Self { folder: folder.to_owned() };
        fs::create_dir_all(site.folder.join("workspaces"))?;
        let mut settings = SETTINGS.to_owned();
        for (name, role, workspace, connectors, effects, token) in CALLERS {
            let hash = hex::encode(digest::digest(&digest::SHA256, token.as_bytes()));
            write!(
                settings,
                "\n[[callers]]\nname = \"{name}\"\nroles = [\"{role}\"]\nworkspaces = [\"{workspace}\"]\n\
                 connectors = [{connectors}]\neffects = [{effects}]\ndomains = [\"*\"]\ntoken_sha256 = [\"{hash}\"]\n"
            )?;
        }
        fs::write(site.settings(), settings)?;
        for (name, text) in WORKSPACES {
            site.workspace_file(name, &Self::with_shop(text, shop))?;
        }
        for (name, from, to) in LOOSENED {
            site.edit(name, from, to)?;
        }
        site.secret(WORKSPACE, "messenger", MESSENGER_SECRET)?;
        site.secret(WORKSPACE, "shop-token", safeconduct_sample_shop::TOKEN)?;
        private(&site.sister_token(), token::SISTER)?;
        Ok(site)
    }

    /// A text with the shop at `shop` in the place that the sample leaves for it.
    pub(crate) fn with_shop(text: &str, shop: &str) -> String {
        text.replace(PLACEHOLDER, &format!("http://{shop}/"))
    }

    /// The folder, for `--config`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its settings file.
    pub fn settings(&self) -> PathBuf {
        self.folder.join("safeconduct.toml")
    }

    /// Writes a file of workspaces.
    pub fn workspace_file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.join("workspaces").join(name), text)?)
    }

    /// Writes a secret of a workspace.
    pub fn secret(&self, workspace: &str, name: &str, value: &str) -> anyhow::Result<()> {
        let folder = self.folder.join("secrets").join(workspace);
        fs::create_dir_all(&folder)?;
        private(&folder.join(name), value)
    }

    /// Changes the text of a workspace file.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.folder.join("workspaces").join(name);
        let text = fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{name} has no `{from}`");
        Ok(fs::write(path, text.replacen(from, to, 1))?)
    }

    /// The file with the token that services show each other.
    pub fn sister_token(&self) -> PathBuf {
        self.folder.join("sister.token")
    }
}

/// Writes a file that only its owner reads.
fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    Ok(writeln!(file, "{text}")?)
}
