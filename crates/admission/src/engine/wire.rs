//! Steps in the words of the scripts, and the scripts' numbers as answers.

use std::borrow::Cow;

use bytes::Buf as _;
use safeconduct_admission_domain::meter::cap::{Adjust, Place, Take, Window};
use safeconduct_admission_domain::meter::rate::{self, Span};
use safeconduct_admission_domain::meter::{MAX_NOW, Meter, Reading, cap};
use safeconduct_admission_domain::step::{IndexOp, When};
use safeconduct_store::envelope::words;
use safeconduct_store::{Arg, Band, GRACE, REVISIONS, RecordKey, Reply, StoreError};

use super::Step;

/// The earliest and the latest time that a step may be decided with, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds(pub(super) i64, pub(super) i64);

impl From<Band> for Bounds {
    fn from(band: Band) -> Self {
        Self(band.not_before, band.not_after)
    }
}

/// Numbers, big endian, one after the other. None of them exceeds its width: the domain's bounds see to that.
#[derive(Debug, Default)]
pub(super) struct Blob(Vec<u8>);

impl Blob {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn number(&mut self, number: i64, width: usize) -> &mut Self {
        self.0.extend(number.to_be_bytes().iter().skip(8_usize.saturating_sub(width)));
        self
    }

    fn count(&mut self, count: usize, width: usize) -> &mut Self {
        self.number(i64::try_from(count).unwrap_or(i64::MAX), width)
    }

    /// The bounds of the time, within the times that meters reckon with.
    pub(super) fn bounds(&mut self, Bounds(earliest, latest): Bounds) -> &mut Self {
        self.number(earliest.clamp(0, MAX_NOW), 7).number(latest.clamp(0, MAX_NOW), 7)
    }

    pub(super) fn rate(&mut self, rate: &rate::Params) -> &mut Self {
        let (more, full) = (rate.increment(), rate.full());
        self.number(rate.permits(), 3).span(more).span(full)
    }

    fn span(&mut self, span: Span) -> &mut Self {
        self.number(span.us, 7).number(span.frac, 3)
    }

    fn when(&mut self, when: When) -> &mut Self {
        let (relative, millis) = match when {
            When::At(millis) => (0, millis),
            When::Now(plus) => (1, plus),
        };
        self.number(relative, 1).number(millis, 8)
    }

