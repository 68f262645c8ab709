//! Kill -9 of Redis and of admission, under load and between the two round trips of a limit that everybody shares:
//! what was acknowledged is there, nothing is admitted twice, and what leaked comes back within a lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_proto::admission::v1::lookup_response::Answer;
use safeconduct_proto::admission::v1::settle_request::Settlement;
use safeconduct_proto::admission::v1::{
    AdmitRequest, Charge, ExecutionRecord, LookupRequest, RecordState, Released, SettleRequest, lookup_request,
};
use safeconduct_testkit::admission::{admit, contact, daily, duration, operation, settle};
use safeconduct_testkit::{Caller, Redis, RedisCluster, Servers, Store, Suite, until};
use tokio::task::JoinSet;
use tonic::Status;

use crate::load::{LONGEST, Load, again, ask, callers, rounds, say, three, turn};

/// How long an executor may be silent here.
const LEASE: Duration = Duration::from_secs(2);

/// After a lease what had leaked is back; so much more is for a busy machine.
const SPARE: Duration = Duration::from_secs(20);

fn redis(suite: &mut Suite) -> &mut Redis {
    match suite.servers() {
        Servers::One(redis) => redis,
        other => panic!("not one server: {other:?}"),
    }
}

fn cluster(suite: &mut Suite) -> &mut RedisCluster {
    match suite.servers() {
        Servers::Cluster(cluster) => cluster,
        other => panic!("no cluster: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_redis_loses_nothing_and_everybody_is_told_at_once() {
    redis_dies().await.unwrap();
}

async fn redis_dies() -> anyhow::Result<()> {
    let _turn = turn().await;
    let mut suite = three(Store::Redis, None, &[]).await?;
    let callers = callers(&suite)?;
    let mut load = Load::start(&callers, LEASE);
    let book = Arc::clone(&load.book);
    for round in 0..rounds() {
        book.until_everybody(Instant::now()).await?;
        // Not always at the same moment.
        book.until_more(100 + 37 * round % 50).await?;
        let began = Instant::now();
        redis(&mut suite).kill()?;
        until("refusals", LONGEST, async || Ok((book.sum(began).refused >= 200).then_some(()))).await?;
        let refused = began.elapsed();
        let back = Instant::now();
        redis(&mut suite).restart().await?;
        let loaded = Instant::now();
        book.until_everybody(loaded).await?;
        let recovered = loaded.elapsed();
        load.stop().await?;
        let lost = book.audit(&callers).await?;
        let sum = book.sum(began);
        say(&format!(
            "Redis killed: {} refused (half within {} ms, 95 % {} ms), {} in doubt, longest call {} ms; gone for {} ms \
             and {} ms until it had loaded, everybody served {} ms later, unavailable {} ms; {lost} of {} lost",
            sum.refused,
            sum.refusal.as_millis(),
            sum.slow_refusal.as_millis(),
            sum.doubtful,
            sum.longest.as_millis(),
            refused.as_millis(),
            (loaded - back).as_millis(),
            recovered.as_millis(),
            sum.unavailable.as_millis(),
            book.acknowledged(),
        ));
        assert_eq!((lost, book.doubles(began, Instant::now()).len()), (0, 0), "admitted twice");
        // A pile of time-outs would be two seconds each.
        assert!(sum.refusal < Duration::from_secs(1) && sum.slow_refusal < Duration::from_millis(1800), "{sum:?}");
        load.resume(&callers);
    }
    load.stop().await
}

/// A request for one of it, with a short lease.
fn one(who: u64, key: u64, charges: Vec<Charge>) -> AdmitRequest {
    let mut request = admit(&contact(who), key, charges).unwrap();
    request.idempotency.as_mut().unwrap().lease = duration(LEASE);
    request
}

/// What is known of the key of a request; nothing is changed by asking.
async fn look(caller: &Caller, request: &AdmitRequest) -> Result<Option<ExecutionRecord>, Status> {
    let lookup = LookupRequest {
        workspace_id: request.workspace_id.clone(),
        contact_id: request.contact_id.clone(),
        operation_id: operation(),
        target: request.idempotency.clone().map(lookup_request::Target::Idempotency),
        ..LookupRequest::default()
    };
    match caller.admission().lookup(lookup).await?.into_inner().answer {
        Some(Answer::Absent(_)) => Ok(None),
        Some(Answer::Running(record) | Answer::Unknown(record) | Answer::Replay(record)) => Ok(Some(record)),
        other => panic!("{other:?}"),
    }
}

/// Nothing had happened: somebody found out.
fn free(request: &AdmitRequest, record: &ExecutionRecord) -> SettleRequest {
    SettleRequest {
        settlement: Some(Settlement::Released(Released { doubt_resolved: true, ..Released::default() })),
        execution_id: record.execution_id.clone(),
        ..settle(request, record.fencing_token, false)
    }
}

/// Takes all that a shared limit gives.
struct Taker<'a> {
    caller: &'a Caller,
    charge: Charge,
    max: usize,
    next: AtomicU64,
    taken: AtomicUsize,
}

impl<'a> Taker<'a> {
    /// The keys that it takes under begin with this number.
    fn new(caller: &'a Caller, name: &str, max: usize, first: u64) -> Self {
        let charge = daily(name, false, 1, i64::try_from(max).unwrap());
        Self { caller, charge, max, next: AtomicU64::new(first), taken: AtomicUsize::new(0) }
    }

    /// Takes one after the other until it is denied. How many were admitted; they stay taken.
    async fn all(&self) -> Result<usize, Status> {
        let mut taken = 0;
        loop {
            let key = self.next.fetch_add(1, Ordering::SeqCst);
            // Long leases: these are not what leaks.
            match ask(self.caller, &admit(&contact(500 + key % 7), key, vec![self.charge.clone()]).unwrap()).await? {
                Decision::Admitted(_) => taken += 1,
                Decision::Denied(_) => break,
                other => panic!("{other:?}"),
            }
        }
        self.taken.fetch_add(taken, Ordering::SeqCst);
        Ok(taken)
    }

    /// Waits until exactly `max` of it are out: what was taken here, and what is still promised to these requests.
    /// Answers how many were promised.
    async fn until_all_are_out(&self, requests: &[AdmitRequest]) -> anyhow::Result<usize> {
        until("what had leaked to come back", LEASE + SPARE, async || {
            self.all().await?;
            let taken = self.taken.load(Ordering::SeqCst);
            let mut promised = 0;
            for request in requests {
                // One that is still reserving may be either.
                let found = look(self.caller, request).await?;
                promised += usize::from(found.is_some_and(|record| record.state() != RecordState::Reserving));
            }
            assert!(taken + promised <= self.max, "{taken} taken and {promised} promised of {}", self.max);
            Ok((taken + promised == self.max).then_some(promised))
        })
        .await
    }
}

/// Frees what is promised to these requests. How many there were.
async fn free_all(caller: &Caller, requests: &[AdmitRequest]) -> anyhow::Result<usize> {
    let mut freed = 0;
    for request in requests {
        if let Some(record) = look(caller, request).await? {
            caller.admission().settle(free(request, &record)).await?;
            freed += 1;
        }
    }
    Ok(freed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaks_when_admission_is_killed_comes_back_within_a_lease() {
    admission_dies().await.unwrap();
}

async fn admission_dies() -> anyhow::Result<()> {
    const MAX: usize = 150;
    let _turn = turn().await;
    let mut suite = three(Store::Redis, None, &[]).await?;
    for round in 0..u64::try_from(rounds())? {
        let callers = callers(&suite)?;
        let taker = Taker::new(&callers[0], &format!("round-{round}"), MAX, (round + 1) * 1_000_000);
        let answered = Arc::new(AtomicUsize::new(0));
        let mut calls = JoinSet::new();
        for number in 0..120 {
            let (caller, answered) = (callers[1 + usize::try_from(number % 2)?].clone(), Arc::clone(&answered));
            let request = one(number % 20, round * 1000 + number, vec![taker.charge.clone()]);
            calls.spawn(async move {
                let answer = ask(&caller, &request).await;
                answered.fetch_add(usize::from(answer.is_ok()), Ordering::SeqCst);
                (request, answer)
            });
        }
        // In the midst of them, each time somewhere else.
        let goal = 10 + usize::try_from(round * 29 % 80)?;
        until("some to be admitted", LONGEST, async || Ok((answered.load(Ordering::SeqCst) >= goal).then_some(())))
            .await?;
        for victim in ["admission-b", "admission-c"] {
            suite.kill(victim)?;
        }
        let (mut acknowledged, mut silent) = (Vec::new(), Vec::new());
        for (request, answer) in calls.join_all().await {
            match answer {
                Ok(Decision::Admitted(_)) => acknowledged.push(request),
                Ok(other) => panic!("{other:?}"),
                Err(_) => silent.push(request),
            }
        }
        let survivor = &callers[0];
        for request in &acknowledged {
            let later = ask(survivor, &again(request)?).await?;
            let (Decision::Running(record) | Decision::Unknown(record)) = &later else { panic!("{later:?}") };
            assert_eq!(record.execution_id, request.execution_id);
        }
        let freed = free_all(survivor, &acknowledged).await?;
        assert_eq!(freed, acknowledged.len(), "acknowledged and not there");
        let began = Instant::now();
        let promised = taker.until_all_are_out(&silent).await?;
        say(&format!(
            "admission killed: {} acknowledged, {} not answered, {promised} of them promised; all {MAX} out after {} ms",
            acknowledged.len(),
            silent.len(),
            began.elapsed().as_millis(),
        ));
        // An unknown outcome keeps what it took until somebody finds out.
        assert_eq!(free_all(survivor, &silent).await?, promised);
        assert_eq!(taker.all().await?, promised, "what was freed, and not one more");
        for victim in ["admission-b", "admission-c"] {
            suite.restart(victim).await?;
        }
    }
    Ok(())
}

/// How many keys of a space there are on a server.
async fn count(server: &Redis, space: &str) -> anyhow::Result<usize> {
    Ok(server.command::<Vec<String>>(&["KEYS", &format!("*:{space}:*")]).await?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_between_the_two_round_trips_of_a_shared_limit_leaks_for_a_lease_at_most() {
    between().await.unwrap();
}

async fn between() -> anyhow::Result<()> {
    const CONTACTS: u64 = 40;
    const MAX: usize = 60;
    let _turn = turn().await;
    let mut suite = three(Store::Cluster, None, &[]).await?;
    let callers = callers(&suite)?;
    let survivor = &callers[0];
    let taker = Taker::new(survivor, "between", MAX, 1_000_000);
    let charge = taker.charge.clone();
    // The first one shows on which server the workspace's limits are, and takes one of them.
    let first = one(1_000, 1, vec![charge.clone()]);
    assert!(matches!(ask(survivor, &first).await?, Decision::Admitted(_)));
    let cluster = cluster(&mut suite);
    let (mut workspace, mut others) = (None, Vec::new());
    for index in 0..3 {
        match count(cluster.server(index)?, "hold").await? {
            0 => others.push(index),
            _ => workspace = Some(index),
        }
    }
    let workspace = workspace.ok_or_else(|| anyhow::anyhow!("nobody has the hold"))?;
    let mut before = 0;
    for index in &others {
        before += count(cluster.server(*index)?, "exec").await?;
    }
    // Whoever is not on that server gets half way, and no further.
    cluster.server(workspace)?.command::<String>(&["CLIENT", "PAUSE", "30000", "WRITE"]).await?;
    let mut calls = JoinSet::new();
    let requests: Vec<_> =
        (0..CONTACTS).map(|who| one(who, who, vec![daily("own", true, 1, 1), charge.clone()])).collect();
    for request in &requests {
        let (caller, request) = (callers[1].clone(), request.clone());
        calls.spawn(async move { ask(&caller, &request).await });
    }
    let stuck = until("reservations half way", LONGEST, async || {
        let mut now = 0;
        for index in &others {
            now += count(cluster.server(*index)?, "exec").await?;
        }
        Ok((now - before > usize::try_from(CONTACTS)? / 4).then_some(now - before))
    })
    .await?;
    suite.kill("admission-b")?;
    for answer in calls.join_all().await {
        assert!(answer.is_err(), "promised without a hold: {answer:?}");
    }
    let killed = Instant::now();
    self::cluster(&mut suite).server(workspace)?.command::<String>(&["CLIENT", "UNPAUSE"]).await?;
    // Each contact may again what it may once, as soon as nobody can stand behind the first any more.
    let mut promised = 0;
    for (request, who) in requests.iter().zip(0..) {
        let other = one(who, 10_000 + who, vec![daily("own", true, 1, 1)]);
        let found = until("a contact's own cap to come back", LEASE + SPARE, async || {
            match ask(survivor, &again(&other)?).await {
                Ok(Decision::Admitted(_)) => Ok(Some(false)),
                // It was promised after all, and stays so.
                Ok(Decision::Denied(_)) => {
                    Ok(look(survivor, request).await?.map(|_| true).filter(|_| killed.elapsed() > LEASE))
                }
                Ok(other) => panic!("{other:?}"),
                // The paused server may still be found wanting.
                Err(_) => Ok(None),
            }
        })
        .await?;
        promised += usize::from(found);
    }
    let own = killed.elapsed();
    let still = taker.until_all_are_out(&[requests, vec![first]].concat()).await? - 1;
    say(&format!(
        "killed between: {stuck} reservations half way, {promised} found promised; the contacts' own are back after {} ms, \
         all {MAX} shared are out after {} ms",
        own.as_millis(),
        killed.elapsed().as_millis()
    ));
    assert_eq!((promised, still), (0, 0), "nobody had got further than half way");
    Ok(())
}
