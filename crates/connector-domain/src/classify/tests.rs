use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{connector, keyed, write};

fn answered(status: u16) -> Ended {
    Ended::Answered(Answer { status, retry_after: None, body: Ok(Vec::new()) })
}

fn with_key() -> Connector {
    keyed(write(), KeyPlace::Header("idempotency-key".to_owned()))
}

fn state(verdict: Verdict) -> RetryState {
    RetryState {
        attempts: 1,
        effect: verdict.effect,
        retry_after: None,
        remaining: Duration::from_secs(10),
        fraction: 0.5,
    }
}

fn is_retried(connector: &Connector, ended: &Ended) -> bool {
    let verdict = classify(connector, ended);
    next_attempt(connector, verdict, state(verdict)).is_some()
}

#[test]
fn each_status_has_its_class_and_effect() {
    use FailureClass::{Gone, InvalidResponse, Rejected, Retryable, Timeout, Unauthorized};
    for (status, class, effect) in [
        (200, None, Effect::Happened),
        (204, None, Effect::Happened),
        (302, Some(InvalidResponse), Effect::Possible),
        (101, Some(InvalidResponse), Effect::Possible),
        (400, Some(Rejected), Effect::None),
        (401, Some(Unauthorized), Effect::None),
        (403, Some(Rejected), Effect::None),
        (404, Some(Rejected), Effect::None),
        (408, Some(Timeout), Effect::Possible),
        (409, Some(Rejected), Effect::None),
        (410, Some(Gone), Effect::None),
        (429, Some(Retryable), Effect::None),
        (500, Some(Retryable), Effect::Possible),
        (503, Some(Retryable), Effect::Possible),
        (999, Some(InvalidResponse), Effect::Possible),
    ] {
        let verdict = classify(&write(), &answered(status));
        assert_eq!((verdict.class, verdict.effect), (class, effect), "{status}");
        assert_eq!(classify(&connector(), &answered(status)).effect, Effect::None, "{status}");
    }
}

#[test]
fn what_was_not_sent_had_no_effect() {
    for cause in [Cause::Connect, Cause::Timeout, Cause::Io, Cause::Forbidden] {
        let effect = |sent| classify(&write(), &Ended::Broken { cause, sent }).effect;
        assert_eq!((effect(false), effect(true)), (Effect::None, Effect::Possible), "{cause:?}");
    }
}

#[test]
fn only_what_can_do_no_harm_is_tried_again() {
    let lost = Ended::Broken { cause: Cause::Io, sent: true };
    let unsent = Ended::Broken { cause: Cause::Connect, sent: false };
    for (ended, read, plain, keyed) in [
        (answered(503), true, false, true),
        (answered(429), true, true, true),
        (answered(501), false, false, false),
        (answered(400), false, false, false),
        (answered(401), false, false, false),
        (answered(410), false, false, false),
        (answered(409), false, false, true),
        (answered(200), false, false, false),
        (lost, true, false, true),
        (unsent, true, true, true),
        (Ended::Broken { cause: Cause::Forbidden, sent: false }, false, false, false),
    ] {
        assert_eq!(is_retried(&connector(), &ended), read, "read {ended:?}");
        assert_eq!(is_retried(&write(), &ended), plain, "write {ended:?}");
        assert_eq!(is_retried(&with_key(), &ended), keyed, "write with a key {ended:?}");
    }
}

#[test]
fn a_doubt_forbids_another_attempt_even_if_the_last_answer_was_harmless() {
    let verdict = classify(&write(), &answered(429));
    let doubtful = RetryState { effect: Effect::Possible, ..state(verdict) };
    assert_eq!(next_attempt(&write(), verdict, doubtful), None);
}

#[test]
fn a_doubt_stays_until_it_is_resolved() {
    let after = |connector: &Connector, status| {
        effect_after(connector, Effect::Possible, classify(connector, &answered(status)))
    };
    assert_eq!(after(&write(), 400), Effect::Possible);
    assert_eq!(after(&write(), 200), Effect::Happened);
    assert_eq!(after(&with_key(), 400), Effect::None);
    assert_eq!(after(&with_key(), 401), Effect::Possible);
    assert_eq!(after(&with_key(), 429), Effect::Possible);
    assert_eq!(after(&with_key(), 422), Effect::Possible, "the key was used for something else");
    assert_eq!(after(&keyed(write(), KeyPlace::Natural), 404), Effect::Possible, "deleted by the first attempt, say");
}

#[test]
fn retries_end_with_the_attempts_and_with_the_budget() {
    let verdict = classify(&connector(), &answered(503));
    let base = state(verdict);
    let next = |state| next_attempt(&connector(), verdict, state);
    assert_eq!(next(base), Some(Duration::from_millis(100)));
    assert_eq!(next(RetryState { attempts: 2, ..base }), Some(Duration::from_millis(200)));
    assert_eq!(next(RetryState { attempts: 3, ..base }), None);
    assert_eq!(next(RetryState { remaining: Duration::from_millis(199), ..base }), None);
    let asked = Some(Duration::from_secs(3));
    assert_eq!(next(RetryState { retry_after: asked, ..base }), Some(Duration::from_millis(3100)));
    assert_eq!(next(RetryState { retry_after: asked, remaining: Duration::from_secs(3), ..base }), None);
}

#[test]
fn a_status_off_the_list_is_not_tried_again() {
    let mut connector = connector();
    connector.retry.on = BTreeSet::from([503]);
    assert!(is_retried(&connector, &answered(503)));
    assert!(!is_retried(&connector, &answered(500)));
    assert!(!is_retried(&connector, &answered(429)));
}

proptest! {
    #[test]
    fn a_wait_always_fits_the_budget(attempts in 1u8..=255, asked in any::<Option<u32>>(), remaining in any::<u32>(), fraction in any::<f64>()) {
        let mut connector = connector();
        connector.retry.attempts = 255;
        let verdict = classify(&connector, &answered(503));
        let remaining = Duration::from_millis(remaining.into());
        let retry_after = asked.map(|millis| Duration::from_millis(millis.into()));
        let state = RetryState { attempts, effect: Effect::None, retry_after, remaining, fraction };
        if let Some(wait) = next_attempt(&connector, verdict, state) {
            prop_assert!(wait < remaining);
            prop_assert!(wait >= retry_after.unwrap_or_default());
        }
    }

    #[test]
    fn a_write_without_a_key_is_never_sent_twice_in_doubt(status in 100u16..1000, before in prop::sample::select(vec![Effect::None, Effect::Possible])) {
        let verdict = classify(&write(), &answered(status));
        let effect = effect_after(&write(), before, verdict);
        if effect != Effect::None {
            let state = RetryState { attempts: 1, effect, retry_after: None, remaining: Duration::from_mins(1), fraction: 0.0 };
            prop_assert_eq!(next_attempt(&write(), verdict, state), None);
        }
    }
}

#[test]
fn only_the_upstreams_own_word_ends_a_doubt() {
    let after = |ended: &Ended| effect_after(&with_key(), Effect::Possible, classify(&with_key(), ended));
    for status in [400, 402, 410] {
        assert_eq!(after(&answered(status)), Effect::None, "{status}");
    }
    for status in [401, 403, 404, 413, 429, 503] {
        assert_eq!(after(&answered(status)), Effect::Possible, "{status} may come from something in front");
    }
    for cause in [Cause::Forbidden, Cause::Withheld, Cause::Connect, Cause::Timeout, Cause::Io] {
        assert_eq!(after(&Ended::Broken { cause, sent: false }), Effect::Possible, "{cause:?} says nothing of before");
    }
}
