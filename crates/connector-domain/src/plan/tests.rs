use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::definition::QueryValue;
use crate::template::testing::Inputs;
use crate::template::{JsonTemplate, PathTemplate, ValueTemplate};
use crate::testing;

fn base() -> Url {
    Url::parse("https://api.shop.example:8443/base").unwrap()
}

fn value(text: &str) -> ValueTemplate {
    ValueTemplate::parse(text).unwrap()
}

fn refund() -> Connector {
    let mut connector = testing::write();
    connector.request.path = PathTemplate::parse("/v2/orders/${inputs.a}/refunds").unwrap();
    connector.request.query = vec![
        ("expand[]".to_owned(), QueryValue::Many(vec![value("charge"), value("${inputs.b}")])),
        ("q".to_owned(), QueryValue::One(value("id:${inputs.a}"))),
    ];
    connector.request.headers = vec![("x-customer".to_owned(), value("${inputs.a}"))];
    connector.request.body =
        Some(JsonTemplate::parse(&json!({"amount": "${inputs.n}", "note": "${inputs.b}", "meta": {"v": 1}})).unwrap());
    connector
}

fn make(connector: &Connector, inputs: Value, key: Option<&str>) -> Result<RequestPlan, Refusal> {
    let key = key.map(Value::from);
    render(connector, &Inputs::of(inputs), &base(), key.as_ref())
}

#[test]
fn a_plan_is_what_the_definition_says() {
    let plan = make(&refund(), json!({"a": "ord 1", "n": 5}), None).unwrap();
    assert_eq!(
        plan.url().as_str(),
        "https://api.shop.example:8443/base/v2/orders/ord%201/refunds?expand%5B%5D=charge&q=id%3Aord%201"
    );
    assert_eq!(serde_json::from_slice::<Value>(plan.body().unwrap()).unwrap(), json!({"amount": 5, "meta": {"v": 1}}));
    let names: Vec<_> = plan.headers().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-customer", "accept", "content-type"]);
    assert!(!format!("{plan:?}").contains("ord"), "{plan:?}");
}

#[test]
fn the_upstreams_key_goes_where_the_definition_says() {
    let header = testing::keyed(refund(), KeyPlace::Header("idempotency-key".to_owned()));
    let plan = make(&header, json!({"a": "x", "n": 5}), Some("k1")).unwrap();
    assert!(plan.headers().contains(&("idempotency-key".to_owned(), "k1".to_owned())));
    let field = testing::keyed(refund(), KeyPlace::Field(vec!["meta".to_owned(), "key".to_owned()]));
    let plan = make(&field, json!({"a": "x", "n": 5}), Some("k1")).unwrap();
    let body: Value = serde_json::from_slice(plan.body().unwrap()).unwrap();
    assert_eq!(body["meta"], json!({"v": 1, "key": "k1"}));
    assert_eq!(make(&field, json!({"a": "x", "n": 5}), None).unwrap_err().reason(), Reason::Internal);
}

#[test]
fn a_value_with_no_place_is_refused_by_its_reference() {
    let refusal = make(&refund(), json!({"a": "..", "n": 5}), None).unwrap_err();
    assert_eq!(refusal.reason(), Reason::InputInvalid);
    assert_eq!(refusal.violations()[0].field, "inputs.a");
}

#[test]
fn a_base_that_is_more_than_an_origin_and_a_path_is_refused() {
    for bad in
        ["https://u:p@h.example/", "https://h.example/?a=b", "https://h.example/#f", "ftp://h.example/", "data:x"]
    {
        let connector = testing::connector();
        let result = render(&connector, &Inputs::of(json!({})), &Url::parse(bad).unwrap(), None);
        assert_eq!(result.unwrap_err().reason(), Reason::Internal, "{bad}");
    }
    for good in ["https://h.example", "https://h.example/", "https://h.example/api/", "http://127.0.0.1:8080"] {
        let connector = testing::connector();
        let plan = render(&connector, &Inputs::of(json!({})), &Url::parse(good).unwrap(), None).unwrap();
        assert_eq!(plan.url().as_str(), format!("{}/orders", good.trim_end_matches('/')));
    }
}

proptest! {
    #[test]
    fn no_value_changes_the_shape_of_a_request(
        a in "[ -~]{0,20}|\\PC{0,10}|[.%2efF5cC/\\\\;@:?#&=a]{0,12}",
        b in any::<String>(),
        n in any::<i64>(),
    ) {
        if let Ok(plan) = make(&refund(), json!({"a": a.clone(), "b": b.clone(), "n": n}), None) {
            let url = Url::parse(plan.url().as_str()).unwrap();
            prop_assert_eq!(url.scheme(), "https");
            prop_assert_eq!(url.host_str(), Some("api.shop.example"));
            prop_assert_eq!(url.port(), Some(8443));
            prop_assert_eq!(url.path_segments().unwrap().count(), 5);
            let pairs: Vec<_> = url.query_pairs().into_owned().collect();
            prop_assert_eq!(pairs, vec![
                ("expand[]".to_owned(), "charge".to_owned()),
                ("expand[]".to_owned(), b.clone()),
                ("q".to_owned(), format!("id:{a}")),
            ]);
            prop_assert_eq!(plan.headers().len(), 3);
            let body: Value = serde_json::from_slice(plan.body().unwrap()).unwrap();
            prop_assert_eq!(body, json!({"amount": n, "note": b, "meta": {"v": 1}}));
        }
    }
}
