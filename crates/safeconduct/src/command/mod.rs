//! The commands for the people around the suite, one a file.

pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod demo;
pub(crate) mod errors;
pub(crate) mod keys;
mod keys_used;
pub(crate) mod otp;
pub(crate) mod release_key;
pub(crate) mod sample_shop;
pub(crate) mod settle;
pub(crate) mod sign;
pub(crate) mod usage;
