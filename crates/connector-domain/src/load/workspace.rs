//! Documents of kind `Workspace`, `CredentialSet` and Release.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::tz::TimeZoneDatabase;
use safeconduct_types::{Provenance, Version};
use url::Url;

use super::inputs::flatten;
use super::limits::{self, Shared};
use super::reader::{Fields, Reader, short};
use super::request::header_name;
use super::yaml::{Kind, Node};
use crate::definition::{AttributeName, LimitName, SecretName, UpstreamName};
use crate::diagnostic::Code;
use crate::workspace::{Credential, RawSection, StaticCredential, Upstream};

const MAX_UPSTREAMS: usize = 64;
const MAX_CREDENTIALS: usize = 64;
const MAX_ATTRIBUTES: usize = 128;
const MAX_ADDRESSES: usize = 16;

/// What a document of kind Workspace says.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) timezone: String,
    /// Whether the file names it.
    pub(super) says_timezone: bool,
    pub(super) limits: BTreeMap<LimitName, Shared>,
    pub(super) guardrails: Guardrails,
    pub(super) identity: Option<RawSection>,
    pub(super) writes_need: Option<Provenance>,
    pub(super) attributes: Option<RawSection>,
    pub(super) otp: Option<RawSection>,
    pub(super) upstreams: BTreeMap<UpstreamName, Upstream>,
}

/// What the workspace demands of its definitions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guardrails {
    pub(super) public_writes: bool,
    pub(super) writes_need_limit: bool,
}

pub(super) fn settings(r: &mut Reader, spec: &Node) -> Option<Settings> {
    let fields = r.fields(
        spec,
        "`spec`",
        &["timezone", "identity", "attributes", "otp", "upstreams", "limits", "guardrails"],
        &["hooks", "notify", "policies"],
    )?;
    let timezone = fields.get("timezone").map_or(Some("UTC".to_owned()), |node| timezone(r, node));
    let identity = flatten(fields.get("identity").map(|node| {
        named_secrets(r, node);
        section(r, node, "`identity`")
    }));
    let writes_need = flatten(fields.get("identity").and_then(needed_of_writes).map(|node| proof(r, node)));
    let attributes = flatten(fields.get("attributes").map(|node| attributes(r, node)));
    let otp = flatten(fields.get("otp").map(|node| {
        named_secrets(r, node);
        section(r, node, "`otp`")
    }));
    let upstreams = fields.get("upstreams").map_or_else(|| Some(BTreeMap::new()), |node| upstreams(r, node));
    // A zone that could not be read has a finding of its own.
    let zone = timezone.as_deref().unwrap_or("UTC");
    let limits = fields.get("limits").map_or_else(|| Some(BTreeMap::new()), |node| limits::shared(r, node, zone));
    let guardrails = fields.get("guardrails").map_or_else(|| Some(Guardrails::default()), |node| guardrails(r, node));
    Some(Settings {
        timezone: timezone?,
        says_timezone: fields.get("timezone").is_some(),
        limits: limits?,
        guardrails: guardrails?,
        identity: identity?,
        writes_need: writes_need?,
        attributes: attributes?,
        otp: otp?,
        upstreams: upstreams?,
    })
}

/// What `identity` says that writes need. The rest of the part is identity's to read.
fn needed_of_writes(identity: &Node) -> Option<&Node> {
    let Kind::Map(members) = &identity.kind else { return None };
    members.iter().find(|member| member.name == "writes_need").map(|member| &member.value)
}

fn proof(r: &mut Reader, node: &Node) -> Option<Provenance> {
    let verified: Vec<_> =
        Provenance::ALL.into_iter().filter(|one| one.is_verified()).map(|one| (one.as_str(), one)).collect();
    r.word(node, "`writes_need`", &verified, &[])
}

/// An IANA name that the zones built into the binary have, so that every replica has the same days.
fn timezone(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "`timezone`", 64)?;
    let Ok(zone) = TimeZoneDatabase::bundled().get(text) else {
        r.report(Code::BadValue, &node.place, "`timezone` is an IANA name such as `Europe/Dublin`");
        return None;
    };
    // As the database spells it: the name is part of what a count is known by.
    Some(zone.iana_name().unwrap_or(text).to_owned())
}

fn section(r: &mut Reader, node: &Node, what: &str) -> Option<RawSection> {
    r.members(node, what)?;
    Some(RawSection { value: node.to_json(), place: node.place.clone() })
}

fn attributes(r: &mut Reader, node: &Node) -> Option<RawSection> {
    for member in r.members_up_to(node, "`attributes`", MAX_ATTRIBUTES)? {
        if let Err(error) = member.name.parse::<AttributeName>() {
            r.report(Code::BadValue, &member.place, error.to_string());
        }
    }
    section(r, node, "`attributes`")
}

