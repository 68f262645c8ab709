use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use safeconduct_otp_domain::address::{Channel, PlusTags};
use safeconduct_service::keyring::{Keyring, Purpose, Sealer};
use safeconduct_service::secrets::Secrets;
use safeconduct_store::{EmbeddedStore, Records, StoreKeyer};
use safeconduct_types::{Clock, ManualClock, Random, Secret, SeededRandom};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::store::LEASE;
use super::*;
use crate::delivery::{Console, Deliveries, Route, Sender, WorkspaceRoutes};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts what was printed, and fails as often as it is told to.
#[derive(Clone, Default)]
struct Page {
    text: Arc<Mutex<String>>,
    failures: Arc<AtomicUsize>,
}

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let fail = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fail {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.text.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn letters(&self) -> usize {
        self.text.lock().unwrap().matches("---- end ----").count()
    }
}

/// What was reported, by verification; those in `over` are over.
#[derive(Debug, Default)]
struct Book {
    reports: Mutex<BTreeMap<String, Vec<Delivery>>>,
    over: Mutex<Vec<String>>,
    /// Those that will never be sent.
    never: Mutex<Vec<String>>,
    /// So many reports cannot be noted.
    failures: AtomicUsize,
    /// Until then nothing goes on for the workspace `slow`.
    released: CancellationToken,
    reported: tokio::sync::Notify,
}

#[async_trait]
impl Challenges for Book {
    async fn content(&self, message: &Message) -> Result<Due, Refusal> {
        if message.workspace.as_str() == "slow" {
            self.released.cancelled().await;
        }
        if self.over.lock().unwrap().contains(&message.verification_id) {
            self.reported.notify_one();
            return Ok(Due::Nothing);
        }
        if self.never.lock().unwrap().contains(&message.verification_id) {
            return Ok(Due::Never("its key was retired"));
        }
        let code = SecretText::new("123456".to_owned());
        let text = format!("code for {}", message.verification_id);
        Ok(Due::Send(Content { subject: "s".to_owned(), text, html: String::new(), code }))
    }

    async fn report(&self, message: &Message, delivery: Delivery) -> Result<(), Refusal> {
        let fail = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fail {
            return Err(Refusal::internal("the store is away"));
        }
        let id = message.verification_id.clone();
        self.reports.lock().unwrap().entry(id).or_default().push(delivery);
        self.reported.notify_one();
        Ok(())
    }
}

