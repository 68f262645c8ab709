use std::collections::BTreeMap;

use proptest::prelude::*;
use safeconduct_types::SeededRandom;

use super::*;
use crate::address::{Address, Channel, PlusTags};

const SIX: CodeForm = CodeForm { alphabet: Alphabet::Digits, length: 6 };

fn key(byte: u8) -> CodeKey {
    CodeKey::new(&Secret::new(vec![byte; 32]))
}

fn id(seed: u64) -> VerificationId {
    VerificationId::generate([0; 8], &SeededRandom::new(seed))
}

fn binding() -> Binding {
    Binding {
        workspace: "acme".parse().unwrap(),
        session: format!("ses_{}", "0".repeat(32)).parse().unwrap(),
        address: Address::parse(Channel::Email, "ann@example.com", PlusTags::Keep).unwrap(),
        purpose: "look-up-order".to_owned(),
    }
}

fn guess(text: &str) -> Guess {
    Guess::parse(text).unwrap()
}

#[test]
fn the_same_challenge_has_the_same_code_and_every_part_of_the_binding_makes_another() {
    let long = CodeForm { length: 10, ..SIX };
    let code = |id: u64, binding: &Binding, form| key(7).derive(&self::id(id), binding, form).expose().to_owned();
    let first = code(1, &binding(), long);
    assert_eq!(first, code(1, &binding(), long));
    assert_eq!(first.len(), 10);
    let other = |change: &dyn Fn(&mut Binding)| {
        let mut other = binding();
        change(&mut other);
        code(1, &other, long)
    };
    let others = [
        code(2, &binding(), long),
        code(1, &binding(), SIX),
        key(8).derive(&id(1), &binding(), long).expose().to_owned(),
        other(&|one| one.workspace = "globex".parse().unwrap()),
        other(&|one| one.session = format!("ses_{}", "1".repeat(32)).parse().unwrap()),
        other(&|one| one.address = Address::parse(Channel::Email, "eve@example.com", PlusTags::Keep).unwrap()),
        other(&|one| one.address = Address::parse(Channel::Sms, "+353851234567", PlusTags::Keep).unwrap()),
        other(&|one| one.purpose = "refund".to_owned()),
    ];
    for other in others {
        assert!(!other.starts_with(&first) && !first.starts_with(&other));
    }
}

#[test]
fn a_known_code_stays_what_it_is() {
    // Codes that are under way must verify after an upgrade of the process.
    let codes = [SIX, CodeForm::STRONG].map(|form| key(7).derive(&id(1), &binding(), form).expose().to_owned());
    assert_eq!(codes, KNOWN);
}

const KNOWN: [&str; 2] = ["884172", "WMMNNRTVMC"];