/// What is demanded of definitions, and which warnings they may waive. Waiving itself comes later; what may be waived
/// can be written down now.
fn guardrails(r: &mut Reader, node: &Node) -> Option<Guardrails> {
    let fields = r.fields(node, "`guardrails`", &["waivable", "public_writes", "writes_need"], &[])?;
    if let Some(node) = fields.get("waivable") {
        for item in r.items(node, "`waivable`", 16).unwrap_or_default() {
            r.word(item, "a check that may be waived", &[("EMAIL_IDENTIFIES", ())], &[]);
        }
    }
    let public_writes = r.flag(fields, "public_writes");
    let mut writes_need_limit = false;
    if let Some(node) = fields.get("writes_need") {
        for item in r.items(node, "`writes_need`", 8)? {
            writes_need_limit |= r.word(item, "what writes need", &[("limit", ())], &["confirm", "policy"]).is_some();
        }
    }
    Some(Guardrails { public_writes: public_writes?, writes_need_limit })
}

fn upstreams(r: &mut Reader, node: &Node) -> Option<BTreeMap<UpstreamName, Upstream>> {
    let members = r.members_up_to(node, "`upstreams`", MAX_UPSTREAMS)?;
    let read: Vec<_> = members
        .iter()
        .map(|member| {
            let name = member.name.parse();
            let name = name.map_err(|error| r.report(Code::BadValue, &member.place, format!("{error}"))).ok();
            let upstream = upstream(r, &member.value);
            Some((name?, upstream?))
        })
        .collect();
    read.into_iter().collect()
}

fn upstream(r: &mut Reader, node: &Node) -> Option<Upstream> {
    let fields = r.fields(
        node,
        "an upstream",
        &["url", "sandbox", "credential", "insecure_http", "allow_addresses"],
        &["concurrency", "breaker", "retry_budget", "timeout"],
    )?;
    let insecure_http = r.flag(fields, "insecure_http");
    // A flag that cannot be read has been reported; a second finding about the URL would only distract.
    let allow_http = insecure_http.unwrap_or(true);
    let url = r.required(fields, "url").and_then(|node| url(r, node, "`url`", allow_http));
    let sandbox = flatten(fields.get("sandbox").map(|node| url_of(r, node, allow_http)));
    let credential = flatten(fields.get("credential").map(|node| r.parsed(node, "`credential`", Code::BadValue)));
    let allow_addresses = fields.get("allow_addresses").map_or(Some(Vec::new()), |node| {
        let items = r.items(node, "`allow_addresses`", MAX_ADDRESSES)?;
        items.iter().map(|item| address(r, item)).collect::<Vec<_>>().into_iter().collect()
    });
    Some(Upstream {
        url: url?,
        sandbox: sandbox?,
        credential: credential?,
        insecure_http: insecure_http?,
        allow_addresses: allow_addresses?,
    })
}

fn url_of(r: &mut Reader, node: &Node, allow_http: bool) -> Option<Url> {
    url(r, node, "`sandbox`", allow_http)
}

fn url(r: &mut Reader, node: &Node, what: &str, allow_http: bool) -> Option<Url> {
    let text = r.text(node, what, 1024)?;
    let wrong = |why: &str| format!("{what} {why}; write `https://host/path`, nothing of it from an input");
    if text.contains("${") {
        r.report(Code::UrlInvalid, &node.place, wrong("holds a reference"));
        return None;
    }
    // The parser would strip what must not be there, and take a backslash for a slash.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        r.report(Code::UrlInvalid, &node.place, wrong("holds white space or a backslash"));
        return None;
    }
    // The parser's own message is not repeated: it could hold a password.
    let Some(url) = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
    else {
        r.report(Code::UrlInvalid, &node.place, wrong("is no URL of a web server"));
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        r.report(Code::SecretInline, &node.place, format!("{what} holds a user name or password; use a credential"));
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        r.report(Code::UrlInvalid, &node.place, wrong("holds a query or a fragment"));
        return None;
    }
    if url.scheme() == "http" && !allow_http {
        r.report(
            Code::UrlInsecure,
            &node.place,
            format!(
                "{what} is without TLS; use `https://`, or, for a server on the same machine, set `insecure_http: true`"
            ),
        );
        return None;
    }
    Some(url)
}

/// A range, or one address.
fn address(r: &mut Reader, node: &Node) -> Option<IpNet> {
    let text = r.text(node, "an address", 64)?;
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    if net.is_none_or(|net| net.prefix_len() == 0) {
        r.report(
            Code::BadValue,
            &node.place,
            "`allow_addresses` lists ranges such as `10.1.0.0/16`, none of them the whole net",
        );
        return None;
    }
    net
}

/// The credentials of a document of kind `CredentialSet`, each with where it stands.
pub(super) fn credentials<'n>(r: &mut Reader, spec: &'n Node) -> Vec<(SecretName, &'n Node, Option<Credential>)> {
    let Some(fields) = r.fields(spec, "`spec`", &["credentials"], &[]) else { return Vec::new() };
    let Some(node) = r.required(fields, "credentials") else { return Vec::new() };
    let members = r.members_up_to(node, "`credentials`", MAX_CREDENTIALS).unwrap_or_default();
    members
        .iter()
        .filter_map(|member| {
            let name = member.name.parse();
            let name = name.map_err(|error| r.report(Code::BadValue, &member.place, format!("{error}"))).ok();
            let credential = credential(r, &member.value);
            Some((name?, &member.value, credential))
        })
        .collect()
}

