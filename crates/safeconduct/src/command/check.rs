//! `check`: whether definitions can be taken, and what to mend where.

use std::path::{Path, PathBuf};

use safeconduct_admission::check_descriptors;

use crate::exit::{Code, Failure, Outcome};
use crate::say::say;
use crate::workspaces;

pub(crate) fn run(paths: &[PathBuf], envoy: Option<&Path>) -> Outcome {
    let gateways = envoy.map_or(Ok(()), gateway_limits);
    if !paths.is_empty() {
        definitions(paths)?;
    }
    gateways?;
    Ok(Code::SUCCESS)
}

fn definitions(paths: &[PathBuf]) -> Result<(), Failure> {
    let found = workspaces::read(paths).map_err(Failure::data)?;
    for problem in &found.problems {
        say!("{problem}");
    }
    if found.errors > 0 {
        return Err(Failure::data(format!("{} errors; nothing of the workspaces named above is taken", found.errors)));
    }
    if found.workspaces.is_empty() {
        return Err(Failure::data("no workspace was found; name the directory that holds the definitions"));
    }
    say!("{} workspaces with {} connectors are in order", found.workspaces.len(), found.connectors);
    Ok(())
}

fn gateway_limits(path: &Path) -> Result<(), Failure> {
    match check_descriptors(path) {
        Ok(rules) => {
            for note in rules.notes() {
                say!("{note}");
            }
            say!("{} domains with {} limits of gateways are in order", rules.domains(), rules.limits().len());
            Ok(())
        }
        Err(problems) => {
            for problem in &problems {
                say!("{problem}");
            }
            Err(Failure::data(format!("{} errors; none of these limits is taken", problems.len())))
        }
    }
}
