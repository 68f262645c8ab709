use proptest::prelude::*;

use super::*;

fn email(text: &str) -> Result<String, AddressError> {
    EmailAddress::parse(text, PlusTags::Keep).map(|one| one.as_str().to_owned())
}

fn phone(text: &str) -> Result<String, AddressError> {
    PhoneNumber::parse(text).map(|one| one.as_str().to_owned())
}

#[test]
fn ways_to_write_one_mailbox_are_one_key() {
    for text in [
        "ann@example.com",
        "  Ann@Example.COM\t",
        "ＡＮＮ＠ｅｘａｍｐｌｅ．ｃｏｍ",
        "ann@example。com",
        "\u{a0}ann@EXAMPLE.com\u{3000}",
    ] {
        assert_eq!(email(text).as_deref(), Ok("ann@example.com"), "{text:?}");
    }
    for text in ["x@Bücher.example", "x@bu\u{308}cher.example", "x@xn--bcher-kva.example", "X@XN--BCHER-KVA.example"] {
        assert_eq!(email(text).as_deref(), Ok("x@xn--bcher-kva.example"), "{text:?}");
    }
    assert_eq!(email("x@faß.de").as_deref(), Ok("x@xn--fa-hia.de"), "not another domain (non-transitional)");
}

#[test]
fn a_tag_is_another_mailbox_or_not_as_the_workspace_says() {
    let stripped = |text| EmailAddress::parse(text, PlusTags::Strip).map(|one| one.as_str().to_owned());
    assert_eq!(email("ann+shop@example.com").as_deref(), Ok("ann+shop@example.com"));
    assert_eq!(stripped("Ann+Shop+2@example.com").as_deref(), Ok("ann@example.com"));
    assert!(stripped("+shop@example.com").is_err(), "nothing is left");
}

#[test]
fn what_is_no_mailbox_is_refused() {
    let long_local = format!("{}@example.com", "a".repeat(65));
    let long = format!("a@{}.com", vec!["b".repeat(60); 5].join("."));
    for text in [
        "",
        " ",
        "ann",
        "@example.com",
        "ann@",
        "ann@example",
        "ann@@example.com",
        "a@b@example.com",
        ".ann@example.com",
        "ann.@example.com",
        "a..n@example.com",
        "\"ann\"@example.com",
        "ann@[127.0.0.1]",
        "ann@127.0.0.1",
        "ann@example.com.",
        "an n@example.com",
        "ann@exam ple.com",
        "ann@-example.com",
        "ann@exa_mple.com",
        "ann@example..com",
        "änn@example.com",
        "ann<x@example.com>",
        "ann@example.com\nbcc: eve@example.com",
        "ann\r@example.com",
        "ann(c)@example.com",
        "a\u{200b}nn@example.com",
        "ann@exam\u{200b}ple.com",
        "ann@exam\u{ad}ple.com",
        "ann@\u{202e}moc.elpmaxe",
        "\u{feff}ann@example.com",
        "ann@xn--a.example",
        "ann@example.com\0",
        "ann,eve@example.com",
        "ann;eve@example.com",
        &long_local,
        &long,
    ] {
        assert!(email(text).is_err(), "{text:?} became {:?}", email(text));
    }
    assert!(email(&format!("{}@example.com", "a".repeat(64))).is_ok());
}

#[test]
fn ways_to_write_one_phone_are_one_key() {
    for text in [
        "+353851234567",
        "+353 85 123 4567",
        " +353-85-123.45.67 ",
        "+353 (0)85 123 4567",
        "＋３５３８５１２３４５６７",
        "+353/85/1234567",
        "+353\u{a0}85\u{2011}1234567",
    ] {
        assert_eq!(phone(text).as_deref(), Ok("+353851234567"), "{text:?}");
    }
}

#[test]
fn what_is_no_phone_is_refused() {
    for text in [
        "",
        "+",
        "353851234567",
        "00353851234567",
        "+3538512345a7",
        "+353085123456",
        "+440207946000",
        "+12025550123456",
        "+1234567890123456",
        "+353851",
        "+0851234567",
        "+353851234567;ext=1",
        "+353851234567,1",
        "+٣٥٣٨٥١٢٣٤٥٦٧",
        "+2101234567",
        "+353\u{200b}851234567",
        "++353851234567",
    ] {
        assert!(phone(text).is_err(), "{text:?} became {:?}", phone(text));
    }
}

