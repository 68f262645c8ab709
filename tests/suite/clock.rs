//! Clocks that jump admit nothing extra: a Redis whose clock is set forward and back by an hour, and a replica that
//! takes over with a clock an hour ahead. (The guard itself is tested in the store crate; here it is the whole.)

use std::path::PathBuf;
use std::time::Duration;

use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_proto::admission::v1::cap::Window;
use safeconduct_proto::admission::v1::{CalendarUnit, CalendarWindow, Charge, limit_spec};
use safeconduct_proto::common::v1::LimitKind;
use safeconduct_testkit::admission::{admit, contact, daily, rate, rolling};
use safeconduct_testkit::{Caller, Redis, RedisSentinel, Servers, Store, Suite, until};
use safeconduct_types::{Clock as _, SystemClock};

use crate::load::{LONGEST, ask, callers, say, three, turn};

/// What each limit lets pass.
const MOST: i64 = 3;

const HOUR: Duration = Duration::from_hours(1);
const DAY: i64 = 24 * 3600;

/// What sets a server's clock, if this machine has it.
fn library() -> Option<PathBuf> {
    let found = std::env::var_os("TEST_CLOCK").map(PathBuf::from).filter(|library| library.exists());
    if found.is_none() {
        say("no clock that can be set: left out (see tests/tools/ensure.sh)");
    }
    found
}

/// How far ahead a clock must be to say half past eleven at night.
fn before_midnight() -> i64 {
    let now = SystemClock.now().as_millis().div_euclid(1000);
    (DAY - 1800 - now.rem_euclid(DAY)).rem_euclid(DAY)
}

/// Each kind of limit. All of them would let more pass after half an hour if they believed the clock: a rate that has
/// filled up again, a window that has moved on, a day that is over.
fn limits(name: &str) -> Vec<Charge> {
    let mut charges = Vec::new();
    for (own, whose) in [(true, "own"), (false, "all")] {
        charges.push(rate(&format!("rate-{whose}-{name}"), own, MOST, HOUR / 2, MOST));
        charges.push(rolling(&format!("rolling-{whose}-{name}"), own, 1, MOST, HOUR / 2));
        let mut day = daily(&format!("daily-{whose}-{name}"), own, 1, MOST);
        let window = Window::Calendar(CalendarWindow { unit: CalendarUnit::Day as i32, time_zone: "UTC".to_owned() });
        if let Some(limit_spec::Shape::Cap(cap)) = day.limit.as_mut().and_then(|limit| limit.shape.as_mut()) {
            cap.window = Some(window);
        }
        charges.push(day);
    }
    charges
}

struct Bench {
    suite: Suite,
    callers: Vec<Caller>,
    next: u64,
}

impl Bench {
    async fn new(store: Store, servers: Servers, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let suite = three(store, Some(servers), settings).await?;
        let callers = callers(&suite)?;
        Ok(Self { suite, callers, next: 0 })
    }

    /// How many of a limit are admitted, asked of all processes in turn. Nothing but a denial ends it.
    async fn take(&mut self, charge: &Charge) -> anyhow::Result<i64> {
        let (mut admitted, mut denied) = (0, 0);
        while denied < self.callers.len() {
            self.next += 1;
            let caller = &self.callers[usize::try_from(self.next)? % self.callers.len()];
            match ask(caller, &admit(&contact(1), self.next, vec![charge.clone()])?).await? {
                Decision::Admitted(_) => admitted += 1,
                Decision::Denied(_) => denied += 1,
                other => anyhow::bail!("{other:?}"),
            }
        }
        Ok(admitted)
    }

