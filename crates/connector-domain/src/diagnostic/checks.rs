//! Every check that a definition goes through: its code, how bad a finding is, and the text of its page.

use std::fmt;

use super::Severity;

/// One check, as its page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub code: &'static str,
    /// How bad a finding is.
    pub severity: Severity,
    /// One line: what is wrong.
    pub title: &'static str,
    /// One paragraph: why it matters and what to do.
    pub explanation: &'static str,
}

macro_rules! checks {
    ($($name:ident = $code:literal, $severity:ident, $title:literal, $explanation:literal;)*) => {
        /// The stable name of a check.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Its name in messages and addresses.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How bad a finding is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }

        /// Every check, for the pages of errors.
        pub const CHECKS: &[Check] = &[
            $(Check { code: $code, severity: Severity::$severity, title: $title, explanation: $explanation },)*
        ];
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

checks! {
    FileUnreadable = "FILE_UNREADABLE", Error, "A file that cannot be read.",
        "The file or folder cannot be read, is no regular file, or is not UTF-8 text. What it defines is not known, so no workspace is taken that could lack it: one that it names, or one with documents in the same folder or in a folder above. Correct its permissions, its encoding or where its link leads, or remove it.";
    YamlSyntax = "YAML_SYNTAX", Error, "The document is not the YAML that is read here.",
        "The text cannot be read as YAML 1.2, or uses what is switched off: merge keys (`<<`), tags of an application, more than a few aliases, more than 32 levels. Booleans are `true` and `false` only. Nothing else in that document is looked at until it can be read.";
    UnknownField = "UNKNOWN_FIELD", Error, "A field that no definition has.",
        "A field that is not known is refused and never ignored, because a control that was misspelt would otherwise be missing. The message names the nearest known field.";
    DuplicateField = "DUPLICATE_FIELD", Error, "The same field twice.",
        "A mapping names the same field twice, and one of the two would silently win. Remove one.";
    MissingField = "MISSING_FIELD", Error, "A required field is missing.",
        "The mapping lacks a field for which there is no default, because every default could be the wrong one. Add it.";
    WrongType = "WRONG_TYPE", Error, "A value of another type than the field takes.",
        "The field takes another type of value. A text that looks like a number, a boolean or null needs quotes.";
    BadValue = "BAD_VALUE", Error, "A value that the field does not take.",
        "The value has the right type and is not one of those allowed, or not within the bounds. The message says which are.";
    NotYetSupported = "NOT_YET_SUPPORTED", Error, "A feature that this version does not execute.",
        "The field belongs to the format and this version does not carry it out. It is refused rather than ignored: a policy or a confirmation that is written down and not enforced would be worse than none. Remove it, or wait for a version that supports it.";
    LimitExceeded = "LIMIT_EXCEEDED", Error, "Too many or too large.",
        "Files, mappings, lists and texts have upper bounds, so that one workspace cannot use up a process that serves many. Split or shorten it.";
    WorkspaceMissing = "WORKSPACE_MISSING", Error, "No document of kind Workspace.",
        "Documents name a workspace for which no document of kind `Workspace` was given. Add it: it declares the upstreams that connectors call.";
    DuplicateDefinition = "DUPLICATE_DEFINITION", Error, "The same thing is defined twice.",
        "A workspace, a version of a connector, a credential or a release is defined in two places. Which one counts would depend on the order of files. Remove one, or give a connector another version.";
    SecretInline = "SECRET_INLINE", Error, "A secret stands in the file.",
        "Files hold the names of secrets, never secrets: they are kept in Git, in ConfigMaps and in backups. Put the secret into the workspace's secrets folder or into its environment variable, write `{secret: name}` here, and replace the secret, because it was already written down.";
    UpstreamUnknown = "UPSTREAM_UNKNOWN", Error, "An upstream that the workspace does not declare.",
        "A request names an upstream that is not among the workspace's `upstreams`. Calls go nowhere else. Declare it or correct the name.";
    CredentialUnknown = "CREDENTIAL_UNKNOWN", Error, "A credential that is not declared.",
        "An upstream names a credential that no document of kind `CredentialSet` of this workspace declares. Declare it or correct the name.";
    UrlInsecure = "URL_INSECURE", Error, "An upstream without TLS.",
        "An upstream's URL begins with `http://`, so that credentials and personal data would travel in clear. Use `https://`. For a sandbox on the same machine, set `insecure_http: true` at this upstream.";
    UrlInvalid = "URL_INVALID", Error, "An upstream's URL that cannot be called.",
        "An upstream's URL is a scheme, a host, perhaps a port and a path. It holds no user name, password, query, fragment or reference: which host is called is never up to an input.";
    IdentifierMissing = "IDENTIFIER_MISSING", Error, "A private connector that identifies nobody.",
        "A private connector needs at least one input with `identifies: true`, so that the upstream is asked about the person talking and not about whoever was named. Add one, taken from the contact. Only a connector that touches nobody's data may say `sensitivity: public`.";
    UnverifiedIdentifier = "UNVERIFIED_IDENTIFIER", Error, "A person identified by something that nobody vouches for.",
        "An identifying input accepts a provenance that is not verified: what an agent, a browser or the definition itself says proves nobody. Take it from the contact, and accept only SIGNED_TOKEN, SIGNED_HASH, SERVER, OTP_EMAIL or OTP_SMS.";
    IdentifierUnused = "IDENTIFIER_UNUSED", Error, "An identifying input that is not sent.",
        "An identifying input that does not appear in the request protects nothing: the upstream cannot hold the call to that person. Put it into the path, the query, a header or the body.";
    IdentifierOptional = "IDENTIFIER_OPTIONAL", Error, "An identifying input that may be absent.",
        "An absent optional drops out of the request, and a list without its filter is everybody's list. An identifying input can be neither optional nor have a default.";
    EmailIdentifies = "EMAIL_IDENTIFIES", Warning, "A person identified by email only.",
        "Email addresses are guessable, change hands and change spelling. If the API knows a non-guessable id of the person, sign that id, make it an attribute and identify by it. The workspace's guardrails may allow this warning to be waived.";
    OwnershipMissing = "OWNERSHIP_MISSING", Error, "An input that could name somebody else's object.",
        "Knowing an id is not enough. In a private connector every input that an agent or a browser supplies says exactly one of: `choices` (it is one of the contact's own list) or `plain: true` (it names no object: an amount, a text). Plain inputs are listed in the risk report.";
    ChoicesSource = "CHOICES_SOURCE", Error, "A list that cannot vouch for what is on it.",
        "The connector behind `choices` must exist, be a private read that identifies the contact at least as strongly as the connector that uses it, be open to the same kinds of contact, and need nothing from the agent. Otherwise the list could be somebody else's, or could not be fetched.";
    SameMissing = "SAME_MISSING", Error, "A write without `idempotency.same`.",
        "A model repeats itself, callers retry, processes crash. A write names the inputs that make two requests the same, so that the second one gets the first one's result. Add `idempotency: {same: [inputs.…]}`.";
    ReadWithSame = "READ_WITH_SAME", Error, "Settings of a write at a read.",
        "`same` and `upstream_key` guard an effect, and a read has none: it is asked anew each time. Remove them, or say `effect: write`.";
    RetryCouldDouble = "RETRY_COULD_DOUBLE", Error, "A write whose retry could happen twice.",
        "A second attempt of a write is safe only if the upstream recognises it. Declare `idempotency.upstream_key` (a header, a field, or `natural: true`), or set `retry: {attempts: 1}`, which is a write's default without such a key.";
    RetryStatus = "RETRY_STATUS", Error, "A status that is never asked for again.",
        "Only 429 and 5xx may be retried. 401 refreshes the credential by itself, 410 means never again, and other 4xx will not change by repeating.";
    FamilyDisagrees = "FAMILY_DISAGREES", Error, "Versions that would not recognise each other's requests.",
        "All versions of a connector share their records, so that a retry that meets another version is still the same request. They have the same `effect`; writes have the same inputs in `same`, each with the same source, JSON type and default, and the same place of `upstream_key` (or none in all). Otherwise a request moved between versions would be made twice. Make them agree, or give the new one a name of its own.";
    RetainTooShort = "RETAIN_TOO_SHORT", Error, "A record that is forgotten before the upstream forgets the key.",
        "`retain` is at least as long as `honoured_for`, at most 30 days. When the record is forgotten first, the same request counts as new here, and the upstream, which still knows its key, answers with the old result instead of doing it. Lengthen `retain`; do not shorten `honoured_for` below what the API documents.";
    InProgressMissing = "IN_PROGRESS_MISSING", Error, "Replayed errors that cannot be told from a request still running.",
        "With `replays_errors: true` an error is taken for the first request's own final answer. Most APIs answer a repeat of a request that is still running with an error too (409, often), and that would read as a refusal of something that happens a moment later. Name those statuses in `in_progress`, as the API documents them, or remove `replays_errors`.";
    AnswerTooLarge = "ANSWER_TOO_LARGE", Error, "A write whose answer does not fit its record.",
        "What is made of a write's answer is kept in its record, so that a repeat gets the same result; for that `response.max_bytes` of a write is at most 65536 (64 KiB), its default. Lower it, and fetch what is longer with a read, which may have up to 1 MiB.";
    KeyPlace = "KEY_PLACE", Error, "An upstream key that cannot be placed.",
        "`upstream_key` has exactly one of `header`, `field` and `natural: true`. A header must not be declared among the headers as well, and a field needs a JSON object as the body, in which it does not stand yet.";
    UndeclaredReference = "UNDECLARED_REFERENCE", Error, "A reference to something that is not declared.",
        "A template or `same` refers to an input that the definition does not declare, or to the upstream's key without `idempotency.upstream_key`. Declare it or correct the name.";
    TemplateInvalid = "TEMPLATE_INVALID", Error, "A template that cannot be read.",
        "`${…}` takes a dotted reference and nothing else (`${inputs.order_id}`); `$${` is a literal `${`. Names of parameters, headers and keys, the host and the scheme hold no reference.";
    EmbeddedUnguarded = "EMBEDDED_UNGUARDED", Error, "A weak value inside a longer text.",
        "A value inside a longer text (a search expression, say) can change what the text means. From a source weaker than SERVER it needs a schema that leaves no room for that: a number, an enumeration, or a pattern anchored with `^` and `$` that allows only letters, digits, `_` and `-`. Or send it as a value of its own.";
    HeaderForbidden = "HEADER_FORBIDDEN", Error, "A header that is not the definition's to set.",
        "Headers that frame or route a request or speak for its sender (Host, Authorization, Cookie, Content-Length, Transfer-Encoding, Connection, Forwarded, X-Forwarded-*, Proxy-*, traceparent and their like) are set by Safeconduct, or by a credential. Content-Type may be written but not templated.";
    OptionalInPath = "OPTIONAL_IN_PATH", Error, "A path segment that may be absent.",
        "An absent optional drops out of query, headers and body; a path without one of its segments is another path. Make the input required, or give it a default.";
    BodyOnGet = "BODY_ON_GET", Error, "A GET or HEAD with a body.",
        "A GET or HEAD has no body that a server must read; intermediaries drop it. Use the query, or the method that the API documents.";
    MethodEffect = "METHOD_EFFECT", Error, "A method that does not fit the effect.",
        "PUT, PATCH and DELETE change something, GET and HEAD must not: intermediaries repeat them. A read may use GET, HEAD or POST (a search), a write POST, PUT, PATCH or DELETE. Correct `effect` or `method`: a read is not guarded against repeats.";
    OutputTooDeep = "OUTPUT_TOO_DEEP", Error, "A simple output of more than two levels.",
        "Models do badly with deep structures. In `mode: simple` the output has at most two levels; reach nested values directly by their path, or declare `mode: task`.";
    ProjectionInvalid = "PROJECTION_INVALID", Error, "An output or problem that cannot be read.",
        "Each field has a `path` (JSONPath, RFC 9535) and perhaps a type and bounds. Only declared fields leave Safeconduct.";
    SchemaInvalid = "SCHEMA_INVALID", Error, "A schema that cannot be used.",
        "An input's schema is JSON Schema 2020-12, without remote references and with patterns that match in linear time (no look-around, no back-references).";
    SchemaMissing = "SCHEMA_MISSING", Error, "An input from outside without a schema.",
        "What an agent or a caller supplies is hostile until it was checked. Give the input a schema that has a `type`, an `enum` or a `const`.";
    StringUnbounded = "STRING_UNBOUNDED", Warning, "A text of any length and content.",
        "A string from outside should have `maxLength`, a `pattern`, a `format` or an `enum`, so that nothing else than what the API expects gets through.";
    ValueInvalid = "VALUE_INVALID", Error, "A constant or default that its own schema refuses.",
        "The value that the definition supplies does not have the form that the definition asks for. Correct one of the two.";
    InputContradiction = "INPUT_CONTRADICTION", Error, "Settings of an input that exclude each other.",
        "The input's settings cannot all hold: a source that can never have an accepted provenance, an age for something without proof, a default for something that the contact supplies. The message says which.";
    InputUnused = "INPUT_UNUSED", Warning, "An input that nothing uses.",
        "The input appears neither in the request nor in `same`. Remove it: whoever calls would have to supply it for nothing.";
    AttributeUndeclared = "ATTRIBUTE_UNDECLARED", Warning, "An attribute that the workspace does not declare.",
        "An input takes an attribute that is neither among the workspace's `attributes` nor in `identity.assertion_attributes`. Unless it is misspelt, declare it; until then the input is never there.";
    AudienceTooWide = "AUDIENCE_TOO_WIDE", Error, "Visitors where somebody must be known.",
        "A visitor has proven nothing. A private connector is for users and leads. Only what says `sensitivity: public` may be open to visitors.";
    PublicWrite = "PUBLIC_WRITE", Error, "A public write that nothing holds back.",
        "A public write acts without knowing for whom: whoever begins a new session is a new contact, so that a limit for each contact holds nobody back. The workspace must allow such writes (`guardrails: {public_writes: true}`), and the connector needs a cap (`count` or `sum`) whose `per` is the connector or the workspace alone.";
    WriteUnlimited = "WRITE_UNLIMITED", Error, "A write without a limit.",
        "The workspace's guardrails say `writes_need: [limit]`, and this write is under none. Add one under `limits`, or use one of the workspace's.";
    LimitInvalid = "LIMIT_INVALID", Error, "A limit that does not say what it counts.",
        "A limit has exactly one of `rate: 10/min` (perhaps with `burst`), `count: true` and `sum`; a count and a sum have `max` and a `window`, which is `{calendar: hour, day, week, month or year}` or `{rolling: 24h}`. `per` says what has a count of its own: `contact`, `connector`, `workspace`, `inputs.NAME`. What a connector declares counts that connector's requests only; a limit over several is declared in the workspace, and used with `use`.";
    LimitUnknown = "LIMIT_UNKNOWN", Error, "A limit that the workspace does not declare.",
        "`use` names a limit that is not among the workspace's `limits`. Nothing would be counted. Declare it there, or correct the name.";
    LimitAmount = "LIMIT_AMOUNT", Error, "An amount that cannot be counted.",
        "A sum counts whole numbers that are never negative: a negative amount would give back what others took. The input behind `amount` (or `sum`) has a schema with `type: integer` and a `minimum` of 0 or more, or is a constant, and is never left out. Money is counted in minor units (cents).";
    LimitUnit = "LIMIT_UNIT", Error, "A unit that a limit has no maximum for.",
        "A sum of money counts each currency by itself and needs a `max` for each. So the unit is known when the file is read: a currency code, an input that is a constant, or an input with an `enum`. Add the missing `max`, or narrow the input. A sum without a unit has one number as its `max`.";
    LimitDisagrees = "LIMIT_DISAGREES", Error, "Versions that would count different things under one name.",
        "All versions of a connector share the counts of its limits, so that moving traffic to another version opens nothing. A limit of the same name has the same `per`, counts the same (a rate, requests or a sum) and has the same `window` in all of them; how much is allowed may differ. Make them agree, or rename one.";
    LimitUnused = "LIMIT_UNUSED", Warning, "A limit that no connector uses.",
        "A limit of the workspace holds back only the connectors that name it with `use`. Nobody uses this one: use it where it is meant, or remove it, so that nobody relies on it.";
    TimezoneMissing = "TIMEZONE_MISSING", Warning, "A day that begins in UTC because nobody said where.",
        "A calendar window begins and ends with the days of the workspace's `timezone`. Without one that is UTC, and a customer's day in Dublin or Denver would be over at another hour than they think. Name the zone; name `UTC` if that is meant.";
    StoreFailureWrite = "STORE_FAILURE_WRITE", Error, "A write that would go ahead without its record.",
        "`on_store_failure: allow` lets a request go ahead while the store is gone. A write then could neither be recorded nor recognised when it comes again, and would be made twice. Only reads may say `allow`: they change nothing, and their rates are counted by each process for itself meanwhile.";
    ReleaseUnknown = "RELEASE_UNKNOWN", Error, "A release of something that is not there.",
        "A document of kind `Release` names a connector or a version that the workspace does not define. Correct the name, or add the definition.";
    ReleaseMissing = "RELEASE_MISSING", Warning, "Several versions, and none is live.",
        "A connector has several versions and no `Release`, and nobody guesses which one is meant: requests must name the version. Add `kind: Release` with `metadata: {workspace, name}` and `spec: {live: VERSION}`.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_own_name_and_a_page_that_says_something() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.code).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            assert!(check.code.bytes().all(|c| c.is_ascii_uppercase() || c == b'_'), "{}", check.code);
            assert!(check.explanation.len() > 60 && check.title.ends_with('.'), "{}", check.code);
        }
    }
}
