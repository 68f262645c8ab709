//! As much of DER (X.690) as a public key in PEM needs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{KeyProblem, Public};

/// Most characters of a key in PEM: one of 8192 bits has about 1,500.
const MAX_PEM: usize = 4096;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;

// Object identifiers as they are encoded: RFC 8017, appendix A.1; RFC 5480, section 2.1.1; RFC 8410, section 3.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const NO_KEY: KeyProblem =
    KeyProblem("it must be one public key in PEM (`-----BEGIN PUBLIC KEY-----`) of RSA, P-256, P-384 or Ed25519");

/// The key in a PEM text (RFC 7468, section 13).
pub(super) fn from_pem(text: &str) -> Result<Public, KeyProblem> {
    if text.len() > MAX_PEM {
        return Err(NO_KEY);
    }
    if text.contains("PRIVATE KEY") {
        return Err(KeyProblem(
            "it is a private key: replace it, whoever read this file knows it; write the public one",
        ));
    }
    if text.contains("CERTIFICATE") {
        return Err(KeyProblem("it is a certificate; write its public key (`openssl x509 -pubkey -noout`)"));
    }
    let body = text
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
        .ok_or(NO_KEY)?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(body).map_err(|_| NO_KEY)?;
    public_key(&der).ok_or(NO_KEY)
}

/// A `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
fn public_key(der: &[u8]) -> Option<Public> {
    let mut outer = Reader(der);
    let mut info = Reader(outer.take(SEQUENCE)?);
    let mut algorithm = Reader(info.take(SEQUENCE)?);
    let kind = algorithm.take(OBJECT_ID)?;
    let bits = info.take(BIT_STRING)?;
    // The first byte counts unused bits: a key has none.
    let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    if !outer.0.is_empty() || !info.0.is_empty() {
        return None;
    }
    match kind {
        RSA => rsa(key),
        EC => match algorithm.take(OBJECT_ID)? {
            P256 => Some(Public::P256(key.to_vec())),
            P384 => Some(Public::P384(key.to_vec())),
            _ => None,
        },
        ED25519 => Some(Public::Ed25519(key.to_vec())),
        _ => None,
    }
}

/// An `RSAPublicKey` (RFC 8017, appendix A.1.1).
pub(super) fn rsa(der: &[u8]) -> Option<Public> {
    let mut outer = Reader(der);
    let mut numbers = Reader(outer.take(SEQUENCE)?);
    let (n, e) = (numbers.natural()?, numbers.natural()?);
    (outer.0.is_empty() && numbers.0.is_empty()).then_some(Public::Rsa { n, e })
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, if it has this tag and its length is spelled as DER wants it.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81 => rest.split_first().filter(|(one, _)| **one > 0x7f).map(|(one, rest)| (usize::from(*one), rest))?,
            0x82 => {
                let (two, rest) = rest.split_first_chunk::<2>()?;
                let length = u16::from_be_bytes(*two);
                (length > 0xff).then_some((usize::from(length), rest))?
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (*found == tag).then_some(content)
    }

    /// A positive whole number, without the zero byte that keeps its sign.
    fn natural(&mut self) -> Option<Vec<u8>> {
        match self.take(INTEGER)? {
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Some(rest.to_vec()),
            number @ [1..=0x7f, ..] => Some(number.to_vec()),
            _ => None,
        }
    }
}
