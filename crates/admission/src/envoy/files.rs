//! The files with the limits: read at start, and again while the process runs. The last ones that were right stay in
//! force.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use safeconduct_admission_domain::envoy::{Label, MAX_FILE_BYTES, Problem, Rules, Source};
use safeconduct_service::config::{ConfigError, Origin};
use safeconduct_service::tasks::Tasks;
use tracing::{info, warn};

use super::Gateway;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The most files.
const MAX_FILES: usize = 1000;

/// What was counted about one limit. It survives a change of the files.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) passed: AtomicU64,
    pub(super) over: AtomicU64,
    pub(super) shadowed: AtomicU64,
}

/// The limits in force.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) rules: Rules,
    counts: Vec<Arc<Counts>>,
    sources: Vec<Source>,
}

impl Live {
    /// What is counted about the limit with this place.
    pub(super) fn counts(&self, id: usize) -> Option<&Counts> {
        self.counts.get(id).map(|counts| &**counts)
    }

    fn new(rules: Rules, sources: Vec<Source>, before: &Self) -> Self {
        let old: HashMap<&Label, &Arc<Counts>> = before.rules.limits().iter().zip(&before.counts).collect();
        let counts = rules.limits().iter().map(|label| old.get(label).map(|one| Arc::clone(one)).unwrap_or_default());
        let counts = counts.collect();
        Self { rules, counts, sources }
    }

    /// The counters in the text format of Prometheus. Labels come from the files, never from requests.
    pub(super) fn render(&self, text: &mut String) {
        use std::fmt::Write as _;
        let name = "safeconduct_gateway_hits_total";
        let _ = writeln!(text, "# HELP {name} Descriptors with a limit, by what was found.\n# TYPE {name} counter");
        for (label, counts) in self.rules.limits().iter().zip(&self.counts) {
            let (domain, path) = (escaped(&label.domain), escaped(&label.path));
            for (result, count) in [("ok", &counts.passed), ("over", &counts.over), ("shadow_over", &counts.shadowed)] {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ =
                        writeln!(text, "{name}{{domain=\"{domain}\",limit=\"{path}\",result=\"{result}\"}} {count}");
                }
            }
        }
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Reads and checks the files at `path` as a start does, or tells all that is wrong with them.
pub fn check_descriptors(path: &Path) -> Result<Rules, Vec<Problem>> {
    Rules::parse(&read(path)?)
}

/// As [`check_descriptors`], for the start of a process.
pub(super) fn load(path: &Path) -> Result<Live, ConfigError> {
    let wrong = |problems: Vec<Problem>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let message = format!("the limits cannot be taken:\n    {}", lines.join("\n    "));
        ConfigError::one(Origin::File(path.to_owned()), "admission.envoy.descriptors", message)
    };
    let sources = read(path).map_err(wrong)?;
    let rules = Rules::parse(&sources).map_err(wrong)?;
    tell(&rules);
    Ok(Live::new(rules, sources, &Live::default()))
}

fn tell(rules: &Rules) {
    for note in rules.notes() {
        warn!("{note}");
    }
    info!(domains = rules.domains(), limits = rules.limits().len(), "took the gateway's limits");
}

/// Takes the files anew whenever they have changed, as long as the process serves.
pub(super) fn follow(gateway: &Arc<Gateway>, path: PathBuf, tasks: &Tasks) {
    let (gateway, blocking) = (Arc::clone(gateway), tasks.clone());
    tasks.spawn_background(|stop| async move {
        let mut refused = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let path = path.clone();
            if let Ok(read) = blocking.spawn_blocking(move || read(&path)).await {
                renew(&gateway, read, &mut refused);
            }
        }
    });
}

/// Takes what was read, if it is new and right. `refused` is what was told last: nothing is told twice in a row.
pub(super) fn renew(gateway: &Gateway, read: Result<Vec<Source>, Vec<Problem>>, refused: &mut Vec<Problem>) {
    let before = gateway.live();
    let taken = match read {
        Ok(sources) if sources == before.sources => {
            refused.clear();
            return;
        }
        Ok(sources) => Rules::parse(&sources).map(|rules| (rules, sources)),
        Err(problems) => Err(problems),
    };
    match taken {
        Ok((rules, sources)) => {
            tell(&rules);
            gateway.replace(Live::new(rules, sources, &before));
            refused.clear();
        }
        Err(problems) if problems == *refused => {}
        Err(problems) => {
            for problem in &problems {
                warn!("{problem}");
            }
            warn!("the gateway's limits are not taken; those that were read before stay in force");
            *refused = problems;
        }
    }
}

/// The file at `path`, or the files ending in `.yaml` or `.yml` of that folder.
pub(super) fn read(path: &Path) -> Result<Vec<Source>, Vec<Problem>> {
    let failed = |path: &Path, error: &io::Error| {
        vec![whole(path, format!("cannot be read ({error}); check path and permissions"))]
    };
    if !std::fs::metadata(path).map_err(|error| failed(path, &error))?.is_dir() {
        return Ok(vec![file(path).map_err(|error| failed(path, &error))?]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| failed(path, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        // Kubernetes keeps the real files of a mount in folders that start with two dots.
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .filter(|path| path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(vec![whole(path, "holds no .yaml file; name the folder or the file with the limits".to_owned())]);
    }
    if paths.len() > MAX_FILES {
        return Err(vec![whole(path, "holds more than 1000 files; put several domains into one".to_owned())]);
    }
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match file(&path) {
            Ok(source) => sources.push(source),
            Err(error) => problems.extend(failed(&path, &error)),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

fn file(path: &Path) -> io::Result<Source> {
    // Opening a pipe would wait for somebody who writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    // One byte more than is taken shows that there is more.
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(Source { path: path.display().to_string(), text })
}

fn whole(path: &Path, message: String) -> Problem {
    Problem { path: path.display().to_string(), line: 0, column: 0, message }
}