    /// Takes all of these limits; each must let so many pass.
    async fn expect(&mut self, charges: &[Charge], expected: i64, when: &str) -> anyhow::Result<()> {
        for charge in charges {
            let name = charge.limit.as_ref().map(|limit| limit.name.clone()).unwrap_or_default();
            let admitted = self.take(charge).await?;
            anyhow::ensure!(admitted == expected, "{name} admitted {admitted} instead of {expected} {when}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_clock_that_jumps_by_an_hour_admits_nothing_extra() {
    let Some(library) = library() else { return };
    let _turn = turn().await;
    let redis = Redis::start_on_clock(&library).await.unwrap();
    let start = before_midnight();
    redis.set_clock(start).unwrap();
    let mut bench = Bench::new(Store::Redis, Servers::One(redis), &[]).await.unwrap();
    let (first, ahead, behind) = (limits("first"), limits("ahead"), limits("behind"));
    bench.expect(&first, MOST, "at first").await.unwrap();
    for (jump, charges, when) in [(3600, &ahead, "an hour ahead"), (-3600, &behind, "an hour behind")] {
        set(&mut bench, start + jump).await.unwrap();
        bench.expect(&first, 0, when).await.unwrap();
        // What is taken under a wrong clock is taken under the right one too.
        bench.expect(charges, MOST, when).await.unwrap();
        set(&mut bench, start).await.unwrap();
        for charges in [&first, charges] {
            bench.expect(charges, 0, "when the clock was mended").await.unwrap();
        }
    }
    // From one end to the other.
    set(&mut bench, start - 3600).await.unwrap();
    bench.expect(&first, 0, "behind").await.unwrap();
    set(&mut bench, start + 3600).await.unwrap();
    // Rates are forgotten when the clock jumps by more than an hour, as by a restart; caps are not.
    let caps: Vec<_> =
        behind.into_iter().filter(|charge| charge.limit.as_ref().unwrap().kind() != LimitKind::Rate).collect();
    for charges in [&first, &ahead, &caps] {
        bench.expect(charges, 0, "two hours later").await.unwrap();
    }
}

/// Sets the clock; the server says the new time from then on.
async fn set(bench: &mut Bench, ahead: i64) -> anyhow::Result<()> {
    let Servers::One(redis) = bench.suite.servers() else { anyhow::bail!("not one server") };
    redis.set_clock(ahead)?;
    until("the clock to say so", LONGEST, async || {
        let (told, _): (i64, i64) = redis.command(&["TIME"]).await?;
        let real = SystemClock.now().as_millis().div_euclid(1000);
        Ok(((told - real - ahead).abs() <= 1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_replica_that_takes_over_an_hour_ahead_admits_nothing_extra() {
    let Some(library) = library() else { return };
    let _turn = turn().await;
    let set = RedisSentinel::start_on_clocks(&library, 1).await.unwrap();
    let start = before_midnight();
    set.server(0).unwrap().set_clock(start).unwrap();
    set.server(1).unwrap().set_clock(start + 3600).unwrap();
    // So that nothing is lost that the master has answered, and nobody has to wait afterwards.
    let settings = [("SAFECONDUCT_STORE__DURABILITY", "replicated"), ("SAFECONDUCT_STORE__REPLICAS", "1")];
    let mut bench = Bench::new(Store::Sentinel(1), Servers::Sentinel(set), &settings).await.unwrap();
    let first = limits("first");
    bench.expect(&first, MOST, "before").await.unwrap();
    let Servers::Sentinel(set) = bench.suite.servers() else { panic!("no Sentinels") };
    let master = set.master().await.unwrap();
    set.server_mut(master).unwrap().kill().unwrap();
    let successor = set.until_failed_over(master).await.unwrap();
    let port = set.server(successor).unwrap().port();
    set.server_mut(master).unwrap().restart_behind(port).await.unwrap();
    set.server(master).unwrap().until_replica().await.unwrap();
    for caller in &bench.callers {
        until("writes again", LONGEST, async || {
            let probe = admit(&contact(2), 1_000_000, Vec::new())?;
            Ok(ask(caller, &probe).await.ok())
        })
        .await
        .unwrap();
    }
    bench.expect(&first, 0, "after the fail-over").await.unwrap();
    bench.expect(&limits("second"), MOST, "of new limits").await.unwrap();
}
