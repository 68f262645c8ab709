//! The life of a one-time password challenge.
//!
//! Empty: no challenge is issued in this version, and the otp service answers every call with `UNIMPLEMENTED`. What
//! will live here is the pure part: a challenge's states (issued, verified, exhausted, expired, superseded), the
//! derivation of its code, and the budgets over guesses and sends. What never will: stores, mail, clocks.
