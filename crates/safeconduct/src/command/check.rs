//! `check`: whether definitions can be taken, and what to mend where.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::exit::{Failure, Outcome};
use crate::workspaces;

pub(crate) fn run(paths: &[PathBuf]) -> Outcome {
    let found = workspaces::read(paths).map_err(Failure::data)?;
    for problem in &found.problems {
        println!("{problem}");
    }
    if found.errors > 0 {
        return Err(Failure::data(format!("{} errors; nothing of the workspaces named above is taken", found.errors)));
    }
    if found.workspaces.is_empty() {
        return Err(Failure::data("no workspace was found; name the directory that holds the definitions"));
    }
    println!("{} workspaces with {} connectors are in order", found.workspaces.len(), found.connectors);
    Ok(ExitCode::SUCCESS)
}
