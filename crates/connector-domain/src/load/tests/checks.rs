//! One change of the sample for each check.

use super::*;

/// Exactly these codes come of this change.
#[track_caller]
fn breaks(replace: &str, with: &str, expected: &[Code]) {
    let found = found(replace, with);
    let mut codes: Vec<_> = found.iter().map(|one| one.code).collect();
    codes.sort();
    codes.dedup();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(codes, expected, "{replace} -> {with}\n{}", Diagnostics::new(found.clone()));
    for one in found {
        assert!(one.place.line > 0 && one.place.column > 0, "{one}");
    }
}

#[test]
fn a_person_is_identified_only_by_what_somebody_vouches_for() {
    for weak in ["[CLIENT]", "[SIGNED, CLIENT]"] {
        breaks(
            "accept: [SIGNED], max_age: 30m",
            &format!("accept: {weak}, max_age: 30m"),
            &if weak == "[CLIENT]" {
                vec![Code::UnverifiedIdentifier, Code::ChoicesSource, Code::OwnershipMissing, Code::SchemaMissing]
            } else {
                vec![Code::UnverifiedIdentifier, Code::OwnershipMissing, Code::SchemaMissing]
            },
        );
    }
    breaks(
        "customer_id: {from: contact.attributes.account_id, accept: [SIGNED], max_age: 30m, identifies: true}",
        "customer_id: {from: agent, plain: true, schema: {type: string, maxLength: 9}, identifies: true}",
        &[Code::UnverifiedIdentifier, Code::ChoicesSource],
    );
    breaks(
        "customer_id: {from: contact.attributes.account_id, accept: [SIGNED], max_age: 30m, identifies: true}",
        "customer_id: {constant: c1, identifies: true}",
        &[Code::UnverifiedIdentifier, Code::ChoicesSource],
    );
}

#[test]
fn a_private_connector_identifies_and_sends_who_is_meant() {
    breaks("max_age: 30m, identifies: true", "max_age: 30m", &[Code::IdentifierMissing]);
    breaks("    headers: {X-Customer: '${inputs.customer_id}'}\n", "", &[Code::IdentifierUnused]);
    breaks("max_age: 30m, identifies: true", "identifies: true, optional: true", &[Code::IdentifierOptional]);
}

#[test]
fn email_as_the_only_identifier_is_discouraged() {
    breaks(
        "from: contact.attributes.account_id, accept: [SIGNED]",
        "from: contact.attributes.email, accept: [SIGNED]",
        &[Code::EmailIdentifies],
    );
}

#[test]
fn what_comes_from_outside_names_no_foreign_object() {
    breaks("plain: true, schema: {type: integer", "schema: {type: integer", &[Code::OwnershipMissing]);
    breaks("      choices: {connector", "      plain: true\n      choices: {connector", &[Code::OwnershipMissing]);
    breaks("plain: true, schema: {type: integer", "asserted: true, schema: {type: integer", &[Code::NotYetSupported]);
}

#[test]
fn a_list_vouches_only_if_it_is_the_contacts_own() {
    breaks("connector: list-orders", "connector: list-order", &[Code::ChoicesSource]);
    breaks("effect: read", "effect: read\n  sensitivity: public", &[Code::ChoicesSource]);
    breaks("accept: [SIGNED], identifies: true", "accept: [SIGNED, SERVER], identifies: true", &[Code::ChoicesSource]);
    breaks("  effect: read\n", "  effect: read\n  audience: {kinds: [lead]}\n", &[Code::ChoicesSource]);
    breaks(
        "query: {customer: '${inputs.customer_id}', limit: 50}",
        "query: {customer: '${inputs.customer_id}', limit: '${inputs.limit}'}",
        &[Code::UndeclaredReference],
    );
}

#[test]
fn a_list_that_needs_something_from_the_agent_is_no_source() {
    let list = LIST
        .replace("  request:", "    page: {from: agent, plain: true, schema: {type: integer}}\n  request:")
        .replace("limit: 50", "page: '${inputs.page}'");
    let found = load(&[WORKSPACE, &list, REFUND]).result.unwrap_err();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::ChoicesSource], "{found}");
}

