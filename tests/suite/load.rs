//! A steady load of admissions through several processes, and a book of everything that was answered.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use safeconduct_proto::admission::v1::admit_response::Decision;
use safeconduct_proto::admission::v1::{AdmitRequest, RecordState};
use safeconduct_testkit::admission::{admit, contact, daily, duration, execution, operation};
use safeconduct_testkit::{Caller, Layout, Options, Refused, Servers, Store, Suite, has_error_info, token, until};
use tokio::sync::{Mutex as Turn, MutexGuard};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// How many contacts there are: on a cluster they are spread over its masters.
const CONTACTS: u64 = 24;

/// Clients of each process, and how long each pauses between two calls.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(12);

/// How many requests that were refused are asked again.
const SOME: usize = 300;

/// The longest that anything here may take.
pub(crate) const LONGEST: Duration = Duration::from_mins(1);

/// What kills servers and counts milliseconds wants the machine for itself.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static ONE: Turn<()> = Turn::const_new(());
    ONE.lock().await
}

/// How many rounds: more with `make chaos`.
pub(crate) fn rounds() -> usize {
    std::env::var("TEST_CHAOS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Says a measured number, also when the test passes.
pub(crate) fn say(what: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "    {what}");
}

/// Three processes of admission.
pub(crate) const PROCESSES: [&str; 3] = ["admission", "admission-b", "admission-c"];

/// Three processes of admission on these servers, or on new ones of this kind.
pub(crate) async fn three(store: Store, servers: Option<Servers>, settings: &[(&str, &str)]) -> anyhow::Result<Suite> {
    let mut options = Options::new(Layout::Only("admission"), store);
    for (name, value) in settings {
        options = options.set(name, value);
    }
    let mut suite = match servers {
        Some(servers) => Suite::start_on(options, servers).await?,
        None => Suite::start(options).await?,
    };
    for name in PROCESSES.iter().skip(1) {
        suite.replicate("admission", name).await?;
    }
    Ok(suite)
}

/// A caller of each process.
pub(crate) fn callers(suite: &Suite) -> anyhow::Result<Vec<Caller>> {
    PROCESSES.iter().map(|name| suite.caller_of(name, token::SISTER)).collect()
}

pub(crate) async fn ask(caller: &Caller, request: &AdmitRequest) -> Result<Decision, Status> {
    let answer = caller.admission().admit(request.clone()).await?.into_inner();
    answer.decision.ok_or_else(|| Status::internal("an answer without a decision"))
}

/// The same request once more, by somebody who knows nothing of the first.
pub(crate) fn again(request: &AdmitRequest) -> anyhow::Result<AdmitRequest> {
    let contact = request.contact_id.parse()?;
    Ok(AdmitRequest { execution_id: execution(&contact)?, operation_id: operation(), ..request.clone() })
}

/// One call.
#[derive(Clone, Copy, Debug)]
struct Event {
    contact: u64,
    began: Instant,
    ended: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A new key was admitted.
    Admitted,
    /// A key that had been admitted was known.
    Known,
    /// Refused; nothing was done.
    Refused,
    /// It failed, and may have been done.
    Doubtful,
}

/// A key that was acknowledged as admitted.
#[derive(Clone, Debug)]
struct Acknowledged {
    request: AdmitRequest,
    at: Instant,
}

/// A key that was admitted again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Double {
    pub(crate) first: Instant,
    pub(crate) second: Instant,
}

#[derive(Debug, Default)]
struct Pages {
    events: Vec<Event>,
    acknowledged: Vec<Acknowledged>,
    doubles: Vec<Double>,
    /// Requests that failed, so that nobody knows whether they were done, until somebody asks again.
    doubtful: Vec<(u64, AdmitRequest)>,
    /// How many of those were asked again.
    cleared: usize,
}

/// Everything that was answered.
#[derive(Debug)]
pub(crate) struct Book {
    lease: Duration,
    next: AtomicU64,
    stop: AtomicBool,
    pages: Mutex<Pages>,
}

