//! Steps on Redis: two scripts and a small one that reads an index.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use safeconduct_admission_domain::meter::{Meter, Reading};
use safeconduct_store::envelope::{self, LUA};
use safeconduct_store::{
    Arg, Expected, RecordKey, Records as _, RedisRecords, RedisStore, Reply, Script, Slot, Snapshot, StoreError, Use,
};
use safeconduct_types::Timestamp;

use super::wire::{Answer, Blob, Bounds, Packed, Words};
use super::{Engine, Members, Need, Step, Stepped, moment, need};

/// Steps on a Redis.
pub(crate) struct RedisEngine {
    store: RedisStore,
    records: RedisRecords,
    rates: Script,
    step: Script,
    index: Script,
    forget: Script,
}

impl RedisEngine {
    pub(crate) fn new(store: RedisStore) -> Self {
        Self {
            records: RedisRecords::on(store.clone()),
            store,
            rates: Script::new(include_str!("scripts/rates.lua")).named("rates"),
            step: Script::new(&format!("{LUA}{}", include_str!("scripts/step.lua"))).named("step"),
            index: Script::new(include_str!("scripts/index.lua")).named("index"),
            forget: Script::new(include_str!("scripts/forget.lua")).named("forget"),
        }
    }

    /// Does the step at the server's time as these bounds leave it; answers what the server's clock said as well.
    pub(super) async fn go(&self, slot: &Slot, step: &Step, bounds: Bounds) -> Result<(Stepped, i64), StoreError> {
        let need = need(step)?;
        if rates_only(step) {
            return self.rates(slot, &step.meters, bounds).await;
        }
        let purpose = match need {
            Need::Volatile if step.changes.is_empty() => Use::Volatile,
            // It may be answered with records; if it expects some, it says that they are there.
            Need::Volatile if step.changes.iter().any(|change| change.expected != Expected::Absent) => Use::Firm,
            Need::Volatile => Use::FirmIfAny,
            Need::Durable => Use::Write,
        };
        let words = Words::of(step);
        let head = words.head(bounds);
        let args = words.args(&head);
        let answer = match self.store.run(slot, &self.step, &words.keys, &args, purpose).await {
            // Whether it was done is found out by saying it again.
            Err(StoreError::Unanswered(_)) => self.store.run(slot, &self.step, &words.keys, &args, purpose).await?,
            answered => answered?,
        };
        whole(step, answer)
    }

    async fn rates(
        &self,
        slot: &Slot,
        meters: &[(RecordKey, Meter)],
        bounds: Bounds,
    ) -> Result<(Stepped, i64), StoreError> {
        let mut blob = Blob::with_capacity(14 + 23 * meters.len());
        blob.bounds(bounds);
        for (_, meter) in meters {
            if let Meter::Rate(rate) = meter {
                blob.rate(rate);
            }
        }
        let keys: Vec<RecordKey> = meters.iter().map(|(key, _)| key.clone()).collect();
        let args = [Arg::Bytes(blob.as_slice())];
        let Reply::Bytes(answer) = self.store.run(slot, &self.rates, &keys, &args, Use::Volatile).await? else {
            return Err(Reply::strange());
        };
        let mut answer = Packed::of(answer);
        let (now, told) = (answer.number()?, answer.number()?);
        let readings = meters.iter().map(|_| answer.rate(now)).collect::<Result<Vec<_>, _>>()?;
        answer.end()?;
        Ok((judged(now, readings), told))
    }
}

/// What `step.lua` answers.
fn whole(step: &Step, answer: Reply) -> Result<(Stepped, i64), StoreError> {
    let Reply::Bytes(answer) = answer else { return conflict(step, Answer::of(answer)?) };
    let mut answer = Packed::of(answer);
    let became = answer.byte()?;
    let (now, told) = (answer.number()?, answer.number()?);
    let readings = |answer: &mut Packed| {
        step.meters.iter().map(|(_, meter)| answer.meter(meter, now)).collect::<Result<Vec<_>, _>>()
    };
    let stepped = match became {
        0 | 1 => Stepped::Done { now: moment(now), readings: readings(&mut answer)?, repeated: became == 1 },
        3 => judged(now, readings(&mut answer)?),
        4 => Stepped::Outside { now: moment(now) },
        _ => return Err(Reply::strange()),
    };
    answer.end()?;
    Ok((stepped, told))
}