#[test]
fn a_write_is_guarded_against_repeats() {
    breaks("same: [inputs.order_id, inputs.amount]", "same: []", &[Code::SameMissing]);
    breaks("same: [inputs.order_id, inputs.amount]", "same: [inputs.orderid]", &[Code::UndeclaredReference]);
    let bare = "    upstream_key: {header: Idempotency-Key, honoured_for: 24h, in_progress: [409], mismatch: [422], replays_errors: true}\n";
    breaks(bare, "", &[Code::RetryCouldDouble]);
    breaks("retry: {attempts: 3, on: [429, 500", "retry: {attempts: 3, on: [404, 500", &[Code::RetryStatus]);
    breaks("effect: read", "effect: read\n  idempotency: {same: [inputs.customer_id]}", &[Code::ReadWithSame]);
}

#[test]
fn a_record_is_kept_as_long_as_the_upstream_knows_the_key() {
    breaks("honoured_for: 24h", "honoured_for: 72h", &[]);
    breaks("honoured_for: 24h", "honoured_for: 73h", &[Code::RetainTooShort]);
    breaks("    retain: 72h\n", "    retain: 23h\n", &[Code::RetainTooShort]);
    breaks("honoured_for: 24h", "honoured_for: 31d", &[Code::BadValue]);
    let default = REFUND.replace("    retain: 72h\n", "").replace("honoured_for: 24h", "honoured_for: 4d");
    let found = load(&[WORKSPACE, LIST, &default]).result.unwrap_err();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::RetainTooShort], "{found}");
}

#[test]
fn a_request_that_still_runs_is_told_from_a_refusal_that_is_replayed() {
    breaks(", in_progress: [409]", "", &[Code::InProgressMissing]);
    breaks("in_progress: [409]", "in_progress: []", &[Code::InProgressMissing]);
    breaks("in_progress: [409], mismatch: [422], replays_errors: true", "mismatch: [422]", &[]);
}

#[test]
fn the_answer_of_a_write_fits_its_record() {
    breaks("max_bytes: 65536", "max_bytes: 65537", &[Code::AnswerTooLarge]);
    breaks("    mode: task\n", "    mode: task\n    max_bytes: 1048576\n", &[]);
}

/// What comes of a second version of the refund that differs in this from the first.
#[track_caller]
fn later(replace: &str, with: &str) -> Vec<String> {
    assert!(REFUND.contains(replace), "the sample has no `{replace}`");
    let later = REFUND.replace("version: v2", "version: v10").replace(replace, with);
    let release = "apiVersion: safeconduct.dev/v1\nkind: Release\nmetadata: {workspace: acme, name: refund-order}\nspec: {live: v2}\n";
    match load(&[WORKSPACE, LIST, REFUND, &later, release]).result {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(|one| format!("{} {}", one.place, one.code)).collect(),
    }
}

#[test]
fn a_request_that_moves_between_versions_is_the_same_request_there() {
    for (replace, with) in [
        ("same: [inputs.order_id, inputs.amount]", "same: [inputs.order_id]"),
        ("same: [inputs.order_id, inputs.amount]", "same: [inputs.order_id, inputs.amount, inputs.currency]"),
        ("amount: {from: agent, plain: true", "amount: {from: caller"),
        ("schema: {type: integer, minimum: 1, maximum: 50000}", "schema: {type: string, maxLength: 9}"),
        ("schema: {type: integer, minimum: 1, maximum: 50000}", "schema: {type: [integer, string], maxLength: 9}"),
        ("plain: true, schema: {type: integer", "plain: true, default: 1, schema: {type: integer"),
        ("{header: Idempotency-Key", "{header: X-Request-Id"),
        ("{header: Idempotency-Key", "{field: request_id"),
    ] {
        assert_eq!(later(replace, with), ["f3.yaml:19:3 FAMILY_DISAGREES"], "{replace} -> {with}");
    }
    let key = "    upstream_key: {header: Idempotency-Key, honoured_for: 24h, in_progress: [409], mismatch: [422], replays_errors: true}\n";
    let unkeyed = later(key, "");
    assert!(unkeyed.contains(&"f3.yaml:19:3 FAMILY_DISAGREES".to_owned()), "{unkeyed:?}");
    let read = later("effect: write", "effect: read");
    assert!(read.contains(&"f3.yaml:7:3 FAMILY_DISAGREES".to_owned()), "{read:?}");
    // All that does not make it another request may change.
    for (replace, with) in [
        ("same: [inputs.order_id, inputs.amount]", "same: [inputs.amount, inputs.order_id]"),
        ("type: integer, minimum: 1, maximum: 50000", "type: number, minimum: 1"),
        ("schema: {type: integer, minimum: 1, maximum: 50000}", "schema: {enum: [100, 200]}"),
        ("{constant: EUR}", "{constant: USD}"),
        ("timeout: 8s", "timeout: 9s"),
        ("honoured_for: 24h", "honoured_for: 12h"),
    ] {
        assert_eq!(later(replace, with), [""; 0], "{replace} -> {with}");
    }
}