struct Fixture {
    records: Arc<dyn Records>,
    clock: Arc<ManualClock>,
    random: Arc<dyn Random>,
    keyring: Keyring,
    page: Page,
    book: Arc<Book>,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let store = EmbeddedStore::open(folder.path().join("otp.redb"), clock.clone()).await.unwrap();
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let keyring = Keyring::generate(&folder.path().join("otp.keys"), &[Purpose::RecordSealing], &*random);
        Self { records: Arc::new(store), clock, random, keyring, page: Page::default(), book: Arc::default(), folder }
    }

    /// Lets time pass until something was reported: five seconds for each of the failures that are left, however slow the
    /// disk is. That is more than any pause between so few attempts, and all together less than a lease.
    async fn time_for(&self, failures: &AtomicUsize, stop: &CancellationToken) {
        let all = failures.load(Ordering::SeqCst);
        while self.book.reports.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
            let failed = u32::try_from(all - failures.load(Ordering::SeqCst)).unwrap();
            if self.clock.now() < NOW.after(Duration::from_secs(5) * (failed + 1)) {
                self.clock.advance(Duration::from_millis(1));
            }
        }
        stop.cancel();
    }

    /// The outbox of one process.
    fn outbox(&self) -> Arc<StoreOutbox> {
        let sealer = Sealer::new(&self.keyring, Purpose::RecordSealing, Arc::clone(&self.random)).unwrap();
        let keyer = StoreKeyer::new(&Secret::new(vec![1; 32]));
        Arc::new(StoreOutbox::new(Arc::clone(&self.records), keyer, sealer, Arc::clone(&self.random)))
    }

    fn worker(&self, outbox: &Arc<StoreOutbox>) -> Arc<Worker> {
        self.worker_with(outbox, &self.clock)
    }

    /// A worker on a machine with a clock of its own.
    fn worker_with(&self, outbox: &Arc<StoreOutbox>, clock: &Arc<ManualClock>) -> Arc<Worker> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        let secrets = Arc::new(Secrets::new(self.folder.path().to_owned(), [], Arc::clone(&clock)));
        let routes = WorkspaceRoutes {
            workspace: "acme".parse().unwrap(),
            email: Some(Route { from: Sender::default(), via: vec!["dev".parse().unwrap()] }),
            sms: None,
            providers: safeconduct_otp_domain::delivery::read(&json!({"dev": {"console": true}})).unwrap(),
        };
        let console = Console::to(self.page.clone());
        let (deliveries, refused) = Deliveries::new([routes], &secrets, Some(&console), &clock);
        assert!(refused.is_empty());
        let deliveries = Arc::new(deliveries);
        let challenges: Arc<dyn Challenges> = Arc::<Book>::clone(&self.book);
        Worker::new(Parts { outbox: Arc::clone(outbox), deliveries, challenges, clock })
    }

    fn message(id: &str) -> Message {
        Message {
            workspace: "acme".parse().unwrap(),
            verification_id: id.to_owned(),
            to: Address::parse(Channel::Email, "ada@b.example", PlusTags::Keep).unwrap(),
            locale: "en".to_owned(),
            purpose: "look-up".to_owned(),
            expires: NOW.after(Duration::from_mins(10)),
            send_number: 1,
        }
    }

    /// Works until there are so many reports; those of one verification after another.
    async fn work_until(&self, worker: Arc<Worker>, reports: usize) -> BTreeMap<String, Vec<Delivery>> {
        let stop = CancellationToken::new();
        let watching = async {
            while self.book.reports.lock().unwrap().values().map(Vec::len).sum::<usize>() < reports {
                self.book.reported.notified().await;
                self.clock.advance(Duration::from_millis(100));
            }
            stop.cancel();
        };
        let both = async { tokio::join!(worker.run(stop.clone()), watching) };
        tokio::time::timeout(PATIENCE, both).await.expect("what was put in was sent");
        self.book.reports.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn what_was_put_in_before_a_crash_is_sent_after_it() {
    let fixture = Fixture::new().await;
    let before = fixture.outbox();
    for n in 0..40 {
        before.enqueue(Fixture::message(&format!("v{n}"))).await.unwrap();
    }
    drop(before);
    let after = fixture.outbox();
    let reports = fixture.work_until(fixture.worker(&after), 40).await;
    assert!(reports.len() == 40 && reports.values().all(|one| *one == [Delivery::Sent]), "{reports:?}");
    assert_eq!(fixture.page.letters(), 40);
    for shard in 0..SHARDS {
        fixture.clock.advance(LEASE);
        assert_eq!(after.take(shard, 9).await.unwrap().waiting, 0, "nothing is left");
    }
}

#[tokio::test]
async fn a_message_that_is_put_in_again_and_again_is_sent_once() {
    let fixture = Fixture::new().await;
    let (one, two) = (fixture.outbox(), fixture.outbox());
    one.enqueue(Fixture::message("v1")).await.unwrap();
    // Sixty at once, as a session that asks in a loop makes them.
    let again = (0..60).map(|n| if n % 2 == 0 { &one } else { &two }.enqueue_again(Fixture::message("v1")));
    for put in futures_util::future::join_all(again).await {
        put.unwrap();
    }
    one.enqueue(Message { send_number: 2, ..Fixture::message("v1") }).await.unwrap();
    one.enqueue(Fixture::message("v2")).await.unwrap();
    let reports = fixture.work_until(fixture.worker(&one), 3).await;
    assert_eq!((reports["v1"].len(), reports["v2"].len(), fixture.page.letters()), (2, 1, 3));
}

#[tokio::test]
async fn a_workspace_whose_messages_hang_takes_no_place_from_the_others() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    for n in 0..100 {
        let message = Message { workspace: "slow".parse().unwrap(), ..Fixture::message(&format!("slow{n}")) };
        outbox.enqueue(message).await.unwrap();
    }
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    let stop = CancellationToken::new();
    let watching = async {
        fixture.book.reported.notified().await;
        let reported: Vec<_> = fixture.book.reports.lock().unwrap().keys().cloned().collect();
        stop.cancel();
        fixture.book.released.cancel();
        reported
    };
    let both = async { tokio::join!(fixture.worker(&outbox).run(stop.clone()), watching).1 };
    let reported = tokio::time::timeout(PATIENCE, both).await.expect("the others' message is sent");
    assert_eq!(reported, ["v1"]);
}

