//! An entry for fuzzers: any bytes as the stored state of a limit.

use crate::limit::Rate;
use crate::meter::cap::{Adjust, Entries, Place, Take, Window};
use crate::meter::{Corrupt, Judged, MAX_NUMBER, Meter, rate};

/// Feeds `bytes` as a stored state to every kind of meter at `now_us`, and checks that each either refuses them or reads
/// just what they say: nothing that is there is ever read as absent. Says what broke that.
pub fn any_state(bytes: &[u8], now_us: i64) -> Result<(), &'static str> {
    let window = Window::Rolling { length_ms: 1_000 };
    let place = Place::Rolling { length_ms: 1_000, at_ms: now_us / 1000 };
    let caps = [
        Meter::Take(Take { window, max: MAX_NUMBER, amount: 1 }),
        Meter::Take(Take { window, max: 0, amount: 0 }),
        Meter::Adjust(Adjust { place, delta: 1 }),
        Meter::Adjust(Adjust { place, delta: -MAX_NUMBER }),
    ];
    let entries = Entries::parse(bytes);
    for meter in &caps {
        sound(meter, &meter.judge(now_us, Some(bytes)), entries.is_ok())?;
    }
    if entries.is_ok_and(|entries| entries.to_bytes() != bytes) {
        return Err("entries are not what the bytes say");
    }
    let Ok(ten) = Rate::parse(10, 60_000_000, 5) else { return Err("the rate is sound") };
    for cost in [0, 1, 6] {
        let meter = Meter::Rate(rate::Params::new(&ten, cost));
        sound(&meter, &meter.judge(now_us, Some(bytes)), rate::State::parse(bytes).is_ok())?;
    }
    Ok(())
}

fn sound(meter: &Meter, judged: &Result<Judged, Corrupt>, readable: bool) -> Result<(), &'static str> {
    match (judged, readable) {
        (Err(Corrupt), false) => Ok(()),
        (Err(Corrupt), true) => Err("a sound state was refused"),
        (Ok(_), false) => Err("bytes that are no state were read"),
        (Ok(Judged::Outside), true) => Err("a rolling window has no outside"),
        (Ok(Judged::Read { keep, .. }), true) => match keep {
            Some(crate::meter::Keep::Put { state, .. }) if meter.judge(0, Some(state)).is_err() => {
                Err("what is kept can't be read")
            }
            Some(_) | None => Ok(()),
        },
    }
}