    fn meter(&mut self, counter: usize, meter: &Meter) {
        let kind = match meter {
            Meter::Rate(_) => 1,
            Meter::Take(Take { window: Window::Calendar(_), .. }) => 2,
            Meter::Take(Take { window: Window::Rolling { .. }, .. }) => 3,
            Meter::Adjust(Adjust { place: Place::Calendar { .. }, .. }) => 4,
            Meter::Adjust(Adjust { place: Place::Rolling { .. }, .. }) => 5,
        };
        self.number(kind, 1).count(counter, 2);
        match meter {
            Meter::Rate(rate) => drop(self.rate(rate)),
            Meter::Take(Take { window, max, amount }) => {
                self.number(*max, 7).number(*amount, 7);
                match window {
                    Window::Calendar(boundaries) => {
                        for beginning in boundaries.as_array() {
                            self.number(*beginning, 7);
                        }
                    }
                    Window::Rolling { length_ms } => drop(self.number(*length_ms, 7)),
                }
            }
            Meter::Adjust(Adjust { place, delta }) => {
                let (one, two) = match place {
                    Place::Calendar { start_ms, end_ms } => (start_ms, end_ms),
                    Place::Rolling { length_ms, at_ms } => (length_ms, at_ms),
                };
                self.number(*delta, 8).number(*one, 7).number(*two, 7);
            }
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// A step in the words of `step.lua`, all but the first, which has the time.
#[derive(Debug)]
pub(super) struct Words<'a> {
    pub(super) keys: Vec<RecordKey>,
    counts: [usize; 4],
    operation: &'a [u8; 16],
    meters: Blob,
    tail: Vec<Cow<'a, [u8]>>,
}

impl<'a> Words<'a> {
    pub(super) fn of(step: &'a Step) -> Self {
        let mut keys: Vec<RecordKey> = step.changes.iter().map(|change| change.key.clone()).collect();
        let changes = keys.len();
        let mut meters = Blob::with_capacity(step.meters.len() * 48 + step.index.len() * 12);
        for (key, meter) in &step.meters {
            meters.meter(numbered(&mut keys, changes, key), meter);
        }
        let counters = keys.len() - changes;
        let mut tail: Vec<Cow<'a, [u8]>> = step.changes.iter().flat_map(words).collect();
        let mut indexes = 0;
        let mut index = fewest(&step.index).into_iter().peekable();
        while let Some(change) = index.next() {
            let (what, key, when, member) = match change {
                IndexOp::Add { key, score, member } => (1, key, *score, Some(member)),
                IndexOp::Remove { key, member } => (2, key, When::At(0), Some(member)),
                IndexOp::Trim { key, below } => (3, key, *below, None),
                IndexOp::Expire { key, at } => (4, key, *at, None),
            };
            indexes += 1;
            let second = if what == 1 { index.next_if(|next| adds_to(next, key)) } else { None };
            let number = numbered(&mut keys, changes + counters, key);
            meters.number(if second.is_some() { 5 } else { what }, 1).count(number, 2).when(when);
            tail.extend(member.map(|member| Cow::Borrowed(member.as_slice())));
            if let Some(IndexOp::Add { score, member, .. }) = second {
                meters.when(*score);
                tail.push(Cow::Borrowed(member.as_slice()));
            }
        }
        let counts = [changes, counters, step.meters.len(), indexes];
        Self { keys, counts, operation: step.operation.as_bytes(), meters, tail }
    }

    /// The first word.
    pub(super) fn head(&self, bounds: Bounds) -> Blob {
        let mut head = Blob::with_capacity(46 + self.meters.0.len());
        head.bounds(bounds).number(i64::try_from(GRACE.as_millis()).unwrap_or(0), 7).count(REVISIONS, 1);
        for count in self.counts {
            head.count(count, 2);
        }
        head.0.extend(self.operation);
        head.0.extend_from_slice(self.meters.as_slice());
        head
    }

    /// All words.
    pub(super) fn args<'b>(&'b self, head: &'b Blob) -> Vec<Arg<'b>> {
        let mut args = Vec::with_capacity(1 + self.tail.len());
        args.push(Arg::Bytes(head.as_slice()));
        args.extend(self.tail.iter().map(|word| Arg::Bytes(word)));
        args
    }
}

/// The same operations in an order that takes fewer commands. An earlier end of an index gives way to a later one. What
/// is trimmed away is older than now and what is added is not, so that it does not matter which comes first.
fn fewest(index: &[IndexOp<RecordKey>]) -> Vec<&IndexOp<RecordKey>> {
    let rank = |one: &IndexOp<RecordKey>| match one {
        IndexOp::Trim { below: When::Now(..0), .. } => Some(0),
        IndexOp::Add { score: When::Now(0..), .. } => Some(1),
        IndexOp::Expire { .. } => Some(2),
        IndexOp::Trim { .. } | IndexOp::Add { .. } | IndexOp::Remove { .. } => None,
    };
    let mut all: Vec<_> = index.iter().collect();
    let one_index = all.windows(2).all(|two| matches!(two, [one, other] if key_of(one) == key_of(other)));
    if one_index && all.iter().all(|one| rank(one).is_some()) {
        all.sort_by_key(|one| rank(one));
        let ends = all.iter().filter(|one| matches!(one, IndexOp::Expire { .. })).count();
        let last = all.len().saturating_sub(1);
        all.drain(last.saturating_sub(ends.saturating_sub(1))..last);
    }
    all
}

const fn key_of(one: &IndexOp<RecordKey>) -> &RecordKey {
    match one {
        IndexOp::Add { key, .. }
        | IndexOp::Remove { key, .. }
        | IndexOp::Trim { key, .. }
        | IndexOp::Expire { key, .. } => key,
    }
}

fn adds_to(one: &IndexOp<RecordKey>, key: &RecordKey) -> bool {
    matches!(one, IndexOp::Add { .. }) && key_of(one) == key
}

/// The number of this key among those from `first` on, from 1; it is added if it is not among them.
fn numbered(keys: &mut Vec<RecordKey>, first: usize, key: &RecordKey) -> usize {
    let known = keys.iter().skip(first).position(|known| known == key);
    known.map_or_else(
        || {
            keys.push(key.clone());
            keys.len() - first
        },
        |place| place + 1,
    )
}

/// A script's list, read from its beginning.
pub(super) struct Answer(std::vec::IntoIter<Reply>);

impl Answer {
    pub(super) fn of(reply: Reply) -> Result<Self, StoreError> {
        match reply {
            Reply::List(items) => Ok(Self(items.into_iter())),
            Reply::Nil | Reply::Int(_) | Reply::Bytes(_) => Err(Reply::strange()),
        }
    }

    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        match self.0.next() {
            Some(Reply::Int(number)) => Ok(number),
            Some(Reply::Nil | Reply::Bytes(_) | Reply::List(_)) | None => Err(Reply::strange()),
        }
    }

    /// Bytes, or false.
    pub(super) fn bytes(&mut self) -> Result<Option<bytes::Bytes>, StoreError> {
        match self.0.next() {
            Some(Reply::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Reply::Nil) => Ok(None),
            Some(Reply::Int(_) | Reply::List(_)) | None => Err(Reply::strange()),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.len() == 0
    }

    /// Nothing more is to come.
    pub(super) fn end(self) -> Result<(), StoreError> {
        if self.is_over() { Ok(()) } else { Err(Reply::strange()) }
    }
}

/// A script's text: numbers, big endian, read from its beginning.
pub(super) struct Packed(bytes::Bytes);

impl Packed {
    pub(super) const fn of(bytes: bytes::Bytes) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (&taken, _) = self.0.split_first_chunk().ok_or_else(Reply::strange)?;
        self.0.advance(N);
        Ok(taken)
    }

    /// One of one byte.
    pub(super) fn byte(&mut self) -> Result<u8, StoreError> {
        let [byte] = self.take()?;
        Ok(byte)
    }

    /// One of eight bytes.
    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        self.take().map(i64::from_be_bytes)
    }

