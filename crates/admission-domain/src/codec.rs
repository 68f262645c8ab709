//! How records are stored: a version byte, a kind byte, then fields in order; numbers big-endian, texts and bytes with
//! their length first. Read back strictly: what is left over, missing or unknown is an error, never a default.

use safeconduct_types::{ExecutionId, OperationId, Timestamp};

use crate::bounds::{Digest, Retention, Sealed};
use crate::execution::{Execution, State, Token};
use crate::key::{Fingerprint, Key, KeyKind, Keys};
use crate::list::{Entry, Listing};
use crate::record::{Pointer, Record};

const VERSION: u8 = 1;

const POINTER: u8 = 1;
const EXECUTION: u8 = 2;
const LISTING: u8 = 3;

// State 1 is kept for RESERVING, which comes with limits that live in other slots.
const RUNNING: u8 = 2;
const COMPLETED: u8 = 3;
const RELEASED: u8 = 4;
const UNKNOWN: u8 = 5;
// RUNNING that was taken over from somebody who knew something. Records without that keep their form.
const RUNNING_KNOWN: u8 = 6;

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

/// The bytes of a record.
pub fn encode(record: &Record) -> Vec<u8> {
    let mut to = Writer(vec![VERSION]);
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
        Record::Listing(listing) => {
            to.byte(LISTING);
            to.list(&listing.0, |to, entry| {
                to.time(entry.admitted);
                to.text(entry.execution.as_str());
            });
        }
    }
    to.0
}

/// The record that these bytes are.
pub fn decode(bytes: &[u8]) -> Result<Record, CodecError> {
    let mut from = Reader(bytes);
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
        LISTING => Record::Listing(Listing(
            from.list(|from| Ok(Entry { admitted: from.time()?, execution: from.execution_id()? }))?,
        )),
        _ => return Err(CodecError::Damaged),
    };
    if from.0.is_empty() { Ok(record) } else { Err(CodecError::Damaged) }
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
    match &it.state {
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

fn read_execution(from: &mut Reader<'_>) -> Result<Execution, CodecError> {
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
        state: match from.byte()? {
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

    fn time(&mut self, time: Timestamp) {
        self.raw(&time.as_millis().to_be_bytes());
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

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn raw(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CodecError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.raw(N)?.try_into().map_err(|_| CodecError::Damaged)
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

    fn time(&mut self) -> Result<Timestamp, CodecError> {
        self.array().map(i64::from_be_bytes).map(Timestamp::from_millis)
    }

    fn digest(&mut self) -> Result<Digest, CodecError> {
        self.array().map(Digest::new)
    }

    fn operation(&mut self) -> Result<OperationId, CodecError> {
        self.array().map(OperationId::from_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.u32()?;
        self.raw(usize::try_from(length).map_err(|_| CodecError::Damaged)?)
    }

    fn sealed(&mut self) -> Result<Sealed, CodecError> {
        self.bytes().map(|bytes| Sealed::stored(bytes.to_vec()))
    }

    fn execution_id(&mut self) -> Result<ExecutionId, CodecError> {
        std::str::from_utf8(self.bytes()?).ok().and_then(|text| text.parse().ok()).ok_or(CodecError::Damaged)
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
    use crate::fixture::{caller, execution_id, lease, op, running, same, sealed, seconds};

    fn all_states() -> Vec<Execution> {
        let start = running(seconds(5), lease(10));
        let states = [
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
        records.push(Record::Listing(Listing(vec![Entry { admitted: seconds(1), execution: execution_id(1) }])));
        records
    }

    #[test]
    fn every_record_reads_back_as_it_was() {
        for record in all_records() {
            assert_eq!(decode(&encode(&record)), Ok(record));
        }
    }

    #[test]
    fn a_record_that_was_cut_or_grew_is_damaged() {
        for record in all_records() {
            let bytes = encode(&record);
            for length in 1..bytes.len() {
                assert_eq!(decode(&bytes[..length]), Err(CodecError::Damaged), "{length} of {record:?}");
            }
            assert_eq!(decode(&[bytes, vec![0]].concat()), Err(CodecError::Damaged));
        }
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let mut bytes = encode(&all_records()[0]);
        bytes[0] = 2;
        assert_eq!(decode(&bytes), Err(CodecError::Version));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode(&[vec![VERSION, EXECUTION], bytes].concat());
        }
    }
}