#[test]
fn a_phone_is_in_the_country_of_its_plan_and_not_of_its_code() {
    let country = |text: &str| PhoneNumber::parse(text).unwrap().country().map(|one| one.to_string());
    for (text, expected) in [
        ("+353851234567", Some("IE")),
        ("+447400123456", Some("GB")),
        ("+447781123456", Some("GG")),
        ("+12025550123", Some("US")),
        ("+14165550123", Some("CA")),
        ("+18765550123", Some("JM")),
        ("+79161234567", Some("RU")),
        ("+77011234567", Some("KZ")),
        ("+4915123456789", Some("DE")),
        ("+390612345678", Some("IT")),
        ("+390669812345", Some("VA")),
        ("+358401234567", Some("FI")),
        ("+19005550123", None),
        ("+18005550123", None),
        ("+18885550123", None),
        ("+15005550123", None),
        ("+17105550123", None),
        ("+881612345678", None),
        ("+882161234567", None),
        ("+97912345678", None),
    ] {
        assert_eq!(country(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn numbers_that_cost_extra_are_known() {
    for text in ["+19005550123", "+449012345678", "+447012345678", "+4990012345678", "+33891234567", "+34803123456"] {
        assert!(PhoneNumber::parse(text).unwrap().is_premium(), "{text}");
    }
    for text in ["+353851234567", "+447400123456", "+493012345678", "+33612345678", "+12025550123"] {
        assert!(!PhoneNumber::parse(text).unwrap().is_premium(), "{text}");
    }
}

#[test]
fn no_country_code_begins_another() {
    for country in ["IE", "US", "CA", "GG", "FR"] {
        assert!(country.parse::<Country>().is_ok(), "{country}");
    }
    for country in ["ie", "", "XX", "IRL", "I"] {
        assert!(country.parse::<Country>().is_err(), "{country}");
    }
    let codes = country::codes();
    for (index, one) in codes.iter().enumerate() {
        assert!(codes.iter().skip(index + 1).all(|other| !other.starts_with(one) && !one.starts_with(other)), "{one}");
    }
}

#[test]
fn a_mask_shows_little_and_never_the_length() {
    let masked = |channel, text| Address::parse(channel, text, PlusTags::Keep).unwrap().masked();
    assert_eq!(masked(Channel::Email, "ann.smith@mail.example.com"), "a***@m***.com");
    assert_eq!(masked(Channel::Email, "a@b.co"), "a***@b***.co");
    assert_eq!(masked(Channel::Sms, "+353851234567"), "+353***67");
}

#[test]
fn an_address_is_not_printed() {
    let email = Address::parse(Channel::Email, "ann@example.com", PlusTags::Keep).unwrap();
    let phone = Address::parse(Channel::Sms, "+353851234567", PlusTags::Keep).unwrap();
    let shown = format!("{email:?} {phone:?} {:?}", EmailAddress::parse("ann@example.com", PlusTags::Keep));
    assert!(!shown.contains("ann") && !shown.contains("353"), "{shown}");
}

#[test]
fn only_what_is_canonical_is_read_back() {
    assert!(serde_json::from_str::<Address>(r#"{"email":"ann@example.com"}"#).is_ok());
    assert!(serde_json::from_str::<Address>(r#"{"email":"Ann@example.com"}"#).is_err());
    assert!(serde_json::from_str::<Address>(r#"{"sms":"+353 851234567"}"#).is_err());
}

/// Text in which what matters to addresses is frequent.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["@", ".", "+", "-", "a", "Z", "ß", "xn--", "example.com", "0", "7", "353", "(0)", " "]),
        1 => prop::sample::select(vec!["＠", "．", "。", "\u{200b}", "\u{ad}", "\u{202e}", "ü", "u\u{308}", "ﬀ", "K", "İ", "\0"]),
    ];
    prop_oneof![
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat()),
        any::<String>(),
        "[a-zA-Z0-9.+]{1,12}@[a-zA-Zäöüß0-9-]{1,12}\\.[a-z]{2,4}",
        "\\+[0-9 ().-]{6,18}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn normalising_never_panics_and_twice_is_once(text in text(), strip in any::<bool>()) {
        let tags = if strip { PlusTags::Strip } else { PlusTags::Keep };
        for channel in [Channel::Email, Channel::Sms] {
            if let Ok(once) = Address::parse(channel, &text, tags) {
                let twice = Address::parse(channel, once.as_str(), tags);
                prop_assert_eq!(twice, Ok(once.clone()));
                prop_assert!(once.as_str().is_ascii() && once.as_str().len() <= MAX_EMAIL);
                prop_assert!(!once.as_str().bytes().any(|c| c.is_ascii_control() || c == b' ' || c.is_ascii_uppercase()));
                let read: Address = serde_json::from_str(&serde_json::to_string(&once).unwrap()).unwrap();
                prop_assert_eq!(read, once);
            }
        }
    }

    #[test]
    fn case_is_no_other_key(text in "[a-zA-Z0-9.+]{1,12}@[a-zA-Z0-9]{1,12}\\.[a-zA-Z]{2,4}") {
        prop_assert_eq!(email(&text), email(&text.to_uppercase()));
    }
}