/// Pearson's statistic over `counts` that should all be equal.
fn chi_squared(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / f64::from(u32::try_from(counts.len()).unwrap());
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn every_character_is_equally_likely_at_every_place() {
    for (form, limit) in [(SIX, 40.0), (CodeForm::STRONG, 60.0)] {
        let mut counts: BTreeMap<(usize, char), u32> = BTreeMap::new();
        for seed in 0..8_000 {
            let code = key(7).derive(&id(seed), &binding(), form);
            for (place, c) in code.expose().chars().enumerate() {
                *counts.entry((place, c)).or_default() += 1;
            }
        }
        for place in 0..usize::from(form.length) {
            let seen: Vec<u32> = counts.iter().filter(|((at, _), _)| *at == place).map(|(_, count)| *count).collect();
            assert_eq!(seen.len(), form.alphabet.characters().len());
            // 9 and 19 degrees of freedom: a fair source exceeds these limits once in 100,000 draws. A remainder of a
            // byte by 10 would come to more than they allow for the digits from 6 on.
            assert!(chi_squared(&seen) < limit, "place {place}: {}", chi_squared(&seen));
        }
    }
}

#[test]
fn neighbouring_characters_say_nothing_of_each_other() {
    let mut pairs = vec![0; 100];
    for seed in 0..10_000 {
        let code = key(3).derive(&id(seed), &binding(), SIX);
        let pair: usize = code.expose()[2..4].parse().unwrap();
        pairs[pair] += 1;
    }
    // 99 degrees of freedom.
    assert!(chi_squared(&pairs) < 170.0, "{}", chi_squared(&pairs));
}

#[test]
fn blanks_hyphens_case_and_width_do_not_matter() {
    let code = key(7).derive(&id(1), &binding(), CodeForm::STRONG);
    let (a, b) = code.expose().split_at(5);
    assert!(code.is(&guess(&format!(" {a}-{b}\n"))));
    assert!(code.is(&guess(&code.expose().to_lowercase())));
    assert!(code.is(&guess(&format!("{a}\u{2011}\u{a0}{b}"))));
    let wide: String = code.expose().chars().map(|c| char::from_u32(c as u32 + 0xfee0).unwrap()).collect();
    assert!(code.is(&guess(&wide)));
    for wrong in [a, &code.expose()[1..], &format!("{}B", code.expose())] {
        assert!(!code.is(&guess(wrong)));
    }
}

#[test]
fn what_cannot_be_a_code_is_no_guess() {
    let (longest, longer) = ("1".repeat(32), "1".repeat(33));
    for text in ["", " ", "--", "12345!", "1234\u{200b}56", "12٣456", "12.456", &longer] {
        assert!(Guess::parse(text).is_err(), "{text:?}");
    }
    assert!(Guess::parse(&longest).is_ok());
    // A ligature is three letters, so a short text may be a long one.
    assert!(Guess::parse(&"ﬃ".repeat(32)).is_err());
}

#[test]
fn codes_and_guesses_are_not_printed() {
    let code = key(7).derive(&id(1), &binding(), SIX);
    let shown = format!("{code:?} {:?} {:?} {:?}", guess(code.expose()), key(7), binding());
    assert!(!shown.contains(code.expose()) && !shown.contains("ann"), "{shown}");
}

#[test]
fn ten_letters_need_no_counting_and_everything_else_does() {
    assert!(!CodeForm::STRONG.is_guessable());
    assert_eq!(CodeForm::STRONG.space(), 10_240_000_000_000);
    for (alphabet, length) in [(Alphabet::Digits, 6), (Alphabet::Digits, 10), (Alphabet::Letters, 9)] {
        assert!(CodeForm { alphabet, length }.is_guessable());
    }
}

#[test]
fn an_old_key_verifies_until_it_is_retired() {
    let both = CodeKeys::new(("new".to_owned(), key(2)), [("old".to_owned(), key(1))]);
    assert_eq!(both.primary(), "new");
    assert!(both.get("old").is_some() && both.get("new").is_some());
    assert!(CodeKeys::new(("new".to_owned(), key(2)), []).get("old").is_none());
}

/// Whatever is typed for a code: no panic, and nothing is one that is not the code. A short run in every test;
/// `make fuzz` runs longer.
mod fuzz {
    use super::*;

    proptest! {
        #[test]
        fn reading_a_guess_never_panics_and_twice_is_once(text in any::<String>()) {
            if let Ok(once) = Guess::parse(&text) {
                prop_assert!(once.expose().bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()));
                let twice = Guess::parse(once.expose()).unwrap();
                prop_assert_eq!(twice.expose(), once.expose());
            }
        }

        #[test]
        fn no_bent_code_is_the_code(letters: bool, place: usize, how in 0..4_u8, with in "[0-9A-Za-z -]|\\PC") {
            let form = if letters { CodeForm::STRONG } else { CodeForm { alphabet: Alphabet::Digits, length: 6 } };
            let code = key(1).derive(&id(1), &binding(), form);
            let mut bent: Vec<char> = code.expose().chars().collect();
            let (place, with) = (place % bent.len(), with.chars().next().unwrap());
            match how {
                0 => bent.insert(place, with),
                1 => drop(bent.remove(place)),
                2 => bent[place] = with,
                _ => bent.rotate_left(place),
            }
            let bent: String = bent.into_iter().collect();
            prop_assert!(code.is(&guess(code.expose())));
            if let Ok(typed) = Guess::parse(&bent) {
                prop_assert_eq!(code.is(&typed), typed.expose() == code.expose(), "{}", bent);
            }
        }
    }
}
