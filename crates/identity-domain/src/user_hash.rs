//! The user hash: the customer's backend signs a user's identifier with a secret that it shares with the workspace.

use std::fmt;

use aws_lc_rs::hmac;
use safeconduct_types::{Reason, Refusal, Secret};

use crate::contact::Identity;
use crate::workspace::SecretRef;

/// A secret of fewer bytes can be searched.
pub const MIN_SECRET: usize = 16;

/// Hexadecimal digits of a hash (HMAC-SHA256).
const HASH_DIGITS: usize = 64;

/// The hash of this identity under this secret, in lower case: what the customer's backend makes. For trying out and
/// for tests.
pub fn compute(secret: &Secret, value: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    hex::encode(hmac::sign(&key, value.as_bytes()))
}

/// What is signed with a secret to tell it by: no hash of an identity, which has no control characters.
pub(crate) const MARKED: &[u8] = b"\0safeconduct/mark-of-a-key/v1";

/// A key by its bytes, of which the mark tells nothing: one that takes another's place under the same id has another
/// mark, and one that gets another id keeps its own.
pub(crate) fn mark_of(digest: &[u8]) -> String {
    hex::encode(digest.get(..16).unwrap_or(digest))
}

/// The accepted secrets of use `user_hash` of one workspace, prepared.
#[derive(Clone, Default)]
pub struct UserHashSecrets(Vec<Prepared>);

#[derive(Clone)]
struct Prepared {
    id: String,
    primary: bool,
    mark: String,
    key: hmac::Key,
}

/// Which secret verified a hash: evidence for retiring the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    /// Its id in the workspace file.
    pub secret: &'a str,
    /// Whether it is the primary one.
    pub primary: bool,
}

impl UserHashSecrets {
    pub(crate) fn add(&mut self, entry: &SecretRef, primary: bool, secret: &Secret) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        let mark = mark_of(hmac::sign(&key, MARKED).as_ref());
        self.0.push(Prepared { id: entry.id.clone(), primary, mark, key });
    }

    /// What tells the secret of this id from every other.
    pub fn mark(&self, id: &str) -> Option<&str> {
        self.0.iter().find(|one| one.id == id).map(|one| one.mark.as_str())
    }

    /// Whether the secret of this mark is among them.
    pub fn accepts(&self, mark: &str) -> bool {
        self.0.iter().any(|one| one.mark == mark)
    }

    /// Whether no secret is accepted: nothing can be verified, and that is an operator's matter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `hash` (64 hexadecimal digits of either case) is this identity's under any accepted secret. Constant
    /// time in the hash; every secret is tried, so that the time does not tell which one is in use either.
    pub fn verify(&self, identity: &Identity, hash: &str) -> Result<Matched<'_>, Refusal> {
        let wrong = || {
            Refusal::new(
                Reason::ProofInvalid,
                "the user hash does not verify; it is the hexadecimal HMAC-SHA256 of the exact identifier under the workspace's secret",
            )
        };
        if hash.len() != HASH_DIGITS {
            return Err(wrong());
        }
        let mut tag = [0; HASH_DIGITS / 2];
        hex::decode_to_slice(hash, &mut tag).map_err(|_| wrong())?;
        let mut matched = None;
        for one in &self.0 {
            if hmac::verify(&one.key, identity.value().as_bytes(), &tag).is_ok() {
                matched = Some(Matched { secret: &one.id, primary: one.primary });
            }
        }
        matched.ok_or_else(wrong)
    }
}

impl fmt::Debug for UserHashSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|one| &one.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contact::Identifier;
    use crate::secrets::Secrets;
    use crate::workspace::IdentityPolicy;

    const OLD: &[u8] = b"an old secret of the messenger";
    const NEW: &[u8] = b"a new secret of the messenger";
    const JWT: &[u8] = b"a secret for tokens and for no hash";

    fn policy(secrets: &str) -> IdentityPolicy {
        serde_json::from_str(&format!(r#"{{"secrets":{secrets},"user_hash":{{"over":"user_id"}}}}"#)).unwrap()
    }

    const TWO: &str = r#"[{"id":"s2","secret":"new","use":"user_hash","primary":true},
        {"id":"s1","secret":"old","use":"user_hash"},{"id":"j","secret":"jwt","use":"jwt"}]"#;

    fn files(name: &str) -> Option<Secret> {
        let bytes = match name {
            "old" => OLD,
            "new" => NEW,
            "jwt" | "copy" => JWT,
            "weak" => b"fifteen bytes..",
            _ => return None,
        };
        Some(Secret::new(bytes.to_vec()))
    }

    fn user(id: &str) -> Identity {
        Identity::parse(Identifier::UserId, id, "f").unwrap()
    }

    fn hash(secret: &[u8], id: &str) -> String {
        compute(&Secret::new(secret.to_vec()), id)
    }

    fn accepted() -> UserHashSecrets {
        let (secrets, problems) = Secrets::load(&policy(TWO), files);
        assert_eq!(problems, []);
        secrets.hashes
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hash(b"Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn any_accepted_secret_verifies_in_either_case() {
        let secrets = accepted();
        let matched = secrets.verify(&user("u1"), &hash(NEW, "u1")).unwrap();
        assert_eq!(matched, Matched { secret: "s2", primary: true });
        let matched = secrets.verify(&user("u1"), &hash(OLD, "u1").to_uppercase()).unwrap();
        assert_eq!(matched, Matched { secret: "s1", primary: false });
    }

    #[test]
    fn a_token_secret_verifies_no_hash() {
        // The hash of `header.payload` is that token's HS256 signature: one secret must not do both.
        let id = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoidTEifQ";
        let refused = accepted().verify(&user(id), &hash(JWT, id)).unwrap_err();
        assert_eq!(refused.reason(), Reason::ProofInvalid);
    }

    #[test]
    fn an_identity_is_its_bytes() {
        let secrets = accepted();
        for other in ["U1", "u1 ", " u1", "u\u{ff11}", "u1\u{200b}"] {
            assert!(secrets.verify(&user(other), &hash(NEW, "u1")).is_err(), "{other:?}");
        }
    }

    #[test]
    fn weak_missing_and_shared_secrets_are_left_out_and_named() {
        let (secrets, problems) = Secrets::load(
            &policy(
                r#"[{"id":"a","secret":"weak","use":"user_hash","primary":true},{"id":"b","secret":"gone","use":"user_hash"},
                {"id":"c","secret":"copy","use":"user_hash"},{"id":"d","secret":"jwt","use":"jwt"},{"id":"e","secret":"old","use":"user_hash"}]"#,
            ),
            files,
        );
        let ids: Vec<_> = secrets.hashes.0.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["e"]);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(secrets.tokens.is_empty() && secrets.hashes.verify(&user("u1"), &hash(JWT, "u1")).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!("{:?}", accepted());
        assert_eq!(shown, r#"["s2", "s1"]"#);
    }

    proptest! {
        #[test]
        fn no_other_text_than_the_hash_verifies(index in 0..64_usize, other in any::<char>()) {
            let good = hash(NEW, "u1");
            let mut bent: Vec<char> = good.chars().collect();
            prop_assume!(bent[index] != other.to_ascii_lowercase());
            bent[index] = other;
            let bent: String = bent.into_iter().collect();
            prop_assert!(accepted().verify(&user("u1"), &bent).is_err());
        }

        #[test]
        fn no_text_of_another_length_verifies(text in ".{0,200}") {
            prop_assert!(accepted().verify(&user("u1"), &text).is_err());
        }
    }
}