    /// What `rates.lua` says of a rate.
    pub(super) fn rate(&mut self, now_us: i64) -> Result<Reading, StoreError> {
        let (passed, us, [a, b, c]) = (self.byte()? == 1, self.number()?, self.take()?);
        let tat = Span { us, frac: i64::from(u32::from_be_bytes([0, a, b, c])) };
        Ok(Reading::Rate(rate::Reading { passed, now_us, tat }))
    }

    /// One of `step.lua`'s four numbers.
    pub(super) fn meter(&mut self, meter: &Meter, now_us: i64) -> Result<Reading, StoreError> {
        let (passed, one, two, three) = (self.byte()? == 1, self.number()?, self.number()?, self.number()?);
        let time = |time: i64| (time >= 0).then_some(time);
        Ok(match meter {
            Meter::Rate(_) => Reading::Rate(rate::Reading { passed, now_us, tat: Span { us: one, frac: two } }),
            Meter::Take(_) | Meter::Adjust(_) => {
                Reading::Cap(cap::Reading { passed, used: one, reset_ms: time(two), retry_ms: time(three) })
            }
        })
    }

    /// Nothing more is to come.
    pub(super) fn end(self) -> Result<(), StoreError> {
        if self.0.is_empty() { Ok(()) } else { Err(Reply::strange()) }
    }
}

#[cfg(test)]
mod tests {
    use safeconduct_store::StoreKeyer;
    use safeconduct_types::Secret;

    use super::*;

    fn key(name: &str) -> RecordKey {
        let keyer = StoreKeyer::new(&Secret::new(vec![7; 32]));
        let slot = keyer.slot(&[]);
        keyer.key(&slot, "list", &[name.as_bytes()])
    }

    fn add(name: &str, score: When, member: &[u8]) -> IndexOp<RecordKey> {
        IndexOp::Add { key: key(name), score, member: member.to_vec() }
    }

    fn ends(name: &str, plus: i64) -> IndexOp<RecordKey> {
        IndexOp::Expire { key: key(name), at: When::Now(plus) }
    }

    fn trim(name: &str, below: When) -> IndexOp<RecordKey> {
        IndexOp::Trim { key: key(name), below }
    }

    #[test]
    fn operations_on_one_list_take_the_fewest_commands() {
        let (one, two) = (add("a", When::Now(9), b"1"), add("a", When::Now(0), b"2"));
        let all = [one.clone(), ends("a", 9), trim("a", When::Now(-5)), two.clone(), ends("a", 7)];
        assert_eq!(fewest(&all), [&trim("a", When::Now(-5)), &one, &two, &ends("a", 7)]);
        assert_eq!(fewest(std::slice::from_ref(&one)), [&one]);
        assert_eq!(fewest(&[]), [] as [&IndexOp<RecordKey>; 0]);
    }

    #[test]
    fn operations_whose_order_matters_keep_it() {
        let (one, other) = (add("a", When::Now(9), b"1"), add("b", When::Now(9), b"1"));
        let remove = IndexOp::Remove { key: key("a"), member: b"1".to_vec() };
        for all in [
            vec![ends("a", 9), one.clone(), other],
            vec![ends("a", 9), one.clone(), remove],
            vec![ends("a", 9), add("a", When::At(3), b"1")],
            vec![one.clone(), trim("a", When::Now(10))],
            vec![ends("a", 9), add("a", When::Now(-1), b"1"), trim("a", When::Now(-1))],
        ] {
            assert_eq!(fewest(&all), all.iter().collect::<Vec<_>>());
        }
    }
}
