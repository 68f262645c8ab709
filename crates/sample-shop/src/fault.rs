//! Misbehaviour on request.

use serde::Deserialize;

/// A fault for the next calls that it fits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only calls with this method; none: any.
    #[serde(default)]
    pub method: Option<String>,
    /// Only calls whose path contains this text; empty: any.
    #[serde(default)]
    pub path: String,
    /// How many calls it spoils.
    #[serde(default = "once")]
    pub times: u32,
    /// Whether the call has its effect before it is spoilt.
    #[serde(default)]
    pub after_effect: bool,
    /// What happens instead of the answer.
    pub kind: Kind,
}

const fn once() -> u32 {
    1
}

/// What a fault does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers with this status and an error body.
    Status(u16),
    /// Answers 429 with `Retry-After` of so many seconds.
    RetryAfter(u32),
    /// Answers rightly, so many milliseconds late.
    DelayMs(u64),
    /// Never answers.
    Hang,
    /// Answers 200 with a page for people.
    Html,
    /// Answers 200 with a body of so many bytes of JSON.
    Huge(usize),
    /// Answers 200 with no body.
    Empty,
    /// Answers with a redirect to this place.
    Redirect(String),
    /// Answers 200 with this very text as JSON.
    Body(String),
}
