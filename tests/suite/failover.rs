//! Masters die, or hand over, under load: nothing that was acknowledged is admitted a second time, and it is over about
//! when the fail-over is. Long with `make chaos`.

use std::time::{Duration, Instant};

use safeconduct_testkit::{Redis, Servers, Store, Suite, until};

use crate::load::{LONGEST, Load, callers, rounds, say, three, turn};

/// How long writes are held back after a fail-over that may have lost some; leases are as long.
const HOLD: Duration = Duration::from_secs(3);

/// How a master goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Kill -9.
    Killed,
    /// Kill -9 after its replica has missed writes that were acknowledged.
    KilledAhead,
    /// It hands over because an operator says so.
    Planned,
}

/// How many keys are acknowledged that the replica has not seen.
const AHEAD: usize = 30;

/// A key that is written directly to see whether a server takes writes.
const PROBE: &str = "a-test:probe";

/// When a master went, and when another one took writes.
struct Over {
    began: Instant,
    took: Duration,
    from: usize,
    to: usize,
}

fn server(servers: &Servers, index: usize) -> anyhow::Result<&Redis> {
    match servers {
        Servers::Sentinel(set) => set.server(index),
        Servers::Cluster(cluster) => cluster.server(index),
        Servers::None | Servers::One(_) => anyhow::bail!("nobody takes over here"),
    }
}

fn server_mut(servers: &mut Servers, index: usize) -> anyhow::Result<&mut Redis> {
    match servers {
        Servers::Sentinel(set) => set.server_mut(index),
        Servers::Cluster(cluster) => cluster.server_mut(index),
        Servers::None | Servers::One(_) => anyhow::bail!("nobody takes over here"),
    }
}

/// The master of the probe, and who will take over from it.
async fn pair(servers: &Servers) -> anyhow::Result<(usize, usize)> {
    match servers {
        Servers::Sentinel(set) => {
            let master = set.master().await?;
            Ok((master, 1 - master))
        }
        Servers::Cluster(cluster) => {
            let master = cluster.master_of(PROBE).await?;
            Ok((master, cluster.partner(master)))
        }
        Servers::None | Servers::One(_) => anyhow::bail!("nobody takes over here"),
    }
}

