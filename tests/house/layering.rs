//! Who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// The table of `crates/ARCHITECTURE.md`: a crate, and the crates of ours that it may use at run time.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &[]),
    ("identity-domain", &["types"]),
    ("otp-domain", &["types"]),
    ("connector-domain", &["types"]),
    ("admission-domain", &["types"]),
    ("telemetry", &["types"]),
    ("service", &["types", "proto", "telemetry"]),
    ("store", &["types", "telemetry"]),
    ("egress", &["types", "telemetry"]),
    ("admission-client", &["types", "proto", "service"]),
    ("identity", &["types", "identity-domain", "proto", "service", "telemetry", "store", "egress", "admission-client"]),
    (
        "otp",
        &[
            "types",
            "otp-domain",
            "identity-domain",
            "proto",
            "service",
            "telemetry",
            "store",
            "egress",
            "admission-client",
        ],
    ),
    (
        "connector",
        &[
            "types",
            "connector-domain",
            "identity-domain",
            "proto",
            "service",
            "telemetry",
            "store",
            "egress",
            "admission-client",
        ],
    ),
    ("admission", &["types", "admission-domain", "proto", "service", "telemetry", "store"]),
    ("sample-shop", &[]),
];

/// What no crate that holds rules may reach, however far away.
const INPUT_AND_OUTPUT: &[&str] =
    &["tokio", "tonic", "redis", "redb", "reqwest", "hyper", "opentelemetry", "tracing-subscriber", "socket2", "mio"];

fn metadata() -> Metadata {
    MetadataCommand::new().current_dir(super::root()).exec().expect("cargo metadata")
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("safeconduct-")
}

#[test]
fn crates_depend_only_as_the_table_says() {
    let table: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(name) = short(package.name.as_str()) else { continue };
        if matches!(name, "testkit" | "tests") {
            continue;
        }
        let Some(allowed) = table.get(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|one| one.kind == DependencyKind::Normal) {
            if let Some(used) = short(&dependency.name)
                && !allowed.contains(&used)
            {
                wrong.push(format!("{name} must not use {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_row_for_a_crate_that_is_gone() {
    let metadata = metadata();
    let names: BTreeSet<&str> =
        metadata.workspace_packages().iter().filter_map(|one| short(one.name.as_str())).collect();
    for (name, _) in EDGES {
        assert!(names.contains(name), "{name} is in the table and not in the workspace");
    }
}

#[test]
fn rules_cannot_do_input_and_output() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if !(name.ends_with("-domain") || name == "safeconduct-types") {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let reached = &metadata[id].name;
            if INPUT_AND_OUTPUT.contains(&reached.as_str()) {
                wrong.push(format!("{name} reaches {reached}"));
            }
            let normal =
                |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|one| one.kind == DependencyKind::Normal);
            open.extend(nodes[id].deps.iter().filter(|dep| normal(&dep.dep_kinds)).map(|dep| &dep.pkg));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