/// Its list: some record is not as expected.
fn conflict(step: &Step, mut answer: Answer) -> Result<(Stepped, i64), StoreError> {
    let (now, told) = (answer.number()?, answer.number()?);
    let now = moment(now);
    let mut record = || answer.bytes()?.map_or(Ok(None), |bytes| envelope::visible(&bytes, now));
    let records = step.changes.iter().map(|_| record()).collect::<Result<Vec<_>, StoreError>>()?;
    answer.end()?;
    Ok((Stepped::Conflict { now, records }, told))
}

fn judged(now: i64, readings: Vec<Reading>) -> Stepped {
    let now = moment(now);
    match readings.iter().position(|reading| !reading.passed()) {
        Some(first) => Stepped::Denied { now, readings, first },
        None => Stepped::Done { now, readings, repeated: false },
    }
}

/// Whether `rates.lua` will do: rates only, each counter once, and at least one.
fn rates_only(step: &Step) -> bool {
    let rates = step.meters.iter().all(|(_, meter)| matches!(meter, Meter::Rate(_)));
    let once = || {
        let keys: HashSet<&RecordKey> = step.meters.iter().map(|(key, _)| key).collect();
        keys.len() == step.meters.len()
    };
    rates
        && step.changes.is_empty()
        && step.index.is_empty()
        && !step.meters.is_empty()
        && (step.meters.len() == 1 || once())
}

impl fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEngine").finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for RedisEngine {
    async fn step(&self, slot: &Slot, step: Step) -> Result<Stepped, StoreError> {
        let band = self.store.pace().band();
        let (stepped, told) = self.go(slot, &step, band.into()).await?;
        self.store.pace().observe(band, told);
        Ok(stepped)
    }

    async fn read(&self, slot: &Slot, keys: &[RecordKey]) -> Result<Snapshot, StoreError> {
        self.records.read_firm(slot, keys).await
    }

    async fn index(
        &self,
        slot: &Slot,
        key: &RecordKey,
        scores: RangeInclusive<i64>,
        limit: usize,
        newest_first: bool,
    ) -> Result<(Timestamp, Members), StoreError> {
        let band = self.store.pace().band();
        let mut blob = Blob::with_capacity(14);
        blob.bounds(band.into());
        let args = [
            Arg::Bytes(blob.as_slice()),
            Arg::Int(*scores.start()),
            Arg::Int(*scores.end()),
            Arg::Int(i64::try_from(limit).unwrap_or(i64::MAX)),
            Arg::Int(i64::from(newest_first)),
        ];
        let reply = self.store.run(slot, &self.index, std::slice::from_ref(key), &args, Use::Read).await?;
        let mut answer = Answer::of(reply)?;
        let (now, told) = (answer.number()?, answer.number()?);
        self.store.pace().observe(band, told);
        let mut members = Vec::new();
        while !answer.is_over() {
            let member = answer.bytes()?.ok_or_else(Reply::strange)?;
            let score = answer.bytes()?.ok_or_else(Reply::strange)?;
            let score = std::str::from_utf8(&score).ok().and_then(|score| score.parse().ok());
            members.push((score.ok_or_else(Reply::strange)?, member));
        }
        Ok((moment(now), members))
    }

    async fn forget(&self, slot: &Slot, keys: &[RecordKey]) -> Result<(), StoreError> {
        self.store.run(slot, &self.forget, keys, &[], Use::Write).await.map(drop)
    }

    fn epoch(&self, slot: &Slot) -> String {
        self.store.epoch(slot)
    }

    fn lost_until(&self, slot: &Slot) -> Timestamp {
        self.store.lost_until(slot)
    }

    fn now_estimate(&self) -> Timestamp {
        self.store.pace().estimate()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}