#[test]
fn a_write_without_a_key_is_tried_once() {
    let refund = REFUND
        .replace("    upstream_key: {header: Idempotency-Key, honoured_for: 24h, in_progress: [409], mismatch: [422], replays_errors: true}\n", "")
        .replace("  retry: {attempts: 3, on: [429, 500, 502, 503, 504]}\n", "");
    let workspace = good(&[WORKSPACE, LIST, &refund]);
    assert_eq!(workspace.connector(&"refund-order".parse().unwrap(), None).unwrap().retry.attempts, 1);
    assert_eq!(workspace.connector(&"list-orders".parse().unwrap(), None).unwrap().retry.attempts, 3);
}

#[test]
fn the_upstreams_key_has_a_place_of_its_own() {
    let key = "{header: Idempotency-Key, ";
    breaks(key, "{", &[Code::KeyPlace]);
    breaks(key, "{header: A, field: b, ", &[Code::KeyPlace]);
    breaks("header: Authorization, prefix", "header: Idempotency-Key, prefix", &[Code::HeaderForbidden]);
    breaks("header: Authorization, prefix", "header: X-Customer, prefix", &[Code::HeaderForbidden]);
    breaks(key, "{field: note, ", &[Code::KeyPlace]);
    breaks(key, "{field: /note/key, ", &[Code::KeyPlace]);
    breaks(key, "{field: key, ", &[]);
    breaks(key, "{header: X-Customer, ", &[Code::KeyPlace]);
    breaks(key, "{header: Authorization, ", &[Code::HeaderForbidden]);
    breaks("honoured_for: 24h, ", "", &[Code::MissingField]);
}

#[test]
fn references_lead_somewhere_and_inputs_are_used() {
    breaks("note: '${inputs.reason}'", "note: '${inputs.reasn}'", &[Code::UndeclaredReference, Code::InputUnused]);
    breaks("note: '${inputs.reason}'", "note: none", &[Code::InputUnused]);
    breaks("note: '${inputs.reason}'", "note: '${reason'", &[Code::TemplateInvalid]);
    breaks(
        "/v2/orders/${inputs.order_id}/refunds",
        "/v2/orders/${inputs.reason}/${inputs.order_id}",
        &[Code::OptionalInPath],
    );
}

#[test]
fn a_request_keeps_its_host_and_its_frame() {
    for header in [
        "Host",
        "authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Forwarded",
        "X-Forwarded-For",
        "Proxy-Auth",
        "Cookie",
        "traceparent",
    ] {
        breaks("headers: {X-Customer:", &format!("headers: {{{header}: '1', X-Customer:"), &[Code::HeaderForbidden]);
    }
    breaks(
        "headers: {X-Customer:",
        "headers: {Content-Type: '${inputs.currency}', X-Customer:",
        &[Code::HeaderForbidden],
    );
    breaks("headers: {X-Customer:", "headers: {Content-Type: application/json, X-Customer:", &[]);
    breaks("headers: {X-Customer:", "headers: {'${inputs.reason}': a, X-Customer:", &[Code::BadValue]);
    breaks("upstream: shop\n", "upstream: '${inputs.reason}'\n", &[Code::BadValue]);
    breaks("upstream: shop\n", "upstream: shopp\n", &[Code::UpstreamUnknown]);
    let place = found("upstream: shop\n", "upstream: shopp\n").remove(0).place;
    assert_eq!((place.line, place.column), (24, 15), "the value, not its name");
    breaks("path: /v2/orders/${", "path: //evil.example/${", &[Code::TemplateInvalid]);
    breaks("method: GET, path: /v2/orders", "method: GET, path: /v2/orders, body: {json: {a: 1}}", &[Code::BodyOnGet]);
    breaks("method: GET", "method: DELETE", &[Code::MethodEffect]);
    breaks("method: POST", "method: GET", &[Code::MethodEffect, Code::BodyOnGet]);
}

