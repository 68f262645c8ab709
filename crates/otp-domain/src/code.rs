//! Codes: derived, never kept.
//!
//! A code is a function of a server key and of what the challenge is bound to, so a store, a queue or a dump holds
//! none, and sending again sends the same. Who has no key learns nothing of a code from other codes (HMAC-SHA256 as a
//! pseudo-random function), and every code is equally likely: characters are drawn by rejection, never by a remainder.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hmac;
use safeconduct_types::Secret;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::challenge::{Binding, VerificationId};

/// What a code is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// `0` to `9`.
    #[default]
    Digits,
    /// Twenty capital letters: no vowels, so that no words come about, and no `Y` (RFC 8628, section 6.1).
    Letters,
}

impl Alphabet {
    const fn characters(self) -> &'static [u8] {
        match self {
            Self::Digits => b"0123456789",
            Self::Letters => b"BCDFGHJKLMNPQRSTVWXZ",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Letters => "letters",
        }
    }
}

/// The form of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeForm {
    /// What it is made of.
    pub alphabet: Alphabet,
    /// How many characters, 6 to 10.
    pub length: u8,
}

impl CodeForm {
    /// Ten letters: 20^10, about 10^13 codes. What an address gets whose guesses are used up.
    pub const STRONG: Self = Self { alphabet: Alphabet::Letters, length: 10 };

    /// How many codes there are.
    pub fn space(self) -> u64 {
        (self.alphabet.characters().len() as u64).saturating_pow(self.length.into())
    }

    /// Whether the guesses of an address over all challenges must be counted: whether so many guesses as anybody can
    /// make could find one. All forms are weak but the ten letters.
    pub fn is_guessable(self) -> bool {
        self.space() < Self::STRONG.space()
    }
}

/// A one-time code. Never printed, never stored; wiped when dropped.
#[derive(Clone)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// The characters, to be put into a message.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether somebody typed this code, in constant time but for the length, which is no secret.
    pub fn is(&self, guess: &Guess) -> bool {
        self.0.as_bytes().ct_eq(guess.0.as_bytes()).into()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code([redacted])")
    }
}

/// What somebody typed for a code. Never printed; wiped when dropped.
#[derive(Clone)]
pub struct Guess(Zeroizing<String>);

/// Most characters of a guess, separators included.
pub const MAX_GUESS: usize = 32;

/// Why a text cannot be a code. It is no guess, and is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the code as it was sent: digits or letters, at most 32 characters")]
pub struct NoCode;

impl Guess {
    /// Takes what was typed: compatible forms are folded (full-width digits are digits), blanks and hyphens go, letters
    /// become capital ones.
    pub fn parse(text: &str) -> Result<Self, NoCode> {
        if text.chars().nth(MAX_GUESS).is_some() {
            return Err(NoCode);
        }
        let mut typed = Zeroizing::new(String::with_capacity(4 * MAX_GUESS));
        for c in text.nfkc() {
            if c.is_ascii_alphanumeric() {
                typed.push(c.to_ascii_uppercase());
            } else if !(c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')) {
                return Err(NoCode);
            }
        }
        if typed.is_empty() || typed.len() > MAX_GUESS { Err(NoCode) } else { Ok(Self(typed)) }
    }

    /// What was typed, as it is compared.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guess([redacted])")
    }
}

/// One key that codes are derived with (purpose `code-derivation`).
#[derive(Clone)]
pub struct CodeKey(hmac::Key);

impl CodeKey {
    /// The key of these bytes; 32 random ones are right.
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// The code of this challenge.
    pub fn derive(&self, id: &VerificationId, binding: &Binding, form: CodeForm) -> Code {
        let characters = form.alphabet.characters();
        // The largest multiple of the alphabet's size that a byte can hold: what lies above is drawn again.
        let fair = 256 - 256 % characters.len();
        let wanted = usize::from(form.length);
        let mut code = Zeroizing::new(String::with_capacity(wanted));
        let mut block = 0_u64;
        while code.len() < wanted {
            let tag = self.block(id, binding, form, block);
            let drawn = tag.as_ref().iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
            for byte in drawn.take(wanted - code.len()) {
                code.extend(characters.get(byte % characters.len()).map(|c| char::from(*c)));
            }
            block += 1;
        }
        Code(code)
    }

    fn block(&self, id: &VerificationId, binding: &Binding, form: CodeForm, block: u64) -> hmac::Tag {
        let id = id.to_string();
        let parts: [&[u8]; 9] = [
            b"safeconduct/otp-code/v1",
            id.as_bytes(),
            binding.workspace.as_str().as_bytes(),
            binding.session.as_str().as_bytes(),
            binding.address.channel().as_str().as_bytes(),
            binding.address.as_str().as_bytes(),
            binding.purpose.as_bytes(),
            form.alphabet.as_str().as_bytes(),
            &[form.length],
        ];
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            // Length first: no two lists of parts read the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(&block.to_be_bytes());
        context.sign()
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey([redacted])")
    }
}

/// The keys of codes by their ids: one that new challenges use, and those whose challenges may still be open.
#[derive(Clone, Debug)]
pub struct CodeKeys {
    primary: String,
    all: BTreeMap<String, CodeKey>,
}

impl CodeKeys {
    /// New challenges use `primary`; the others verify until their challenges have expired.
    pub fn new(primary: (String, CodeKey), others: impl IntoIterator<Item = (String, CodeKey)>) -> Self {
        let mut all: BTreeMap<_, _> = others.into_iter().collect();
        let id = primary.0.clone();
        all.insert(primary.0, primary.1);
        Self { primary: id, all }
    }

    /// The id of the key for new challenges.
    pub fn primary(&self) -> &str {
        &self.primary
    }

    /// The key of this id. `None`: it was retired, and its challenges with it.
    pub fn get(&self, id: &str) -> Option<&CodeKey> {
        self.all.get(id)
    }
}

#[cfg(test)]
mod tests;
