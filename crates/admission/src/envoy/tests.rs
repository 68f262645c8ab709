use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use safeconduct_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use safeconduct_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use safeconduct_proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use safeconduct_proto::envoy::r#type::v3::RateLimitUnit;
use safeconduct_service::config::{EnvoyConfig, GatewayHeaders};
use safeconduct_service::layers::Routes;
use safeconduct_service::status::refusal_in;
use safeconduct_types::Reason;
use tempfile::TempDir;
use tonic::Request;

use super::Gateway;
use crate::tests::faulty::Fault;
use crate::tests::fixture::{AGENT_TOKEN, Fixture, GATEWAY_TOKEN, layers};

const LIMITS: &str = "
domain: shop
descriptors:
  - {key: user, rate_limit: {name: user, unit: day, requests_per_unit: 4}}
  - {key: a_b, rate_limit: {unit: day, requests_per_unit: 1}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: closed, rate_limit: {unit: day, requests_per_unit: 0}}
  - {key: quiet, shadow_mode: true, rate_limit: {unit: day, requests_per_unit: 1}}
  - {key: file, value: 'f*', share_threshold: true, rate_limit: {unit: day, requests_per_unit: 2}}
  - {key: own, value: 'f*', rate_limit: {unit: day, requests_per_unit: 2}}
  - {key: vip, rate_limit: {unit: day, requests_per_unit: 9, replaces: [{name: user}]}}
---
domain: other
descriptors:
  - {key: user, rate_limit: {unit: day, requests_per_unit: 1}}
";

struct Front {
    fixture: Fixture,
    gateway: Arc<Gateway>,
    path: PathBuf,
    _folder: TempDir,
}

impl Front {
    async fn new() -> Self {
        Self::over(Fixture::new().await)
    }

    fn over(fixture: Fixture) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.yaml");
        std::fs::write(&path, LIMITS).unwrap();
        let config = EnvoyConfig { descriptors: Some(path.clone()), headers: GatewayHeaders::Draft };
        let gateway = fixture.admission.gateway(&config).unwrap();
        Self { fixture, gateway, path, _folder: folder }
    }

    /// The code of each descriptor, in words.
    async fn ask(&self, descriptors: &[&[(&str, &str)]]) -> Vec<bool> {
        let asked = request(descriptors);
        let answer = self.gateway.decide(asked).await.unwrap();
        let over = answer.statuses.iter().any(|one| one.code() == Code::OverLimit);
        assert_eq!(answer.overall_code() == Code::OverLimit, over);
        answer.statuses.iter().map(|one| one.code() == Code::Ok).collect()
    }

    async fn status(&self, request: RateLimitRequest) -> DescriptorStatus {
        self.gateway.decide(request).await.unwrap().statuses.remove(0)
    }

    fn renew(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
        super::files::renew(&self.gateway, super::files::read(&self.path), &mut Vec::new());
    }
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entries = entries.iter().map(|(key, value)| Entry { key: (*key).to_owned(), value: (*value).to_owned() });
    RateLimitDescriptor { entries: entries.collect(), ..RateLimitDescriptor::default() }
}

fn request(descriptors: &[&[(&str, &str)]]) -> RateLimitRequest {
    RateLimitRequest {
        domain: "shop".to_owned(),
        descriptors: descriptors.iter().map(|entries| descriptor(entries)).collect(),
        hits_addend: 0,
    }
}

#[tokio::test]
async fn each_value_of_a_key_has_a_count_of_its_own_and_a_shared_pattern_has_one() {
    let front = Front::new().await;
    for left in (0..4).rev() {
        assert_eq!(front.status(request(&[&[("user", "ada")]])).await.limit_remaining, left);
    }
    assert_eq!(front.ask(&[&[("user", "ada")]]).await, [false]);
    assert_eq!(front.ask(&[&[("user", "grace")]]).await, [true]);
    for (key, third) in [("file", false), ("own", true)] {
        assert_eq!(front.ask(&[&[(key, "f1")]]).await, [true]);
        assert_eq!(front.ask(&[&[(key, "f2")]]).await, [true]);
        assert_eq!(front.ask(&[&[(key, "f3")]]).await, [third], "{key}");
    }
    // Not even what a pattern looks like is counted with what it stands for.
    assert_eq!(front.ask(&[&[("own", "f*")]]).await, [true]);
}

