//! The names of the attributes on our spans and log lines. Ours start with `safeconduct.`; the rest are the
//! semantic conventions'.

/// The workspace (its name; not secret).
pub const WORKSPACE: &str = "safeconduct.workspace";
/// The connector's name.
pub const CONNECTOR: &str = "safeconduct.connector";
/// The connector's version.
pub const VERSION: &str = "safeconduct.version";
/// The contact, as a keyed hash and never otherwise.
pub const CONTACT: &str = "safeconduct.contact";
/// The execution's id.
pub const EXECUTION: &str = "safeconduct.execution";
/// What was decided (`admitted`, `replayed`, `running`, `refused`).
pub const DECISION: &str = "safeconduct.decision";
/// The state an execution ended in.
pub const STATE: &str = "safeconduct.state";
/// Why an upstream call failed (`RETRYABLE`, `GONE`, ...).
pub const FAILURE_CLASS: &str = "safeconduct.failure_class";
/// The stable reason of a refusal.
pub const REASON: &str = "safeconduct.reason";
/// The authenticated calling service.
pub const CALLER: &str = "safeconduct.caller";