/// What a stretch of the load came to.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) admitted: usize,
    pub(crate) known: usize,
    pub(crate) refused: usize,
    pub(crate) doubtful: usize,
    /// The longest that anybody's requests were not admitted.
    pub(crate) unavailable: Duration,
    /// How long half of the refusals took at most, 95 of a hundred of them, and any call.
    pub(crate) refusal: Duration,
    pub(crate) slow_refusal: Duration,
    pub(crate) longest: Duration,
}

impl Book {
    fn with<T>(&self, read: impl FnOnce(&mut Pages) -> T) -> T {
        read(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request of a new key. Some take from a limit that everybody shares: those need two round trips.
    fn fresh(&self) -> anyhow::Result<(u64, AdmitRequest)> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let who = key % CONTACTS;
        let mut charges = vec![daily("own", true, 1, 1_000_000_000)];
        if key % 8 == 3 {
            charges.push(daily("everybody's", false, 1, 1_000_000_000));
        }
        let mut request = admit(&contact(who), key, charges)?;
        if let Some(idempotency) = &mut request.idempotency {
            idempotency.lease = duration(self.lease);
        }
        Ok((who, request))
    }

    /// One call, and what it came to.
    async fn call(&self, caller: &Caller, number: usize) -> anyhow::Result<()> {
        if number % 4 == 3 {
            if let Some((who, request)) = self.with(|pages| pages.doubtful.pop()) {
                return self.clear_up(caller, who, request).await.map(drop);
            }
            let some = self.with(|pages| {
                let count = pages.acknowledged.len();
                // Spread over old and new ones.
                (count > 0).then(|| (number.wrapping_mul(2_654_435_761)) % count)
            });
            if let Some(at) = some {
                return self.repeat(caller, at).await.map(drop);
            }
        }
        let (who, request) = self.fresh()?;
        self.first(caller, who, request).await
    }

    /// A request of a new key.
    async fn first(&self, caller: &Caller, who: u64, request: AdmitRequest) -> anyhow::Result<()> {
        let began = Instant::now();
        let answer = ask(caller, &request).await;
        let ended = Instant::now();
        let outcome = match answer {
            Ok(Decision::Admitted(_)) => Outcome::Admitted,
            Ok(other) => anyhow::bail!("a new key was answered {other:?}"),
            Err(status) => failed(&status),
        };
        self.with(|pages| {
            pages.events.push(Event { contact: who, began, ended, outcome });
            match outcome {
                Outcome::Admitted => pages.acknowledged.push(Acknowledged { request, at: ended }),
                Outcome::Doubtful => pages.doubtful.push((who, request)),
                // While nothing is admitted there are thousands; some will do.
                Outcome::Refused if pages.doubtful.len() < SOME => pages.doubtful.push((who, request)),
                Outcome::Known | Outcome::Refused => {}
            }
        });
        Ok(())
    }

    /// A request that failed is asked again: by somebody who knows nothing of the first, and then as it was. Of all of
    /// them at most one is admitted. Whether there was an answer.
    async fn clear_up(&self, caller: &Caller, who: u64, request: AdmitRequest) -> anyhow::Result<bool> {
        let other = again(&request)?;
        let mut admitted: Option<Acknowledged> = None;
        for one in [&other, &request] {
            let began = Instant::now();
            let answer = ask(caller, one).await;
            let ended = Instant::now();
            let outcome = match answer {
                Ok(Decision::Admitted(_)) => Outcome::Admitted,
                Ok(Decision::Running(_) | Decision::Unknown(_)) => Outcome::Known,
                // The same operation, which had to give back what it had taken: it is over, and nothing was promised.
                Ok(Decision::Replay(record)) if record.state() == RecordState::Released => Outcome::Known,
                Ok(other) => anyhow::bail!("a key that may have been admitted was answered {other:?}"),
                Err(status) => failed(&status),
            };
            self.with(|pages| pages.events.push(Event { contact: u64::MAX, began, ended, outcome }));
            match outcome {
                Outcome::Admitted => {
                    let new = Acknowledged { request: one.clone(), at: ended };
                    if let Some(first) = admitted.replace(new) {
                        self.with(|pages| pages.doubles.push(Double { first: first.at, second: ended }));
                    }
                }
                Outcome::Refused | Outcome::Doubtful if admitted.is_none() => {
                    self.with(|pages| pages.doubtful.push((who, request.clone())));
                    return Ok(false);
                }
                // The audit asks for it.
                Outcome::Known | Outcome::Refused | Outcome::Doubtful => {}
            }
        }
        self.with(|pages| {
            pages.cleared += 1;
            pages.acknowledged.extend(admitted);
        });
        Ok(true)
    }

    /// The key of a request that was admitted, under another execution.
    async fn repeat(&self, caller: &Caller, at: usize) -> anyhow::Result<Outcome> {
        let first = self.with(|pages| pages.acknowledged[at].clone());
        let request = again(&first.request)?;
        let began = Instant::now();
        let answer = ask(caller, &request).await;
        let ended = Instant::now();
        let outcome = match answer {
            Ok(Decision::Running(record) | Decision::Unknown(record)) => {
                let known = self.with(|pages| pages.acknowledged[at].request.execution_id.clone());
                if ![&first.request.execution_id, &known].contains(&&record.execution_id) {
                    // A repeat was admitted whose answer was lost.
                    self.doubled(at, &first, AdmitRequest { execution_id: record.execution_id, ..request }, ended);
                }
                Outcome::Known
            }
            Ok(Decision::Admitted(_)) => {
                self.doubled(at, &first, request, ended);
                Outcome::Admitted
            }
            Ok(other) => anyhow::bail!("a key that was admitted was answered {other:?}"),
            Err(status) => failed(&status),
        };
        self.with(|pages| pages.events.push(Event { contact: u64::MAX, began, ended, outcome }));
        Ok(outcome)
    }

    fn doubled(&self, at: usize, first: &Acknowledged, request: AdmitRequest, second: Instant) {
        self.with(|pages| {
            pages.doubles.push(Double { first: first.at, second });
            pages.acknowledged[at] = Acknowledged { request, at: second };
        });
    }

    /// How many keys were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.with(|pages| pages.acknowledged.len())
    }