#[tokio::test]
async fn what_waits_for_a_place_beyond_its_codes_end_is_given_up_while_others_hang() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    let slow = |n: usize| Message { workspace: "slow".parse().unwrap(), ..Fixture::message(&format!("slow{n}")) };
    for n in 0..100 {
        outbox.enqueue(slow(n)).await.unwrap();
    }
    let over = Message { expires: NOW, ..slow(100) };
    outbox.enqueue(over).await.unwrap();
    let stop = CancellationToken::new();
    let watching = async {
        while !fixture.book.reports.lock().unwrap().contains_key("slow100") {
            fixture.book.reported.notified().await;
        }
        stop.cancel();
        fixture.book.released.cancel();
    };
    let both = async { tokio::join!(fixture.worker(&outbox).run(stop.clone()), watching) };
    tokio::time::timeout(PATIENCE, both).await.expect("it is given up");
}

#[tokio::test]
async fn a_machine_whose_clock_is_wrong_gives_no_message_up() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    let fast = Arc::new(ManualClock::at(NOW.after(Duration::from_hours(1))));
    let reports = fixture.work_until(fixture.worker_with(&outbox, &fast), 1).await;
    assert_eq!(reports["v1"], [Delivery::Sent]);
}

#[tokio::test]
async fn two_processes_send_each_message_once() {
    let fixture = Fixture::new().await;
    let (one, two) = (fixture.outbox(), fixture.outbox());
    for n in 0..60 {
        one.enqueue(Fixture::message(&format!("v{n}"))).await.unwrap();
    }
    let stop = CancellationToken::new();
    let watching = async {
        while fixture.book.reports.lock().unwrap().len() < 60 {
            fixture.book.reported.notified().await;
        }
        stop.cancel();
    };
    let all = async {
        let workers = (fixture.worker(&one), fixture.worker(&two));
        tokio::join!(workers.0.run(stop.clone()), workers.1.run(stop.clone()), watching)
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all of it is sent");
    assert_eq!(fixture.page.letters(), 60);
}

#[tokio::test]
async fn whoever_took_a_message_and_died_loses_it_after_the_lease() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    let mut taken = Vec::new();
    for shard in 0..SHARDS {
        taken.extend(outbox.take(shard, 9).await.unwrap().taken);
    }
    let dead = taken.remove(0);
    assert_eq!(dead.message, Some(Fixture::message("v1")));
    assert!(outbox.take(dead.shard, 9).await.unwrap().taken.is_empty());
    fixture.clock.advance(LEASE);
    let reports = fixture.work_until(fixture.worker(&outbox), 1).await;
    assert_eq!(reports["v1"], [Delivery::Sent]);
    // The one that was thought dead comes too late to change anything.
    let again = safeconduct_otp_domain::queue::Fate::Again(NOW);
    outbox.settle(dead.shard, &dead.entry, again).await.unwrap();
    assert_eq!(outbox.take(dead.shard, 9).await.unwrap().waiting, 0);
}