#[tokio::test]
async fn what_was_taken_comes_back_one_by_one() {
    let front = Front::new().await;
    for _ in 0..4 {
        front.ask(&[&[("user", "ada")]]).await;
    }
    let refused = front.gateway.decide(request(&[&[("user", "ada")]])).await.unwrap();
    let header = |key: &str| refused.response_headers_to_add.iter().find(|one| one.key == key).unwrap().value.clone();
    assert_eq!(header("ratelimit-policy"), r#""user";q=4;w=86400"#);
    assert_eq!(header("ratelimit"), r#""user";r=0;t=86400"#);
    assert_eq!(header("retry-after"), "21600");
    assert_eq!(refused.statuses[0].duration_until_reset.unwrap().seconds, 86_400);
    front.fixture.clock.advance(Duration::from_hours(6));
    assert_eq!(front.ask(&[&[("user", "ada")]]).await, [true]);
    assert_eq!(front.ask(&[&[("user", "ada")]]).await, [false]);
}

#[tokio::test]
async fn each_descriptor_of_a_request_is_counted_by_itself() {
    let front = Front::new().await;
    let (once, user): (&[_], &[_]) = (&[("a_b", "x")], &[("user", "ada")]);
    assert_eq!(front.ask(&[once, user, &[("nothing", "x")]]).await, [true, true, true]);
    assert_eq!(front.ask(&[once, user]).await, [false, true]);
    assert_eq!(front.status(request(&[user])).await.limit_remaining, 1, "three were taken, refused or not");
    let other = RateLimitRequest { domain: "other".to_owned(), ..request(&[user]) };
    assert_eq!(front.status(other).await.code(), Code::Ok, "domains do not share counts");
    let unknown = RateLimitRequest { domain: "unknown".to_owned(), ..request(&[user, user]) };
    let answer = front.gateway.decide(unknown).await.unwrap();
    assert_eq!((answer.overall_code(), answer.statuses.len()), (Code::Ok, 2));
    assert!(answer.statuses[0].current_limit.is_none() && answer.response_headers_to_add.is_empty());
}

#[tokio::test]
async fn hits_are_those_of_the_descriptor_or_else_of_the_request() {
    let front = Front::new().await;
    let many = RateLimitRequest { hits_addend: 3, ..request(&[&[("user", "ada")]]) };
    assert_eq!(front.status(many.clone()).await.limit_remaining, 1);
    assert_eq!(front.status(many.clone()).await.code(), Code::OverLimit);
    let mut own = many.clone();
    own.descriptors[0].hits_addend = Some(1);
    assert_eq!(front.status(own.clone()).await.limit_remaining, 0);
    own.descriptors[0].hits_addend = Some(0);
    let asked = front.status(own.clone()).await;
    assert_eq!((asked.code(), asked.limit_remaining), (Code::OverLimit, 0), "nothing more could come");
    own.descriptors[0].entries[0].value = "grace".to_owned();
    let asked = front.status(own.clone()).await;
    assert_eq!((asked.code(), asked.limit_remaining), (Code::Ok, 4), "asking takes nothing");
    own.descriptors[0].hits_addend = Some(u64::MAX);
    assert_eq!(front.status(own).await.code(), Code::OverLimit);
}

#[tokio::test]
async fn unlimited_closed_and_shadowed_limits_are_what_they_say() {
    let front = Front::new().await;
    let free = front.status(request(&[&[("free", "x")]])).await;
    assert_eq!((free.code(), free.limit_remaining), (Code::Ok, u32::MAX));
    let closed = front.gateway.decide(request(&[&[("closed", "x")]])).await.unwrap();
    assert_eq!(closed.overall_code(), Code::OverLimit);
    assert!(closed.response_headers_to_add.iter().all(|one| one.key != "retry-after"), "{closed:?}");
    for _ in 0..3 {
        let quiet = front.gateway.decide(request(&[&[("quiet", "x")]])).await.unwrap();
        assert_eq!((quiet.overall_code(), quiet.statuses[0].limit_remaining), (Code::Ok, 0));
        assert!(quiet.response_headers_to_add.is_empty(), "{quiet:?}");
    }
    let mut metrics = String::new();
    front.gateway.metrics(&mut metrics);
    for (limit, result, count) in [("quiet", "ok", 1), ("quiet", "shadow_over", 2), ("closed", "over", 1)] {
        let line = format!("{{domain=\"shop\",limit=\"{limit}\",result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_limit_that_replaces_another_keeps_it_from_being_counted() {
    let front = Front::new().await;
    let (user, vip): (&[_], &[_]) = (&[("user", "ada")], &[("vip", "ada")]);
    for _ in 0..6 {
        assert_eq!(front.ask(&[user, vip]).await, [true, true]);
    }
    assert_eq!(front.status(request(&[user])).await.limit_remaining, 3);
}

#[tokio::test]
async fn a_limit_that_the_gateway_states_counts_instead_of_the_configured_one() {
    let front = Front::new().await;
    let mut stated = request(&[&[("quiet", "x")]]);
    let limit = RateLimitOverride { requests_per_unit: 2, unit: RateLimitUnit::Week.into() };
    stated.descriptors[0].limit = Some(limit);
    let first = front.status(stated.clone()).await;
    assert_eq!((first.limit_remaining, first.current_limit.unwrap().requests_per_unit), (1, 2));
    front.status(stated.clone()).await;
    assert_eq!(front.status(stated.clone()).await.code(), Code::OverLimit, "shadow mode is the configured limit's");
    stated.descriptors[0].limit = Some(RateLimitOverride { requests_per_unit: 2, unit: 0 });
    let refusal = front.gateway.decide(stated).await.unwrap_err();
    assert_eq!(refusal.violations()[0].field, "descriptors[0].limit");
}

#[tokio::test]
async fn malformed_requests_are_refused_field_by_field_and_without_their_values() {
    let front = Front::new().await;
    let mut wrong = request(&[&[], &[("", "hunter2")], &[("user", "ada")]]);
    wrong.domain = String::new();
    wrong.descriptors[2].is_negative_hits = true;
    let refusal = front.gateway.decide(wrong).await.unwrap_err();
    let fields: Vec<_> = refusal.violations().iter().map(|one| one.field.as_str()).collect();
    let expected = ["domain", "descriptors[0].entries", "descriptors[1].entries", "descriptors[2].is_negative_hits"];
    assert_eq!(fields, expected);
    assert!(!format!("{refusal:?}").contains("hunter2"));
    for descriptors in [0, 65] {
        let many = vec![descriptor(&[("user", "ada")]); descriptors];
        let asked = RateLimitRequest { domain: "shop".to_owned(), descriptors: many, hits_addend: 1 };
        assert_eq!(front.gateway.decide(asked).await.unwrap_err().reason(), Reason::InputInvalid);
    }
}

#[tokio::test]
async fn without_files_nothing_is_answered() {
    let fixture = Fixture::new().await;
    let config = EnvoyConfig { descriptors: None, headers: GatewayHeaders::Draft };
    let gateway = fixture.admission.gateway(&config).unwrap();
    let refusal = gateway.decide(request(&[&[("user", "ada")]])).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::Unimplemented);
    assert!(refusal.detail().contains("admission.envoy.descriptors"));
}

#[tokio::test]
async fn new_files_count_on_and_broken_ones_change_nothing() {
    let front = Front::new().await;
    let (user, quiet): (&[_], &[_]) = (&[("user", "ada")], &[("quiet", "x")]);
    front.ask(&[user, user, user, quiet]).await;
    front.renew("domain: shop\ndescriptors: [{key: user, nonsense: 1}]\n");
    assert_eq!(front.ask(&[user]).await, [true]);
    assert_eq!(front.ask(&[user]).await, [false], "four, as before");
    front.renew(&LIMITS.replace("requests_per_unit: 4", "requests_per_unit: 8"));
    // What was taken has as long to wait as before; what comes back comes at the new rate.
    front.fixture.clock.advance(Duration::from_hours(3));
    let renewed = front.status(request(&[user])).await;
    assert_eq!((renewed.code(), renewed.current_limit.unwrap().requests_per_unit), (Code::Ok, 8));
    let mut metrics = String::new();
    front.gateway.metrics(&mut metrics);
    assert!(metrics.contains("limit=\"user\",result=\"ok\"} 5\n"), "counters go on: {metrics}");
}

#[tokio::test]
async fn a_gateway_hears_that_the_store_is_gone_and_others_hear_nothing() {
    let (fixture, faulty) = Fixture::faulty().await;
    let front = Front::over(fixture);
    let mut client = RateLimitServiceClient::new(layers(&front.fixture.clock, Routes::new(front.gateway.server())));
    let ask = |token: &str| {
        let mut asked = Request::new(request(&[&[("user", "ada")]]));
        asked.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        asked
    };
    let passed = client.should_rate_limit(ask(GATEWAY_TOKEN)).await.unwrap().into_inner();
    assert_eq!(passed.overall_code(), Code::Ok);
    faulty.at(1, Fault::CrashBefore);
    for _ in 0..2 {
        let gone = client.should_rate_limit(ask(GATEWAY_TOKEN)).await.unwrap_err();
        assert_eq!(gone.code(), tonic::Code::Unavailable);
        let refusal = refusal_in(&gone).unwrap();
        assert_eq!(refusal.reason(), Reason::StoreUnavailable);
        assert!(refusal.retry_after().is_some());
    }
    faulty.revive();
    let passed = client.should_rate_limit(ask(GATEWAY_TOKEN)).await.unwrap().into_inner();
    assert_eq!(passed.statuses[0].limit_remaining, 2, "what was refused took nothing");
    let agent = client.should_rate_limit(ask(AGENT_TOKEN)).await.unwrap_err();
    assert_eq!(refusal_in(&agent).map(|refusal| refusal.reason()), Some(Reason::CallerNotAllowed));
}

#[tokio::test]
async fn a_gateway_asks_about_its_own_domains_only() {
    let front = Front::new().await;
    let mut client = RateLimitServiceClient::new(layers(&front.fixture.clock, Routes::new(front.gateway.server())));
    let ask = |domain: &str| {
        let domain = domain.to_owned();
        let mut asked = Request::new(RateLimitRequest { domain, ..request(&[&[("user", "ada")]]) });
        asked.metadata_mut().insert("authorization", format!("Bearer {GATEWAY_TOKEN}").parse().unwrap());
        asked
    };
    let answer = client.should_rate_limit(ask("shop")).await.unwrap().into_inner();
    assert_eq!(answer.overall_code(), Code::Ok);
    for domain in ["other", "unknown", ""] {
        let refused = client.should_rate_limit(ask(domain)).await.unwrap_err();
        assert_eq!(refusal_in(&refused).map(|refusal| refusal.reason()), Some(Reason::CallerNotAllowed), "{domain}");
    }
    let counted = RateLimitRequest { domain: "other".to_owned(), ..request(&[&[("user", "ada")]]) };
    assert_eq!(front.status(counted).await.limit_remaining, 0, "it was the first: what was refused took nothing");
}