    /// Waits until so many more keys were acknowledged.
    pub(crate) async fn until_more(&self, more: usize) -> anyhow::Result<()> {
        let goal = self.acknowledged() + more;
        until("keys to be admitted", LONGEST, async || Ok((self.acknowledged() >= goal).then_some(()))).await
    }

    /// Waits until every contact was admitted something that was asked after this moment.
    pub(crate) async fn until_everybody(&self, after: Instant) -> anyhow::Result<()> {
        until("everybody to be admitted again", LONGEST, async || {
            let served = self.with(|pages| {
                let events = pages.events.iter().rev().take_while(|event| event.ended > after);
                let new = events.filter(|event| event.outcome == Outcome::Admitted && event.began > after);
                let contacts: std::collections::BTreeSet<_> =
                    new.map(|event| event.contact).filter(|who| *who < CONTACTS).collect();
                contacts.len()
            });
            Ok((served == usize::try_from(CONTACTS)?).then_some(()))
        })
        .await
    }

    /// Every key that was admitted again between these moments.
    pub(crate) fn doubles(&self, from: Instant, to: Instant) -> Vec<Double> {
        self.with(|pages| pages.doubles.iter().copied().filter(|one| one.second >= from && one.second < to).collect())
    }

    /// What has been answered since.
    pub(crate) fn sum(&self, since: Instant) -> Sum {
        let events = self.with(|pages| pages.events.clone());
        let mut sum = Sum::default();
        let mut refusals = Vec::new();
        let mut last: HashMap<u64, Instant> = HashMap::new();
        for event in &events {
            if event.ended >= since {
                let length = event.ended - event.began;
                sum.longest = sum.longest.max(length);
                match event.outcome {
                    Outcome::Admitted => sum.admitted += 1,
                    Outcome::Known => sum.known += 1,
                    Outcome::Doubtful => sum.doubtful += 1,
                    Outcome::Refused => {
                        sum.refused += 1;
                        refusals.push(length);
                    }
                }
            }
            if event.outcome == Outcome::Admitted
                && event.contact < CONTACTS
                && let Some(before) = last.insert(event.contact, event.ended)
                && event.ended >= since
            {
                sum.unavailable = sum.unavailable.max(event.ended.saturating_duration_since(before));
            }
        }
        refusals.sort_unstable();
        sum.refusal = refusals.get(refusals.len() / 2).copied().unwrap_or_default();
        sum.slow_refusal = refusals.get(refusals.len() * 95 / 100).copied().unwrap_or_default();
        sum
    }

