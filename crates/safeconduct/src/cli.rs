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
        #[arg(required_unless_present = "envoy")]
        paths: Vec<PathBuf>,
        /// A file or directory with the limits of gateways (admission.envoy.descriptors).
        #[arg(long, value_name = "PATH")]
        envoy: Option<PathBuf>,
    },
    /// Executes a connector for a contact, as an agent would.
    Call(CallArgs),
    /// Shows what a contact, a connector or a workspace has used of its limits, and what is left.
    Usage(UsageArgs),
    /// Frees the keys of an execution, so that the same request has an effect again.
    ///
    /// For an operator who has found out that an execution whose outcome was unknown did nothing. It is recorded who did
    /// it and why.
    ReleaseKey(ReleaseKeyArgs),
    /// Says what became of an execution whose outcome is unknown. It is recorded who said it and why.
    Settle(SettleArgs),
    /// Makes proofs for trying out: what a backend does with the workspace's secret.
    #[command(subcommand)]
    Sign(SignCommand),
    /// Proves that a contact controls an address, by a code that is sent there.
    #[command(subcommand)]
    Otp(OtpCommand),
    /// Makes and changes the suite's key files, and tells which keys of a workspace are in use.
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

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// The workspace.
    #[arg(long)]
    pub(crate) workspace: String,
    /// The contact whose own limits are meant, too; none: only those that all contacts share.
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) contact_id: String,
    /// Only the limits that this connector is under.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) connector: String,
    /// Files or directories with the workspace's definitions: they say which limits there are.
    #[arg(long, value_name = "PATH", default_value = "config/workspaces")]
    pub(crate) definitions: Vec<PathBuf>,
    /// Where the admission service listens.
    #[arg(long, default_value = "http://127.0.0.1:50054")]
    pub(crate) address: String,
    /// A file with the bearer token of a caller of role operator.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// CA certificates (PEM) that vouch for an https:// address.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) output: Output,
}

/// Which execution an operator does something about, and why.
#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// The execution.
    pub(crate) execution_id: String,
    /// Its workspace.
    #[arg(long)]
    pub(crate) workspace: String,
    /// Why, 1 to 256 characters. It is recorded; name no person in it.
    #[arg(long)]
    pub(crate) reason: String,
    /// Where the connector service listens.
    #[arg(long, default_value = "http://127.0.0.1:50053")]
    pub(crate) address: String,
    /// A file with the bearer token of a caller of role operator.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// CA certificates (PEM) that vouch for an https:// address.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseKeyArgs {
    #[command(flatten)]
    pub(crate) act: ActArgs,
    /// Free the keys of an execution that is known to have had its effect, too: it can then happen once more.
    #[arg(long)]
    pub(crate) although_it_happened: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SettleArgs {
    #[command(flatten)]
    pub(crate) act: ActArgs,
    /// What became of it.
    #[arg(long, value_enum)]
    pub(crate) state: FoundOut,
    /// What a repeat of the request is answered, as a JSON object; with `--state succeeded`.
    #[arg(long, default_value = "")]
    pub(crate) output_json: String,
}

/// What an operator has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FoundOut {
    /// It did what was asked.
    Succeeded,
    /// It failed, but changed something.
    FailedWithEffect,
    /// It failed and changed nothing.
    Failed,
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
    /// A token (JWT) of the workspace's secret of use jwt, as the customer's backend makes it.
    Token {
        /// The user id to prove.
        #[arg(long)]
        user_id: String,
        /// The file with the workspace's secret.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// HS256, HS384 or HS512, as the workspace says.
        #[arg(long, default_value = "HS256")]
        alg: String,
        /// How long it holds, in seconds.
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        lifetime: u32,
        /// Further claims, as a JSON object.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        claims: String,
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
pub(crate) enum OtpCommand {
    /// Has a code sent, and prints the verification's id.
    Start {
        #[command(flatten)]
        whom: OtpArgs,
        /// The email address, or with `--channel sms` the phone number in E.164 form.
        address: String,
        /// How the code travels.
        #[arg(long, value_enum, default_value = "email")]
        channel: OtpChannel,
        /// What it is for: one of the workspace's purposes.
        #[arg(long)]
        purpose: String,
        /// The language of the message (BCP 47); none: the workspace's.
        #[arg(long, default_value = "")]
        locale: String,
    },
    /// Compares a code; prints the assertion in which the address is proven.
    Check {
        #[command(flatten)]
        whom: OtpArgs,
        /// The verification's id.
        id: String,
        /// The code that was sent.
        code: String,
    },
    /// Has the same code sent again.
    Resend {
        #[command(flatten)]
        whom: OtpArgs,
        /// The verification's id.
        id: String,
    },
    /// Shows where a verification stands.
    Get {
        #[command(flatten)]
        whom: OtpArgs,
        /// The verification's id.
        id: String,
    },
    /// Ends a verification.
    Cancel {
        #[command(flatten)]
        whom: OtpArgs,
        /// The verification's id.
        id: String,
    },
}

/// How a code travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OtpChannel {
    /// Email.
    Email,
    /// Text message.
    Sms,
}

