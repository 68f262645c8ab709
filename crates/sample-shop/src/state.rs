//! What the shop remembers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use crate::fault::Fault;

/// The token that the shop asks for. It guards sample data; there is nothing secret about it.
pub const TOKEN: &str = "sample-shop-token";

/// What has happened so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Effects {
    /// Calls that reached the shop, the ones under `/_shop` left out.
    pub calls: u64,
    /// Calls of the refund endpoint, repeated ones included.
    pub refund_calls: u64,
    /// Refunds made, in order: each is money that left.
    pub refunds: Vec<Refund>,
    /// Each call's method and path, newest last, at most 1,000.
    pub paths: Vec<String>,
    /// Each call's `traceparent` as it came in, newest last, at most 1,000; empty if there was none.
    pub traceparents: Vec<String>,
}

/// One refund.
#[derive(Clone, Debug, Serialize)]
pub struct Refund {
    /// Its id.
    pub id: String,
    /// The order.
    pub order: String,
    /// Minor units.
    pub amount: i64,
    /// The key under which it was asked for.
    pub key: Option<String>,
}

pub(crate) struct Order {
    pub customer: &'static str,
    pub title: &'static str,
    pub total: &'static str,
    pub status: &'static str,
}

/// The assortment: two customers, so that one has something the other must not see.
const ORDERS: &[(&str, Order)] = &[
    ("ord_a1b2c3", Order { customer: "cust_ada", title: "Brass sextant", total: "129.90", status: "delivered" }),
    ("ord_d4e5f6", Order { customer: "cust_ada", title: "Star chart, 1843", total: "24.50", status: "shipped" }),
    ("ord_g7h8i9", Order { customer: "cust_ada", title: "Punched cards, 500", total: "15.00", status: "delivered" }),
    ("ord_z9y8x7", Order { customer: "cust_grace", title: "Moth in a frame", total: "47.09", status: "delivered" }),
];

/// With which address each customer orders.
const EMAILS: &[(&str, &str)] = &[("cust_ada", "ada@example.com"), ("cust_grace", "grace@example.com")];

#[derive(Default)]
struct Memory {
    effects: Effects,
    by_key: BTreeMap<String, (String, Value)>,
    faults: Vec<Fault>,
}

#[derive(Default)]
pub(crate) struct Shop(Mutex<Memory>);

/// How a refund ended.
pub(crate) enum Refunded {
    New(Value),
    Again(Value),
    OtherRequest,
}

impl Shop {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn order(id: &str) -> Option<&'static Order> {
        ORDERS.iter().find(|(order, _)| *order == id).map(|(_, order)| order)
    }

    pub(crate) fn orders(customer: &str) -> Vec<Value> {
        ORDERS
            .iter()
            .filter(|(_, order)| order.customer == customer)
            .map(|(id, order)| Self::render(id, order))
            .collect()
    }

    /// What was ordered with this address.
    pub(crate) fn orders_of(email: &str) -> Vec<Value> {
        let customer = EMAILS.iter().find(|(_, known)| *known == email).map(|(customer, _)| *customer);
        customer.map(Self::orders).unwrap_or_default()
    }

    pub(crate) fn render(id: &str, order: &Order) -> Value {
        json!({
            "id": id,
            "title": order.title,
            "status": order.status,
            "total": {"amount": order.total, "currency": "EUR"},
            // What no caller asked for and no agent may see.
            "internal": {"margin": "0.41", "warehouse": "DUB-3", "card_last4": "4242"},
        })
    }

    pub(crate) fn refund(&self, order: &str, amount: i64, note: Option<&str>, key: Option<&str>) -> Refunded {
        let mut memory = self.memory();
        let request = format!("{order}\n{amount}\n{}", note.unwrap_or_default());
        if let Some(known) = key.and_then(|key| memory.by_key.get(key)) {
            return if known.0 == request { Refunded::Again(known.1.clone()) } else { Refunded::OtherRequest };
        }
        let id = format!("ref_{}", memory.effects.refunds.len() + 1);
        let answer = json!({"refund": {"id": id, "order": order, "amount": amount, "status": "done"}});
        memory.effects.refunds.push(Refund { id, order: order.to_owned(), amount, key: key.map(str::to_owned) });
        if let Some(key) = key {
            memory.by_key.insert(key.to_owned(), (request, answer.clone()));
        }
        Refunded::New(answer)
    }

    pub(crate) fn count(&self, method: &str, path: &str, traceparent: &str) {
        let mut memory = self.memory();
        memory.effects.calls += 1;
        if path.ends_with("/refunds") {
            memory.effects.refund_calls += 1;
        }
        if memory.effects.paths.len() < 1_000 {
            memory.effects.paths.push(format!("{method} {path}"));
            memory.effects.traceparents.push(traceparent.to_owned());
        }
    }

    pub(crate) fn effects(&self) -> Effects {
        self.memory().effects.clone()
    }

    pub(crate) fn expect_fault(&self, fault: Fault) {
        self.memory().faults.push(fault);
    }

    /// Takes the first fault that fits, and uses it up by one.
    pub(crate) fn fault_for(&self, method: &str, path: &str) -> Option<Fault> {
        let mut memory = self.memory();
        let fits = |fault: &Fault| fault.method.as_deref().is_none_or(|m| m == method) && path.contains(&fault.path);
        let at = memory.faults.iter().position(fits)?;
        let fault = memory.faults.get_mut(at)?;
        fault.times = fault.times.saturating_sub(1);
        let taken = fault.clone();
        if taken.times == 0 {
            memory.faults.remove(at);
        }
        Some(taken)
    }
}
