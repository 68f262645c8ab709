//! Published vectors: the examples of RFC 7515, 7519 and 8037, and Project Wycheproof's sets (`tests/vectors`), which
//! hold those of RFC 7520 too.

use super::*;

const JWS: &str = include_str!("../../../../../tests/vectors/wycheproof/json_web_signature_test.json");
const JWK: &str = include_str!("../../../../../tests/vectors/wycheproof/json_web_key_test.json");
const HMAC: [(&str, hmac::Algorithm); 3] = [
    (include_str!("../../../../../tests/vectors/wycheproof/hmac_sha256_test.json"), hmac::HMAC_SHA256),
    (include_str!("../../../../../tests/vectors/wycheproof/hmac_sha384_test.json"), hmac::HMAC_SHA384),
    (include_str!("../../../../../tests/vectors/wycheproof/hmac_sha512_test.json"), hmac::HMAC_SHA512),
];

/// The payload of RFC 7515, appendix A.1 to A.3, and RFC 7519, section 3.1.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// Whether the keys verify the token, claims aside.
fn verifies(keys: &KeySet, token: &str) -> bool {
    Token::parse(token).is_ok_and(|token| keys.verify(&token).is_some())
}

/// The keys of a set in which secrets may stand, as in the vectors: each kind is loaded as it would be here.
fn load(keys: &[Value]) -> Result<KeySet, KeyProblem> {
    let is_shared = |jwk: &Value| jwk["kty"] == "oct";
    if !keys.iter().all(is_shared) {
        let keys: Vec<Value> = keys.iter().cloned().map(public_part).collect();
        return KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), &PUBLIC).map(|(keys, _)| keys);
    }
    let mut ids: Vec<&Value> = keys.iter().map(|jwk| &jwk["kid"]).collect();
    ids.dedup();
    assert!(ids.len() == keys.len() || keys.len() == 2, "ids of secrets are compared where they are configured");
    if ids.len() < keys.len() {
        return Ok(KeySet::default());
    }
    let shared = keys.iter().filter_map(|jwk| {
        let alg = Algorithm::from_name(jwk["alg"].as_str()?)?;
        let secret = Secret::new(STRICT.decode(jwk["k"].as_str()?).ok()?);
        TokenKey::shared(jwk["kid"].as_str()?, alg, &secret).ok()
    });
    Ok(KeySet::of(shared))
}

/// What its owner would publish of a pair.
fn public_part(mut jwk: Value) -> Value {
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        jwk.as_object_mut().unwrap().remove(private);
    }
    jwk
}

/// Each case with its keys: number, whether it is valid, the token, the algorithm that the key names.
fn cases(text: &str, mut each: impl FnMut(u64, bool, &str, &[Value])) {
    let file: Value = serde_json::from_str(text).unwrap();
    let mut count = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let key = group.get("public").unwrap_or(&group["private"]);
        let keys = key["keys"].as_array().cloned().unwrap_or_else(|| vec![key.clone()]);
        for case in group["tests"].as_array().unwrap() {
            count += 1;
            let token = case["jws"].as_str().map_or_else(|| case["jws"].to_string(), str::to_owned);
            each(case["tcId"].as_u64().unwrap(), case["result"] == "valid", &token, &keys);
        }
    }
    assert_eq!(file["numberOfTests"].as_u64().unwrap(), count);
}

/// Cases that contradict others of the same set, or RFC 7515: they are answered as the rest of it demands.
/// 367 and 370 are called invalid for their padding, and carry none: the same bytes are case 357, which is valid.
/// 372 and 373 are called valid with a `?` in the text, which 362, 366, 369 and 371 rightly call invalid (RFC 7515,
/// section 2: base64url without any other character).
const CONTRADICTIONS: [u64; 4] = [367, 370, 372, 373];

/// RFC 7520, section 4.2: a token of PS384. The set gives its key `alg: PS256`, and calls the token valid; here a key
/// has one algorithm, and PS384 is none of them.
const MISLABELLED: [u64; 2] = [346, 350];

