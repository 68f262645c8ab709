use super::*;

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn rules(text: &str) -> Rules {
    Rules::parse(&[source("a.yaml", text)]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn told(text: &str) -> String {
    let problems = Rules::parse(&[source("a.yaml", text)]).unwrap_err();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Requests per unit of the limit that these entries have; `None` if they have none.
fn asked(rules: &Rules, domain: &str, entries: &[(&str, &str)]) -> Option<u32> {
    rules.domain(domain)?.find(entries.iter().copied()).map(|found| found.limit.requests)
}

const GATEWAY: &str = "
domain: edge
descriptors:
  - key: remote_address
    rate_limit: {unit: second, requests_per_unit: 10}
  - key: remote_address
    value: 50.0.0.5
    rate_limit: {unit: SECOND, requests_per_unit: 0}
  - key: message_type
    value: marketing
    descriptors:
      - key: to_number
        rate_limit: {unit: day, requests_per_unit: 5, name: texts}
  - key: path
    value: /api/*
    share_threshold: true
    rate_limit: {unit: minute, requests_per_unit: 20, burst: 3}
  - key: path
    value: /api/*/action
    rate_limit: {unit: minute, requests_per_unit: 21}
  - key: path
    value: /api/exact
    rate_limit: {unit: minute, requests_per_unit: 22}
  - key: ldap
    rate_limit: {unlimited: true}
  - key: quiet
    detailed_metric: true
    shadow_mode: true
    rate_limit: {unit: year, requests_per_unit: 1, replaces: [{name: texts}]}
  - key: own
    value: f*
    rate_limit: {unit: day, requests_per_unit: 1}
";

#[test]
fn the_exact_value_wins_then_the_first_pattern_then_the_key() {
    let rules = rules(GATEWAY);
    let one = |key, value| asked(&rules, "edge", &[(key, value)]);
    assert_eq!(one("remote_address", "1.2.3.4"), Some(10));
    assert_eq!(one("remote_address", "50.0.0.5"), Some(0));
    assert_eq!(one("path", "/api/exact"), Some(22));
    assert_eq!(one("path", "/api/1/action"), Some(20));
    assert_eq!(one("path", "/other"), None);
    assert_eq!(one("unknown", "x"), None);
    assert_eq!(asked(&rules, "elsewhere", &[("remote_address", "1.2.3.4")]), None);
}

#[test]
fn a_descriptor_has_a_limit_only_at_its_own_depth() {
    let rules = rules(GATEWAY);
    let marketing = ("message_type", "marketing");
    assert_eq!(asked(&rules, "edge", &[marketing, ("to_number", "1")]), Some(5));
    assert_eq!(asked(&rules, "edge", &[marketing]), None);
    assert_eq!(asked(&rules, "edge", &[("to_number", "1")]), None);
    assert_eq!(asked(&rules, "edge", &[marketing, ("to_number", "1"), ("more", "1")]), None);
    assert_eq!(asked(&rules, "edge", &[("remote_address", "1"), ("remote_address", "2")]), None);
    assert_eq!(asked(&rules, "edge", &[]), None);
}

#[test]
fn a_key_and_a_value_are_never_taken_for_another_key_and_value() {
    let rules = rules("domain: d\ndescriptors: [{key: a, value: b_c, rate_limit: {unit: day, requests_per_unit: 1}}]");
    assert_eq!(asked(&rules, "d", &[("a", "b_c")]), Some(1));
    assert_eq!(asked(&rules, "d", &[("a_b", "c")]), None);
}

#[test]
fn a_shared_pattern_stands_in_for_its_values_and_others_do_not() {
    let rules = rules(GATEWAY);
    let domain = rules.domain("edge").unwrap();
    assert_eq!(domain.find([("path", "/api/1")]).unwrap().shared, [(0, "/api/*")]);
    assert!(domain.find([("own", "fish")]).unwrap().shared.is_empty());
    assert!(domain.find([("path", "/api/exact")]).unwrap().shared.is_empty());
    assert!(domain.find([("remote_address", "1.2.3.4")]).unwrap().shared.is_empty());
}

#[test]
fn what_a_limit_says_is_what_is_in_force() {
    let rules = rules(GATEWAY);
    let domain = rules.domain("edge").unwrap();
    let limit = |key, value| domain.find([(key, value)]).unwrap().limit;
    assert_eq!(limit("remote_address", "50.0.0.5").allowance, Allowance::Closed);
    assert_eq!(limit("ldap", "x").allowance, Allowance::Unlimited);
    let rate = |permits, seconds: i64, burst| {
        Allowance::Rate(Rate::of_a_gateway(permits, seconds * 1_000_000, burst).unwrap())
    };
    assert_eq!(limit("remote_address", "1.2.3.4").allowance, rate(10, 1, 10));
    assert_eq!(limit("path", "/api/1").allowance, rate(20, 60, 3));
    let quiet = limit("quiet", "x");
    assert!(quiet.shadow && quiet.allowance == rate(1, 365 * 86_400, 1));
    assert_eq!((quiet.replaces.as_slice(), quiet.policy.as_str()), (["texts".to_owned()].as_slice(), "quiet"));
    let texts = domain.find([("message_type", "marketing"), ("to_number", "1")]).unwrap().limit;
    assert_eq!(texts.policy, "texts");
    assert_eq!(rules.limits()[texts.id.unwrap()].to_string(), "edge.message_type_marketing.to_number");
    assert_eq!(rules.limits().len(), 9);
}

#[test]
fn units_are_as_long_as_with_the_reference_service() {
    let lengths: Vec<_> = Unit::ALL.iter().map(|unit| unit.seconds()).collect();
    assert_eq!(lengths, [1, 60, 3600, 86_400, 604_800, 2_592_000, 31_536_000]);
    assert!(Allowance::parse(1_000_000, Unit::Year, 1_000_000).is_some());
    assert!(Allowance::parse(1, Unit::Year, 49).is_some());
    assert_eq!(Allowance::parse(1_000_001, Unit::Second, 1), None);
    assert_eq!(Allowance::parse(3000, Unit::Year, 1_000_000), None);
}

#[test]
fn what_has_no_effect_is_told_and_accepted() {
    let notes: Vec<_> = rules(GATEWAY).notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("a.yaml:26:") && notes[0].contains("detailed_metric"), "{notes:?}");
}

#[test]
fn wrong_files_are_refused_with_place_and_remedy() {
    for (text, place, says) in [
        ("domain: d\ndescriptors:\n  - key: a\n    rate_limits: {}\n", "a.yaml:4:", "rate_limits"),
        ("domain: d\ndescriptors:\n  - key: a\n    key: b\n", "a.yaml:4:", "duplicate"),
        ("descriptors: []\n", "a.yaml:", "domain"),
        ("", "a.yaml: ", "domain"),
        ("domain: ''\n", "a.yaml:1:", "1 to 1024"),
        ("domain: d\ndescriptors: [{key: ''}]\n", "a.yaml:2:", "1 to 1024"),
        ("domain: d\n---\ndomain: d\n", "a.yaml:3:", "already in a.yaml:1"),
        (
            "domain: d\ndescriptors:\n  - {key: a, value: b}\n  - {key: a, value: b}\n",
            "a.yaml:4:",
            "key and value stand twice",
        ),
        ("domain: d\ndescriptors:\n  - {key: a}\n  - {key: a, value: ''}\n", "a.yaml:4:", "no value stand twice"),
        ("domain: d\ndescriptors:\n  - {key: a, value: 'b*'}\n  - {key: a, value: 'b*'}\n", "a.yaml:4:", "pattern"),
        (
            "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: fortnight, requests_per_unit: 1}}\n",
            "a.yaml:3:",
            "week",
        ),
        (
            "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: day}}\n",
            "a.yaml:3:",
            "requests_per_unit is required",
        ),
        ("domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: day, requests_per_unit: -1}}\n", "a.yaml:3:", ""),
        (
            "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: day, unlimited: true}}\n",
            "a.yaml:3:",
            "without unit",
        ),
        (
            "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: day, requests_per_unit: 1, burst: 0}}\n",
            "a.yaml:3:",
            "burst must be",
        ),
        (
            "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unit: year, requests_per_unit: 1, burst: 101}}\n",
            "a.yaml:3:",
            "century",
        ),
        ("domain: d\ndescriptors:\n  - {key: a, value: b, share_threshold: true}\n", "a.yaml:3:", "share_threshold"),
        (
            "domain: d\ndescriptors:\n  - {key: a, rate_limit: {unlimited: true, name: n, replaces: [{name: n}]}}\n",
            "a.yaml:3:",
            "replace itself",
        ),
        ("domain: d\ndescriptors:\n  - {key: a, shadow_mode: yes}\n", "a.yaml:3:", ""),
        ("domain: d\ndescriptors:\n  - {key: a, quota_mode: true}\n", "a.yaml:3:", "quota_mode"),
    ] {
        let told = told(text);
        assert!(told.starts_with(place) && told.contains(says), "{text}\n{told}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_over_all_files() {
    let good = source("good.yaml", "domain: one\n");
    let again = source("again.yaml", "domain: one\ndescriptors: []\n");
    let bad = source("bad.yaml", "domain: two\ndescriptors:\n  - {key: ''}\n  - {key: a, rate_limit: {}}\n");
    let problems = Rules::parse(&[good, again, bad]).unwrap_err();
    let places: Vec<_> = problems.iter().map(|one| (one.path.as_str(), one.line)).collect();
    assert_eq!(places, [("again.yaml", 1), ("bad.yaml", 3), ("bad.yaml", 4), ("bad.yaml", 4)]);
}

#[test]
fn numbers_are_fine_as_values() {
    let rules =
        rules("domain: d\ndescriptors: [{key: status, value: 404, rate_limit: {unit: day, requests_per_unit: 1}}]");
    assert_eq!(asked(&rules, "d", &[("status", "404")]), Some(1));
}
