//! The calls that the shop answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::fault::Kind;
use crate::state::{Refunded, Shop, TOKEN};

type Answer = Response<Full<Bytes>>;

pub(crate) async fn answer(shop: &Shop, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Ok(body) = Limited::new(body, 64 * 1024).collect().await.map(http_body_util::Collected::to_bytes) else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large");
    };
    match (parts.method.as_str(), path.as_str()) {
        ("GET", "/_shop/effects") => return json_answer(StatusCode::OK, &json!(shop.effects())),
        ("POST", "/_shop/faults") => {
            return match serde_json::from_slice(&body) {
                Ok(fault) => {
                    shop.expect_fault(fault);
                    json_answer(StatusCode::OK, &json!({}))
                }
                Err(error) => problem(StatusCode::BAD_REQUEST, "bad_fault", &error.to_string()),
            };
        }
        _ => {}
    }
    let traceparent = parts.headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    shop.count(parts.method.as_str(), &path, traceparent);
    let Some(fault) = shop.fault_for(parts.method.as_str(), &path) else { return serve(shop, &parts, &path, &body) };
    let real =
        (fault.after_effect || matches!(fault.kind, Kind::DelayMs(_))).then(|| serve(shop, &parts, &path, &body));
    match fault.kind {
        Kind::Status(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            problem(status, "fault", "as ordered")
        }
        Kind::RetryAfter(seconds) => {
            let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, "slow_down", "as ordered");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            answer
        }
        Kind::DelayMs(by) => {
            tokio::time::sleep(Duration::from_millis(by)).await;
            real.unwrap_or_else(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "fault", "no answer"))
        }
        Kind::Hang => std::future::pending().await,
        Kind::Html => text("text/html", "<!doctype html><title>Sign in</title><h1>Please sign in</h1>".to_owned()),
        Kind::Huge(len) => text("application/json", format!("{{\"padding\":\"{}\"}}", "x".repeat(len))),
        Kind::Empty => Response::new(Full::default()),
        Kind::Redirect(to) => {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            if let Ok(to) = HeaderValue::from_str(&to) {
                answer.headers_mut().insert(LOCATION, to);
            }
            answer
        }
        Kind::Body(body) => text("application/json", body),
    }
}

fn serve(shop: &Shop, parts: &http::request::Parts, path: &str, body: &[u8]) -> Answer {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if header(AUTHORIZATION.as_str()) != Some(format!("Bearer {TOKEN}").as_str()) {
        return problem(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or wrong");
    }
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::GET, ["v2", "customers", customer, "orders"]) => {
            json_answer(StatusCode::OK, &json!({"orders": Shop::orders(customer), "more": false}))
        }
        (&Method::GET, ["v2", "orders"]) => {
            let query = parts.uri.query().unwrap_or_default();
            let email = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "email");
            let orders = email.map(|(_, email)| Shop::orders_of(&email)).unwrap_or_default();
            json_answer(StatusCode::OK, &json!({"orders": orders, "more": false}))
        }
        (&Method::GET, ["v2", "orders", id]) => match own_order(id, header("x-customer")) {
            Some(order) => json_answer(StatusCode::OK, &json!({"order": Shop::render(id, order)})),
            None => unknown_order(),
        },
        (&Method::GET, ["v2", "orders", id, "parcel"]) => match own_order(id, header("x-customer")) {
            Some(order) => json_answer(
                StatusCode::OK,
                &json!({"parcel": {"carrier": "An Post", "status": order.status, "stops": ["Dublin", "Cork"]}}),
            ),
            None => unknown_order(),
        },
        (&Method::POST, ["v2", "orders", id, "refunds"]) => {
            if own_order(id, header("x-customer")).is_none() {
                return unknown_order();
            }
            refund(shop, id, body, header("idempotency-key"))
        }
        _ => problem(StatusCode::NOT_FOUND, "unknown_path", "the shop has no such path"),
    }
}

fn own_order(id: &str, customer: Option<&str>) -> Option<&'static crate::state::Order> {
    Shop::order(id).filter(|order| Some(order.customer) == customer)
}

fn unknown_order() -> Answer {
    problem(StatusCode::NOT_FOUND, "unknown_order", "this customer has no such order")
}

fn refund(shop: &Shop, order: &str, body: &[u8], key: Option<&str>) -> Answer {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return problem(StatusCode::BAD_REQUEST, "bad_body", "the body must be a JSON object");
    };
    let Some(amount) = body.get("amount").and_then(Value::as_i64).filter(|amount| *amount > 0) else {
        return problem(StatusCode::BAD_REQUEST, "bad_amount", "amount must be a positive integer of minor units");
    };
    match shop.refund(order, amount, body.get("note").and_then(Value::as_str), key) {
        Refunded::New(answer) => json_answer(StatusCode::CREATED, &answer),
        Refunded::Again(answer) => json_answer(StatusCode::OK, &answer),
        Refunded::OtherRequest => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", "the key was used for another request")
        }
    }
}

fn problem(status: StatusCode, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({"error": {"code": code, "message": message}}))
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = text("application/json", body.to_string());
    *answer.status_mut() = status;
    answer
}

fn text(kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
