//! How records are stored: a version byte, a kind byte, then fields in order; numbers big-endian, texts and bytes with
//! their length first. Read back strictly: what is left over, missing or unknown is an error, never a default.
//!
//! A time is a byte and a number: milliseconds since the epoch, or since the record was written. Whoever writes a record
//! does not know when that will be; the store stamps it, and says so when the record is read.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use safeconduct_types::{ExecutionId, OperationId, Timestamp};

use crate::bounds::{Digest, Retention, Sealed};
use crate::calendar::CalendarUnit;
use crate::execution::{Execution, State, Token};
use crate::held::Held;
use crate::hold::Hold;
use crate::key::{Fingerprint, Key, KeyKind, Keys};
use crate::limit::{Cap, CapKind, Charge, Limit, LimitName, Rate, Scope, Shape, Unit, Window};
use crate::record::{Pointer, Record, from_write};

const VERSION: u8 = 2;

const POINTER: u8 = 1;
const EXECUTION: u8 = 2;
const USE: u8 = 3;
const OPERATION: u8 = 4;
const HOLD: u8 = 5;
const CLOSED: u8 = 6;
const VOID: u8 = 7;
const FREED: u8 = 8;

const RESERVING: u8 = 1;
const RUNNING: u8 = 2;
const COMPLETED: u8 = 3;
const RELEASED: u8 = 4;
const UNKNOWN: u8 = 5;
// RUNNING that was taken over from somebody who knew something.
const RUNNING_KNOWN: u8 = 6;

const RATE: u8 = 1;
const COUNT: u8 = 2;
const SUM: u8 = 3;

const CALLER: u8 = 1;
const SAME: u8 = 2;

/// Stored bytes that are no record of ours. Fails closed: the record is neither absent nor free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A later version wrote it.
    #[error("the record was written by another version of admission")]
    Version,
    /// It is damaged.
    #[error("the record is damaged")]
    Damaged,
}

/// The bytes of a record of this crate. A mark has its own ([`crate::mark::encode`]).
pub fn encode(record: &Record) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(size(record)));
    to.byte(VERSION);
    match record {
        Record::Pointer(pointer) => {
            to.byte(POINTER);
            to.text(pointer.execution.as_str());
            to.optional(pointer.fingerprint.as_ref(), |to, fingerprint| to.raw(fingerprint.as_bytes()));
            to.u32(pointer.floor);
        }
        Record::Execution(execution) => {
            to.byte(EXECUTION);
            write_execution(&mut to, execution);
        }
        Record::Use(by) => {
            to.byte(USE);
            to.optional(by.as_ref(), |to, by| to.text(by.as_str()));
        }
        Record::Operation => to.byte(OPERATION),
        Record::Hold(Hold::Open { execution, charges }) => {
            to.byte(HOLD);
            to.text(execution.as_str());
            to.list(charges, write_held);
        }
        Record::Hold(Hold::Closed { held }) => to.byte(if *held { CLOSED } else { VOID }),
        Record::Hold(Hold::Freed) => to.byte(FREED),
        Record::Mark(mark) => return crate::mark::encode(mark),
    }
    to.0
}

/// The record that these bytes are, written at that time.
pub fn decode(bytes: &Bytes, written: Timestamp) -> Result<Record, CodecError> {
    let mut from = Reader { rest: bytes.clone(), written };
    if from.byte()? != VERSION {
        return Err(CodecError::Version);
    }
    let record = match from.byte()? {
        POINTER => Record::Pointer(Pointer {
            execution: from.execution_id()?,
            fingerprint: from.optional(|from| Ok(Fingerprint::new(from.digest()?)))?,
            floor: from.u32()?,
        }),
        EXECUTION => Record::Execution(Box::new(read_execution(&mut from)?)),
        USE => Record::Use(from.optional(Reader::execution_id)?),
        OPERATION => Record::Operation,
        HOLD => Record::Hold(Hold::Open { execution: from.execution_id()?, charges: from.list(read_held)? }),
        CLOSED => Record::Hold(Hold::Closed { held: true }),
        VOID => Record::Hold(Hold::Closed { held: false }),
        FREED => Record::Hold(Hold::Freed),
        _ => return Err(CodecError::Damaged),
    };
    if from.rest.is_empty() { Ok(record) } else { Err(CodecError::Damaged) }
}

/// Enough room for the record in most cases.
fn size(record: &Record) -> usize {
    match record {
        Record::Execution(it) => {
            let sealed = [Some(it.intent()), it.checkpoint(), it.outcome()];
            let sealed: usize = sealed.into_iter().flatten().map(|one| one.as_bytes().len()).sum();
            384 + 200 * it.charges.len() + sealed
        }
        Record::Hold(Hold::Open { charges, .. }) => 128 + 200 * charges.len(),
        Record::Pointer(_) | Record::Use(_) | Record::Operation | Record::Hold(_) | Record::Mark(_) => 128,
    }
}

