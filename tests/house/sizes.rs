//! A file is a screenful or five.

use std::fs;
use std::path::{Path, PathBuf};

const LONGEST: usize = 500;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

#[test]
fn no_file_is_longer_than_500_lines_without_its_tests() {
    let mut found = Vec::new();
    sources(&super::root().join("crates"), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let long: Vec<String> = found
        .into_iter()
        .filter(|path| !is_test(path))
        .map(|path| (lines_without_tests(&fs::read_to_string(&path).expect("a source")), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{lines} {}", path.display()))
        .collect();
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}
