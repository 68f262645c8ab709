//! RFC 8725, section 3, and the draft that succeeds it (draft-ietf-oauth-rfc8725bis): a test for each practice, named by
//! it.
//!
//! What they say of encrypted tokens (JWE: `RSA1_5` in 3.2, points of ECDH-ES in 3.4, compression in 3.6; in the draft
//! the order of encryption and signature, iterations of PBES2, sizes of what is decompressed) applies to nobody who
//! takes none: that none is taken is tested. What they say to whoever makes tokens (fresh randomness for ECDSA in 3.2)
//! does not apply either: tokens are the customer's, and our assertions are `EdDSA`, which needs none; that assertions
//! and tokens are never taken for each other (3.12) is tested here one way and in `assertion::tests` the other.

use super::*;

/// RFC 8725, section 3.1: the algorithm is the key's, and a token that says another one is refused.
#[test]
fn rfc8725_3_1_the_algorithm_is_verified() {
    let (keys, sign) = pair(Algorithm::Es256);
    assert!(prove_with(&keys, &plain(), &sign(&claims(json!({})))).is_ok());
    for alg in Algorithm::ALL.iter().filter(|alg| **alg != Algorithm::Es256) {
        let signed = sign(&claims(json!({})));
        let (_, rest) = signed.split_once('.').unwrap();
        let bent = format!("{}.{rest}", part(format!(r#"{{"alg":"{}"}}"#, alg.as_str())));
        why(prove_with(&keys, &plain(), &bent));
    }
    // One secret, another hash: that key has one algorithm too.
    for (alg, other) in [(Algorithm::Hs256, "HS384"), (Algorithm::Hs384, "HS256"), (Algorithm::Hs512, "HS256")] {
        let signed = format!("{}.{}", part(format!(r#"{{"alg":"{other}"}}"#)), part(claims(json!({}))));
        let hash = if other == "HS384" { hmac::HMAC_SHA384 } else { hmac::HMAC_SHA256 };
        let made = hmac::sign(&hmac::Key::new(hash, SECRET), signed.as_bytes());
        let token = format!("{signed}.{}", part(made));
        assert!(prove_with(&KeySet::of([key(alg)]), &plain(), &token).is_err(), "{alg:?}");
    }
}

/// RFC 8725, section 3.1 (key confusion): the bytes of a public key, in whatever form, are no secret.
#[test]
fn rfc8725_3_1_a_public_key_is_never_used_as_a_secret() {
    let text = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----";
    let keys = KeySet::of([TokenKey::pem("s1", Algorithm::EdDsa, text).unwrap()]);
    for secret in [text.as_bytes(), text.trim().as_bytes()] {
        let signed = format!("{}.{}", part(HEADER), part(claims(json!({}))));
        let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        why(prove_with(&keys, &plain(), &format!("{signed}.{}", part(made))));
        assert!(TokenKey::shared("s", Algorithm::Hs256, &Secret::new(secret.to_vec())).is_err());
    }
}

/// RFC 8725, section 3.2: only algorithms that are fit for it; rfc8725bis: `none` in any letter case is not one.
#[test]
fn rfc8725_3_2_none_and_unknown_algorithms_are_refused() {
    for alg in ["none", "None", "NONE", "nOnE", "hs256", "HS1", "RS1", "RS384", "ES512", "ES256K", "dir", ""] {
        for signature in ["", "AA"] {
            let token = format!("{}.{}.{signature}", part(json!({"alg": alg}).to_string()), part(claims(json!({}))));
            assert!(Token::parse(&token).is_err(), "{alg:?} {signature:?}");
        }
    }
    for header in [r#"{"typ":"JWT"}"#, r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":"none","alg":"HS256"}"#] {
        assert!(Token::parse(&hs256(header, &claims(json!({})))).is_err(), "{header}");
    }
}

/// RFC 8725, section 3.3: what does not verify is refused whole; there is no nested operation to forget.
#[test]
fn rfc8725_3_3_every_operation_must_succeed() {
    for alg in PUBLIC {
        let (keys, sign) = pair(alg);
        let (others, _) = pair(alg);
        let token = sign(&claims(json!({})));
        assert!(prove_with(&keys, &plain(), &token).is_ok(), "{alg:?}");
        assert!(prove_with(&others, &plain(), &token).is_err(), "{alg:?}");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        for bent in [format!("{signed}."), format!("{signed}.{}", &signature[..signature.len() - 4]), signed.to_owned()]
        {
            assert!(prove_with(&keys, &plain(), &bent).is_err(), "{alg:?}");
        }
    }
    let nested = hs256(r#"{"alg":"HS256","cty":"JWT"}"#, &hs256(HEADER, &claims(json!({}))));
    assert!(why(prove(&plain(), &nested)).contains("holds another token"));
}

/// RFC 8725, section 3.4: points must lie on the curve, and a point of small order is no key.
#[test]
fn rfc8725_3_4_cryptographic_inputs_are_validated() {
    let jwk = |jwk: Value| KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes(), &Algorithm::ALL).unwrap();
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    assert_eq!(jwk(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})).1, []);
    for (x, y) in [(x, x), (y, x), ("AA", y), (x, ""), (x, "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0A")] {
        let (keys, left_out) = jwk(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}));
        assert!(keys.is_empty() && left_out.len() == 1, "{x} {y}");
    }
    for point in ["00", "01", "ec", "ed", "ee"] {
        let fill = if point.starts_with('e') { "ff" } else { "00" };
        for sign in [0, 0x80] {
            let mut bytes = hex::decode(format!("{point}{}", fill.repeat(31))).unwrap();
            bytes[31] = (bytes[31] & 0x7f) | sign;
            let (keys, _) = jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": part(bytes)}));
            assert!(keys.is_empty(), "{point}");
        }
    }
}

/// RFC 8725, section 3.5: a secret is as long as its hash (RFC 7518, section 3.2), an RSA key has 2048 bits or more.
#[test]
fn rfc8725_3_5_weak_keys_are_refused_when_they_are_loaded() {
    for (alg, least) in [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)] {
        let shared = |len| TokenKey::shared("s", alg, &Secret::new(vec![7; len]));
        assert!(shared(least).is_ok() && shared(least - 1).is_err() && shared(0).is_err(), "{alg:?}");
    }
    let good = pair_modulus();
    assert_eq!(weak::check_rsa(&good, &[1, 0, 1]), Ok(()));
    let mut even = good.clone();
    *even.last_mut().unwrap() &= 0xfe;
    for (modulus, exponent) in [
        (good[1..].to_vec(), vec![1, 0, 1]),
        (good.clone(), vec![1]),
        (good.clone(), vec![3]),
        (good.clone(), vec![0xff, 0xff]),
        (good.clone(), vec![1, 0, 2]),
        (good.clone(), vec![0, 1, 0, 1]),
        (good.clone(), vec![]),
        (even, vec![1, 0, 1]),
        ([vec![0], good.clone()].concat(), vec![1, 0, 1]),
        ([vec![1; 1024], good.clone()].concat(), vec![1, 0, 1]),
        (vec![], vec![1, 0, 1]),
    ] {
        assert!(weak::check_rsa(&modulus, &exponent).is_err(), "{} {exponent:?}", modulus.len());
    }
}

fn pair_modulus() -> Vec<u8> {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    numbers(&pair).0
}

/// RFC 8725, section 3.6: neither compression nor encryption is taken.
#[test]
fn rfc8725_3_6_compressed_and_encrypted_tokens_are_refused() {
    for member in [r#""zip":"DEF""#, r#""zip":null"#, r#""enc":"A128GCM""#, r#""enc":null"#] {
        let token = hs256(&format!(r#"{{"alg":"HS256",{member}}}"#), &claims(json!({})));
        assert!(Token::parse(&token).unwrap_err().detail().contains("compressed or encrypted"), "{member}");
    }
}

/// rfc8725bis (limit the iteration count): a token never says how much work it is. There is no password to stretch.
#[test]
fn rfc8725bis_a_token_names_no_count_of_iterations() {
    let jwe =
        |alg: &str| format!("{}.AA.AA.AA.AA", part(json!({"alg": alg, "enc": "A128GCM", "p2c": i32::MAX}).to_string()));
    for alg in ["PBES2-HS256+A128KW", "PBES2-HS384+A192KW", "PBES2-HS512+A256KW", "dir", "RSA1_5", "HS256"] {
        assert!(Token::parse(&jwe(alg)).is_err(), "{alg}");
        let three = hs256(&json!({"alg": alg, "enc": "A128GCM", "p2c": i32::MAX}).to_string(), &claims(json!({})));
        assert!(Token::parse(&three).is_err(), "{alg}");
    }
    assert!(Algorithm::from_name("PBES2-HS256+A128KW").is_none());
}

/// rfc8725bis (limit the size of what is decompressed): nothing is, and what is read is bounded before it is decoded.
#[test]
fn rfc8725bis_nothing_is_decompressed_and_the_size_is_bounded() {
    let bomb = hs256(r#"{"alg":"HS256","zip":"DEF"}"#, &claims(json!({})));
    assert!(Token::parse(&bomb).unwrap_err().detail().contains("compressed or encrypted"));
    let long = hs256(HEADER, &claims(json!({"pad": "x".repeat(MAX_LEN)})));
    assert!(Token::parse(&long).unwrap_err().detail().contains("8192"));
}

/// RFC 8725, section 3.7: UTF-8 and nothing else.
#[test]
fn rfc8725_3_7_other_encodings_than_utf8_are_refused() {
    let sign = |payload: &[u8]| {
        let signed = format!("{}.{}", part(HEADER), part(payload));
        let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
        format!("{signed}.{}", part(made))
    };
    let good = claims(json!({}));
    assert!(prove(&plain(), &sign(good.as_bytes())).is_ok());
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let with_mark = ["\u{feff}".as_bytes(), good.as_bytes()].concat();
    let latin1 = good.replace("u1", "u\u{fe}").chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>();
    for bad in [utf16, with_mark, latin1] {
        why(prove(&plain(), &sign(&bad)));
    }
}

/// RFC 8725, section 3.8: the issuer is the workspace's, and the subject is there and is a text.
#[test]
fn rfc8725_3_8_issuer_and_subject_are_validated() {
    let wants = policy(json!({"issuer": "https://auth.acme.example"}));
    assert!(prove(&wants, &hs256(HEADER, &claims(json!({"iss": "https://auth.acme.example"})))).is_ok());
    for iss in [
        json!(null),
        json!("https://auth.acme.example/"),
        json!("HTTPS://AUTH.ACME.EXAMPLE"),
        json!(["https://auth.acme.example"]),
    ] {
        assert!(why(prove(&wants, &hs256(HEADER, &claims(json!({"iss": iss}))))).contains("iss"));
    }
    for user in [json!(null), json!(""), json!(1), json!({"a": 1}), json!("a\nb"), json!("x".repeat(257))] {
        assert!(why(prove(&plain(), &hs256(HEADER, &claims(json!({"user_id": user}))))).contains("user_id"));
    }
    let by_sub = policy(json!({"subject": "sub"}));
    assert!(why(prove(&by_sub, &hs256(HEADER, &claims(json!({}))))).contains("sub"));
    let proven = prove(&by_sub, &hs256(HEADER, &claims(json!({"sub": "s-9"})))).unwrap();
    assert_eq!(proven.identity().value(), "s-9");
}

/// RFC 8725, section 3.9: the audience must be named, and a token for others is theirs.
#[test]
fn rfc8725_3_9_the_audience_is_validated() {
    let wants = policy(json!({"audience": "safeconduct"}));
    for (aud, fits) in [
        (json!("safeconduct"), true),
        (json!(["other", "safeconduct"]), true),
        (json!(null), false),
        (json!("other"), false),
        (json!([]), false),
        (json!(["safeconduct", 1]), false),
        (json!({"safeconduct": true}), false),
        (json!("safeconduct "), false),
    ] {
        let token = hs256(HEADER, &claims(json!({"aud": aud})));
        assert_eq!(prove(&wants, &token).is_ok(), fits, "{aud}");
    }
    assert!(why(prove(&plain(), &hs256(HEADER, &claims(json!({"aud": "other"}))))).contains("aud"));
}

/// RFC 8725, section 3.10: what a header says of keys is not followed, and a key's id only picks among known ones.
#[test]
fn rfc8725_3_10_received_claims_are_not_trusted() {
    let (_, sign) = pair(Algorithm::Es256);
    drop(sign);
    for member in [
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""jku":"https://evil.example/keys""#,
        r#""x5u":"https://evil.example/cert""#,
        r#""x5c":["MIIB"]"#,
        r#""jwk":null"#,
        r#""x5c":[]"#,
    ] {
        let token = hs256(&format!(r#"{{"alg":"HS256",{member}}}"#), &claims(json!({})));
        assert!(Token::parse(&token).unwrap_err().detail().contains("own key"), "{member}");
    }
    for (kid, fits) in [("s1", true), ("S1", false), ("s2", false), ("../s1", false), ("s1' OR 1=1", false)] {
        let token = hs256(&json!({"alg": "HS256", "kid": kid}).to_string(), &claims(json!({})));
        assert_eq!(prove(&plain(), &token).is_ok(), fits, "{kid}");
    }
    for kid in [json!(""), json!("a\u{0}"), json!("k".repeat(257)), json!(1), json!(null)] {
        let token = hs256(&json!({"alg": "HS256", "kid": kid}).to_string(), &claims(json!({})));
        assert!(Token::parse(&token).is_err(), "{kid}");
    }
}

/// RFC 8725, section 3.11: tokens of other kinds say so in `typ`.
#[test]
fn rfc8725_3_11_the_type_is_validated() {
    let header = |typ: &str| json!({"alg": "HS256", "typ": typ}).to_string();
    for (typ, fits) in [
        ("JWT", true),
        ("jwt", true),
        ("application/jwt", true),
        ("at+jwt", false),
        ("sc-assertion+jwt", false),
        ("secevent+jwt", false),
        ("", false),
    ] {
        assert_eq!(prove(&plain(), &hs256(&header(typ), &claims(json!({})))).is_ok(), fits, "{typ}");
    }
    assert!(prove(&plain(), &hs256(r#"{"alg":"HS256"}"#, &claims(json!({})))).is_ok());
    let explicit = policy(json!({"typ": "contact+jwt"}));
    assert!(prove(&explicit, &hs256(&header("application/Contact+JWT"), &claims(json!({})))).is_ok());
    for header in [header("JWT"), r#"{"alg":"HS256"}"#.to_owned()] {
        assert!(why(prove(&explicit, &hs256(&header, &claims(json!({}))))).contains("typ"));
    }
}

/// RFC 8725, section 3.12: an assertion of ours, signed with whatever key, is no token, whatever it claims.
#[test]
fn rfc8725_3_12_kinds_of_tokens_exclude_each_other() {
    let assertion = hs256(r#"{"alg":"HS256","kid":"s1","typ":"sc-assertion+jwt"}"#, &claims(json!({})));
    why(prove(&plain(), &assertion));
    assert!(why(prove(&policy(json!({"typ": "JWT"})), &assertion)).contains("typ"));
}

/// rfc8725bis (check the format): the compact form in its one spelling; no JSON form, no lax base64url.
#[test]
fn rfc8725bis_the_format_is_checked_before_anything_else() {
    let good = hs256(HEADER, &claims(json!({})));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    assert!(prove(&plain(), &good).is_ok());
    let json_form = json!({"protected": header, "payload": payload, "signature": signature});
    let general = json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
    for bad in [
        json_form.to_string(),
        general.to_string(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}="),
        format!("{good}=="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header} .{payload}.{signature}"),
        format!("{header}.{payload}\n.{signature}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}..{signature}"),
        good.replace('.', ""),
        String::new(),
        "..".to_owned(),
    ] {
        assert!(prove(&plain(), &bad).is_err(), "{bad}");
    }
    // The last character of 32 bytes has four bits that say nothing: only one spelling of it counts.
    let last = signature.chars().last().unwrap();
    let spellings = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in spellings.chars().filter(|other| *other != last) {
        let bent = format!("{}{other}", &good[..good.len() - 1]);
        assert!(prove(&plain(), &bent).is_err(), "{other}");
    }
}

/// RFC 7515, section 4.1.11; RFC 7797: what must be understood is not, so it is refused.
#[test]
fn critical_extensions_and_unencoded_payloads_are_refused() {
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""b64":false,"crit":["b64"]"#,
        r#""b64":false"#,
        r#""b64":true"#,
    ] {
        let token = hs256(&format!(r#"{{"alg":"HS256",{member}}}"#), &claims(json!({})));
        assert!(Token::parse(&token).unwrap_err().detail().contains("extension"), "{member}");
    }
}

/// RFC 7515, section 4; RFC 7519, section 4: a member that occurs twice has two meanings.
#[test]
fn members_that_occur_twice_are_refused() {
    for (header, claims) in [
        (r#"{"alg":"HS256","alg":"HS256"}"#.to_owned(), claims(json!({}))),
        (r#"{"alg":"HS256","x":1,"x":1}"#.to_owned(), claims(json!({}))),
        (HEADER.to_owned(), claims(json!({})).replacen('{', r#"{"user_id":"admin","#, 1)),
        (HEADER.to_owned(), claims(json!({})).replacen('{', r#"{"user\u005fid":"admin","#, 1)),
        (HEADER.to_owned(), claims(json!({})).replacen('{', r#"{"x":{"a":1,"a":2},"#, 1)),
    ] {
        assert!(prove(&plain(), &hs256(&header, &claims)).is_err(), "{header} {claims}");
    }
}

/// RFC 7517, section 4.5; "one key, one algorithm": a set of keys in which an id is two keys is no set.
#[test]
fn sets_with_two_keys_of_one_id_and_sets_with_secrets_are_refused_whole() {
    let point = |kid: &str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let parse = |keys: Value| KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), &Algorithm::ALL);
    assert!(parse(json!([point("a"), point("b")])).is_ok());
    assert!(parse(json!([point("a"), point("a")])).is_err());
    let rsa = json!({"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"});
    assert!(parse(json!([point("a"), rsa])).is_err(), "of two families");
    assert!(parse(json!([point("a"), {"kty": "oct", "kid": "b", "k": part(SECRET)}])).is_err());
    assert!(KeySet::parse(br#"{"keys":[],"keys":[]}"#, &Algorithm::ALL).is_err());
    // What no token can name is not taken, and not shown to whoever lists keys or reads the log.
    let strange = ["a\u{1b}[31m", "", &"k".repeat(257), "a\rb", "good"].map(point);
    let (kept, left_out) = parse(json!(strange)).unwrap();
    assert_eq!(kept.iter().map(TokenKey::id).collect::<Vec<_>>(), ["good"]);
    assert!(left_out.len() == 4 && left_out.iter().all(|one| one.id.starts_with("number ")), "{left_out:?}");
    let many: Vec<Value> = (0..33).map(|n| point(&n.to_string())).collect();
    assert!(parse(json!(many)).is_err());
    let padded = format!(r#"{{"keys":[],"pad":"{}"}}"#, "x".repeat(MAX_SET_LEN));
    assert!(KeySet::parse(padded.as_bytes(), &Algorithm::ALL).is_err());
}

/// RFC 7517, sections 4.2 and 4.3: keys for something else are not used for this.
#[test]
fn keys_of_another_use_or_that_are_private_are_left_out() {
    let with = |member: &str, value: Value| {
        let mut jwk =
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        jwk[member] = value;
        KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes(), &PUBLIC).unwrap()
    };
    for (member, value) in [("use", json!("sig")), ("key_ops", json!(["verify"])), ("alg", json!("EdDSA"))] {
        assert_eq!(with(member, value).1, [], "{member}");
    }
    for (member, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["sign", "verify"])),
        ("key_ops", json!([])),
        ("alg", json!("ES256")),
        ("alg", json!("HS256")),
        ("alg", json!("none")),
        ("d", json!("AAAA")),
        ("crv", json!("X25519")),
        ("kty", json!("RSA")),
    ] {
        let (keys, left_out) = with(member, value.clone());
        assert!(keys.is_empty() && left_out.len() == 1, "{member} {value}");
    }
}

/// A user hash over `header.payload` is that token's signature: each secret has one use, so it serves nothing.
#[test]
fn the_hash_of_a_user_id_that_looks_like_a_token_signs_no_token() {
    use crate::secrets::Secrets;
    use crate::user_hash::compute;

    let files = |name: &str| match name {
        "hash" => Some(Secret::new(SECRET.to_vec())),
        "token" => Some(Secret::new(SECRET.iter().rev().copied().collect())),
        _ => None,
    };
    let file = json!({"secrets": [{"id": "h", "secret": "hash", "use": "user_hash"}, {"id": "t", "secret": "token", "use": "jwt"}],
        "user_hash": {"over": "user_id"}});
    let policy: IdentityPolicy = serde_json::from_value(file).unwrap();
    let (secrets, problems) = Secrets::load(&policy, files);
    assert_eq!(problems, []);
    let chosen = format!("{}.{}", part(HEADER), part(claims(json!({"user_id": "admin"}))));
    let hash = compute(&Secret::new(SECRET.to_vec()), &chosen);
    let token = format!("{chosen}.{}", part(hex::decode(hash).unwrap()));
    why(prove_with(&secrets.tokens, policy.tokens(), &token));
    // With the secret of tokens it would be one: that is why the two must differ.
    let twin = KeySet::of([TokenKey::shared("t", Algorithm::Hs256, &Secret::new(SECRET.to_vec())).unwrap()]);
    assert!(prove_with(&twin, policy.tokens(), &token).is_ok());
    let (shared, problems) = Secrets::load(&policy, |_| files("hash"));
    assert!(shared.tokens.is_empty() && shared.hashes.is_empty() && problems.len() == 2);
}
