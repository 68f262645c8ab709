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
        "+353 085 123 4567",
        "＋３５３８５１２３４５６７",
        "+353/85/1234567",
        "+353\u{a0}85\u{2011}1234567",
    ] {
        assert_eq!(phone(text).as_deref(), Ok("+353851234567"), "{text:?}");
    }
}

#[test]
fn a_national_prefix_goes_where_it_is_no_part_of_the_number() {
    for (text, canonical) in [
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("+4402079460000", "+442079460000"),
        ("+1 (1) 202 555 0123", "+12025550123"),
        ("+7 (8) 916 123-45-67", "+79161234567"),
        ("+36 (06) 20 123 4567", "+36201234567"),
        ("+54 11 15 2345 6789", "+5491123456789"),
        // Here the zero is dialled from everywhere.
        ("+39 06 1234 5678", "+390612345678"),
        ("+39 (0)6 1234 5678", "+390612345678"),
        ("+225 01 23 45 67 89", "+2250123456789"),
    ] {
        assert_eq!(phone(text).as_deref(), Ok(canonical), "{text}");
    }
    assert!(phone("+39612345678").is_err(), "nor can it be left out");
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
        "+353851234567x1",
        "+353851234567#1",
        "tel:+353851234567",
        "+٣٥٣٨٥١٢٣٤٥٦٧",
        "+2101234567",
        "+353\u{200b}851234567",
        "++353851234567",
        "+1 200 555 0123",
        "+447700900123",
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
        ("+447797123456", Some("JE")),
        ("+447624123456", Some("IM")),
        ("+12025550123", Some("US")),
        ("+14165550123", Some("CA")),
        ("+18765550123", Some("JM")),
        ("+18095550123", Some("DO")),
        ("+79161234567", Some("RU")),
        ("+77011234567", Some("KZ")),
        ("+4915123456789", Some("DE")),
        ("+390612345678", Some("IT")),
        ("+390669812345", Some("VA")),
        ("+393123456789", Some("IT")),
        ("+358401234567", Some("FI")),
        ("+358181234567", Some("AX")),
        ("+61891621234", Some("CC")),
        ("+881612345678", None),
        ("+882161234567", None),
        ("+80012345678", None),
    ] {
        assert_eq!(country(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn only_what_can_be_a_mobile_phone_is_taken_for_one() {
    for text in [
        "+353851234567",
        "+447400123456",
        "+447781123456",
        "+33612345678",
        "+4915123456789",
        "+12025550123",
        "+393123456789",
        "+2250123456789",
    ] {
        assert!(PhoneNumber::parse(text).unwrap().is_mobile(), "{text}");
    }
    for (text, why) in [
        ("+19005550123", "premium"),
        ("+449012345678", "premium"),
        ("+33891234567", "premium"),
        ("+4918012345", "shared cost"),
        ("+447012345678", "personal"),
        ("+353700123456", "personal"),
        ("+15005550123", "personal"),
        ("+447601123456", "a pager"),
        ("+443301234567", "universal access"),
        ("+18005550123", "freephone"),
        ("+3538511234567", "voicemail"),
        ("+35315123456", "a landline, though it looked like a premium number once"),
        ("+442079460000", "a landline"),
        ("+493012345678", "a landline"),
    ] {
        assert!(!PhoneNumber::parse(text).is_ok_and(|number| number.is_mobile()), "{text}: {why}");
    }
    assert!(phone("+35315123456").is_ok() && phone("+447601123456").is_ok(), "they are numbers");
}

#[test]
fn countries_are_those_that_have_numbers() {
    for country in ["IE", "US", "CA", "GG", "FR", "XK", "AC"] {
        assert!(country.parse::<Country>().is_ok(), "{country}");
    }
    for country in ["ie", "", "XX", "IRL", "I", "001", "World", "UK"] {
        assert!(country.parse::<Country>().is_err(), "{country}");
    }
}

#[test]
fn a_number_that_no_plan_has_any_more_is_read_back_and_gets_nothing() {
    let read: PhoneNumber = serde_json::from_str(r#""+447700900123""#).unwrap();
    assert!(!read.is_mobile());
    for text in ["+44 7400123456", "447400123456", "+2101234567", "+44", "+44740012345678901"] {
        assert!(serde_json::from_value::<PhoneNumber>(serde_json::json!(text)).is_err(), "{text}");
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

/// Whatever is written for an address. A short run in every test; `make fuzz` runs longer.
mod fuzz {
    use super::*;

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
            "\\+(1|7|39|44|54|353|358|599|881)[0-9]{6,14}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1500), ..ProptestConfig::default() })]

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
}
