//! From charges to meters, and from readings to what is left.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_domain::calendar::Calendars;
use safeconduct_admission_domain::limit::{Charge, Shape};
use safeconduct_admission_domain::meter::{Meter, Reading, Remaining, cap, remaining};
use safeconduct_admission_domain::{Adjusted, limit};
use safeconduct_proto::admission::v1 as proto;
use safeconduct_proto::common::v1 as common;
use safeconduct_service::wire::{to_duration, to_timestamp};
use safeconduct_types::Timestamp;

/// A limit did not let a request pass.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    /// When.
    pub(crate) now: Timestamp,
    /// The first that did not, by its place among the charges that were asked.
    pub(crate) first: usize,
    /// What is left of each.
    pub(crate) left: Vec<Remaining>,
    /// Whether a reservation that leaked may be why.
    pub(crate) by_cap: bool,
}

/// The meter that takes this charge.
pub(crate) fn take(charge: &Charge, now: Timestamp, calendars: &Calendars) -> Meter {
    charge.meter(now, calendars)
}

/// The meter that reads what is left of the limit.
pub(crate) fn ask(charge: &Charge, now: Timestamp, calendars: &Calendars) -> Meter {
    charge.meter(now, calendars).asking()
}

/// The meter that counts what was taken as it turned out to be. None: a rate, of which nothing is given back.
pub(crate) fn adjust(adjusted: &Adjusted, calendars: &Calendars) -> Option<Meter> {
    match &adjusted.held.charge.limit().shape {
        Shape::Cap(limit) => Some(Meter::Adjust(cap::Adjust {
            place: limit.window().place(adjusted.held.at, calendars),
            delta: adjusted.delta,
        })),
        Shape::Rate(_) => None,
    }
}

/// What is left, given what the meters of these charges read.
pub(crate) fn left<'a>(meters: impl IntoIterator<Item = &'a Meter>, readings: &[Reading]) -> Vec<Remaining> {
    meters.into_iter().zip(readings).map(|(meter, reading)| remaining(meter, reading)).collect()
}

/// What is left of a limit, as the contract has it.
pub(crate) fn to_remaining(charge: &Charge, left: &Remaining) -> common::LimitRemaining {
    let kind = match charge.limit().kind() {
        limit::Kind::Rate => common::LimitKind::Rate,
        limit::Kind::Count => common::LimitKind::Count,
        limit::Kind::Sum => common::LimitKind::Sum,
    };
    common::LimitRemaining {
        name: charge.limit().name.as_str().to_owned(),
        kind: kind.into(),
        unit: charge.unit().as_str().to_owned(),
        left: left.left,
        max: left.max,
        reset_time: left.resets.map(to_timestamp),
    }
}

/// What is left of each charge that was read, in the order of the request.
pub(crate) fn to_all(charges: &[Arc<Charge>], left: &[Option<Remaining>]) -> Vec<common::LimitRemaining> {
    let known = charges.iter().zip(left).filter_map(|(charge, left)| Some((charge, left.as_ref()?)));
    known.map(|(charge, left)| to_remaining(charge, left)).collect()
}

/// The charges of a request, told apart by where they are counted, each with its place in the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Split {
    pub(crate) own: Vec<Arc<Charge>>,
    own_places: Vec<usize>,
    pub(crate) shared: Vec<Arc<Charge>>,
    shared_places: Vec<usize>,
}

impl Split {
    pub(crate) fn of(charges: &[Arc<Charge>]) -> Self {
        let mut split = Self::default();
        for (place, charge) in charges.iter().enumerate() {
            let (charges, places) = if safeconduct_admission_domain::is_shared(charge) {
                (&mut split.shared, &mut split.shared_places)
            } else {
                (&mut split.own, &mut split.own_places)
            };
            charges.push(Arc::clone(charge));
            places.push(place);
        }
        split
    }

    /// What is left of each, by its place in the request.
    pub(crate) fn places(&self, own: &[Remaining], shared: &[Remaining]) -> Vec<Option<Remaining>> {
        let mut all = vec![None; self.own.len().saturating_add(self.shared.len())];
        let own = self.own_places.iter().zip(own);
        let shared = self.shared_places.iter().zip(shared);
        for (place, left) in own.chain(shared) {
            if let Some(slot) = all.get_mut(*place) {
                *slot = Some(*left);
            }
        }
        all
    }

    /// The place in the request of one of the contact's own.
    pub(crate) fn own_place(&self, index: usize) -> usize {
        self.own_places.get(index).copied().unwrap_or_default()
    }

    /// The place in the request of one of the shared.
    pub(crate) fn shared_place(&self, index: usize) -> usize {
        self.shared_places.get(index).copied().unwrap_or_default()
    }
}

/// The answer to a request of these charges that was denied at `place`.
pub(crate) fn to_denied(
    charges: &[Arc<Charge>],
    left: &[Option<Remaining>],
    place: usize,
    now: Timestamp,
) -> proto::Denied {
    let of_place = charges.get(place).zip(left.get(place).and_then(Option::as_ref));
    proto::Denied {
        limit: of_place.map(|(charge, left)| to_remaining(charge, left)),
        charge_index: u32::try_from(place).unwrap_or_default(),
        retry_after: of_place.and_then(|(_, left)| left.retry).map(|at| {
            // The next millisecond at the earliest: not at once.
            to_duration(at.since(now).max(Duration::from_millis(1)))
        }),
        remaining: to_all(charges, left),
    }
}
