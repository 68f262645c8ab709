//! Guesses are counted exactly, however many come at once.

use std::sync::Arc;

use futures_util::future::join_all;
use safeconduct_store::{RedisOptions, RedisRecords, RedisStore};
use safeconduct_testkit::Redis;
use safeconduct_types::{Clock as _, ManualClock, Reason, SecretText, SystemClock};
use serde_json::json;
use tempfile::TempDir;

use super::world::{ANN, World, other_than, reason};

const HOME: &str = "192.0.2.7";
/// Guesses at once.
const MANY: usize = 10_000;

/// How often each answer was given to so many guesses at once, those that `right` says with the right code: verified,
/// wrong, too late, not compared.
async fn storm(world: &World, right: impl Fn(usize) -> bool) -> (usize, usize, usize, usize) {
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    let wrong = other_than(&code);
    let guesses = (0..MANY).map(|number| {
        let code = if right(number) { &code } else { &wrong };
        world.check(1, HOME, &id, code)
    });
    let mut told = (0, 0, 0, 0);
    for answer in join_all(guesses).await {
        match answer.map_err(|refusal| refusal.reason()) {
            Ok(_) => told.0 += 1,
            Err(Reason::CodeInvalid) => told.1 += 1,
            Err(Reason::ChallengeOver) => told.2 += 1,
            Err(Reason::Overloaded | Reason::StoreUnavailable) => told.3 += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    told
}

async fn three_wrong_guesses_and_no_more(world: &World) {
    let (verified, wrong, _, _) = storm(world, |_| false).await;
    assert_eq!((verified, wrong), (0, 3));
    assert!(world.admission.taken("otp guesses per address") >= 3);
}

async fn the_right_one_among_them_verifies_once(world: &World) {
    let (_, wrong, _, _) = storm(world, |number| number % 5 == 4).await;
    let proven = world.identity.proven.lock().unwrap();
    let at: std::collections::BTreeSet<_> = proven.iter().map(|one| (one.at, one.verification)).collect();
    assert!(at.len() <= 1, "it verified more than once");
    // Three decide; one more ends what was verified.
    assert!(wrong <= 4, "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_guesses_at_once_are_three_on_the_embedded_store() {
    three_wrong_guesses_and_no_more(&World::start().await).await;
    the_right_one_among_them_verifies_once(&World::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_guesses_at_once_are_three_on_redis() {
    for right in [false, true] {
        let server = Redis::start().await.unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let mut options = RedisOptions::new(SecretText::new(server.url()));
        options.reply_timeout = std::time::Duration::from_secs(30);
        options.clock = Some(clock.clone());
        let records = RedisRecords::on(RedisStore::connect(options).await.unwrap());
        let world = World::over(Arc::new(records), clock, TempDir::new().unwrap(), &json!({}));
        if right {
            the_right_one_among_them_verifies_once(&world).await;
        } else {
            three_wrong_guesses_and_no_more(&world).await;
        }
    }
}

#[tokio::test]
async fn a_guess_that_nobody_could_count_is_not_compared() {
    let world = World::start().await;
    let id = world.begin(1, HOME, ANN).await.unwrap().verification_id;
    let code = world.code(&id).await;
    drop(world.check(1, HOME, &id, &other_than(&code)).await.unwrap_err());
    *world.admission.away.lock().unwrap() = true;
    assert_eq!(reason(world.check(1, HOME, &id, &code).await), Reason::StoreUnavailable);
    assert_eq!(world.get(1, &id).await.unwrap().attempts_left, 2, "and it is not lost");
    *world.admission.away.lock().unwrap() = false;
    assert!(world.check(1, HOME, &id, &code).await.is_ok());
}
