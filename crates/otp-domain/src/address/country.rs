//! From the first digits of a phone number to its country.
//!
//! Written from ITU-T's list of assigned country codes (annex to Operational Bulletin 1114) and the numbering plan of
//! North America, instead of a library: what is needed is the country, to hold it against an allow-list that is off by
//! default, and which numbers cost extra. The published libraries carry every country's formats and a regex engine.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A country or territory by its ISO 3166-1 code, two capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// Why a text names no country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the ISO 3166-1 code of a country with phone numbers, such as IE")]
pub struct CountryError;

impl Country {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn from_code(code: &str) -> Option<Self> {
        <[u8; 2]>::try_from(code.as_bytes()).ok().map(Self)
    }
}

impl FromStr for Country {
    type Err = CountryError;

    fn from_str(text: &str) -> Result<Self, CountryError> {
        let known = PLANS.iter().any(|(_, country)| *country == text)
            || SHARED.iter().any(|(_, country)| *country == text)
            || text == "US";
        if known { Self::from_code(text).ok_or(CountryError) } else { Err(CountryError) }
    }
}

impl TryFrom<String> for Country {
    type Error = CountryError;

    fn try_from(text: String) -> Result<Self, CountryError> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().to_owned()
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of numbers under one country code.
pub(super) struct Plan {
    pub(super) code: &'static str,
    /// How many digits follow.
    pub(super) lengths: RangeInclusive<usize>,
    /// Whether a `0` that is dialled within the country is no part of the number.
    pub(super) drops_zero: bool,
}

/// The numbering plan that these digits are in. `None`: no country has that code.
pub(super) fn plan(digits: &str) -> Option<Plan> {
    let code = if digits.starts_with('1') {
        "1"
    } else {
        let known = PLANS.iter().map(|(code, _)| *code).chain(NOWHERE.iter().copied());
        known.into_iter().find(|code| digits.starts_with(code))?
    };
    let lengths = LENGTHS.iter().find(|(of, _)| *of == code).map_or(4..=14, |(_, lengths)| lengths.clone());
    Some(Plan { code, lengths, drops_zero: DROPS_ZERO.contains(&code) })
}

pub(super) fn of(digits: &str) -> Option<Country> {
    if let Some((_, country)) = SHARED.iter().find(|(prefix, _)| digits.starts_with(prefix)) {
        return Country::from_code(country);
    }
    if digits.starts_with('1') {
        return if is_nowhere_in_north_america(digits) { None } else { Country::from_code("US") };
    }
    PLANS.iter().find(|(code, _)| digits.starts_with(code)).and_then(|(_, country)| Country::from_code(country))
}

pub(super) fn is_premium(digits: &str) -> bool {
    PREMIUM.iter().any(|prefix| digits.starts_with(prefix))
}

/// Area codes of North America that belong to no place: freephone, personal, machine and premium numbers, and those that
/// cannot be (the first digit is 2 to 9, the second no 9, `N11` is a service).
fn is_nowhere_in_north_america(digits: &str) -> bool {
    let Some(area) = digits.as_bytes().get(1..4) else { return true };
    let [first, second, third] = area else { return true };
    matches!(first, b'0' | b'1')
        || *second == b'9'
        || (*second == b'1' && *third == b'1')
        || (matches!(first, b'5' | b'6' | b'7' | b'8' | b'9') && *second == b'0' && *third == b'0')
        || (*first == b'8' && second == third)
        || (*first == b'5' && (second == third || (*second == b'2' && *third != b'0')))
        || area == b"710"
}

/// Country codes and whose they are. No code begins another.
#[rustfmt::skip]
const PLANS: &[(&str, &str)] = &[
    ("7", "RU"), ("20", "EG"), ("27", "ZA"), ("30", "GR"), ("31", "NL"), ("32", "BE"), ("33", "FR"), ("34", "ES"),
    ("36", "HU"), ("39", "IT"), ("40", "RO"), ("41", "CH"), ("43", "AT"), ("44", "GB"), ("45", "DK"), ("46", "SE"),
    ("47", "NO"), ("48", "PL"), ("49", "DE"), ("51", "PE"), ("52", "MX"), ("53", "CU"), ("54", "AR"), ("55", "BR"),
    ("56", "CL"), ("57", "CO"), ("58", "VE"), ("60", "MY"), ("61", "AU"), ("62", "ID"), ("63", "PH"), ("64", "NZ"),
    ("65", "SG"), ("66", "TH"), ("81", "JP"), ("82", "KR"), ("84", "VN"), ("86", "CN"), ("90", "TR"), ("91", "IN"),
    ("92", "PK"), ("93", "AF"), ("94", "LK"), ("95", "MM"), ("98", "IR"), ("211", "SS"), ("212", "MA"),
    ("213", "DZ"), ("216", "TN"), ("218", "LY"), ("220", "GM"), ("221", "SN"), ("222", "MR"), ("223", "ML"),
    ("224", "GN"), ("225", "CI"), ("226", "BF"), ("227", "NE"), ("228", "TG"), ("229", "BJ"), ("230", "MU"),
    ("231", "LR"), ("232", "SL"), ("233", "GH"), ("234", "NG"), ("235", "TD"), ("236", "CF"), ("237", "CM"),
    ("238", "CV"), ("239", "ST"), ("240", "GQ"), ("241", "GA"), ("242", "CG"), ("243", "CD"), ("244", "AO"),
    ("245", "GW"), ("246", "IO"), ("247", "SH"), ("248", "SC"), ("249", "SD"), ("250", "RW"), ("251", "ET"),
    ("252", "SO"), ("253", "DJ"), ("254", "KE"), ("255", "TZ"), ("256", "UG"), ("257", "BI"), ("258", "MZ"),
    ("260", "ZM"), ("261", "MG"), ("262", "RE"), ("263", "ZW"), ("264", "NA"), ("265", "MW"), ("266", "LS"),
    ("267", "BW"), ("268", "SZ"), ("269", "KM"), ("290", "SH"), ("291", "ER"), ("297", "AW"), ("298", "FO"),
    ("299", "GL"), ("350", "GI"), ("351", "PT"), ("352", "LU"), ("353", "IE"), ("354", "IS"), ("355", "AL"),
    ("356", "MT"), ("357", "CY"), ("358", "FI"), ("359", "BG"), ("370", "LT"), ("371", "LV"), ("372", "EE"),
    ("373", "MD"), ("374", "AM"), ("375", "BY"), ("376", "AD"), ("377", "MC"), ("378", "SM"), ("379", "VA"),
    ("380", "UA"), ("381", "RS"), ("382", "ME"), ("383", "XK"), ("385", "HR"), ("386", "SI"), ("387", "BA"),
    ("389", "MK"), ("420", "CZ"), ("421", "SK"), ("423", "LI"), ("500", "FK"), ("501", "BZ"), ("502", "GT"),
    ("503", "SV"), ("504", "HN"), ("505", "NI"), ("506", "CR"), ("507", "PA"), ("508", "PM"), ("509", "HT"),
    ("590", "GP"), ("591", "BO"), ("592", "GY"), ("593", "EC"), ("594", "GF"), ("595", "PY"), ("596", "MQ"),
    ("597", "SR"), ("598", "UY"), ("599", "CW"), ("670", "TL"), ("672", "NF"), ("673", "BN"), ("674", "NR"),
    ("675", "PG"), ("676", "TO"), ("677", "SB"), ("678", "VU"), ("679", "FJ"), ("680", "PW"), ("681", "WF"),
    ("682", "CK"), ("683", "NU"), ("685", "WS"), ("686", "KI"), ("687", "NC"), ("688", "TV"), ("689", "PF"),
    ("690", "TK"), ("691", "FM"), ("692", "MH"), ("850", "KP"), ("852", "HK"), ("853", "MO"), ("855", "KH"),
    ("856", "LA"), ("880", "BD"), ("886", "TW"), ("960", "MV"), ("961", "LB"), ("962", "JO"), ("963", "SY"),
    ("964", "IQ"), ("965", "KW"), ("966", "SA"), ("967", "YE"), ("968", "OM"), ("970", "PS"), ("971", "AE"),
    ("972", "IL"), ("973", "BH"), ("974", "QA"), ("975", "BT"), ("976", "MN"), ("977", "NP"), ("992", "TJ"),
    ("993", "TM"), ("994", "AZ"), ("995", "GE"), ("996", "KG"), ("998", "UZ"),
];

/// Parts of a plan that are another country's than the code says. Area codes of North America that are not the United
/// States', and parts of other plans.
#[rustfmt::skip]
const SHARED: &[(&str, &str)] = &[
    ("1204", "CA"), ("1226", "CA"), ("1236", "CA"), ("1242", "BS"), ("1246", "BB"), ("1249", "CA"), ("1250", "CA"),
    ("1257", "CA"), ("1263", "CA"), ("1264", "AI"), ("1268", "AG"), ("1284", "VG"), ("1289", "CA"), ("1306", "CA"),
    ("1340", "VI"), ("1343", "CA"), ("1345", "KY"), ("1354", "CA"), ("1365", "CA"), ("1367", "CA"), ("1368", "CA"),
    ("1382", "CA"), ("1387", "CA"), ("1403", "CA"), ("1416", "CA"), ("1418", "CA"), ("1428", "CA"), ("1431", "CA"),
    ("1437", "CA"), ("1438", "CA"), ("1441", "BM"), ("1450", "CA"), ("1460", "CA"), ("1468", "CA"), ("1473", "GD"),
    ("1474", "CA"), ("1506", "CA"), ("1514", "CA"), ("1519", "CA"), ("1548", "CA"), ("1579", "CA"), ("1581", "CA"),
    ("1584", "CA"), ("1587", "CA"), ("1604", "CA"), ("1613", "CA"), ("1639", "CA"), ("1647", "CA"), ("1649", "TC"),
    ("1658", "JM"), ("1664", "MS"), ("1670", "MP"), ("1671", "GU"), ("1672", "CA"), ("1683", "CA"), ("1684", "AS"),
    ("1705", "CA"), ("1709", "CA"), ("1721", "SX"), ("1742", "CA"), ("1753", "CA"), ("1758", "LC"), ("1767", "DM"),
    ("1778", "CA"), ("1780", "CA"), ("1782", "CA"), ("1784", "VC"), ("1787", "PR"), ("1807", "CA"), ("1809", "DO"),
    ("1819", "CA"), ("1825", "CA"), ("1829", "DO"), ("1849", "DO"), ("1867", "CA"), ("1868", "TT"), ("1869", "KN"),
    ("1873", "CA"), ("1876", "JM"), ("1879", "CA"), ("1902", "CA"), ("1905", "CA"), ("1939", "PR"), ("1942", "CA"),
    ("76", "KZ"), ("77", "KZ"), ("441481", "GG"), ("447781", "GG"), ("447839", "GG"), ("447911", "GG"),
    ("441534", "JE"), ("447509", "JE"), ("447797", "JE"), ("447829", "JE"), ("447937", "JE"), ("4477003", "JE"),
    ("441624", "IM"), ("447524", "IM"), ("447424", "IM"), ("447624", "IM"), ("447924", "IM"), ("3906698", "VA"),
    ("390549", "SM"), ("4779", "SJ"), ("6189162", "CC"), ("6189164", "CX"), ("2125288", "EH"), ("262269", "YT"),
    ("262639", "YT"), ("262709", "YT"), ("35818", "AX"), ("5997", "BQ"), ("5993", "BQ"), ("5994", "BQ"),
    ("2908", "SH"),
];

/// Codes that are assigned to services instead of countries.
const NOWHERE: &[&str] = &["800", "808", "870", "878", "881", "882", "883", "888", "979", "991"];

/// How many digits follow a code, where that is known to be narrow; elsewhere E.164's bounds hold. More digits than a
/// number has are not always refused by networks: each would be another key for the same phone.
#[rustfmt::skip]
const LENGTHS: &[(&str, RangeInclusive<usize>)] = &[
    ("1", 10..=10), ("7", 10..=10), ("27", 9..=9), ("30", 10..=10), ("31", 9..=9), ("32", 8..=9), ("33", 9..=9),
    ("34", 9..=9), ("36", 8..=9), ("39", 6..=12), ("40", 9..=9), ("41", 9..=9), ("43", 7..=13), ("44", 9..=10),
    ("45", 8..=8), ("46", 7..=10), ("47", 8..=8), ("48", 9..=9), ("49", 7..=12), ("52", 10..=10), ("55", 10..=11),
    ("61", 9..=9), ("64", 8..=10), ("65", 8..=8), ("81", 9..=10), ("82", 8..=10), ("86", 10..=11), ("90", 10..=10),
    ("91", 10..=10), ("351", 9..=9), ("353", 7..=9), ("356", 8..=8), ("357", 8..=8), ("358", 5..=12), ("370", 8..=8),
    ("371", 8..=8), ("372", 7..=8), ("420", 9..=9), ("421", 9..=9), ("852", 8..=8), ("971", 8..=9), ("972", 8..=9),
];

/// Codes whose national `0` is no part of the number, so that `+440...` and `+44...` would be two keys for one phone.
const DROPS_ZERO: &[&str] = &[
    "1", "20", "27", "31", "32", "33", "34", "40", "41", "43", "44", "46", "49", "54", "60", "61", "62", "63", "64",
    "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98", "212", "213", "233", "234", "254", "255",
    "256", "353", "355", "358", "359", "373", "374", "380", "381", "382", "383", "385", "386", "387", "389", "421",
    "880", "886", "961", "962", "963", "964", "966", "971", "972", "977",
];

/// Premium, shared-cost and personal numbers of the larger plans. `sms.blocked_prefixes` adds to them.
const PREMIUM: &[&str] = &[
    "1900", "3190", "3270", "3290", "3381", "3382", "3389", "34803", "34806", "34807", "34905", "34907", "39144",
    "39166", "39178", "39199", "3989", "4090", "4184", "4190", "43810", "43820", "43821", "43900", "43901", "43930",
    "43931", "43939", "4470", "4484", "4487", "449", "4590", "46900", "46939", "46944", "47829", "4870", "49137",
    "49180", "49190", "49900", "61190", "35315", "351601", "351607", "351761", "35860", "35870", "420900", "420906",
    "420909", "421900", "808", "979",
];

/// Every code of the plans.
#[cfg(test)]
pub(super) fn codes() -> Vec<&'static str> {
    std::iter::once("1").chain(PLANS.iter().map(|(code, _)| *code)).chain(NOWHERE.iter().copied()).collect()
}
