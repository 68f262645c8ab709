//! The rules of assertions, tried from outside.

use aws_lc_rs::hmac;
use proptest::prelude::*;
use safeconduct_types::{ContactId, Provenance, Secret};
use zeroize::Zeroizing;

use super::*;
use crate::assertion::{Claims, SealError, SigningKey, Validity, sign};
use crate::contact::{Attributes, ContactKind, Identifier, Identity, Proven};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const QUARTER: Duration = Duration::from_mins(15);
const DAY: Duration = Duration::from_hours(24);
const ISSUER: &str = "safeconduct-identity";
const SUITE: &str = "safeconduct";

/// Authenticates and does not hide: enough to test what an assertion does with its seal.
#[derive(Debug)]
struct TagSeal(hmac::Key);

impl TagSeal {
    fn new(key: u8) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]))
    }

    fn tag(&self, context: &[u8], plain: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &[context, b"|", plain].concat())
    }
}

impl Seal for TagSeal {
    fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let hidden = plain.iter().map(|byte| byte ^ 0x5a).collect();
        Ok([self.tag(context, plain).as_ref().to_vec(), hidden].concat())
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (tag, hidden) = sealed.split_at_checked(32).ok_or(SealError)?;
        let plain: Vec<u8> = hidden.iter().map(|byte| byte ^ 0x5a).collect();
        (self.tag(context, &plain).as_ref() == tag).then(|| Zeroizing::new(plain)).ok_or(SealError)
    }
}

fn key(id: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(id.to_owned().try_into().unwrap(), &Secret::new(vec![seed; 32])).unwrap()
}

fn name(text: &str) -> CallerName {
    text.parse().unwrap()
}

fn claims() -> Claims {
    let ann = Identity::parse(Identifier::UserId, "usr_9f86d081884c7d65", "f").unwrap();
    Claims {
        issuer: ISSUER.to_owned(),
        audience: SUITE.to_owned(),
        presenters: vec![name("support-messenger"), name("support-agent")],
        workspace: "acme".parse().unwrap(),
        session: "ses_00112233445566778899aabbccddeeff".parse().unwrap(),
        session_start: NOW,
        epoch: 2,
        contact: Contact {
            id: ContactId::from_digest(&[5; 16]),
            kind: ContactKind::User,
            attributes: Attributes::from([ann.attribute(Provenance::SignedHash, NOW)]),
            proven: Proven::default(),
        },
        method: Method::UserHash,
        proven_by: Some("7f7e7d7c7b7a79787776757473727170".to_owned()),
        validity: Validity::new(NOW, QUARTER, NOW.after(DAY)),
    }
}

fn verifier() -> Verifier {
    let keys = SigningKey::public([&key("k1", 1), &key("k2", 2)]).unwrap();
    Verifier::new(Arc::new(keys), Arc::new(TagSeal::new(1)), ISSUER.into())
}

fn token() -> String {
    sign(&claims(), &key("k1", 1), &TagSeal::new(1)).unwrap()
}

fn verify(token: &str) -> Result<VerifiedContact, Refusal> {
    verifier().verify(token, NOW, &name("support-agent"), SUITE)
}

fn reason(token: &str) -> Reason {
    verify(token).unwrap_err().reason()
}

/// Any header and payload, signed with the right key.
fn forged(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", STRICT.encode(header), STRICT.encode(payload));
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    format!("{signed}.{}", STRICT.encode(pair.sign(signed.as_bytes()).as_ref()))
}

