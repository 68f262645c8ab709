//! The rules of loading, each with a file that breaks it.

use std::fmt::Write as _;

use safeconduct_types::Provenance;

use super::*;
use crate::definition::{ContactKind, KeyPlace, Method, Source};
use crate::diagnostic::Severity;

mod checks;
mod laws;
mod limits;

const WORKSPACE: &str = "\
apiVersion: safeconduct.dev/v1
kind: Workspace
metadata: {workspace: acme}
spec:
  timezone: Europe/Dublin
  identity:
    secrets: [{id: s1, secret: messenger-2025, use: user_hash}]
    user_hash: {over: user_id}
    assertion_attributes: [account_id, tier]
  attributes: {account_id: {protected: true}, tier: {protected: true}, nickname: {client_writable: true}}
  upstreams:
    shop: {url: https://api.shop.example/base, sandbox: https://sandbox.shop.example, credential: shop-token}
    local: {url: 'http://127.0.0.1:8081', insecure_http: true, allow_addresses: [127.0.0.1/32, '::1']}
---
apiVersion: safeconduct.dev/v1
kind: CredentialSet
metadata: {workspace: acme, name: shop}
spec:
  credentials:
    shop-token: {static: {header: Authorization, prefix: 'Bearer ', secret: {secret: shop-token}}}
    other-token: {static: {header: X-Api-Key, secret: other-token}}
";

const LIST: &str = "\
apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {workspace: acme, name: list-orders, version: v1}
spec:
  title: List orders
  description: Lists the orders of the customer.
  effect: read
  inputs:
    customer_id: {from: contact.attributes.account_id, accept: [SIGNED], identifies: true}
  request: {upstream: shop, method: GET, path: /v2/orders, query: {customer: '${inputs.customer_id}', limit: 50}}
  response:
    mode: task
    output:
      orders: {path: '$.orders[*]', type: array, max_items: 50, items: {fields: {id: {path: $.id, type: string}}}}
";

const REFUND: &str = "\
apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {workspace: acme, name: refund-order, version: v2}
spec:
  title: Refund an order
  description: Refunds an order that the customer placed.
  effect: write
  sensitivity: private
  audience: {kinds: [user]}
  inputs:
    customer_id: {from: contact.attributes.account_id, accept: [SIGNED], max_age: 30m, identifies: true}
    order_id:
      from: agent
      schema: {type: string, pattern: '^ord_[a-z0-9]{6,32}$'}
      choices: {connector: list-orders, items: '$.orders[*]', value: $.id, max: 50}
    amount: {from: agent, plain: true, schema: {type: integer, minimum: 1, maximum: 50000}}
    currency: {constant: EUR}
    reason: {from: agent, plain: true, optional: true, schema: {type: string, maxLength: 200}}
  idempotency:
    same: [inputs.order_id, inputs.amount]
    retain: 72h
    upstream_key: {header: Idempotency-Key, honoured_for: 24h, in_progress: [409], mismatch: [422], replays_errors: true}
  request:
    upstream: shop
    method: POST
    path: /v2/orders/${inputs.order_id}/refunds
    query: {'expand[]': [charge, order]}
    headers: {X-Customer: '${inputs.customer_id}'}
    body: {json: {amount: '${inputs.amount}', currency: '${inputs.currency}', note: '${inputs.reason}'}}
    timeout: 8s
  retry: {attempts: 3, on: [429, 500, 502, 503, 504]}
  response:
    mode: simple
    format: json
    max_bytes: 65536
    problem: {code: {path: $.error.code}, detail: {path: $.error.message}}
    output:
      refund_id: {path: $.refund.id, type: string}
      status: {path: $.refund.status, type: string, enum: [queued, done]}
  examples:
    - {name: accepted, inputs: {amount: 1}, answer: {status: 200, body: {refund: {id: r1}}}, expect: {state: SUCCEEDED}}
";

fn files(texts: &[&str]) -> Vec<SourceFile> {
    texts
        .iter()
        .enumerate()
        .map(|(n, text)| SourceFile { path: format!("f{n}.yaml"), text: (*text).to_owned(), damage: None })
        .collect()
}

fn load(texts: &[&str]) -> LoadedWorkspace {
    let mut loaded = workspaces(files(texts));
    assert!(loaded.stray.is_empty(), "{}", loaded.stray);
    assert_eq!(loaded.workspaces.len(), 1);
    loaded.workspaces.remove(0)
}

fn good(texts: &[&str]) -> Workspace {
    let loaded = load(texts);
    match loaded.result {
        Ok(workspace) => workspace,
        Err(found) => panic!("{found}"),
    }
}

/// The sample, with one place of it replaced.
fn sample(replace: &str, with: &str) -> Vec<SourceFile> {
    let hits: usize = [WORKSPACE, LIST, REFUND].iter().map(|text| text.matches(replace).count()).sum();
    assert!(hits >= 1, "the sample has no `{replace}`");
    let texts = [WORKSPACE, LIST, REFUND].map(|text| text.replace(replace, with));
    files(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Everything that is found in the sample after this change.
fn found(replace: &str, with: &str) -> Vec<Diagnostic> {
    let loaded = workspaces(sample(replace, with));
    let mut all: Vec<_> = loaded.stray.iter().cloned().collect();
    for workspace in loaded.workspaces {
        match workspace.result {
            Ok(_) => all.extend(workspace.warnings.iter().cloned()),
            Err(found) => all.extend(found.iter().cloned()),
        }
    }
    all
}

fn codes(replace: &str, with: &str) -> Vec<Code> {
    let mut codes: Vec<_> = found(replace, with).into_iter().map(|one| one.code).collect();
    codes.dedup();
    codes
}

#[test]
fn the_sample_is_taken_as_it_is_meant() {
    let loaded = load(&[WORKSPACE, LIST, REFUND]);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let workspace = loaded.result.unwrap();
    assert_eq!(workspace.timezone, "Europe/Dublin");
    assert_eq!(workspace.identity.as_ref().unwrap().place.to_string(), "f0.yaml:7:5");
    assert_eq!(workspace.upstreams.len(), 2);
    let connector = workspace.connector(&"refund-order".parse().unwrap(), None).unwrap();
    assert_eq!((connector.version.as_str(), connector.request.method), ("v2", Method::Post));
    assert_eq!(connector.audience.kinds, [ContactKind::User].into());
    assert_eq!(connector.inputs["currency"].source, Source::Constant("EUR".into()));
    assert_eq!(connector.request.headers[0].0, "x-customer");
    assert_eq!(connector.request.query[0].1.values().len(), 2);
    let idempotency = connector.idempotency.as_ref().unwrap();
    assert_eq!(idempotency.same.len(), 2);
    assert_eq!(idempotency.upstream_key.as_ref().unwrap().place, KeyPlace::Header("idempotency-key".to_owned()));
    assert_eq!(connector.retry.attempts, 3);
    assert_eq!(connector.examples.len(), 1);
}

#[test]
fn everything_that_is_wrong_is_told_at_once_each_in_its_place() {
    let texts = [
        WORKSPACE.replace("timezone:", "timezon:"),
        LIST.replace("effect: read", "effect: reed").replace("path: /v2/orders", "path: v2/orders"),
        REFUND.replace("retain: 72h", "retain: 72").replace("  retry:", "  confirm: {text: x}\n  retry:"),
    ];
    let loaded = load(&[&texts[0], &texts[1], &texts[2]]);
    let found = loaded.result.unwrap_err();
    let shown: Vec<_> = found.iter().map(|one| format!("{} {}", one.place, one.code)).collect();
    assert_eq!(
        shown,
        [
            "f0.yaml:5:3 UNKNOWN_FIELD",
            "f1.yaml:7:11 BAD_VALUE",
            "f1.yaml:10:48 TEMPLATE_INVALID",
            "f2.yaml:21:13 BAD_VALUE",
            "f2.yaml:31:3 NOT_YET_SUPPORTED",
        ],
        "{found}"
    );
    assert!(found.to_string().contains("did you mean `timezone`?"), "{found}");
}

#[test]
fn a_mistake_in_one_workspace_touches_no_other() {
    let other =
        WORKSPACE.replace("acme", "beta").replace("timezone: Europe/Dublin", "timezone: [ # not workspace: acme");
    let mut loaded = workspaces(files(&[WORKSPACE, LIST, REFUND, &other]));
    assert!(loaded.stray.is_empty(), "{}", loaded.stray);
    let (beta, acme) = (loaded.workspaces.pop().unwrap(), loaded.workspaces.pop().unwrap());
    assert!(acme.id.as_str() == "acme" && acme.result.is_ok());
    assert!(beta.id.as_str() == "beta" && beta.result.is_err());
}

#[test]
fn a_workspace_is_taken_whole_or_not_at_all() {
    let broken = LIST.replace("list-orders", "other").replace("effect: read", "effect: [");
    let found = load(&[WORKSPACE, LIST, REFUND, &broken]).result.unwrap_err();
    assert_eq!(found.len(), 1, "{found}");
    assert_eq!(found.iter().next().unwrap().code, Code::YamlSyntax);
}

#[test]
fn what_names_no_workspace_is_told_and_blamed_on_none() {
    let loaded = workspaces(files(&[WORKSPACE, LIST, REFUND, "hello: world\n", "x: ["]));
    assert!(loaded.stray.has_errors() && loaded.workspaces[0].result.is_ok());
}

#[test]
fn a_file_that_cannot_be_read_refuses_the_workspaces_that_could_lack_it_and_no_other() {
    let beta = WORKSPACE.replace("acme", "beta");
    let gamma = WORKSPACE.replace("acme", "gamma");
    let taken = |unread: SourceFile| {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.to_owned(), damage: None };
        let all =
            vec![unread, file("in/acme/w.yaml", WORKSPACE), file("in/beta/w.yaml", &beta), file("x/w.yaml", &gamma)];
        let loaded = workspaces(all);
        let taken: Vec<_> =
            loaded.workspaces.iter().filter(|one| one.result.is_ok()).map(|one| one.id.to_string()).collect();
        assert_eq!(taken.len() == 3, loaded.stray.has_errors(), "it is told once, or of those that it concerns");
        taken.join(" ")
    };
    let damaged = |path: &str, text: &str| SourceFile {
        path: path.into(),
        text: text.to_owned(),
        damage: Some("is not UTF-8 text".to_owned()),
    };
    assert_eq!(taken(damaged("in/acme/r.yaml", "")), "beta gamma", "its folder");
    assert_eq!(taken(damaged("in/acme/deep/r.yaml", "")), "beta gamma", "a folder above");
    assert_eq!(taken(damaged("in/r.yaml", "")), "acme beta gamma", "nobody's folder");
    assert_eq!(taken(damaged("in/r.yaml", "metadata: {workspace: beta}")), "acme gamma", "by name");
    let large = SourceFile { path: "x/r.yaml".into(), text: "#".repeat(MAX_FILE_BYTES + 1), damage: None };
    assert_eq!(taken(large), "acme beta", "a file that is too large is one that was not read");
}

#[test]
fn the_order_of_files_and_documents_changes_nothing() {
    let one = good(&[WORKSPACE, LIST, REFUND]);
    let together = format!("{REFUND}---\n{LIST}---\n{WORKSPACE}");
    let other = good(&[&together]);
    assert_eq!(one.digest, other.digest);
    assert_ne!(one.digest, good(&[&WORKSPACE.replace("Dublin", "Berlin"), LIST, REFUND]).digest);
}

#[test]
fn a_digest_is_of_what_has_an_effect() {
    let digest = |text: &str| {
        let name = "refund-order".parse().unwrap();
        good(&[WORKSPACE, LIST, text]).connector(&name, None).unwrap().digest
    };
    let first = digest(REFUND);
    assert_eq!(first, digest(&REFUND.replace("title: Refund an order", "title: Something else  # and a comment")));
    assert_eq!(first, digest(&REFUND.replace("name: accepted", "name: other")));
    assert_eq!(first, digest(&REFUND.replace("retain: 72h\n", "retain: \"72h\"\n")));
    assert_ne!(first, digest(&REFUND.replace("maximum: 50000", "maximum: 50001")));
}

#[test]
fn nobody_guesses_which_of_several_versions_is_live() {
    let second = LIST.replace("version: v1", "version: v3");
    let name = "list-orders".parse().unwrap();
    let loaded = load(&[WORKSPACE, LIST, REFUND, &second]);
    assert_eq!(loaded.warnings.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::ReleaseMissing]);
    let workspace = loaded.result.unwrap();
    assert_eq!(workspace.connector(&name, None).unwrap_err(), crate::workspace::NotFound::Release);
    assert!(workspace.connector(&name, Some(&"v3".parse().unwrap())).is_ok());
    let release = "apiVersion: safeconduct.dev/v1\nkind: Release\nmetadata: {workspace: acme, name: list-orders}\nspec: {live: v3}\n";
    let workspace = good(&[WORKSPACE, LIST, REFUND, &second, release]);
    assert_eq!(workspace.connector(&name, None).unwrap().version.as_str(), "v3");
    let gone = release.replace("live: v3", "live: v9");
    let found = load(&[WORKSPACE, LIST, REFUND, &second, &gone]).result.unwrap_err();
    assert_eq!(found.iter().next().unwrap().code, Code::ReleaseUnknown, "{found}");
}

#[test]
fn what_is_too_much_is_refused() {
    let mut many = String::from("  inputs:\n");
    for n in 0..40 {
        writeln!(many, "    i{n}: {{from: agent, plain: true, schema: {{type: integer}}}}").unwrap();
    }
    assert!(codes("  inputs:\n", &many).contains(&Code::LimitExceeded));
    let large = format!("{WORKSPACE}#{}\n", "x".repeat(MAX_FILE_BYTES));
    let found = load(&[&large, LIST, REFUND]).result.unwrap_err();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::LimitExceeded], "{found}");
}

#[test]
fn warnings_do_not_keep_a_workspace_from_being_taken() {
    let loaded = load(&[WORKSPACE, LIST, &REFUND.replace("maxLength: 200", "minLength: 1")]);
    assert!(loaded.result.is_ok());
    assert_eq!(
        loaded.warnings.iter().map(|one| (one.code, one.severity())).collect::<Vec<_>>(),
        [(Code::StringUnbounded, Severity::Warning)]
    );
}

#[test]
fn what_writes_need_reaches_every_write_and_no_read() {
    let with = WORKSPACE.replace("    user_hash:", "    writes_need: SIGNED_TOKEN\n    user_hash:");
    let workspace = load(&[&with, LIST, REFUND]).result.unwrap();
    let needs = |name: &str| workspace.connector(&name.parse().unwrap(), None).unwrap().needs;
    assert_eq!(needs("refund-order"), Some(Provenance::SignedToken));
    assert_eq!(needs("list-orders"), None);
    assert_eq!(codes("    user_hash:", "    writes_need: AGENT\n    user_hash:"), [Code::BadValue]);
}
