use std::sync::Arc;
use std::time::Duration;

use safeconduct_service::channel::{SisterChannel, TcpOptions, with_deadline};
use safeconduct_types::{Clock, Deadline, SystemClock};
use tonic::Code;
use tonic_types::StatusExt;

use crate::echo::call;
use crate::suite::Setup;

fn within(timeout: Duration) -> Deadline {
    Deadline::within(SystemClock.instant(), timeout)
}

#[tokio::test]
async fn the_time_that_is_left_goes_along() {
    let server = Setup::default().start();
    for channel in [server.sister(), server.in_process()] {
        let request = with_deadline(String::new(), Some(within(Duration::from_secs(7))));
        let left: u64 = call(&channel, "Left", request).await.expect("an answer").parse().unwrap();
        assert!((6_000..=7_000).contains(&left), "{channel:?}: {left} ms");
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_as_such() {
    let server = Setup::default().start();
    for channel in [server.sister(), server.in_process()] {
        let request = with_deadline(String::new(), Some(within(Duration::from_millis(80))));
        let status = call(&channel, "Wait", request).await.expect_err("too late");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{channel:?}: {status:?}");
        assert!(status.get_details_error_info().is_none());
    }
}

#[tokio::test]
async fn without_time_left_nothing_is_sent() {
    let server = Setup::default().start();
    let request = with_deadline(String::new(), Some(within(Duration::ZERO)));
    let status = call(&server.sister(), "Say", request).await.expect_err("refused");
    assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "DEADLINE_TOO_SHORT");
    assert_eq!(server.echo.said.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_sister_in_process_is_known_by_its_channel_and_over_tcp_by_its_token() {
    let server = Setup::default().start();
    let request = || tonic::Request::new(String::new());
    assert_eq!(call(&server.in_process(), "Caller", request()).await.unwrap(), "in process: connector");
    assert_eq!(call(&server.sister(), "Caller", request()).await.unwrap(), "bearer");
}

#[tokio::test]
async fn a_panic_in_a_sister_is_its_answer() {
    let server = Setup::default().start();
    let status = call(&server.in_process(), "Panic", tonic::Request::new("hunter2".to_owned())).await;
    let status = status.expect_err("a fault");
    assert_eq!(status.code(), Code::Internal);
    assert!(!format!("{status:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_sister_that_is_away_is_unavailable_without_a_claim() {
    let server = Setup::default().start();
    let uri = server.uri();
    server.stop().await;
    let channel = SisterChannel::tcp(&TcpOptions::new(uri), Arc::new(SystemClock)).unwrap();
    let status = call(&channel, "Say", tonic::Request::new(String::new())).await.expect_err("nobody is there");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_error_info().is_none());
}
