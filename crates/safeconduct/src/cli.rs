//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::command;
use crate::exit::Outcome;
use crate::serve;

/// Safeconduct: the way an AI agent acts for a person.
///
/// Exit codes: 0 done, 1 refused, 64 wrong usage or configuration, 65 wrong definitions or inputs, 69 something that
/// is needed is not there, 70 a fault.
#[derive(Debug, Parser)]
#[command(name = "safeconduct", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a service, or all of them in one process.
    Serve(ServeArgs),
    /// Plays the product's story on this terminal, against a suite and a sample shop that it starts itself.
    Demo(DemoArgs),
    /// Checks workspace definitions and says where and what to mend.
    Check {
        /// Files or directories with definitions.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Executes a connector for a contact, as an agent would.
    Call(CallArgs),
    /// Makes proofs for trying out: what a backend does with the workspace's secret.
    #[command(subcommand)]
    Sign(SignCommand),
    /// Makes and changes the suite's key files.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Explains an error reason, or lists all of them.
    Errors {
        /// The reason, as in `ErrorInfo`; none: all of them.
        reason: Option<String>,
    },
    /// A small shop API to try connectors against; see `demo`.
    #[command(hide = true)]
    SampleShop {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Written once it listens: JSON with the address.
        #[arg(long)]
        ready_file: Option<PathBuf>,
    },
}

/// Which services a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Proves who a contact is.
    Identity,
    /// Proves that a lead controls an address.
    Otp,
    /// Executes connectors.
    Connector,
    /// Decides whether a request may go ahead.
    Admission,
    /// All four; calls between them stay in this process.
    All,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Which.
    pub(crate) which: Which,
    /// The configuration directory: safeconduct.toml, workspaces/, secrets/.
    #[arg(long, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// Where the embedded store and key files are.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Written once all sockets are bound: JSON with the address of each listener.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the story: 0 only if every step came out as told.
    #[arg(long)]
    pub(crate) once: bool,
    /// Where to keep the demo's files; otherwise a temporary directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The connector's name.
    pub(crate) connector: String,
    /// Where the connector service listens.
    #[arg(long, default_value = "http://127.0.0.1:50053")]
    pub(crate) address: String,
    /// A file with the caller's bearer token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// A file with the contact's assertion.
    #[arg(long, value_name = "FILE")]
    pub(crate) assertion_file: PathBuf,
    /// The inputs, as a JSON object.
    #[arg(long, default_value = "{}")]
    pub(crate) inputs: String,
    /// The version to pin.
    #[arg(long, default_value = "")]
    pub(crate) version: String,
    /// An idempotency key.
    #[arg(long, default_value = "")]
    pub(crate) key: String,
    /// CA certificates (PEM) that vouch for an https:// address.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) output: Output,
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Human,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SignCommand {
    /// The user hash: HMAC-SHA256 in hexadecimal digits.
    UserHash {
        /// The user id (or email, as the workspace says) to prove.
        #[arg(long)]
        user_id: String,
        /// The file with the workspace's secret.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
    },
    /// An assertion: proves the user to identity and prints what it issues.
    Assertion {
        /// The workspace.
        #[arg(long)]
        workspace: String,
        /// The user id to prove.
        #[arg(long)]
        user_id: String,
        /// The file with the workspace's secret.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// Where the identity service listens.
        #[arg(long, default_value = "http://127.0.0.1:50051")]
        address: String,
        /// A file with the caller's bearer token.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// The callers that may present it; none: the caller itself.
        #[arg(long)]
        presenter: Vec<String>,
        /// CA certificates (PEM) that vouch for an https:// address.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes identity.keys, otp.keys, connector.keys and admission.keys, which go together.
    Init(KeysDir),
    /// Lists the keys: purpose, id, which is primary. Never the keys themselves.
    List(KeysDir),
    /// Adds a new primary key of a purpose; the old ones still open and verify.
    Rotate {
        #[command(flatten)]
        dir: KeysDir,
        /// The purpose, as `list` shows it.
        purpose: String,
    },
    /// Removes a key that is not primary: what was sealed or signed with it opens no more.
    Retire {
        #[command(flatten)]
        dir: KeysDir,
        /// The purpose, as `list` shows it.
        purpose: String,
        /// The key's id.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeysDir {
    /// Where the key files are.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

impl Cli {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Demo(args) => command::demo::run(&args),
            Command::Check { paths } => command::check::run(&paths),
            Command::Call(args) => command::call::run(args),
            Command::Sign(what) => command::sign::run(what),
            Command::Keys(what) => command::keys::run(what),
            Command::Errors { reason } => command::errors::run(reason.as_deref()),
            Command::SampleShop { listen, ready_file } => command::sample_shop::run(listen, ready_file.as_deref()),
        }
    }
}
