//! Where the binary is that is tested.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

/// The `safeconduct` binary of the same build as the running test: `target/PROFILE/safeconduct`.
pub fn safeconduct() -> anyhow::Result<PathBuf> {
    // What measures is built elsewhere, and says which binary it measures.
    if let Some(named) = std::env::var_os("TEST_SAFECONDUCT") {
        return Ok(PathBuf::from(named));
    }
    let test = std::env::current_exe().context("the running test has no path")?;
    let folder = test.parent().and_then(|deps| deps.parent()).context("a test lies in target/PROFILE/deps")?;
    let binary = folder.join(format!("safeconduct{}", std::env::consts::EXE_SUFFIX));
    ensure!(
        binary.is_file(),
        "{} is not there: run `cargo build --workspace` first (`make test` does)",
        binary.display()
    );
    Ok(binary)
}