fn write_execution(to: &mut Writer, it: &Execution) {
    to.text(it.id.as_str());
    let keys: Vec<Key> = it.keys.iter().copied().collect();
    to.list(&keys, |to, key| {
        to.byte(match key.kind {
            KeyKind::Caller => CALLER,
            KeyKind::Same => SAME,
        });
        to.raw(key.digest.as_bytes());
    });
    to.u32(it.generation);
    to.u64(it.token.number());
    to.raw(it.holder.as_bytes());
    to.list(&it.recent, |to, operation| to.raw(operation.as_bytes()));
    to.time(it.admitted);
    to.time(it.changed);
    to.u32(it.revision);
    to.u64(u64::try_from(it.retain.length().as_millis()).unwrap_or(u64::MAX));
    to.bytes(it.intent.as_bytes());
    to.optional(it.checkpoint.as_ref(), |to, sealed| to.bytes(sealed.as_bytes()));
    to.list(&it.charges, write_held);
    to.list(&it.consumed, |to, digest| to.raw(digest.as_bytes()));
    match &it.state {
        State::Reserving { lease_ends, epoch } => {
            to.byte(RESERVING);
            to.time(*lease_ends);
            to.text(epoch);
        }
        State::Running { lease_ends, known: None } => {
            to.byte(RUNNING);
            to.time(*lease_ends);
        }
        State::Running { lease_ends, known: Some(known) } => {
            to.byte(RUNNING_KNOWN);
            to.time(*lease_ends);
            to.bytes(known.as_bytes());
        }
        State::Completed { outcome, settled_by, expires } => {
            to.byte(COMPLETED);
            to.bytes(outcome.as_bytes());
            to.raw(settled_by.as_bytes());
            to.time(*expires);
        }
        State::Released { bytes_sent, outcome, keep_for_caller_key, settled_by, expires } => {
            to.byte(RELEASED);
            to.flag(*bytes_sent);
            to.optional(outcome.as_ref(), |to, sealed| to.bytes(sealed.as_bytes()));
            to.flag(*keep_for_caller_key);
            to.raw(settled_by.as_bytes());
            to.time(*expires);
        }
        State::Unknown { outcome, settled_by } => {
            to.byte(UNKNOWN);
            to.optional(outcome.as_ref(), |to, sealed| to.bytes(sealed.as_bytes()));
            to.raw(settled_by.as_bytes());
        }
    }
}

fn read_execution(from: &mut Reader) -> Result<Execution, CodecError> {
    Ok(Execution {
        id: from.execution_id()?,
        keys: Keys::stored(from.list(|from| {
            let kind = match from.byte()? {
                CALLER => KeyKind::Caller,
                SAME => KeyKind::Same,
                _ => return Err(CodecError::Damaged),
            };
            Ok(Key { kind, digest: from.digest()? })
        })?),
        generation: from.u32()?,
        token: Token::new(from.u64()?),
        holder: from.operation()?,
        recent: from.list(Reader::operation)?,
        admitted: from.time()?,
        changed: from.time()?,
        revision: from.u32()?,
        retain: Retention::parse(std::time::Duration::from_millis(from.u64()?)).map_err(|_| CodecError::Damaged)?,
        intent: from.sealed()?,
        checkpoint: from.optional(Reader::sealed)?,
        charges: from.list(read_held)?,
        consumed: from.list(Reader::digest)?,
        state: match from.byte()? {
            RESERVING => State::Reserving { lease_ends: from.time()?, epoch: from.text()?.into() },
            RUNNING => State::Running { lease_ends: from.time()?, known: None },
            RUNNING_KNOWN => State::Running { lease_ends: from.time()?, known: Some(from.sealed()?) },
            COMPLETED => {
                State::Completed { outcome: from.sealed()?, settled_by: from.operation()?, expires: from.time()? }
            }
            RELEASED => State::Released {
                bytes_sent: from.flag()?,
                outcome: from.optional(Reader::sealed)?,
                keep_for_caller_key: from.flag()?,
                settled_by: from.operation()?,
                expires: from.time()?,
            },
            UNKNOWN => State::Unknown { outcome: from.optional(Reader::sealed)?, settled_by: from.operation()? },
            _ => return Err(CodecError::Damaged),
        },
    })
}

fn write_held(to: &mut Writer, it: &Held) {
    to.raw(it.by.as_bytes());
    to.byte(it.place);
    write_charge(to, &it.charge);
    to.number(it.amount);
    to.time(it.at);
}