fn credential(r: &mut Reader, node: &Node) -> Option<Credential> {
    let kinds = r.fields(node, "a credential", &["static"], &["oauth2", "token", "per_user", "basic", "mtls"])?;
    if kinds.get("static").is_none() && matches!(&node.kind, Kind::Map(members) if !members.is_empty()) {
        return None; // another kind, or a misspelt one: said already
    }
    let node = r.required(kinds, "static")?;
    let fields = r.fields(node, "`static`", &["header", "prefix", "secret"], &["query"])?;
    let header = header(r, fields);
    let prefix = fields.get("prefix").map_or(Some(""), |node| {
        let text = r.text(node, "`prefix`", 32)?;
        if text.bytes().all(|c| (0x20..0x7f).contains(&c)) {
            return Some(text);
        }
        r.report(Code::BadValue, &node.place, "`prefix` is printable ASCII, such as `Bearer `");
        None
    });
    let secret = r.required(fields, "secret").and_then(|node| secret(r, node));
    Some(Credential::Static(StaticCredential { header: header?, prefix: prefix?.to_owned(), secret: secret? }))
}

fn header(r: &mut Reader, fields: Fields<'_>) -> Option<String> {
    let Some(node) = fields.get("header") else { return Some("authorization".to_owned()) };
    let text = r.text(node, "`header`", 64)?;
    let name = header_name(r, text, &node.place)?;
    if name != "authorization" && super::check::is_reserved_header(&name) {
        r.report(
            Code::HeaderForbidden,
            &node.place,
            format!("header `{name}` is set by Safeconduct; name the API's own"),
        );
        return None;
    }
    Some(name)
}

/// `{secret: name}`, or the name alone.
fn secret(r: &mut Reader, node: &Node) -> Option<SecretName> {
    let named = if matches!(node.kind, Kind::Map(_)) {
        let fields = r.fields(node, "a secret", &["secret"], &[])?;
        r.required(fields, "secret")?
    } else {
        node
    };
    // Whatever stands here could be the secret itself: no message repeats it.
    let name = match &named.kind {
        Kind::Text(text) => text.parse::<SecretName>().ok().filter(|_| !looks_secret(text)),
        Kind::Number(_) | Kind::Null | Kind::Bool(_) | Kind::List(_) | Kind::Map(_) => None,
    };
    if name.is_none() {
        let message = "this is not the name of a secret and could be a secret itself; write `{secret: NAME}` with 1 to \
                       63 of a-z, 0-9 and `-`, keep the value in the workspace's secrets folder, and replace it if it \
                       was one";
        r.report(Code::SecretInline, &named.place, message);
    }
    name
}

/// Every `secret` below this node is a name, whatever else the part means to the crate that reads it.
fn named_secrets(r: &mut Reader, node: &Node) {
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| named_secrets(r, item)),
        Kind::Map(members) => {
            for member in members {
                if member.name == "secret" {
                    secret(r, &member.value);
                } else {
                    named_secrets(r, &member.value);
                }
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
    }
}

/// Whether a legal name looks more like a token than like a name.
fn looks_secret(text: &str) -> bool {
    let known = ["sk-", "pk-", "rk-", "ghp", "gho", "xox", "eyj", "akia"].iter().any(|prefix| text.starts_with(prefix));
    let random = text.split('-').any(|part| {
        part.len() >= 16
            && part.bytes().any(|c| c.is_ascii_digit())
            && (part.bytes().any(|c| c.is_ascii_lowercase()) || part.len() >= 20)
    });
    (known && text.len() >= 16) || random
}

/// The live version that a document of kind Release names.
pub(super) fn release(r: &mut Reader, spec: &Node) -> Option<Version> {
    let fields = r.fields(
        spec,
        "`spec`",
        &["live"],
        &["candidate", "shadow", "rollback", "sunset", "since", "entries", "releases"],
    )?;
    let node = r.required(fields, "live")?;
    let text = r.text(node, "`live`", 32)?;
    r.ok(text.parse(), node, &format!("`live: {}`", short(text)), Code::BadValue)
}

#[cfg(test)]
mod tests {
    use super::looks_secret;

    #[test]
    fn a_token_is_told_from_a_name() {
        for name in ["messenger-2026", "shop-oauth", "s1", "payments-production-primary-key-2", "shop-hook"] {
            assert!(!looks_secret(name), "{name}");
        }
        let tokens = [
            "sk-live-51h8x9a0b1c2",
            "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
            "ghp16c7e42f292c6912e7",
            "12345678901234567890",
        ];
        for token in tokens {
            assert!(looks_secret(token), "{token}");
        }
    }
}
