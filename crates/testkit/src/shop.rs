//! The sample shop as an upstream, in a process of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

use crate::process::command;
use crate::{Process, until};

/// What has happened at the shop so far.
#[derive(Clone, Debug, Deserialize)]
pub struct Effects {
    /// Calls that reached it.
    pub calls: u64,
    /// Calls of the refund endpoint.
    pub refund_calls: u64,
    /// Refunds made: money that left.
    pub refunds: Vec<Refund>,
    /// Each call's method and path.
    pub paths: Vec<String>,
    /// Each call's `traceparent`; empty if there was none.
    pub traceparents: Vec<String>,
}

/// One refund.
#[derive(Clone, Debug, Deserialize)]
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

/// The running shop.
#[derive(Debug)]
pub struct Shop {
    address: String,
    _process: Process,
}

impl Shop {
    /// Starts it; its ready file and log go into `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let ready = folder.join("shop.ready");
        let mut command = command(&crate::safeconduct()?);
        command.args(["sample-shop", "--listen", "127.0.0.1:0", "--ready-file"]).arg(&ready);
        let mut process = Process::spawn("shop", command, folder)?;
        let address = process.ready(&ready).await?.remove("shop").context("the shop's ready file names no shop")?;
        Ok(Self { address, _process: process })
    }

    /// Its address, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What has happened so far.
    pub async fn effects(&self) -> anyhow::Result<Effects> {
        Ok(serde_json::from_slice(&self.call(Method::GET, "/_shop/effects", Bytes::new()).await?)?)
    }

    /// Waits until what has happened satisfies `enough`.
    pub async fn effects_once(&self, what: &str, enough: impl Fn(&Effects) -> bool) -> anyhow::Result<Effects> {
        until(what, Duration::from_secs(20), async || Ok(Some(self.effects().await?).filter(|effects| enough(effects))))
            .await
    }

    /// Orders a misbehaviour; see the sample shop's `fault`.
    pub async fn fault(&self, fault: &Value) -> anyhow::Result<()> {
        self.call(Method::POST, "/_shop/faults", Bytes::from(fault.to_string())).await.map(|_| ())
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address)).body(Full::new(body))?;
        let answer = client.request(request).await?;
        ensure!(answer.status().is_success(), "the shop answers {} to {path}", answer.status());
        Ok(answer.into_body().collect().await?.to_bytes())
    }
}
