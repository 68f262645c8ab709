//! Embeds the error pages, so that `safeconduct errors` has them wherever the binary goes.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a build script is told by its environment and speaks on standard output"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("errors");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut pages: Vec<_> = fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    pages.sort();
    let mut table = String::from("&[\n");
    for page in pages {
        let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(table, "    ({name:?}, include_str!({:?})),", page.display().to_string());
    }
    table.push(']');
    let out = env::var("OUT_DIR").unwrap_or_default();
    fs::write(Path::new(&out).join("pages.rs"), table)
}
