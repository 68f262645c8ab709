//! What the tree itself must keep: layering, sizes, a page for every reason.
#![allow(clippy::expect_used, reason = "all of this is tests: a panic is a failed test")]

mod layering;
mod pages;
mod sizes;

use std::path::{Path, PathBuf};

/// The top of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the checkout").to_owned()
}
