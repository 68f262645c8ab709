//! Heeding marks: on every call, and again before each attempt's first byte.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::{MirrorAnswer, Take, TakeAnswer, closed, lagging};
use safeconduct_connector_domain::definition::{Connector, Effect, OnStoreFailure, Sensitivity};
use safeconduct_types::{ContactId, Deadline, MarkCheck, MarkKey, OperationId, Reason, Refusal, Subject, WorkspaceId};

use crate::attempt::Allowed;
use crate::{Service, limits};

/// How long after the last word of admission a read goes on that says `on_store_failure: allow`. It is longer than a
/// fail-over or a restart takes, and shorter than an assertion lives: a replica that alone is cut off does not hear
/// what is revoked.
const UNHEARD_AT_MOST: Duration = Duration::from_mins(1);

/// How long admission is asked before an attempt of a read.
const ASKED_WITHIN: Duration = Duration::from_secs(1);

/// What may be done while it is not known what was closed in the last second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stakes {
    /// Goes on: it touches nobody's own.
    GoesOn,
    /// Asks admission, and goes on for a while if its store is gone: its definition says `on_store_failure: allow`.
    Anyway,
    /// Is refused.
    Private,
    /// Asks admission, which decides exactly.
    Write,
}

impl Stakes {
    pub(crate) const fn of(connector: &Connector) -> Self {
        match (connector.effect, connector.sensitivity, connector.on_store_failure) {
            (Effect::Write, ..) => Self::Write,
            (Effect::Read, Sensitivity::Public, _) => Self::GoesOn,
            (Effect::Read, Sensitivity::Private, OnStoreFailure::Allow) => Self::Anyway,
            (Effect::Read, Sensitivity::Private, OnStoreFailure::Deny) => Self::Private,
        }
    }
}

/// What an answer of the mirror comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weighed {
    GoOn,
    /// Admission is to be asked.
    Ask,
}

impl Stakes {
    /// `age`: how long ago the mirror knew everything.
    fn weigh(self, answer: &MirrorAnswer, age: Option<Duration>) -> Result<Weighed, Refusal> {
        match (answer, self) {
            (MirrorAnswer::Clear, _) | (MirrorAnswer::Lagging(None), Self::GoesOn) => Ok(Weighed::GoOn),
            (MirrorAnswer::Met(mark), _) | (MirrorAnswer::Lagging(Some(mark)), Self::GoesOn | Self::Anyway) => {
                Err(closed(mark))
            }
            (MirrorAnswer::Lagging(None), Self::Anyway) if was_heard(age) => Ok(Weighed::Ask),
            (MirrorAnswer::Lagging(_), Self::Private | Self::Anyway) => Err(lagging()),
            (MirrorAnswer::Lagging(_), Self::Write) => Ok(Weighed::Ask),
        }
    }

    /// Those of a list that is read to decide about a request for `connector`: a write asks admission for its lists, too.
    pub(crate) fn of_list(connector: &Connector, list: &Connector) -> Self {
        match Self::of(connector) {
            Self::Write => Self::Write,
            Self::GoesOn | Self::Anyway | Self::Private => Self::of(list),
        }
    }
}

/// The marks that executions of this connector must not meet.
pub(crate) fn of_connector(workspace: &WorkspaceId, connector: &Connector) -> [MarkCheck; 3] {
    let name = || connector.name.clone();
    [
        Subject::ConnectorDisabled(name()),
        Subject::ConnectorGone(name()),
        Subject::VersionDisabled(name(), connector.version.clone()),
    ]
    .map(|subject| MarkCheck::any(MarkKey::new(workspace.clone(), subject)))
}

/// The marks of a request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heeded {
    pub(crate) checks: Arc<[MarkCheck]>,
    /// The mirror could not say: whatever is answered, admission must have been asked.
    pub(crate) ask: bool,
}

impl Heeded {
    /// What admission is to check before it answers from a record.
    pub(crate) fn for_look_up(&self) -> Vec<MarkCheck> {
        if self.ask { self.checks.to_vec() } else { Vec::new() }
    }
}

/// A read before its next attempt.
pub(crate) struct Reading<'a> {
    pub(crate) service: &'a Service,
    pub(crate) workspace: &'a WorkspaceId,
    pub(crate) contact: &'a ContactId,
    pub(crate) marks: &'a [MarkCheck],
    pub(crate) stakes: Stakes,
}