#[test]
fn a_weak_value_inside_a_longer_text_cannot_change_it() {
    breaks("note: '${inputs.reason}'", "note: 'because ${inputs.reason}'", &[Code::EmbeddedUnguarded]);
    breaks("note: '${inputs.reason}'", "note: '${inputs.reason}', ref: 'order:${inputs.order_id}'", &[]);
    breaks("note: '${inputs.reason}'", "note: '${inputs.reason}', ref: '${inputs.currency}-${inputs.amount}'", &[]);
    breaks("pattern: '^ord_[a-z0-9]{6,32}$'", "pattern: '^ord_.{6,32}$'", &[]);
    let search = "/v2/orders('${inputs.order_id}')/refunds";
    breaks("/v2/orders/${inputs.order_id}/refunds", search, &[]);
    let refund = REFUND
        .replace("/v2/orders/${inputs.order_id}/refunds", search)
        .replace("'^ord_[a-z0-9]{6,32}$'", "'^ord_.{6,32}$'");
    let found = load(&[WORKSPACE, LIST, &refund]).result.unwrap_err();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::EmbeddedUnguarded], "{found}");
}

#[test]
fn schemas_are_there_and_fit() {
    breaks("schema: {type: integer, minimum: 1, maximum: 50000}", "schema: {type: intege}", &[Code::SchemaInvalid]);
    breaks("plain: true, schema: {type: integer, minimum: 1, maximum: 50000}", "plain: true", &[Code::SchemaMissing]);
    breaks("{constant: EUR}", "{constant: EUR, schema: {enum: [USD]}}", &[Code::ValueInvalid]);
    breaks("optional: true, schema: {type: string", "default: 7, schema: {type: string", &[Code::ValueInvalid]);
    breaks("{constant: EUR}", "{constant: EUR, accept: [SIGNED]}", &[Code::InputContradiction]);
    breaks(
        "plain: true, schema: {type: integer",
        "plain: true, max_age: 1h, schema: {type: integer",
        &[Code::InputContradiction],
    );
    breaks("{constant: EUR}", "{constant: EUR, from: agent}", &[Code::InputContradiction]);
    breaks(
        "contact.attributes.account_id, accept: [SIGNED], max",
        "contact.attributes.accountid, accept: [SIGNED], max",
        &[Code::AttributeUndeclared],
    );
}

#[test]
fn a_simple_output_has_two_levels() {
    breaks(
        "refund_id: {path: $.refund.id, type: string}",
        "lines: {path: '$.lines[*]', type: array, items: {fields: {a: {path: '$.a[*]', type: array, items: {fields: {b: {path: $.b}}}}}}}",
        &[Code::OutputTooDeep],
    );
    breaks("refund_id: {path: $.refund.id, type: string}", "refund_id: {pat: $.refund.id}", &[Code::ProjectionInvalid]);
}

#[test]
fn visitors_have_proven_nothing() {
    breaks("audience: {kinds: [user]}", "audience: {kinds: [visitor]}", &[Code::AudienceTooWide, Code::ChoicesSource]);
}

#[test]
fn upstreams_are_called_with_tls_and_by_a_fixed_name() {
    let url = "https://api.shop.example/base";
    breaks(url, "http://api.shop.example", &[Code::UrlInsecure]);
    for bad in
        ["'https://${inputs.a}.example'", "ftp://a", "nonsense", "'https://a/?q=1'", "'https://a/#f'", "'https:\\\\a'"]
    {
        breaks(url, bad, &[Code::UrlInvalid]);
    }
    breaks(url, "'https://user:hunter2@a'", &[Code::SecretInline]);
    breaks("127.0.0.1/32", "0.0.0.0/0", &[Code::BadValue]);
    breaks("credential: shop-token", "credential: shop-tokn", &[Code::CredentialUnknown]);
}

