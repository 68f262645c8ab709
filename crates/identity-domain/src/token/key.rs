//! One key, prepared: what it verifies, and that it may.

use std::fmt;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256,
};
use aws_lc_rs::{digest, hmac};
use safeconduct_types::Secret;

use super::{Algorithm, Token, der, weak};
use crate::user_hash::{MARKED, mark_of};

/// Why a key is not accepted. Operators read this; it names no bytes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyProblem(pub(super) &'static str);

/// A key of a workspace, with the one algorithm that it verifies.
#[derive(Clone)]
pub struct TokenKey {
    id: String,
    alg: Algorithm,
    mark: String,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Shared(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// The numbers of a public key, of whatever notation.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Public {
    /// Big-endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// RFC 8032, section 5.1.2.
    Ed25519(Vec<u8>),
}

const OTHER_KIND: KeyProblem = KeyProblem("it is not of the kind that its algorithm takes");

impl TokenKey {
    /// A secret that customer and workspace share. It must be as long as the hash (RFC 7518, section 3.2).
    pub fn shared(id: &str, alg: Algorithm, secret: &Secret) -> Result<Self, KeyProblem> {
        let (hash, least, short) = match alg {
            Algorithm::Hs256 => (hmac::HMAC_SHA256, 32, "a secret for HS256 must have at least 32 bytes"),
            Algorithm::Hs384 => (hmac::HMAC_SHA384, 48, "a secret for HS384 must have at least 48 bytes"),
            Algorithm::Hs512 => (hmac::HMAC_SHA512, 64, "a secret for HS512 must have at least 64 bytes"),
            Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => {
                return Err(OTHER_KIND);
            }
        };
        if secret.expose().len() < least {
            return Err(KeyProblem(short));
        }
        // A public key is known to everybody, whatever it is used as.
        if secret.expose().windows(10).any(|part| part == b"PUBLIC KEY" || part == b"CERTIFICAT") {
            return Err(KeyProblem("it is a public key or certificate, not a secret; list it under `tokens.keys`"));
        }
        let key = hmac::Key::new(hash, secret.expose());
        let mark = mark_of(hmac::sign(&key, MARKED).as_ref());
        Ok(Self { id: id.to_owned(), alg, mark, material: Material::Shared(Box::new(key)) })
    }

    /// A public key in PEM.
    pub fn pem(id: &str, alg: Algorithm, text: &str) -> Result<Self, KeyProblem> {
        Self::public(id, alg, &der::from_pem(text)?)
    }

    pub(super) fn public(id: &str, alg: Algorithm, key: &Public) -> Result<Self, KeyProblem> {
        let mark = mark_of(digest::digest(&digest::SHA256, key.bytes()).as_ref());
        Ok(Self { id: id.to_owned(), alg, mark, material: Material::Public(key.prepare(alg)?) })
    }

    /// Names it in logs and evidence, and in the tokens that name their key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What tells it from every other key, whatever their ids.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The one algorithm that it verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.alg
    }

    /// Whether the token is signed with this key. Its algorithm must be the key's, which is compared before a byte is
    /// computed.
    pub(super) fn verifies(&self, token: &Token<'_>) -> bool {
        if token.algorithm() != self.alg {
            return false;
        }
        match &self.material {
            // Constant time.
            Material::Shared(key) => hmac::verify(key, token.signed(), token.signature()).is_ok(),
            Material::Public(key) => key.verify_sig(token.signed(), token.signature()).is_ok(),
        }
    }
}

impl Public {
    /// Different for different keys of one algorithm.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Rsa { n, .. } => n,
            Self::P256(point) | Self::P384(point) | Self::Ed25519(point) => point,
        }
    }

    /// Checks the key and makes it ready to verify with.
    fn prepare(&self, alg: Algorithm) -> Result<ParsedPublicKey, KeyProblem> {
        const OFF_CURVE: KeyProblem = KeyProblem("its point is not on the curve");
        match (alg, self) {
            (Algorithm::Rs256 | Algorithm::Ps256, Self::Rsa { n, e }) => {
                weak::check_rsa(n, e)?;
                let padding =
                    if alg == Algorithm::Rs256 { &RSA_PKCS1_2048_8192_SHA256 } else { &RSA_PSS_2048_8192_SHA256 };
                let key = PublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
                key.to_parsed_public_key(padding).map_err(|_| KeyProblem("its numbers make no RSA key"))
            }
            (Algorithm::Es256, Self::P256(point)) => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| OFF_CURVE)
            }
            (Algorithm::Es384, Self::P384(point)) => {
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map_err(|_| OFF_CURVE)
            }
            (Algorithm::EdDsa, Self::Ed25519(point)) => {
                let point = <&[u8; 32]>::try_from(point.as_slice()).map_err(|_| KeyProblem("it must have 32 bytes"))?;
                weak::check_ed25519(point)?;
                ParsedPublicKey::new(&ED25519, point).map_err(|_| OFF_CURVE)
            }
            (_, Self::Rsa { .. } | Self::P256(_) | Self::P384(_) | Self::Ed25519(_)) => Err(OTHER_KIND),
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).field("alg", &self.alg).finish_non_exhaustive()
    }
}