async fn fail_over(suite: &mut Suite, load: &Load, end: End) -> anyhow::Result<Over> {
    let servers = suite.servers();
    let (from, to) = pair(servers).await?;
    let began = match end {
        End::Planned => {
            let began = Instant::now();
            match servers {
                Servers::Sentinel(set) => set.fail_over().await?,
                Servers::Cluster(cluster) => cluster.fail_over(from).await?,
                Servers::None | Servers::One(_) => anyhow::bail!("nobody takes over here"),
            }
            began
        }
        End::Killed => {
            let began = Instant::now();
            server_mut(servers, from)?.kill()?;
            began
        }
        End::KilledAhead => {
            server(servers, to)?.pause()?;
            // What was on its way would be read when it goes on.
            server(servers, from)?.command::<i64>(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
            load.book.until_more(AHEAD).await?;
            let began = Instant::now();
            server_mut(servers, from)?.kill()?;
            server(servers, to)?.resume()?;
            began
        }
    };
    let successor = server(servers, to)?;
    until("another master to take writes", LONGEST, async || {
        let written = successor.command::<String>(&["SET", PROBE, "1", "PX", "60000"]).await;
        Ok(written.is_ok().then_some(()))
    })
    .await?;
    Ok(Over { began, took: began.elapsed(), from, to })
}

/// The old master comes back behind the new one, as it would where something starts it again.
async fn come_back(suite: &mut Suite, over: &Over, end: End) -> anyhow::Result<()> {
    let servers = suite.servers();
    if end != End::Planned {
        let behind = matches!(servers, Servers::Sentinel(_)).then_some(server(servers, over.to)?.port());
        let old = server_mut(servers, over.from)?;
        match behind {
            Some(master) => old.restart_behind(master).await?,
            // It reads in its own file whom it knew, and they tell it what has happened.
            None => old.restart().await?,
        }
    }
    let old = server(servers, over.from)?;
    until("the old master to follow", LONGEST, async || {
        let is_replica = old.info("role").await.is_ok_and(|role| role == "slave");
        Ok((is_replica && old.info("master_link_status").await? == "up").then_some(()))
    })
    .await
}

async fn under_load(store: Store, replicated: bool, ends: &[End]) -> anyhow::Result<()> {
    let _turn = turn().await;
    let hold = format!("{}s", HOLD.as_secs());
    let durability = if replicated { "replicated" } else { "local" };
    let settings = [
        ("SAFECONDUCT_STORE__DURABILITY", durability),
        ("SAFECONDUCT_STORE__REPLICAS", "1"),
        ("SAFECONDUCT_STORE__RECOVERY_HOLD", &hold),
        // A hold that is shorter is not accepted.
        ("SAFECONDUCT_CONNECTOR__LEASE", &hold),
    ];
    let mut suite = three(store, None, &settings).await?;
    let callers = callers(&suite)?;
    let mut load = Load::start(&callers, HOLD);
    let book = std::sync::Arc::clone(&load.book);
    for end in ends.iter().cycle().take(ends.len() * rounds()) {
        let start = Instant::now();
        book.until_everybody(start).await?;
        book.until_more(60).await?;
        let over = fail_over(&mut suite, &load, *end).await?;
        // Replicated writes wait for a replica.
        let back = Instant::now();
        come_back(&mut suite, &over, *end).await?;
        let back = back.elapsed();
        book.until_everybody(over.began + over.took).await?;
        book.until_more(60).await?;
        load.stop().await?;
        let lost = book.audit(&callers).await?;
        let sum = book.sum(over.began);
        let early = book.doubles(start, over.began + HOLD).len();
        let all = book.doubles(start, Instant::now());
        let within = all.iter().filter(|one| one.second.saturating_duration_since(one.first) < HOLD).count();
        say(&format!(
            "{store:?} {durability:10} {end:?}: {} admitted, {} known, {} refused (half within {} ms, 95 % {} ms), {} in \
             doubt, {} asked again, longest call {} ms; fail-over {} ms, the old master back {} ms, unavailable {} ms; admitted again: \
             {early} within the hold, {within} within a lease, {} in all ({lost} of them lost until asked)",
            sum.admitted,
            sum.known,
            sum.refused,
            sum.refusal.as_millis(),
            sum.slow_refusal.as_millis(),
            sum.doubtful,
            book.cleared(),
            sum.longest.as_millis(),
            over.took.as_millis(),
            back.as_millis(),
            sum.unavailable.as_millis(),
            all.len(),
        ));
        anyhow::ensure!(early == 0 && within == 0, "admitted again while the first could still be at work: {all:?}");
        anyhow::ensure!(!replicated || all.is_empty(), "lost although it was replicated: {all:?}");
        anyhow::ensure!(sum.slow_refusal < Duration::from_millis(1800), "refusals took long: {sum:?}");
        // A hold is five seconds longer than it is set, for stragglers; the rest is for machines with much to do.
        let expected =
            over.took + if replicated { back } else { HOLD + Duration::from_secs(5) } + Duration::from_secs(30);
        anyhow::ensure!(sum.unavailable < expected, "it took {:?} instead of {expected:?} at most", sum.unavailable);
        load.resume(&callers);
    }
    load.stop().await
}

/// The first always; the others, which take long, with `make chaos`.
async fn rounds_of(store: Store, replicated: bool, short: &[End], more: &[End]) {
    let more = if rounds() > 1 { more } else { &[] };
    under_load(store, replicated, &[short, more].concat()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_fail_over_admits_nothing_twice_within_the_hold() {
    rounds_of(Store::Sentinel(1), false, &[End::KilledAhead], &[End::Planned, End::Killed]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_fail_over_loses_nothing_that_was_replicated() {
    rounds_of(Store::Sentinel(1), true, &[End::Killed], &[End::Planned]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_fail_over_admits_nothing_twice_within_the_hold() {
    rounds_of(Store::Cluster, false, &[End::KilledAhead], &[End::Planned, End::Killed]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_fail_over_loses_nothing_that_was_replicated() {
    rounds_of(Store::Cluster, true, &[End::Killed, End::Planned], &[]).await;
}
