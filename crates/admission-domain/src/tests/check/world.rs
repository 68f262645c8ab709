//! Two executors, the service's strokes for them, the store, the upstream, and everything that goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use safeconduct_types::{OperationId, Timestamp};

use super::shell::{Asked, At, Progress, Slot, Stored, View, play};
use crate::admit::{Admit, AdmitAnswer, Admitted, decide_admit};
use crate::bounds::BRIEF;
use crate::execution::{Execution, Settlement, Standing, State as Life, Token};
use crate::extend::{Extend, decide_extend};
use crate::fixture::{admit, caller, completed, execution_id, lease, op, released, resolved, same, settle, unknown};
use crate::held::Held;
use crate::hold::{Ended, Promise, Take, Taken, decide_close, decide_take, decide_void, hold_reads};
use crate::limit::{Cap, CapKind, Charge, Limit, LimitName, Scope, Shape, Unit, Window};
use crate::record::{AT_WRITE, Found, Name, Record};
use crate::settle::{Resolve, decide_resolve, decide_settle, parts};

/// The contact's slot and the workspace's.
pub(super) const CONTACT: usize = 0;
pub(super) const SHARED: usize = 1;
/// One tick of the clock is one lease.
const TICK: u64 = 10;

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// At once; a fail-over loses the last one and is followed by the recovery hold.
    Local,
    /// Once the replica has it.
    Replicated,
}

/// What the model is broken by, to see that it notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A lapsed reservation is freed without looking for its hold.
    FreedUnasked,
    /// The token of a settle is not compared.
    AnyToken,
    /// A lapsed lease reads as free.
    LapsedIsFree,
    /// After a fail-over nobody waits.
    NoHold,
}

/// How much may happen.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The `SAME` key of each executor's requests, and the caller's.
    pub(super) same: [u8; 2],
    pub(super) caller: [u8; 2],
    /// Whether requests take one of a shared cap of 1, and one of a cap of the contact.
    pub(super) shared: bool,
    pub(super) own: bool,
    pub(super) durability: Durability,
    /// Whether the upstream recognises a key.
    pub(super) keyed: bool,
    /// Whether an executor may act after its lease has lapsed.
    pub(super) late: bool,
    pub(super) begins: u8,
    pub(super) ticks: u8,
    pub(super) losses: u8,
    pub(super) crashes: u8,
    pub(super) failovers: u8,
    /// Of which slots.
    pub(super) fail_over_of: &'static [usize],
    /// How many events the short run looks ahead.
    pub(super) depth: usize,
    /// Whether an answer that was read, not written, must outlive a fail-over, too.
    pub(super) strict: bool,
    pub(super) flaw: Option<Flaw>,
}

/// A slot and its fingerprint.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) slot: Arc<Slot>,
    print: u64,
}