fn read_held(from: &mut Reader) -> Result<Held, CodecError> {
    Ok(Held {
        by: from.operation()?,
        place: from.byte()?,
        charge: Arc::new(read_charge(from)?),
        amount: from.number()?,
        at: from.time()?,
    })
}

fn write_charge(to: &mut Writer, charge: &Charge) {
    let limit = charge.limit();
    to.text(limit.name.as_str());
    match &limit.scope {
        Scope::Family(family) => to.text(family.as_str()),
        Scope::Workspace => to.text(""),
    }
    to.flag(limit.per_contact);
    to.optional(limit.dimensions.as_ref(), |to, digest| to.raw(digest.as_bytes()));
    match &limit.shape {
        Shape::Rate(rate) => {
            to.byte(RATE);
            to.number(rate.permits());
            to.number(rate.period_us());
            to.number(rate.burst());
        }
        Shape::Cap(cap) => {
            to.byte(match cap.kind() {
                CapKind::Count => COUNT,
                CapKind::Sum => SUM,
            });
            match cap.window() {
                Window::Calendar(unit, zone) => {
                    to.text(unit.as_str());
                    to.text(zone.name());
                }
                Window::Rolling(length_ms) => {
                    to.text("");
                    to.number(*length_ms);
                }
            }
            // The other units' maxima are nothing to this charge.
            to.number(charge.max());
        }
    }
    to.number(charge.amount());
    to.text(charge.unit().as_str());
}

fn read_charge(from: &mut Reader) -> Result<Charge, CodecError> {
    let name = parsed(LimitName::parse(&from.text()?))?;
    let family = from.text()?;
    let scope = if family.is_empty() { Scope::Workspace } else { Scope::Family(parsed(family.parse())?) };
    let per_contact = from.flag()?;
    let dimensions = from.optional(Reader::digest)?;
    let (kind, window, max) = match from.byte()? {
        RATE => {
            let rate = parsed(Rate::parse(from.number()?, from.number()?, from.number()?))?;
            let limit = Limit { name, scope, per_contact, dimensions, shape: Shape::Rate(rate) };
            return parsed(Charge::parse(limit, from.number()?, parsed(Unit::parse(&from.text()?))?));
        }
        kind @ (COUNT | SUM) => {
            let kind = if kind == COUNT { CapKind::Count } else { CapKind::Sum };
            let unit = from.text()?;
            let window = if unit.is_empty() {
                parsed(Window::rolling(from.number()?))?
            } else {
                let unit = CalendarUnit::parse(&unit).ok_or(CodecError::Damaged)?;
                parsed(Window::calendar(unit, &from.text()?))?
            };
            (kind, window, from.number()?)
        }
        _ => return Err(CodecError::Damaged),
    };
    let amount = from.number()?;
    let unit = parsed(Unit::parse(&from.text()?))?;
    let cap = parsed(Cap::parse(kind, window, vec![(unit.clone(), max)]))?;
    let limit = Limit { name, scope, per_contact, dimensions, shape: Shape::Cap(cap) };
    parsed(Charge::parse(limit, amount, unit))
}

