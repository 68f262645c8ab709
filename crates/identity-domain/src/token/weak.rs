//! Keys that somebody other than their owner can sign with.
//!
//! What can be told from a public key alone is checked: its size, its exponent, small factors, the fingerprint of
//! ROCA (CVE-2017-15361), Ed25519 points of small order. What cannot is not: keys from Debian's broken generator
//! (CVE-2008-0166) are found only by a list of all of them, and a pair of keys that share a prime only by comparing
//! with everybody else's.

use super::key::KeyProblem;

/// The primes that the published fingerprint of ROCA looks at (Nemec et al., "The Return of Coppersmith's Attack",
/// 2017, section 2): the primorial of the smallest keys concerned divides that of all larger ones.
const PRIMES: [u32; 39] = [
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// The exponent of nearly all keys; what is smaller has no use, and helps against lax padding checks elsewhere
/// (FIPS 186-5, section 5.4: more than 2^16).
const LEAST_EXPONENT: [u8; 3] = [1, 0, 1];

/// Least and most bits of a modulus (RFC 7518, section 3.3: 2048 or more; past 8192 each check costs too much).
const LEAST_BITS: usize = 2048;
const MOST_BITS: usize = 8192;

/// Whether an RSA key of these numbers, big-endian without leading zeros, may verify anything.
pub(super) fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), KeyProblem> {
    let (Some(top), Some(last)) = (modulus.first(), modulus.last()) else {
        return Err(KeyProblem("its modulus is empty"));
    };
    if *top == 0 || exponent.first().is_none_or(|first| *first == 0) {
        return Err(KeyProblem("its numbers must not start with zero bytes (RFC 7518, section 6.3.1)"));
    }
    let bits = modulus.len().saturating_mul(8).saturating_sub(top.leading_zeros() as usize);
    if bits < LEAST_BITS {
        return Err(KeyProblem("an RSA key must have at least 2048 bits"));
    }
    if bits > MOST_BITS {
        return Err(KeyProblem("an RSA key must have at most 8192 bits"));
    }
    // Big-endian without leading zeros: the longer number is the larger one.
    if (exponent.len(), exponent) < (LEAST_EXPONENT.len(), LEAST_EXPONENT.as_slice()) {
        return Err(KeyProblem("its exponent must be 65537 or more"));
    }
    if exponent.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyProblem("its exponent is even"));
    }
    if last % 2 == 0 || PRIMES.iter().any(|prime| remainder(modulus, *prime) == 0) {
        return Err(KeyProblem("its modulus has a small factor: this is no RSA key"));
    }
    if has_roca_fingerprint(modulus) {
        return Err(KeyProblem(
            "it was made by a generator whose keys can be factored (ROCA, CVE-2017-15361); replace it",
        ));
    }
    Ok(())
}

/// A key of the flawed generator is a power of 65537 modulo each of the primes; of others one in 2^150 is.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let wanted = remainder(modulus, *prime);
        let mut power = 1;
        loop {
            if power == wanted {
                return true;
            }
            power = power * (65_537 % prime) % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    number.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

/// The points of small order on edwards25519, and their spellings that are not canonical; the sign bit is left out.
/// Under such a key signatures can be made without a private one.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Whether an Ed25519 key may verify anything.
pub(super) fn check_ed25519(point: &[u8; 32]) -> Result<(), KeyProblem> {
    let mut unsigned = *point;
    if let Some(last) = unsigned.last_mut() {
        *last &= 0x7f;
    }
    let text = hex::encode(unsigned);
    if SMALL_ORDER.contains(&text.as_str()) {
        return Err(KeyProblem("it is a point of small order: anybody could sign with it"));
    }
    Ok(())
}
