//! Has this request been made before?

use safeconduct_admission_domain::meter::Remaining;
use safeconduct_admission_domain::{Counted, Decision, Found, LookupAnswer, Name, decide_lookup};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::admission::v1::lookup_response::Answer;
use safeconduct_service::wire::to_mark;
use safeconduct_types::{Refusal, Timestamp};
use tracing::Span;

use crate::Admission;
use crate::counts::{Denial, Split, to_all, to_denied};
use crate::ledger::{Asked, Page, Ruled, refusal};
use crate::shared::no_more;
use crate::view::View;
use crate::wire::{Checks, Parsed, Question, parse_lookup, to_key_reused, to_record};

/// How often a question is asked anew because it met a reservation that nobody reported back on.
const ROUNDS: usize = 4;

impl Admission {
    #[tracing::instrument(
        name = "lookup",
        skip_all,
        fields(safeconduct.workspace = request.workspace_id, safeconduct.execution, safeconduct.decision)
    )]
    pub(crate) async fn lookup(&self, request: proto::LookupRequest) -> Result<proto::LookupResponse, Refusal> {
        let parsed = parse_lookup(request)?;
        let answer = match self.marks.met(&parsed.marks.others).await.map_err(refusal)? {
            Some(mark) => Answer::Marked(proto::Marked { mark: Some(to_mark(mark)) }),
            None => self.look(&parsed).await?,
        };
        let span = Span::current();
        span.record("safeconduct.decision", name(&answer));
        if let Answer::Replay(it) | Answer::Running(it) | Answer::Unknown(it) = &answer {
            span.record("safeconduct.execution", it.execution_id.as_str());
        }
        Ok(proto::LookupResponse { answer: Some(answer) })
    }

    async fn look(&self, parsed: &Parsed<Question>) -> Result<Answer, Refusal> {
        let split = Split::of(&parsed.asked.charges);
        let page = self.ledger.page(&parsed.workspace, &parsed.route);
        let denied = |denial: &Denial, left: &[Option<Remaining>], place| {
            Answer::Denied(to_denied(&parsed.asked.charges, left, place, denial.now))
        };
        let mut own = Vec::new();
        if parsed.asked.lookup.is_some() || !split.own.is_empty() || !parsed.marks.own.is_empty() {
            match self.ask(&page, parsed, &split, &parsed.marks).await? {
                Ruled::Marked(mark) => return Ok(Answer::Marked(proto::Marked { mark: Some(to_mark(mark)) })),
                Ruled::Denied(denial) => {
                    return Ok(denied(&denial, &split.places(&denial.left, &[]), split.own_place(denial.first)));
                }
                Ruled::Answer { answer: LookupAnswer::Absent, left, .. } => own = left,
                Ruled::Answer { now, answer, .. } => return Ok(to_answer(now, answer, &page.epoch())),
            }
        }
        let mut shared = Vec::new();
        if !split.shared.is_empty() {
            let page = self.ledger.shared(&parsed.workspace);
            let asked = Asked { operation: parsed.operation, first: &[], marks: &[], charges: &split.shared };
            match page.decide(&asked, View::blank(), no_more, |_, _| Ok(rates(LookupAnswer::Absent))).await? {
                Ruled::Denied(denial) => {
                    return Ok(denied(&denial, &split.places(&own, &denial.left), split.shared_place(denial.first)));
                }
                Ruled::Answer { left, .. } => shared = left,
                Ruled::Marked(_) => return Err(Refusal::internal("a mark was met where none was asked for")),
            }
        }
        Ok(Answer::Absent(proto::Absent {
            remaining: to_all(&parsed.asked.charges, &split.places(&own, &shared)),
            store_epoch: page.epoch(),
        }))
    }

    /// Asks the contact's slot. Keys, marks and rates are one round trip if nothing is found.
    async fn ask(
        &self,
        page: &Page<'_>,
        parsed: &Parsed<Question>,
        split: &Split,
        marks: &Checks,
    ) -> Result<Ruled<LookupAnswer>, Refusal> {
        let lookup = parsed.asked.lookup.as_ref();
        let reads: Vec<Name> = lookup.map(safeconduct_admission_domain::Lookup::reads).unwrap_or_default();
        let asked = Asked { operation: parsed.operation, first: &reads, marks: &marks.own, charges: &split.own };
        let follow = |found: &Found| lookup.map(|lookup| lookup.follows(found)).unwrap_or_default();
        let decide = |now: Timestamp, found: &Found| {
            let decision = match lookup {
                Some(lookup) => decide_lookup(now, lookup, found)?,
                None => rates(LookupAnswer::Absent),
            };
            let free = decision.answer == LookupAnswer::Absent && !split.own.is_empty();
            Ok(if free { rates(LookupAnswer::Absent) } else { decision })
        };
        // With rates to take, the look is the same stroke; without, it is a plain read.
        let mut view = if split.own.is_empty() { View::blank() } else { page.suppose_nothing(&asked) };
        for _ in 0..ROUNDS {
            let ruled = page.decide(&asked, view, follow, decide).await?;
            let Ruled::Answer { answer: LookupAnswer::Stuck(record), .. } = &ruled else { return Ok(ruled) };
            self.ledger.resolve(page.workspace, record.id()).await?;
            view = View::blank();
        }
        Err(crate::admit::too_late())
    }
}

/// The rates are taken.
fn rates(answer: LookupAnswer) -> Decision<LookupAnswer> {
    Decision {
        answer,
        changes: Vec::new(),
        counted: Counted::Charges,
        listed: Vec::new(),
        asks: Vec::new(),
        optional: false,
    }
}

fn to_answer(now: Timestamp, answer: LookupAnswer, epoch: &str) -> Answer {
    match answer {
        LookupAnswer::Absent => Answer::Absent(proto::Absent::default()),
        LookupAnswer::Replay(it, by) => Answer::Replay(to_record(now, &it, by, epoch)),
        LookupAnswer::Running(it, by) => Answer::Running(to_record(now, &it, by, epoch)),
        LookupAnswer::Unknown(it, by) => Answer::Unknown(to_record(now, &it, by, epoch)),
        LookupAnswer::Stuck(it) => {
            Answer::Running(to_record(now, &it, safeconduct_admission_domain::Matched::Id, epoch))
        }
        LookupAnswer::KeyReused(place) => Answer::KeyReused(to_key_reused(place)),
    }
}

const fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Absent(_) => "absent",
        Answer::Replay(_) => "replay",
        Answer::Running(_) => "running",
        Answer::Unknown(_) => "unknown",
        Answer::KeyReused(_) => "key_reused",
        Answer::Denied(_) => "denied",
        Answer::Marked(_) => "marked",
    }
}