#[tokio::test]
async fn a_failed_attempt_is_followed_by_another_until_the_code_ends() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    let worker = fixture.worker(&outbox);
    fixture.page.failures.store(3, Ordering::SeqCst);
    let stop = CancellationToken::new();
    let time = fixture.time_for(&fixture.page.failures, &stop);
    let both = async { tokio::join!(worker.run(stop.clone()), time) };
    tokio::time::timeout(PATIENCE, both).await.expect("it is tried again");
    assert_eq!(fixture.book.reports.lock().unwrap()["v1"], [Delivery::Sent]);
    assert_eq!((fixture.page.letters(), fixture.page.failures.load(Ordering::SeqCst)), (1, 0));

    outbox.enqueue(Fixture::message("v2")).await.unwrap();
    fixture.clock.set(NOW.after(Duration::from_mins(10)));
    let worker = fixture.worker(&outbox);
    let reports = fixture.work_until(Arc::clone(&worker), 2).await;
    assert_eq!(reports["v2"], [Delivery::Failed], "a code that has ended helps nobody");
    assert_eq!(fixture.page.letters(), 1);
    let mut text = String::new();
    worker.metrics(&mut text);
    assert!(text.contains("safeconduct_otp_undelivered_total 1\n"), "{text}");
}

#[tokio::test]
async fn a_report_that_got_lost_is_made_again_and_the_code_is_not() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    fixture.book.failures.store(3, Ordering::SeqCst);
    // Whoever sent it dies before it could note that: the next one only notes.
    let first = fixture.worker(&outbox);
    let stop = CancellationToken::new();
    let watching = async {
        while fixture.book.failures.load(Ordering::SeqCst) == 3 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(first.run(stop.clone()), watching) };
    tokio::time::timeout(PATIENCE, both).await.expect("it is sent");
    assert_eq!((fixture.page.letters(), fixture.book.reports.lock().unwrap().len()), (1, 0));
    let second = fixture.worker(&outbox);
    let stop = CancellationToken::new();
    let time = fixture.time_for(&fixture.book.failures, &stop);
    let both = async { tokio::join!(second.run(stop.clone()), time) };
    tokio::time::timeout(PATIENCE, both).await.expect("it is noted");
    assert_eq!(fixture.book.reports.lock().unwrap()["v1"], [Delivery::Sent]);
    assert_eq!(fixture.page.letters(), 1, "nobody gets it twice");
}

#[tokio::test]
async fn a_code_that_nobody_can_make_any_more_has_failed_at_once() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    fixture.book.never.lock().unwrap().push("v1".to_owned());
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    let worker = fixture.worker(&outbox);
    let reports = fixture.work_until(Arc::clone(&worker), 1).await;
    assert_eq!(reports["v1"], [Delivery::Failed]);
    let mut text = String::new();
    worker.metrics(&mut text);
    assert!(text.contains("safeconduct_otp_undelivered_total 1\n"), "{text}");
}

#[tokio::test]
async fn nothing_is_sent_for_a_verification_that_is_over() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    fixture.book.over.lock().unwrap().push("v1".to_owned());
    outbox.enqueue(Fixture::message("v1")).await.unwrap();
    outbox.enqueue(Fixture::message("v2")).await.unwrap();
    let reports = fixture.work_until(fixture.worker(&outbox), 1).await;
    assert_eq!((reports.len(), fixture.page.letters()), (1, 1));
    assert!(reports.contains_key("v2"));
}

#[tokio::test]
async fn no_address_is_in_what_is_stored_or_printed_about_a_message() {
    let fixture = Fixture::new().await;
    let outbox = fixture.outbox();
    let message = Fixture::message("v1");
    assert!(!format!("{message:?}").contains("ada"));
    outbox.enqueue(message).await.unwrap();
    drop(outbox);
    let bytes = std::fs::read(fixture.folder.path().join("otp.redb")).unwrap();
    for canary in ["ada@", "b.example", "look-up", "123456"] {
        assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()), "{canary}");
    }
}