fn parsed<T, E>(result: Result<T, E>) -> Result<T, CodecError> {
    result.map_err(|_| CodecError::Damaged)
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    fn u32(&mut self, number: u32) {
        self.raw(&number.to_be_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.raw(&number.to_be_bytes());
    }

    fn number(&mut self, number: i64) {
        self.raw(&number.to_be_bytes());
    }

    fn time(&mut self, time: Timestamp) {
        let from_write = from_write(time);
        self.flag(from_write.is_some());
        self.number(from_write.unwrap_or(time.as_millis()));
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        // Everything that is stored is bounded far below this.
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.raw(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.length(items.len());
        for item in items {
            write(self, item);
        }
    }
}

struct Reader {
    rest: Bytes,
    written: Timestamp,
}

impl Reader {
    fn raw(&mut self, length: usize) -> Result<Bytes, CodecError> {
        if length > self.rest.len() {
            return Err(CodecError::Damaged);
        }
        Ok(self.rest.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let array = *self.rest.first_chunk().ok_or(CodecError::Damaged)?;
        self.rest.advance(N);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Damaged),
        }
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    fn number(&mut self) -> Result<i64, CodecError> {
        self.array().map(i64::from_be_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, CodecError> {
        let from_write = self.flag()?;
        let millis = self.number()?;
        let base = if from_write { self.written.as_millis() } else { 0 };
        Ok(Timestamp::from_millis(base.saturating_add(millis)))
    }

    fn digest(&mut self) -> Result<Digest, CodecError> {
        self.array().map(Digest::new)
    }

    fn operation(&mut self) -> Result<OperationId, CodecError> {
        self.array().map(OperationId::from_bytes)
    }

    fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let length = self.u32()?;
        self.raw(usize::try_from(length).map_err(|_| CodecError::Damaged)?)
    }

    fn sealed(&mut self) -> Result<Sealed, CodecError> {
        // Shares the store's buffer: nothing is copied.
        self.bytes().map(Sealed::stored)
    }

    fn text(&mut self) -> Result<String, CodecError> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| CodecError::Damaged)
    }

    fn execution_id(&mut self) -> Result<ExecutionId, CodecError> {
        std::str::from_utf8(&self.bytes()?).ok().and_then(|text| text.parse().ok()).ok_or(CodecError::Damaged)
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, CodecError>) -> Result<Option<T>, CodecError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, CodecError>) -> Result<Vec<T>, CodecError> {
        // No capacity is taken from the length: it comes from outside.
        let length = self.u32()?;
        (0..length).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{caller, charge, execution_id, lease, op, running, same, sealed, seconds};

    fn all_states() -> Vec<Execution> {
        let start = running(seconds(5), lease(10));
        let states = [
            State::Reserving { lease_ends: seconds(4), epoch: "abc".into() },
            State::Running { lease_ends: seconds(-3), known: None },
            State::Running { lease_ends: seconds(3), known: Some(sealed(6)) },
            State::Completed { outcome: sealed(1), settled_by: op(3), expires: seconds(9) },
            State::Released {
                bytes_sent: true,
                outcome: Some(sealed(2)),
                keep_for_caller_key: true,
                settled_by: op(4),
                expires: seconds(8),
            },
            State::Released {
                bytes_sent: false,
                outcome: None,
                keep_for_caller_key: false,
                settled_by: op(4),
                expires: seconds(8),
            },
            State::Unknown { outcome: None, settled_by: op(5) },
        ];
        states
            .into_iter()
            .map(|state| Execution {
                state,
                keys: Keys::stored(vec![caller(1), same(2)]),
                recent: vec![op(7), op(8)],
                checkpoint: Some(sealed(4)),
                charges: Held::all(op(1), &[charge("a", true), charge("b", false)], seconds(5)).collect(),
                consumed: vec![Digest::new([8; 32])],
                generation: 3,
                ..start.clone()
            })
            .collect()
    }

    fn all_records() -> Vec<Record> {
        let pointer = |fingerprint| Pointer { execution: execution_id(1), fingerprint, floor: 2 };
        let mut records: Vec<Record> = all_states().into_iter().map(|one| Record::Execution(Box::new(one))).collect();
        records.push(Record::Pointer(pointer(None)));
        records.push(Record::Pointer(pointer(Some(Fingerprint::new(Digest::new([9; 32]))))));
        records.push(Record::Use(None));
        records.push(Record::Use(Some(execution_id(1))));
        records.push(Record::Operation);
        records.push(Record::Hold(Hold::Closed { held: true }));
        records.push(Record::Hold(Hold::Closed { held: false }));
        records.push(Record::Hold(Hold::Freed));
        let charges = Held::all(op(1), &[charge("b", false)], seconds(5)).collect();
        records.push(Record::Hold(Hold::Open { execution: execution_id(1), charges }));
        records
    }

    #[test]
    fn every_record_reads_back_as_it_was() {
        for record in all_records() {
            assert_eq!(decode(&encode(&record).into(), seconds(77)), Ok(record));
        }
    }

    #[test]
    fn a_record_that_was_cut_or_grew_is_damaged() {
        for record in all_records() {
            let bytes = encode(&record);
            for length in 1..bytes.len() {
                assert_eq!(
                    decode(&Bytes::copy_from_slice(&bytes[..length]), seconds(0)),
                    Err(CodecError::Damaged),
                    "{length} of {record:?}"
                );
            }
            assert_eq!(decode(&[bytes, vec![0]].concat().into(), seconds(0)), Err(CodecError::Damaged));
        }
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let mut bytes = encode(&all_records()[0]);
        bytes[0] = 1;
        assert_eq!(decode(&bytes.into(), seconds(0)), Err(CodecError::Version));
    }

    #[test]
    fn times_counted_from_the_write_read_back_as_what_they_then_are() {
        let fresh = running(crate::record::AT_WRITE, lease(10));
        let stored = encode(&Record::Execution(Box::new(fresh))).into();
        let Ok(Record::Execution(read)) = decode(&stored, seconds(77)) else { panic!("unreadable") };
        assert_eq!((read.admitted(), read.lease_ends()), (seconds(77), Some(seconds(87))));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes.clone().into(), seconds(0));
            let _ = decode(&[vec![VERSION, EXECUTION], bytes].concat().into(), seconds(0));
        }
    }
}