fn part(token: &str, index: usize) -> String {
    String::from_utf8(STRICT.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

const HEADER: &str = r#"{"alg":"EdDSA","kid":"k1","typ":"sc-assertion+jwt"}"#;

#[test]
fn what_was_signed_is_what_is_read() {
    let read = verify(&token()).unwrap();
    let said = claims();
    assert_eq!(read.contact(), &said.contact);
    assert_eq!((read.workspace(), read.session(), read.epoch()), (&said.workspace, &said.session, 2));
    assert_eq!((read.session_start(), read.method()), (NOW, Method::UserHash));
    assert_eq!(read.proven_by(), said.proven_by.as_deref());
    assert_eq!((read.expires(), read.proof_expires()), (NOW.after(QUARTER), NOW.after(DAY)));
    assert_eq!(part(&token(), 0), HEADER);
    assert_eq!(verify(&forged(HEADER, &part(&token(), 1))).unwrap(), read, "the forger of these tests can forge");
}

#[test]
fn an_assertion_is_small_and_shows_no_attribute() {
    assert!(token().len() < 1024, "{} bytes", token().len());
    assert!(!part(&token(), 1).contains("usr_9f86"));
    assert!(!part(&token(), 1).contains("7f7e7d7c"), "nor what tells a key");
}

#[test]
fn an_assertion_holds_for_its_time_and_never_past_its_proof() {
    let at = |time| verifier().verify(&token(), time, &name("support-agent"), SUITE);
    assert!(at(NOW.after(QUARTER).before(Duration::from_millis(1))).is_ok());
    assert_eq!(at(NOW.after(QUARTER)).unwrap_err().reason(), Reason::AssertionExpired);
    assert!(at(NOW.before(LEEWAY)).is_ok());
    assert_eq!(at(NOW.before(LEEWAY + Duration::from_millis(1))).unwrap_err().reason(), Reason::AssertionInvalid);

    let soon = NOW.after(Duration::from_millis(60_999));
    let short = Validity::new(NOW, QUARTER, soon);
    assert_eq!(short.expires(), NOW.after(Duration::from_mins(1)));
    assert_eq!(
        sign(&Claims { validity: Validity::new(NOW, QUARTER, NOW), ..claims() }, &key("k1", 1), &TagSeal::new(1)),
        Err(crate::assertion::SignError::Ended)
    );
}

#[test]
fn only_who_it_was_issued_for_presents_it_and_only_to_its_suite() {
    let by = |presenter: &str, suite: &str| verifier().verify(&token(), NOW, &name(presenter), suite);
    assert!(by("support-messenger", SUITE).is_ok());
    assert_eq!(by("thief", SUITE).unwrap_err().reason(), Reason::AudienceMismatch);
    assert_eq!(by("support-agent", "another").unwrap_err().reason(), Reason::AssertionInvalid);
}

#[test]
fn no_assertion_is_another_refusal_than_a_wrong_one() {
    assert_eq!(reason(""), Reason::AssertionMissing);
    for wrong in [" ", ".", "..", "...", "a.b", "a.b.c", "{}", &"a".repeat(10_000)] {
        assert_eq!(reason(wrong), Reason::AssertionInvalid, "{wrong:.10}");
    }
}

#[test]
fn keys_come_from_identity_and_from_nowhere_else() {
    let seal = TagSeal::new(1);
    assert!(verify(&sign(&claims(), &key("k2", 2), &seal).unwrap()).is_ok(), "the key before this one");
    assert!(verify(&sign(&claims(), &key("k1", 2), &seal).unwrap()).is_err(), "another key under a known name");
    let unknown = sign(&claims(), &key("k3", 1), &seal).unwrap();
    assert_eq!(reason(&unknown), Reason::AssertionInvalid);
    assert!(verifier().needs_newer_keys(&unknown));
    assert!(!verifier().needs_newer_keys(&token()));
    assert!(!verifier().needs_newer_keys("a.b.c"), "nobody makes us fetch by sending noise");
}

#[test]
fn a_header_says_three_things_and_no_more() {
    let payload = part(&token(), 1);
    let extra = [
        r#""jwk":{"kty":"OKP"}"#,
        r#""jku":"https://evil.example/keys""#,
        r#""x5u":"https://evil.example/cert""#,
        r#""x5c":["AA"]"#,
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
        r#""kid":"k1""#,
        r#""\u006bid":"k1""#,
        r#""alg":"none""#,
    ];
    for extra in extra {
        assert_eq!(
            reason(&forged(&format!("{},{extra}}}", HEADER.trim_end_matches('}')), &payload)),
            Reason::AssertionInvalid,
            "{extra}"
        );
    }
    for header in [
        HEADER.replace("EdDSA", "none"),
        HEADER.replace("EdDSA", "None"),
        HEADER.replace("EdDSA", "eddsa"),
        HEADER.replace("EdDSA", "HS256"),
        HEADER.replace("EdDSA", "Ed25519"),
        HEADER.replace("sc-assertion+jwt", "JWT"),
        HEADER.replace("sc-assertion+jwt", "application/sc-assertion+jwt"),
        HEADER.replace(r#","typ":"sc-assertion+jwt""#, ""),
        HEADER.replace(r#""kid":"k1","#, ""),
        HEADER.replace(r#""k1""#, "1"),
        r#"["EdDSA","k1","sc-assertion+jwt"]"#.to_owned(),
        format!(" {HEADER}"),
        String::new(),
    ] {
        assert_eq!(reason(&forged(&header, &payload)), Reason::AssertionInvalid, "{header}");
    }
}

#[test]
fn no_signature_and_a_signature_with_a_shared_secret_are_refused() {
    let token = token();
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(reason(&format!("{signed}.")), Reason::AssertionInvalid);
    let none = format!(
        "{}.{}.",
        STRICT.encode(r#"{"alg":"none","kid":"k1","typ":"sc-assertion+jwt"}"#),
        signed.split_once('.').unwrap().1
    );
    assert_eq!(reason(&none), Reason::AssertionInvalid);
    // The public key as an HMAC secret: the classic confusion.
    let public = aws_lc_rs::signature::KeyPair::public_key(
        &aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap(),
    )
    .as_ref()
    .to_vec();
    let confused = format!("{}.{}", STRICT.encode(HEADER.replace("EdDSA", "HS256")), signed.split_once('.').unwrap().1);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), confused.as_bytes());
    assert_eq!(reason(&format!("{confused}.{}", STRICT.encode(tag.as_ref()))), Reason::AssertionInvalid);
}

#[test]
fn claims_with_two_meanings_are_refused() {
    let payload = part(&token(), 1);
    let inner = payload.trim_end_matches('}');
    for bad in [
        format!(r#"{inner},"sub":"cnt_1"}}"#),
        format!(r#"{inner},"\u0073ub":"cnt_1"}}"#),
        format!(r#"{inner},"new":1,"new":2}}"#),
        format!(r#"{inner},"new":{{"a":1,"a":2}}}}"#),
        payload.replace(r#""sep":2"#, r#""sep":2.0"#),
        payload.replace(r#""sep":2"#, r#""sep":"2""#),
        payload.replace(r#""exp":1800000900"#, r#""exp":1800000900.5"#),
        payload.replace(r#""exp":1800000900,"#, ""),
        payload.replace(r#""exp":1800000900"#, r#""exp":9223372036854775807"#),
        payload.replace(r#""exp":1800000900"#, r#""exp":1e10"#),
        payload.replace(r#""iss":"safeconduct-identity""#, r#""iss":"somebody""#),
        payload.replace(r#""knd":"user""#, r#""knd":"admin""#),
        payload.replace(r#""aud":"safeconduct""#, r#""aud":["safeconduct","x"]"#),
        payload.replace("support-agent", "support agent"),
        payload.replace(r#""wsp":"acme""#, r#""wsp":"globex""#),
        format!("{payload}x"),
        format!("{payload}{payload}"),
    ] {
        assert_ne!(bad, payload);
        assert_eq!(reason(&forged(HEADER, &bad)), Reason::AssertionInvalid, "{bad}");
    }
    assert!(verify(&forged(HEADER, &format!(r#"{inner},"new":1}}"#))).is_ok(), "identity may be a version ahead");
}

#[test]
fn lax_encodings_of_a_good_token_are_refused() {
    let token = token();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    // 64 bytes end in a character with four unused bits.
    let last = signature.chars().last().unwrap();
    let bent = format!("{}{}", &signature[..signature.len() - 1], char::from(last as u8 + 1));
    for lax in [
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}.{payload}.{bent}"),
        format!("{header}.{payload}.{signature}\n"),
        format!(" {token}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}..{signature}"),
        format!("Bearer {token}"),
        format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#),
    ] {
        assert_eq!(reason(&lax), Reason::AssertionInvalid, "{lax}");
    }
}

#[test]
fn sealed_attributes_cannot_be_moved_or_read_with_another_key() {
    let other = Claims { session: "ses_2".parse().unwrap(), ..claims() };
    let donor = sign(&other, &key("k1", 1), &TagSeal::new(1)).unwrap();
    let att = |token: &str| {
        serde_json::from_str::<serde_json::Value>(&part(token, 1)).unwrap()["att"].as_str().unwrap().to_owned()
    };
    let moved = part(&token(), 1).replace(&att(&token()), &att(&donor));
    assert_eq!(reason(&forged(HEADER, &moved)), Reason::AssertionInvalid);
    let foreign = sign(&claims(), &key("k1", 1), &TagSeal::new(2)).unwrap();
    assert_eq!(reason(&foreign), Reason::AssertionInvalid);
}

#[test]
fn an_assertion_that_nobody_would_accept_is_not_made() {
    let seal = TagSeal::new(1);
    let nobody = Claims { presenters: vec![], ..claims() };
    assert!(sign(&nobody, &key("k1", 1), &seal).is_err());
    let crowd = Claims { presenters: vec![name("a"); MAX_PRESENTERS + 1], ..claims() };
    assert!(sign(&crowd, &key("k1", 1), &seal).is_err());
    let mut long = claims();
    let ann = Identity::parse(Identifier::UserId, &"x".repeat(256), "f").unwrap();
    for index in 0..16 {
        long.contact.attributes.insert(format!("a{index}"), ann.attribute(Provenance::SignedHash, NOW).1);
    }
    assert_eq!(sign(&long, &key("k1", 1), &seal), Err(crate::assertion::SignError::TooLong));
}

#[test]
fn neither_keys_nor_attributes_are_printed() {
    let shown = format!("{:?} {:?} {:?}", key("k1", 1), verifier(), verify(&token()).unwrap());
    assert!(!shown.contains("usr_9f86"), "{shown}");
    assert!(!shown.contains("[1, 1"), "{shown}");
}

proptest! {
    #[test]
    fn no_token_with_another_byte_verifies(at in any::<prop::sample::Index>(), to in any::<char>()) {
        let good = token();
        let mut bent: Vec<char> = good.chars().collect();
        let at = at.index(bent.len());
        prop_assume!(bent[at] != to);
        bent[at] = to;
        prop_assert!(verify(&bent.into_iter().collect::<String>()).is_err());
    }

    #[test]
    fn no_token_with_a_flipped_bit_verifies(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
        let mut bent = token().into_bytes();
        let at = at.index(bent.len());
        bent[at] ^= 1 << bit;
        let bent = String::from_utf8(bent).unwrap();
        prop_assert!(verify(&bent).is_err());
    }

    #[test]
    fn no_cut_or_grown_token_verifies(cut in any::<prop::sample::Index>(), tail in "[A-Za-z0-9_.-]{0,8}") {
        let good = token();
        let bent = format!("{}{tail}", &good[..cut.index(good.len())]);
        prop_assume!(bent != good);
        prop_assert!(verify(&bent).is_err());
        let grown = format!("{good}{tail}");
        prop_assert!(tail.is_empty() || verify(&grown).is_err());
    }

    #[test]
    fn no_signature_fits_other_claims(epoch in 0..5_u32, session in "[a-z0-9]{1,8}", contact in any::<[u8; 16]>()) {
        let other = Claims {
            epoch,
            session: format!("ses_{session}").parse().unwrap(),
            contact: Contact { id: ContactId::from_digest(&contact), ..claims().contact },
            ..claims()
        };
        let (one, two) = (token(), sign(&other, &key("k1", 1), &TagSeal::new(1)).unwrap());
        let graft = format!("{}.{}", two.rsplit_once('.').unwrap().0, one.rsplit_once('.').unwrap().1);
        prop_assert!(verify(&graft).is_err());
    }

    #[test]
    fn noise_is_refused_and_breaks_nothing(noise in ".{0,300}") {
        prop_assert!(verify(&noise).is_err());
        let _ = JwkSet::parse(&noise);
    }
}