#[tonic::async_trait]
impl Allowed for Reading<'_> {
    async fn attempt(&self) -> bool {
        self.check().await.is_ok()
    }
}

impl Reading<'_> {
    /// Whether it may be sent now. Where the mirror cannot say, admission can.
    pub(crate) async fn check(&self) -> Result<(), Refusal> {
        let service = self.service;
        let now = service.clock.instant();
        let answer = service.mirror.check(self.marks, now);
        if self.stakes.weigh(&answer, service.mirror.age(now))? == Weighed::GoOn {
            return Ok(());
        }
        let asked = Take {
            workspace: self.workspace.clone(),
            contact: Some(self.contact.clone()),
            operation: OperationId::generate(&*service.random),
            charges: Vec::new(),
            marks: self.marks.to_vec(),
        };
        match service.admission.take(asked, Deadline::within(now, ASKED_WITHIN)).await {
            Ok(TakeAnswer::Taken(_)) => Ok(()),
            Ok(TakeAnswer::Marked(mark)) => Err(closed(&mark)),
            Ok(TakeAnswer::Denied(_)) => Err(lagging()),
            Err(refusal) if self.stakes == Stakes::Anyway && refusal.reason() == Reason::StoreUnavailable => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}

impl Service {
    /// Refuses what a mark closes.
    pub(crate) async fn heed(&self, checks: Vec<MarkCheck>, stakes: Stakes) -> Result<Heeded, Refusal> {
        let answer = match stakes {
            // Nobody else can be asked, so a hiccup is waited for.
            Stakes::Private => self.mirror.check_soon(&checks).await,
            Stakes::GoesOn | Stakes::Anyway | Stakes::Write => self.mirror.check(&checks, self.clock.instant()),
        };
        let ask = stakes.weigh(&answer, self.mirror.age(self.clock.instant()))? == Weighed::Ask;
        Ok(Heeded { checks: checks.into(), ask })
    }

    /// Whether reads are taken now. `admission`: whether it takes them. One that a caller may well ask for and that is
    /// refused is enough to say no.
    pub fn takes_reads(&self, admission: bool) -> bool {
        let now = self.clock.instant();
        if admission && !self.mirror.is_lagging(now) {
            return true;
        }
        let age = self.mirror.age(now);
        let mut reads = self.workspaces.connectors().filter(|one| one.effect == Effect::Read).peekable();
        reads.peek().is_some() && reads.all(|read| goes_without_admission(read, age))
    }
}

/// Whether somebody was heard not too long ago.
fn was_heard(age: Option<Duration>) -> bool {
    age.is_some_and(|age| age <= UNHEARD_AT_MOST)
}

/// Whether a read goes ahead while admission cannot be asked, and was heard last that long ago.
fn goes_without_admission(read: &Connector, age: Option<Duration>) -> bool {
    let is_known = read.sensitivity == Sensitivity::Public || was_heard(age);
    is_known
        && match read.on_store_failure {
            OnStoreFailure::Allow => !limits::has_caps(read),
            OnStoreFailure::Deny => read.limits.is_empty() && read.sensitivity == Sensitivity::Public,
        }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use safeconduct_admission_client::MirrorAnswer;
    use safeconduct_connector_domain::load::{self, SourceFile};
    use safeconduct_types::{Mark, Timestamp};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn met() -> Arc<Mark> {
        Arc::new(Mark {
            key: MarkKey::new("acme".parse().unwrap(), Subject::WorkspaceDisabled),
            effective: Timestamp::default(),
            expires: None,
            reason: String::new(),
            actor: String::new(),
            revision: 1,
            min_epoch: 0,
        })
    }

    /// Goes on, asks, or the reason why not.
    fn weighed(stakes: Stakes, answer: &MirrorAnswer, age: Option<Duration>) -> Result<Weighed, Reason> {
        stakes.weigh(answer, age).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn who_may_go_on_while_the_mirror_lags_depends_on_what_is_at_stake() {
        let lagging = MirrorAnswer::Lagging(None);
        let ages = [Some(SECOND * 2), Some(UNHEARD_AT_MOST), Some(UNHEARD_AT_MOST + SECOND), None];
        let all = |stakes| ages.map(|age| weighed(stakes, &lagging, age));
        assert_eq!(all(Stakes::GoesOn), [Ok(Weighed::GoOn); 4]);
        assert_eq!(all(Stakes::Private), [Err(Reason::MarksLagging); 4]);
        assert_eq!(all(Stakes::Write), [Ok(Weighed::Ask); 4], "admission decides exactly");
        let no = Err(Reason::MarksLagging);
        assert_eq!(all(Stakes::Anyway), [Ok(Weighed::Ask), Ok(Weighed::Ask), no, no], "for a while only");
    }

    #[test]
    fn what_was_closed_stays_closed_while_the_mirror_lags() {
        let known = MirrorAnswer::Lagging(Some(met()));
        for stakes in [Stakes::GoesOn, Stakes::Anyway] {
            assert_eq!(weighed(stakes, &known, Some(SECOND * 2)), Err(Reason::ConnectorDisabled));
        }
        assert_eq!(weighed(Stakes::Write, &known, None), Ok(Weighed::Ask), "it may have been cleared since");
        for stakes in [Stakes::GoesOn, Stakes::Anyway, Stakes::Private, Stakes::Write] {
            assert_eq!(weighed(stakes, &MirrorAnswer::Met(met()), None), Err(Reason::ConnectorDisabled));
            assert_eq!(weighed(stakes, &MirrorAnswer::Clear, Some(SECOND)), Ok(Weighed::GoOn));
        }
    }

    const FILE: &str = "\
apiVersion: safeconduct.dev/v1
kind: Workspace
metadata: {workspace: acme}
spec:
  upstreams: {shop: {url: https://shop.example}}
---
apiVersion: safeconduct.dev/v1
kind: Connector
metadata: {workspace: acme, name: list-orders, version: v1}
spec:
  title: List orders
  description: Lists orders.
  effect: read
  sensitivity: public
  limits: [{name: look, per: [contact], rate: 3/h}, {name: day, per: [contact], count: true, max: 2, window: {rolling: 24h}}]
  request: {upstream: shop, method: GET, path: /orders}
  response: {output: {total: {path: $.total, type: integer}}}
";

    /// With a rate and a cap, of which the first `limits` are kept.
    fn connector(effect: Effect, sensitivity: Sensitivity, failure: OnStoreFailure, limits: usize) -> Connector {
        let file = SourceFile { path: "acme.yaml".to_owned(), text: FILE.to_owned(), damage: None };
        let loaded = load::workspaces(vec![file]).workspaces.remove(0);
        let workspace = loaded.result.unwrap_or_else(|found| panic!("{found}"));
        let mut connector =
            workspace.connectors.values().flat_map(|one| one.versions.values()).next().unwrap().as_ref().clone();
        (connector.effect, connector.sensitivity, connector.on_store_failure) = (effect, sensitivity, failure);
        connector.limits.truncate(limits);
        connector
    }

    #[test]
    fn a_list_has_its_own_stakes_unless_it_is_read_for_a_write() {
        use {Effect::*, OnStoreFailure::*, Sensitivity::*};

        let of = |effect, (sensitivity, failure)| {
            let asked = connector(effect, Public, Allow, 0);
            Stakes::of_list(&asked, &connector(Read, sensitivity, failure, 0))
        };
        let lists = [(Public, Deny), (Private, Allow), (Private, Deny)];
        assert_eq!(lists.map(|list| of(Read, list)), [Stakes::GoesOn, Stakes::Anyway, Stakes::Private]);
        assert_eq!(lists.map(|list| of(Write, list)), [Stakes::Write; 3]);
    }

    #[test]
    fn a_read_goes_ahead_without_admission_if_it_may_and_nothing_must_be_counted() {
        use {Effect::Read, OnStoreFailure::*, Sensitivity::*};

        let goes = |sensitivity, failure, limits, age: Option<Duration>| {
            goes_without_admission(&connector(Read, sensitivity, failure, limits), age)
        };
        let (recent, long) = (Some(UNHEARD_AT_MOST), Some(UNHEARD_AT_MOST + SECOND));
        assert!(goes(Public, Deny, 0, None) && goes(Public, Allow, 1, long) && goes(Private, Allow, 1, recent));
        assert!(!goes(Public, Deny, 1, recent), "rates are counted there");
        assert!(!goes(Public, Allow, 2, recent) && !goes(Private, Allow, 2, recent), "caps always are");
        assert!(!goes(Private, Deny, 0, recent));
        assert!(!goes(Private, Allow, 1, long) && !goes(Private, Allow, 1, None));
    }
}