#[test]
fn wycheproof_signatures() {
    let mut unsupported = 0;
    cases(JWS, |id, valid, token, keys| {
        let Ok(loaded) = load(keys) else { panic!("case {id}: a single key makes no set") };
        let answered = verifies(&loaded, token);
        let alg = keys[0]["alg"].as_str().unwrap_or_default();
        if CONTRADICTIONS.contains(&id) {
            assert_eq!(answered, !valid, "case {id} no longer contradicts the others");
        } else if MISLABELLED.contains(&id) {
            assert!(valid && alg == "PS256" && token.starts_with(&part(r#"{"alg":"PS384","#)), "case {id}");
            assert!(!answered, "case {id}");
        } else if valid && !Algorithm::ALL.iter().any(|known| known.as_str() == alg) {
            assert!(["HS1", "RS384", "RS512", "PS384", "PS512", "ES521", "ES512"].contains(&alg), "case {id}: {alg}");
            assert!(!answered && loaded.is_empty(), "case {id}: {alg} is not supported");
            unsupported += 1;
        } else {
            assert_eq!(answered, valid, "case {id}");
        }
    });
    assert_eq!(unsupported, 18, "cases of algorithms that no key can have here");
}

#[test]
fn the_contradicting_cases_really_contradict() {
    let mut tokens = std::collections::BTreeMap::new();
    cases(JWS, |id, valid, token, _| drop(tokens.insert(id, (valid, token.to_owned()))));
    for same in [367, 370] {
        assert_eq!((tokens[&same].0, &tokens[&same].1), (false, &tokens[&357].1), "case {same}");
    }
    for odd in [372, 373] {
        assert!(tokens[&odd].0 && tokens[&odd].1.contains('?'), "case {odd}");
    }
}

#[test]
fn wycheproof_keys() {
    cases(JWK, |id, valid, token, keys| {
        let answered = load(keys).is_ok_and(|keys| verifies(&keys, token));
        assert_eq!(answered, valid, "case {id}");
    });
}

#[test]
fn wycheproof_macs() {
    for (text, algorithm) in HMAC {
        let file: Value = serde_json::from_str(text).unwrap();
        let whole = algorithm.digest_algorithm().output_len() as u64 * 8;
        for group in file["testGroups"].as_array().unwrap() {
            for case in group["tests"].as_array().unwrap() {
                let bytes = |name: &str| hex::decode(case[name].as_str().unwrap()).unwrap();
                let key = hmac::Key::new(algorithm, &bytes("key"));
                let answered = hmac::verify(&key, &bytes("msg"), &bytes("tag")).is_ok();
                // A shortened code is another scheme: nothing here takes one.
                let expected = case["result"] == "valid" && group["tagSize"] == whole;
                assert_eq!(answered, expected, "{algorithm:?} case {}", case["tcId"]);
            }
        }
    }
}

#[test]
fn rfc7515_appendix_a() {
    // A.1
    let secret = STRICT
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    let shared = KeySet::of([TokenKey::shared("k", Algorithm::Hs256, &Secret::new(secret)).unwrap()]);
    let a1 = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert!(verifies(&shared, &a1));
    // It is expired, and Joe is no user.
    assert!(prove_with(&shared, &plain(), &a1).is_err());
    // A.2
    let rsa = set(&json!({"kty": "RSA", "e": "AQAB", "n": concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ",
        "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2",
        "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD",
        "TW9gb54h4FRWyuXpoQ")}));
    let a2 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{JOE}.{}",
        concat!(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU",
            "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d",
            "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig",
            "cN_IoypGlUPQGe77Rw"
        )
    );
    assert!(verifies(&rsa, &a2) && !verifies(&shared, &a2));
    // A.3
    let ec = set(&json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}));
    let a3 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{JOE}.{}",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    assert!(verifies(&ec, &a3) && !verifies(&rsa, &a3));
    // A.4 is ES512, which no key has here; A.5 is unsigned (RFC 7519, section 6.1 too).
    assert!(Token::parse(&format!("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.{}", part([7; 132]))).is_err());
    assert!(Token::parse(&format!("eyJhbGciOiJub25lIn0.{JOE}.")).is_err());
}

#[test]
fn rfc8037_appendix_a() {
    let ed = set(&json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}));
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let token = format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{signature}");
    assert!(verifies(&ed, &token));
    assert!(!verifies(&ed, &token.replace("RXhh", "RXhi")));
}