#[test]
fn a_secret_in_a_file_is_refused_and_not_repeated() {
    for secret in [
        "sk-live-51h8x9a0b1c2d3",
        "'Bearer hunter2hunter2'",
        "AKIAIOSFODNN7EXAMPLE",
        "{secret: 'Hunter2!'}",
        "8675309867530986",
    ] {
        let found = found("{secret: shop-token}", secret);
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::SecretInline], "{secret}");
        let shown = Diagnostics::new(found).to_string().to_lowercase();
        assert!(!shown.contains("hunter2") && !shown.contains("sk-live") && !shown.contains("akia"), "{shown}");
    }
    breaks("{secret: shop-token}", "shop-token", &[]);
    breaks("secret: messenger-2025", "secret: 'Zm9vYmFyYmF6cXV4'", &[Code::SecretInline]);
    breaks("secret: messenger-2025", "secret: {secret: messenger-2025}", &[]);
}

#[test]
fn what_is_not_executed_is_refused_by_name() {
    for (replace, with) in [
        ("  retry:", "  gone: [inputs.order_id]\n  retry:"),
        ("  retry:", "  policies: []\n  retry:"),
        ("  retry:", "  await: {via: poll}\n  retry:"),
        ("  retry:", "  waive: []\n  retry:"),
        ("  retry:", "  repeatable: true\n  retry:"),
        ("{kinds: [user]}", "{kinds: [user], when: 'true'}"),
        ("    retain: 72h\n", "    reconcile: {}\n"),
        ("format: json", "format: xml"),
        ("    mode: simple\n", "    outcomes: []\n"),
        ("{json: {amount", "{form: {style: brackets}, json: {amount"),
        ("{workspace: acme, name: refund-order", "{stage: draft, workspace: acme, name: refund-order"),
        ("  timezone:", "  hooks: {}\n  timezone:"),
        ("  timezone:", "  guardrails: {writes_need: [confirm]}\n  timezone:"),
        ("max: 50}\n    amount", "max: 50, label: '${item.title}'}\n    amount"),
        ("{static: {header: Authorization", "{oauth2: {}, static: {header: Authorization"),
    ] {
        breaks(replace, with, &[Code::NotYetSupported]);
    }
}

#[test]
fn what_is_misspelt_or_twice_is_refused() {
    breaks("  retry:", "  retrys:", &[Code::UnknownField]);
    breaks("    timeout: 8s\n", "    timeout: 8s\n    timeout: 9s\n", &[Code::DuplicateField]);
    breaks("headers: {X-Customer:", "headers: {x-customer: a, X-Customer:", &[Code::DuplicateField]);
    breaks("kind: CredentialSet", "kind: CredentialSets", &[Code::BadValue]);
    breaks("kind: Workspace", "kind: Release", &[Code::MissingField]);
    breaks("identifies: true}\n  request", "identifies: yes}\n  request", &[Code::WrongType]);
    breaks("timezone: Europe/Dublin", "timezone: ''", &[Code::BadValue]);
    breaks("timezone: Europe/Dublin", "timezone: Europe/Dubln", &[Code::BadValue]);
    breaks("timeout: 8s", "timeout: 16s", &[Code::BadValue]);
    breaks("max_age: 30m", "max_age: ", &[Code::WrongType]);
    breaks("attempts: 3", "attempts: 3.0", &[Code::BadValue]);
    breaks("version: v2", "version: 2", &[Code::WrongType]);
    let again = format!("{REFUND}---\n{REFUND}");
    let found = load(&[WORKSPACE, LIST, &again]).result.unwrap_err();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::DuplicateDefinition], "{found}");
    let found = load(&[LIST]).result.unwrap_err();
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::WorkspaceMissing], "{found}");
    let twice = format!("{WORKSPACE}---\n{WORKSPACE}");
    let found = load(&[&twice, LIST]).result.unwrap_err();
    assert!(found.iter().all(|one| one.code == Code::DuplicateDefinition), "{found}");
}
