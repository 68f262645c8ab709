//! A process that is told to stop finishes what it has begun, and ends in time whatever its clients do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use safeconduct_testkit::{Ask, Layout, Options, ShopUser, Store, Suite, has_error_info, token};
use safeconduct_types::{Clock as _, SystemClock};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;

use crate::{refund, succeeded};

/// Calls that are under way when the process is told to stop.
const UNDER_WAY: u32 = 40;
/// Callers that go on asking until they are sent away.
const INSISTING: u32 = 6;

#[tokio::test]
async fn a_stop_under_load_loses_no_call_that_had_time_left() {
    stop_under_load(Layout::All, Store::Embedded).await;
}

#[tokio::test]
async fn nor_does_a_stop_of_the_executor_alone() {
    stop_under_load(Layout::Separate, Store::Redis).await;
}

async fn stop_under_load(layout: Layout, store: Store) {
    let options = Options::new(layout, store)
        .set("SAFECONDUCT_DRAIN__GRACE", "1s")
        .set("SAFECONDUCT_DRAIN__HARD_DEADLINE", "20s");
    let mut suite = Suite::start(options).await.unwrap();
    let ada = suite.assertion(ShopUser::Ada).await.unwrap();
    let agent = Arc::new(suite.agent().unwrap());
    // Each refund takes longer than the grace, so that calls are cut if only the grace is waited for.
    let slow = json!({"method": "POST", "path": "/refunds", "times": UNDER_WAY, "kind": {"delay_ms": 2500}});
    suite.shop.fault(&slow).await.unwrap();
    let mut begun = JoinSet::new();
    for amount in 1..=UNDER_WAY {
        let (agent, ask) = (Arc::clone(&agent), Ask::new(&ada, "refund-order", &refund(amount)));
        begun.spawn(async move { agent.execute(&ask).await });
    }
    let all = u64::from(UNDER_WAY);
    suite.shop.effects_once("calls under way", |effects| effects.refund_calls >= all).await.unwrap();

    let mut insisting = JoinSet::new();
    for caller in 1..=INSISTING {
        let (agent, ada) = (Arc::clone(&agent), ada.clone());
        insisting.spawn(async move {
            let mut done = Vec::new();
            for n in 0.. {
                let amount = 1000 * caller + n;
                match agent.execute(&Ask::new(&ada, "refund-order", &refund(amount))).await {
                    Ok(execution) => {
                        succeeded(&execution);
                        done.push(i64::from(amount));
                    }
                    Err(status) => return (done, status),
                }
            }
            unreachable!("the process ends")
        });
    }
    suite.shop.effects_once("new calls", |effects| effects.refund_calls >= all + 6).await.unwrap();
    let executor = suite.executor();
    suite.terminate(executor).unwrap();

    for answer in begun.join_all().await {
        succeeded(&answer.expect("a call that was under way is answered"));
    }
    let mut answered: BTreeSet<i64> = (1..=i64::from(UNDER_WAY)).collect();
    for (done, sent_away) in insisting.join_all().await {
        assert!(!done.is_empty(), "calls are taken until the grace is over");
        answered.extend(done);
        // Sent away in words, or no longer connected; never taken and then dropped.
        let not_sent = sent_away.code() == Code::Cancelled || sent_away.code() == Code::Unavailable;
        assert!(has_error_info(&sent_away) || not_sent, "{sent_away:?}");
    }
    let happened: BTreeSet<i64> = suite.shop.effects().await.unwrap().refunds.iter().map(|one| one.amount).collect();
    assert_eq!(happened, answered, "whoever caused an effect was told so");
    let status = suite.exit(executor, Duration::from_secs(20)).await.unwrap();
    assert!(status.success(), "{status}\n{}", suite.logs());
}

#[tokio::test]
async fn a_client_that_stopped_reading_cannot_keep_the_process() {
    let hard = Duration::from_secs(4);
    let options = Options::new(Layout::All, Store::Embedded)
        .set("SAFECONDUCT_DRAIN__GRACE", "200ms")
        .set("SAFECONDUCT_DRAIN__HARD_DEADLINE", "4s")
        .set("SAFECONDUCT_LIMITS__KEEPALIVE_INTERVAL", "60s")
        .set("SAFECONDUCT_LIMITS__KEEPALIVE_TIMEOUT", "60s");
    let mut suite = Suite::start(options).await.unwrap();
    let address = suite.address("identity").unwrap();
    // One that asked and never takes the answer; one that said hello and nothing more; one that said nothing.
    let unread = ask_and_stop_reading(&address).await.unwrap();
    let mut silent = TcpStream::connect(&address).await.unwrap();
    silent.write_all(&preface(65_535)).await.unwrap();
    let mute = TcpStream::connect(&address).await.unwrap();

    let told = SystemClock.instant();
    suite.terminate("all").unwrap();
    suite.exit("all", hard + Duration::from_secs(3)).await.unwrap();
    let took = told.elapsed();
    assert!(took < hard + Duration::from_secs(2), "it took {took:?}");
    drop((unread, silent, mute));
}

/// The first bytes of a client: the preface and SETTINGS with this window for answers.
fn preface(window: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let [a, b, c, d] = window.to_be_bytes();
    bytes.extend(frame(4, 0, 0, &[0, 4, a, b, c, d]));
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Asks for the public keys with a window of no bytes, waits until the answer has begun, and reads no further.
async fn ask_and_stop_reading(address: &str) -> anyhow::Result<TcpStream> {
    let authorization = format!("Bearer {}", token::AGENT);
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/safeconduct.identity.v1.IdentityService/GetJwks"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &authorization),
    ];
    let mut block = Vec::new();
    for (name, value) in headers {
        // A literal that is not indexed; both texts are shorter than 127 bytes and not Huffman-coded.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len())?);
            block.extend(text.as_bytes());
        }
    }
    let mut stream = TcpStream::connect(address).await?;
    let (end_headers, end_stream, ack) = (4, 1, 1);
    stream.write_all(&preface(0)).await?;
    stream.write_all(&frame(1, end_headers, 1, &block)).await?;
    stream.write_all(&frame(0, end_stream, 1, &[0; 5])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        match head[3] {
            1 => return Ok(stream),
            4 if head[4] == 0 => stream.write_all(&frame(4, ack, 0, &[])).await?,
            _ => {}
        }
    }
}