/// Where, and in which session.
#[derive(Debug, Args)]
pub(crate) struct OtpArgs {
    /// Where the otp service listens.
    #[arg(long = "server", value_name = "URL", default_value = "http://127.0.0.1:50052")]
    pub(crate) server: String,
    /// A file with the bearer token of a caller of role messenger.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// A file with the session's assertion, which this caller may present.
    #[arg(long, value_name = "FILE")]
    pub(crate) assertion_file: PathBuf,
    /// CA certificates (PEM) that vouch for an https:// address.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes identity.keys, otp.keys, connector.keys and admission.keys, which go together.
    Init {
        #[command(flatten)]
        dir: KeysDir,
        /// Add to the files that are there the keys that an earlier version did not have, and replace none.
        #[arg(long)]
        missing: bool,
    },
    /// Lists the keys: purpose, id, what they do. Never the keys themselves.
    List(KeysDir),
    /// Adds a key that is known and makes nothing yet: the first step of a rotation.
    Stage {
        #[command(flatten)]
        dir: KeysDir,
        /// The purpose, as `list` shows it.
        purpose: String,
    },
    /// Makes a staged key the primary one; the old ones still open and verify. Refused before it is known everywhere.
    Promote(KeyArgs),
    /// Stages a key, waits until processes that follow these files have it, and promotes it.
    Rotate {
        #[command(flatten)]
        dir: KeysDir,
        /// The purpose, as `list` shows it.
        purpose: String,
        /// Also where others may cache the old keys for longer.
        #[arg(long)]
        force: bool,
    },
    /// Removes a key that is not primary: what was sealed or signed with it opens no more. Refused while something that
    /// it made can still count.
    Retire(KeyArgs),
    /// Shows the secrets and keys that verify a workspace's proofs, and when each last did, in any process of identity:
    /// one that nobody uses any more can be taken away.
    Used(UsedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UsedArgs {
    /// The workspace.
    #[arg(long)]
    pub(crate) workspace: String,
    /// Where the identity service listens.
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    pub(crate) address: String,
    /// A file with the bearer token of a caller of role operator or backend.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// CA certificates (PEM) that vouch for an https:// address.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How the answer looks.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct KeysDir {
    /// Where the key files are.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How the answer looks.
    #[arg(long, value_enum, default_value = "human")]
    pub(crate) output: Output,
}

/// One key.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) dir: KeysDir,
    /// The purpose, as `list` shows it.
    pub(crate) purpose: String,
    /// The key's id.
    pub(crate) id: String,
    /// Do it although it is too early: what somebody holds may be refused.
    #[arg(long)]
    pub(crate) force: bool,
}

impl Cli {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Demo(args) => command::demo::run(&args),
            Command::Check { paths, envoy } => command::check::run(&paths, envoy.as_deref()),
            Command::Call(args) => command::call::run(args),
            Command::Usage(args) => command::usage::run(&args),
            Command::ReleaseKey(args) => command::release_key::run(&args),
            Command::Settle(args) => command::settle::run(&args),
            Command::Sign(what) => command::sign::run(what),
            Command::Otp(what) => command::otp::run(what),
            Command::Keys(what) => command::keys::run(&what),
            Command::Errors { reason } => command::errors::run(reason.as_deref()),
            Command::SampleShop { listen, ready_file } => command::sample_shop::run(listen, ready_file.as_deref()),
        }
    }
}