impl Page {
    fn new(slot: Slot) -> Self {
        let mut hasher = DefaultHasher::new();
        slot.hash(&mut hasher);
        Self { slot: Arc::new(slot), print: hasher.finish() }
    }
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for Page {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

/// What an executor says at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    Done,
    NotSent,
    Refused,
    Resolved,
    Doubt,
}

/// A call to the service, or a part of one.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) enum Task {
    Admit {
        number: u64,
        resume: Option<u64>,
        epoch: u8,
    },
    Take {
        number: u64,
        record: Stored,
        page: View,
        healed: bool,
    },
    GiveBack {
        number: u64,
    },
    Settle {
        number: u64,
        token: u64,
        how: How,
    },
    Extend {
        number: u64,
        token: u64,
    },
    /// Finds out about a reservation.
    Find {
        number: u64,
    },
    Void {
        number: u64,
        epoch: u8,
        page: View,
    },
    Resolve {
        number: u64,
        promised: bool,
    },
    /// Looks after holds.
    Heal,
    Look {
        number: u64,
    },
    Close {
        number: u64,
        record: Option<Stored>,
        at: Timestamp,
    },
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Job {
    pub(super) task: Task,
    view: View,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Did {
    NotYet,
    Done,
    Refused,
    Doubt,
    /// Asked the upstream: it happened, or it did not.
    Saw(bool),
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) enum Role {
    Idle,
    Heard(Heard),
    Holds { number: u64, token: u64, generation: u32, ends: Timestamp, did: Did, extended: bool, cache: Option<View> },
}

/// What an executor that was not admitted was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Heard {
    Unknown(u64),
    Replay,
    Denied,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Process {
    pub(super) stack: Vec<Job>,
    pub(super) role: Role,
    begun: u8,
    epoch: u8,
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    Twice,
    Freed,
    OldToken,
    Forgotten,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct State {
    pub(super) now: Timestamp,
    pub(super) pages: [Page; 2],
    /// What a replica has, where that is less.
    behind: [Option<Page>; 2],
    epoch: u8,
    held: [Timestamp; 2],
    pub(super) procs: [Process; 2],
    /// What happened at the upstream, by key and generation.
    pub(super) effects: BTreeMap<(u8, u32), u8>,
    left: [u8; 3],
    ticks: u8,
    /// Whether something that had been answered was lost.
    pub(super) lost: bool,
    /// Executions that somebody was told to begin, with their `SAME` key, and those that ended as released by a settle.
    pub(super) told: BTreeMap<u64, u8>,
    pub(super) freed: BTreeSet<u64>,
    /// Those of which somebody was answered that they have ended.
    ended: BTreeSet<u64>,
    pub(super) broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Begin(usize),
    Resume(usize),
    /// The next stroke of a call, and its answer.
    Stroke(usize),
    /// The same, but the answer is lost and the call is made again.
    Lose(usize),
    /// Sends to the upstream: whether it does it, and whether the answer comes.
    Act(usize, bool, bool),
    Ask(usize),
    Settle(usize),
    Extend(usize),
    Crash(usize),
    Tick,
    FailOver(usize),
}

fn cap(name: &str, per_contact: bool, max: i64) -> Arc<Charge> {
    let cap = Cap::parse(CapKind::Count, Window::rolling(86_400_000).unwrap(), vec![(Unit::NONE, max)]).unwrap();
    let name = LimitName::parse(name).unwrap();
    let shape = Shape::Cap(cap);
    let limit = Limit { name, scope: Scope::Workspace, per_contact, dimensions: None, shape };
    Arc::new(Charge::parse(limit, 1, Unit::NONE).unwrap())
}

fn number_of(record: &Execution) -> u64 {
    number(record.id())
}

fn number(id: &safeconduct_types::ExecutionId) -> u64 {
    let text = id.as_str();
    u64::from_str_radix(&text[text.len() - 16..], 16).unwrap()
}

fn execution(stored: &Stored) -> Execution {
    match stored.record() {
        Record::Execution(it) => *it,
        other => panic!("{other:?}"),
    }
}

pub(super) fn executions(slot: &Slot) -> Vec<Execution> {
    let is_execution = |(name, _): &(&Name, &Stored)| matches!(name, Name::Execution(_));
    slot.records.iter().filter(is_execution).map(|(_, stored)| execution(stored)).collect()
}

fn nothing(_: &Found) -> Vec<Name> {
    Vec::new()
}

impl Config {
    pub(super) fn charges(&self) -> Vec<Arc<Charge>> {
        let own = self.own.then(|| cap("own", true, 9));
        own.into_iter().chain(self.shared.then(|| cap("shared", false, 1))).collect()
    }

    pub(super) fn start(&self) -> State {
        let process = Process { stack: Vec::new(), role: Role::Idle, begun: 0, epoch: 0 };
        State {
            now: Timestamp::from_seconds(1_800_000_000),
            pages: [Page::new(Slot::default()), Page::new(Slot::default())],
            behind: [None, None],
            epoch: 0,
            held: [Timestamp::default(); 2],
            procs: [process.clone(), process],
            effects: BTreeMap::new(),
            left: [self.losses, self.crashes, self.failovers],
            ticks: self.ticks,
            lost: false,
            told: BTreeMap::new(),
            freed: BTreeSet::new(),
            ended: BTreeSet::new(),
            broken: None,
        }
    }

    fn asked(&self, p: usize, number: u64, resume: Option<u64>, epoch: u8) -> Admit {
        let mut asked = admit(number, &[caller(self.caller[p]), same(self.same[p])], self.same[p]);
        asked.resume = resume.map(execution_id);
        asked.charges = if resume.is_none() { self.charges() } else { Vec::new() };
        asked.epoch = epoch.to_string().into();
        asked
    }

    pub(super) fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let [losses, crashes, failovers] = state.left;
        for (p, process) in state.procs.iter().enumerate() {
            if !process.stack.is_empty() {
                actions.push(Action::Stroke(p));
                if losses > 0 {
                    actions.push(Action::Lose(p));
                }
                if crashes > 0 {
                    actions.push(Action::Crash(p));
                }
                continue;
            }
            match &process.role {
                Role::Idle | Role::Heard(_) => {
                    if process.begun < self.begins {
                        actions.push(Action::Begin(p));
                        if matches!(process.role, Role::Heard(Heard::Unknown(_))) {
                            actions.push(Action::Resume(p));
                        }
                    }
                }
                Role::Holds { token, ends, did, extended, .. } => {
                    let may = self.late || state.now < *ends;
                    if *did == Did::NotYet && may {
                        if self.keyed || *token == 1 {
                            for (happens, answered) in [(true, true), (true, false), (false, true), (false, false)] {
                                actions.push(Action::Act(p, happens, answered));
                            }
                        }
                        if *token > 1 && !self.late {
                            actions.push(Action::Ask(p));
                        }
                        if !extended {
                            actions.push(Action::Extend(p));
                        }
                    }
                    actions.push(Action::Settle(p));
                    if crashes > 0 {
                        actions.push(Action::Crash(p));
                    }
                }
            }
        }
        if state.ticks > 0 {
            actions.push(Action::Tick);
        }
        if failovers > 0 {
            for &slot in self.fail_over_of {
                if state.behind[slot].is_some() || (slot == SHARED && self.shared) {
                    actions.push(Action::FailOver(slot));
                }
            }
        }
    }

    pub(super) fn next(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(p) | Action::Resume(p) => {
                let resume = match (&state.procs[p].role, action) {
                    (Role::Heard(Heard::Unknown(number)), Action::Resume(_)) => Some(*number),
                    _ => None,
                };
                let process = &mut state.procs[p];
                process.begun += 1;
                process.role = Role::Idle;
                let number = 10 * (p as u64 + 1) + u64::from(process.begun);
                let task = Task::Admit { number, resume, epoch: process.epoch };
                let view = self.first_view(p, &task);
                process.stack.push(Job { task, view });
            }
            Action::Stroke(p) => {
                self.stroke(&mut state, p, false);
                if state == *last {
                    return None;
                }
            }
            Action::Lose(p) => {
                self.stroke(&mut state, p, true);
                if state.pages == last.pages {
                    return None;
                }
                state.left[0] -= 1;
                state.procs[p] = last.procs[p].clone();
                state.told.clone_from(&last.told);
                state.ended.clone_from(&last.ended);
                self.again(&mut state.procs[p], p);
            }
            Action::Act(p, happens, answered) => {
                let key = self.same[p];
                let Role::Holds { generation, did, .. } = &mut state.procs[p].role else { return None };
                let effects = state.effects.entry((key, *generation)).or_default();
                let known = self.keyed && *effects > 0;
                if happens && !known {
                    *effects += 1;
                }
                *did = match (answered, happens || known) {
                    (true, true) => Did::Done,
                    (true, false) => Did::Refused,
                    (false, _) => Did::Doubt,
                };
            }
            Action::Ask(p) => {
                let key = self.same[p];
                let Role::Holds { generation, did, .. } = &mut state.procs[p].role else { return None };
                *did = Did::Saw(state.effects.get(&(key, *generation)).is_some_and(|count| *count > 0));
            }
            Action::Settle(p) => {
                let Role::Holds { number, token, did, cache, .. } = &mut state.procs[p].role else { return None };
                let how = match (*did, *token > 1) {
                    (Did::Done | Did::Saw(true), _) => How::Done,
                    (Did::Saw(false), _) => How::Resolved,
                    (Did::NotYet, false) => How::NotSent,
                    (Did::Refused, false) => How::Refused,
                    // Whoever went before may act yet.
                    (Did::Refused, true) if !self.late => How::Resolved,
                    (Did::NotYet | Did::Refused, true) | (Did::Doubt, _) => How::Doubt,
                };
                let view = cache.take().map_or_else(View::blank, View::remembered);
                let task = Task::Settle { number: *number, token: *token, how };
                state.procs[p].stack.push(Job { task, view });
            }
            Action::Extend(p) => {
                let Role::Holds { number, token, extended, cache, .. } = &mut state.procs[p].role else { return None };
                *extended = true;
                let view = cache.take().map_or_else(View::blank, View::remembered);
                let task = Task::Extend { number: *number, token: *token };
                state.procs[p].stack.push(Job { task, view });
            }
            Action::Crash(p) => {
                state.left[1] -= 1;
                let begun = state.procs[p].begun;
                state.procs[p] = Process { stack: Vec::new(), role: Role::Idle, begun, epoch: state.epoch };
            }
            Action::Tick => {
                state.ticks -= 1;
                if state.held.iter().any(|end| state.now < *end) {
                    // No call lasts as long as the hold: its deadline is over.
                    for process in &mut state.procs {
                        process.stack.clear();
                    }
                }
                state.now = state.now.after(std::time::Duration::from_secs(TICK));
            }
            Action::FailOver(slot) => {
                state.left[2] -= 1;
                if let Some(page) = state.behind[slot].take() {
                    state.pages[slot] = page;
                    state.lost |= self.durability == Durability::Local;
                }
                if slot == SHARED {
                    state.epoch += 1;
                }
                if self.durability == Durability::Local && self.flaw != Some(Flaw::NoHold) {
                    state.held[slot] = state.now.after(std::time::Duration::from_secs(TICK));
                }
                let records = executions(&state.pages[CONTACT].slot);
                let is_released = |number: &u64| {
                    let mine = records.iter().find(|record| number_of(record) == *number);
                    mine.is_some_and(|record| matches!(record.state(), Life::Released { .. }))
                };
                state.freed.retain(is_released);
                self.watch(&mut state);
                if self.durability == Durability::Local {
                    state.ended.clear();
                    state.broken = None;
                    // What was answered and is lost is not promised any more.
                    let known: Vec<u64> = records.iter().map(number_of).collect();
                    state.told.retain(|number, _| known.contains(number));
                }
            }
        }
        Some(state)
    }

    /// The call of process `p` is made again, from its beginning.
    fn again(&self, process: &mut Process, p: usize) {
        process.stack.truncate(1);
        if let Some(job) = process.stack.first_mut() {
            if let Task::Admit { epoch, .. } = &mut job.task {
                *epoch = process.epoch;
            }
            job.view = self.first_view(p, &job.task);
        }
    }

    fn first_view(&self, p: usize, task: &Task) -> View {
        match task {
            Task::Admit { number, resume: None, epoch } => {
                View::of_nothing(&self.asked(p, *number, None, *epoch).reads())
            }
            _ => View::blank(),
        }
    }

    /// The next stroke of what process `p` is at. `lost`: its answer will be.
    pub(super) fn stroke(&self, state: &mut State, p: usize, lost: bool) {
        let Some(mut job) = state.procs[p].stack.pop() else { return };
        let at = match job.task {
            Task::Take { .. } | Task::Void { .. } | Task::Heal | Task::Close { .. } => SHARED,
            Task::Admit { .. }
            | Task::GiveBack { .. }
            | Task::Settle { .. }
            | Task::Extend { .. }
            | Task::Find { .. }
            | Task::Resolve { .. }
            | Task::Look { .. } => CONTACT,
        };
        let before = state.pages[at].clone();
        let mut slot = (*before.slot).clone();
        if at == SHARED {
            state.procs[p].epoch = state.epoch;
        }
        let mut waits = false;
        self.part(state, p, &mut job, (&mut slot, &mut waits), at);
        if !waits {
            return;
        }
        if self.durability == Durability::Replicated && !lost {
            state.behind[at] = None;
        }
        let after = Page::new(slot);
        if after != before {
            match (self.durability, lost) {
                (Durability::Replicated, false) => {}
                (Durability::Replicated, true) => drop(state.behind[at].get_or_insert(before)),
                (Durability::Local, _) if state.left[2] > 0 => state.behind[at] = Some(before),
                (Durability::Local, _) => {}
            }
            if state.left[2] == 0 {
                state.behind[at] = None;
            }
            state.pages[at] = after;
        }
        self.watch(state);
    }

    /// Looks for what was promised and is not so any more.
    fn watch(&self, state: &mut State) {
        for record in executions(&state.pages[CONTACT].slot) {
            let number = number_of(&record);
            let is_released = matches!(record.state(), Life::Released { .. });
            if is_released && state.told.contains_key(&number) && !state.freed.contains(&number) {
                state.broken = Some(Broken::Freed);
            }
            if self.strict
                && state.ended.contains(&number)
                && matches!(record.standing(state.now), Standing::Running | Standing::Unknown)
            {
                state.broken = Some(Broken::Forgotten);
            }
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm a kind of stroke")]
    fn part(&self, state: &mut State, p: usize, job: &mut Job, on: (&mut Slot, &mut bool), at: usize) {
        let (slot, waits) = on;
        let now = state.now;
        let held = now < state.held[at];
        let charges = self.charges();
        let mine = |number: u64, shared: bool| {
            let all: Vec<Held> = Held::all(op(number), &charges, AT_WRITE).collect();
            all.into_iter().filter(|held| held.is_shared() == shared).collect::<Vec<_>>()
        };
        let of = |held: &[Held]| held.iter().map(|held| Arc::clone(&held.charge)).collect::<Vec<_>>();
        let stack = &mut state.procs[p].stack;
        let mut push = |task: Task, view: View| stack.push(Job { task, view });
        let task = job.task.clone();
        let view = &mut job.view;
        match &task {
            Task::Admit { number, resume, epoch } => {
                let asked = self.asked(p, *number, *resume, *epoch);
                let own = of(&mine(*number, false));
                let reads = asked.reads();
                let question = Asked { operation: asked.operation, first: &reads, charges: &own };
                let decide = |now: Timestamp, found: &Found| decide_admit(now, &asked, found);
                match play(At { slot, now, held, waits }, view, &question, |found| asked.follows(found), decide) {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Denied => panic!("the contact's cap is large"),
                    Progress::Refused => {}
                    Progress::Answered(answer, _) => match answer {
                        AdmitAnswer::Admitted(it) => {
                            let cache = view.clone().only(&parts(&it.execution));
                            self.admitted(state, p, &it, Some(cache));
                        }
                        AdmitAnswer::Reserved(it) => {
                            let record = view.get(&Name::Execution(it.id().clone())).unwrap();
                            let page = view.clone();
                            push(task.clone(), View::blank());
                            let view = View::of_nothing(&hold_reads(it.id()));
                            push(Task::Take { number: *number, record, page, healed: false }, view);
                        }
                        AdmitAnswer::Replay(..) => state.procs[p].role = Role::Heard(Heard::Replay),
                        AdmitAnswer::Running(..) => {}
                        AdmitAnswer::Unknown(it, _) => {
                            if self.flaw == Some(Flaw::LapsedIsFree) {
                                let it = Admitted { execution: it, resumed: false };
                                self.admitted(state, p, &it, None);
                            } else {
                                state.procs[p].role = Role::Heard(Heard::Unknown(number_of(&it)));
                            }
                        }
                        AdmitAnswer::Stuck(it) => {
                            push(task.clone(), View::blank());
                            let number = number_of(&it);
                            if self.flaw == Some(Flaw::FreedUnasked) {
                                push(Task::Resolve { number, promised: false }, View::blank());
                            } else {
                                push(Task::Find { number }, View::blank());
                            }
                        }
                        AdmitAnswer::KeyReused(_) | AdmitAnswer::Consumed(..) => panic!("{answer:?}"),
                    },
                }
            }
            Task::Take { number, record, page, healed } => {
                let id = execution_id(*number);
                let held_charges = mine(*number, true);
                let shared = of(&held_charges);
                let take = Take { execution: id.clone(), charges: held_charges, lease: lease(TICK).length() };
                let question = Asked { operation: op(*number), first: &hold_reads(&id), charges: &shared };
                let decide = |_: Timestamp, found: &Found| Ok(decide_take(&take, found));
                match play(At { slot, now, held, waits }, view, &question, nothing, decide) {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Answered(Taken::Held, _) => {
                        let it = execution(record);
                        let cache = page.clone().only(&parts(&it));
                        state.procs[p].stack.clear();
                        self.admitted(state, p, &Admitted { execution: it, resumed: false }, Some(cache));
                    }
                    Progress::Answered(Taken::Closed, _) => state.procs[p].stack.clear(),
                    Progress::Denied if *healed => push(Task::GiveBack { number: *number }, page.clone()),
                    Progress::Denied => {
                        let (number, record, page) = (*number, record.clone(), page.clone());
                        push(Task::Take { number, record, page, healed: true }, View::blank());
                        push(Task::Heal, View::blank());
                    }
                    Progress::Refused => panic!("a take is never refused"),
                }
            }
            Task::GiveBack { number } | Task::Resolve { number, promised: _ } => {
                let given_back = matches!(task, Task::GiveBack { .. });
                let promised = matches!(task, Task::Resolve { promised: true, .. });
                let operation = if given_back { op(*number) } else { named(3, *number) };
                let asked = Resolve { execution: execution_id(*number), operation, promised };
                let question = Asked { operation, first: &asked.reads(), charges: &[] };
                let decide = |_: Timestamp, found: &Found| Ok(decide_resolve(&asked, found));
                match play(At { slot, now, held, waits }, view, &question, |found| asked.follows(found), decide) {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Answered(..) if given_back => {
                        state.procs[p].stack.clear();
                        state.procs[p].role = Role::Heard(Heard::Denied);
                    }
                    Progress::Answered(..) => {}
                    Progress::Denied | Progress::Refused => panic!("a resolve is never refused"),
                }
            }
            Task::Settle { number, token, how } => {
                let current = |slot: &Slot| match slot.record(&Name::Execution(execution_id(*number))) {
                    Some(Record::Execution(it)) => Some(*it),
                    _ => None,
                };
                let before = current(slot);
                let newest = before.as_ref().map_or(*token, |it| it.token().number());
                let said = if self.flaw == Some(Flaw::AnyToken) { newest } else { *token };
                let asked = settle(*number, 1000 + 10 * number + token, Token::new(said), settlement(*how));
                let question = Asked { operation: asked.operation, first: &asked.reads(), charges: &[] };
                let decide = |_: Timestamp, found: &Found| decide_settle(&asked, found);
                let progress =
                    play(At { slot, now, held, waits }, view, &question, |found| asked.follows(found), decide);
                let after = current(slot);
                if after != before && newest > *token {
                    state.broken = Some(Broken::OldToken);
                }
                let released =
                    |it: &Option<Execution>| it.as_ref().is_some_and(|it| matches!(it.state(), Life::Released { .. }));
                if released(&after) && !released(&before) {
                    state.freed.insert(*number);
                }
                match progress {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Answered(it, at) if it.has_shared() && it.expires().is_some() => {
                        let record = view.get(&Name::Execution(it.id().clone()));
                        push(task.clone(), View::blank());
                        push(Task::Close { number: *number, record, at }, View::blank());
                    }
                    Progress::Answered(it, _) => {
                        if it.expires().is_some() {
                            state.ended.insert(*number);
                        }
                        state.procs[p].role = Role::Idle;
                    }
                    Progress::Refused => state.procs[p].role = Role::Idle,
                    Progress::Denied => panic!("a settle is never denied"),
                }
            }
            Task::Extend { number, token } => {
                let asked = Extend {
                    execution: execution_id(*number),
                    operation: op(2000 + 10 * number + token),
                    token: Token::new(*token),
                    lease: Some(lease(TICK)),
                    checkpoint: None,
                    charges: Vec::new(),
                };
                let question = Asked { operation: asked.operation, first: &asked.reads(), charges: &[] };
                let decide = |now: Timestamp, found: &Found| decide_extend(now, &asked, found);
                match play(At { slot, now, held, waits }, view, &question, nothing, decide) {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Answered(it, _) => {
                        let kept = view.clone().only(&parts(&it));
                        if let Role::Holds { ends, cache, .. } = &mut state.procs[p].role {
                            *ends = it.lease_ends().unwrap();
                            *cache = Some(kept);
                        }
                    }
                    Progress::Refused => state.procs[p].role = Role::Idle,
                    Progress::Denied => panic!("nothing was taken"),
                }
            }
            Task::Find { number } => {
                let name = Name::Execution(execution_id(*number));
                *waits |= view.read(slot, &name, now);
                if let Some(it) = view.get(&name).map(|stored| execution(&stored))
                    && it.standing(now) == Standing::Stuck
                    && let Life::Reserving { epoch, .. } = it.state()
                {
                    let page = view.clone();
                    push(Task::Void { number: *number, epoch: epoch.parse().unwrap(), page }, View::blank());
                }
            }
            Task::Void { number, epoch, page } => {
                let id = execution_id(*number);
                let question = Asked { operation: named(2, *number), first: &hold_reads(&id), charges: &[] };
                let decide = |_: Timestamp, found: &Found| Ok(decide_void(&id, found));
                match play(At { slot, now, held, waits }, view, &question, nothing, decide) {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Answered(promise, _) => {
                        let promised = promise == Promise::Made || state.epoch != *epoch;
                        push(Task::Resolve { number: *number, promised }, page.clone());
                    }
                    Progress::Denied | Progress::Refused => panic!("looking is never refused"),
                }
            }
            Task::Heal => {
                for id in slot.due(now) {
                    push(Task::Look { number: number(&id) }, View::blank());
                }
            }
            Task::Look { number } => {
                let name = Name::Execution(execution_id(*number));
                *waits |= view.read(slot, &name, now);
                push(Task::Close { number: *number, record: view.get(&name), at: now }, View::blank());
            }
            Task::Close { number, record, at } => {
                let id = execution_id(*number);
                let question = Asked { operation: named(1, *number), first: &hold_reads(&id), charges: &[] };
                let record = record.as_ref().map(execution);
                let ended = Ended { id: &id, record: record.as_ref(), lost_until: Timestamp::default() };
                let decide = |_: Timestamp, found: &Found| Ok(decide_close(*at, &ended, found));
                match play(At { slot, now, held, waits }, view, &question, nothing, decide) {
                    Progress::Goes => {
                        let view = view.clone();
                        push(task.clone(), view);
                    }
                    Progress::Answered((), _) => {
                        let process = &mut state.procs[p];
                        if matches!(process.stack.as_slice(), [Job { task: Task::Settle { .. }, .. }]) {
                            process.stack.clear();
                            process.role = Role::Idle;
                            state.ended.insert(*number);
                        }
                    }
                    Progress::Denied | Progress::Refused => panic!("closing is never refused"),
                }
            }
        }
    }

    /// Somebody is told to go ahead.
    fn admitted(&self, state: &mut State, p: usize, it: &Admitted, cache: Option<View>) {
        let number = number_of(&it.execution);
        let key = self.same[p];
        if !it.resumed {
            let stands = |(other, same): (&u64, &u8)| *other != number && *same == key && !state.freed.contains(other);
            if state.told.iter().any(stands)
                || (self.flaw == Some(Flaw::LapsedIsFree) && state.told.contains_key(&number))
            {
                state.broken = Some(Broken::Twice);
            }
            state.told.insert(number, key);
        }
        state.procs[p].role = Role::Holds {
            number,
            token: it.execution.token().number(),
            generation: it.execution.generation(),
            ends: it.execution.lease_ends().unwrap_or(state.now),
            did: Did::NotYet,
            extended: false,
            cache,
        };
    }

    /// The state once everything that is due has been looked after.
    pub(super) fn healed(&self, state: &State) -> State {
        let mut state = state.clone();
        state.now = state.now.after(lease(TICK).length()).after(lease(TICK).length());
        state.held = [Timestamp::default(); 2];
        let jobs = |state: &State, at: usize, task: fn(u64) -> Task| {
            let due = state.pages[at].slot.due(state.now);
            due.iter().map(|id| Job { task: task(number(id)), view: View::blank() }).collect::<Vec<_>>()
        };
        for (at, task) in
            [(CONTACT, (|number| Task::Find { number }) as fn(u64) -> Task), (SHARED, |number| Task::Look { number })]
        {
            state.procs[0].stack = jobs(&state, at, task);
            while !state.procs[0].stack.is_empty() {
                self.stroke(&mut state, 0, false);
            }
        }
        state
    }
}

fn settlement(how: How) -> Settlement {
    match how {
        How::Done => completed(),
        How::NotSent => released(false),
        How::Refused => released(true),
        How::Resolved => resolved(),
        How::Doubt => unknown(),
    }
}

/// The operation that does this with an execution, whoever does it.
fn named(what: u64, number: u64) -> OperationId {
    op(what * 100_000 + number)
}

const _: () = assert!(BRIEF.as_secs() > 20 * TICK, "nothing expires in the time that is looked at");