    /// How many requests that had failed were asked again, and answered.
    pub(crate) fn cleared(&self) -> usize {
        self.with(|pages| pages.cleared)
    }

    /// Asks again for every key of which nobody knows whether it was admitted, and then once more for every one that was
    /// ever acknowledged. How many were admitted again.
    pub(crate) async fn audit(self: &Arc<Self>, callers: &[Caller]) -> anyhow::Result<usize> {
        let mut turn = callers.iter().cycle();
        until("every doubt to be cleared up", LONGEST, async || {
            while let Some((who, request)) = self.with(|pages| pages.doubtful.pop()) {
                let caller = turn.next().ok_or_else(|| anyhow::anyhow!("nobody asks"))?;
                if !self.clear_up(caller, who, request).await? {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
        let before = self.with(|pages| pages.doubles.len());
        let mut left: Vec<usize> = (0..self.acknowledged()).collect();
        // With every round there are more.
        let longest = LONGEST + Duration::from_millis(20) * u32::try_from(left.len())?;
        until("every key to be answered", longest, async || {
            let keys = Arc::new(Mutex::new(std::mem::take(&mut left)));
            let mut clients = JoinSet::new();
            for number in 0..32 {
                let (book, keys, caller) =
                    (Arc::clone(self), Arc::clone(&keys), callers[number % callers.len()].clone());
                clients.spawn(async move {
                    let mut open = Vec::new();
                    loop {
                        let next = keys.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some(at) = next else { return Ok(open) };
                        if matches!(book.repeat(&caller, at).await?, Outcome::Refused | Outcome::Doubtful) {
                            open.push(at);
                        }
                    }
                });
            }
            for ended in clients.join_all().await {
                let ended: anyhow::Result<Vec<usize>> = ended;
                left.extend(ended?);
            }
            Ok(left.is_empty().then_some(()))
        })
        .await?;
        Ok(self.with(|pages| pages.doubles.len()) - before)
    }
}

/// What a status says. There are refusals because of the store here, and of repeats: what the first call of an operation
/// could not finish in time is given up for good.
fn failed(status: &Status) -> Outcome {
    if !has_error_info(status) {
        return Outcome::Doubtful;
    }
    let refused = Refused::read(status);
    let known = match refused.code {
        Code::Unavailable => matches!(refused.reason.as_str(), "STORE_UNAVAILABLE" | "MARKS_LAGGING"),
        code => code == Code::ResourceExhausted && refused.reason == "OVERLOADED",
    };
    assert!(known, "{refused:?}");
    Outcome::Refused
}

/// A running load.
pub(crate) struct Load {
    pub(crate) book: Arc<Book>,
    clients: JoinSet<anyhow::Result<()>>,
}

impl Load {
    /// Starts it, with leases of this length.
    pub(crate) fn start(callers: &[Caller], lease: Duration) -> Self {
        let pages = Mutex::new(Pages::default());
        let book = Arc::new(Book { lease, next: AtomicU64::new(0), stop: AtomicBool::new(false), pages });
        let mut load = Self { book, clients: JoinSet::new() };
        load.resume(callers);
        load
    }

    /// Starts it again after `stop`.
    pub(crate) fn resume(&mut self, callers: &[Caller]) {
        self.book.stop.store(false, Ordering::Relaxed);
        for client in 0..CLIENTS * callers.len() {
            let (book, caller) = (Arc::clone(&self.book), callers[client % callers.len()].clone());
            self.clients.spawn(async move {
                let mut pace = tokio::time::interval(PAUSE);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                let mut number = client;
                while !book.stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    book.call(&caller, number).await?;
                    number += 1;
                }
                Ok(())
            });
        }
    }

    /// Ends it when all calls that are under way are answered.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.book.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(())
    }
}
