//! Who is meant is vouched for, and nobody reaches somebody else's object by naming it.

use std::collections::BTreeSet;

use safeconduct_types::{Provenance, ProvenanceSet};
use serde_json::Value;

use super::Read;
use crate::definition::{Connector, Input, InputName, Sensitivity, Source};
use crate::diagnostic::Code;
use crate::load::reader::Reader;
use crate::load::yaml::Node;

/// Attributes that identity knows by itself.
const BUILT_IN: [&str; 3] = ["user_id", "email", "phone"];

pub(super) fn check(r: &mut Reader, read: &Read, used: &BTreeSet<InputName>, attributes: Option<&BTreeSet<String>>) {
    let Read { connector, spec, .. } = read;
    let private = connector.sensitivity == Sensitivity::Private;
    if private && connector.identifying().next().is_none() {
        let message = "a private connector needs an input with `identifies: true`, taken from the contact; only what \
                       touches nobody's data may say `sensitivity: public`";
        r.report(Code::IdentifierMissing, spec.place_of(&["inputs"]), message);
    }
    emails(r, read);
    for (name, input) in &connector.inputs {
        let one = One { name, input, spec };
        one.identifies(r, used);
        one.contradictions(r);
        one.schema(r);
        one.values(r);
        if private {
            one.ownership(r);
        }
        if let (Source::ContactAttribute(attribute), Some(declared)) = (&input.source, attributes)
            && !declared.contains(attribute.as_str())
            && !BUILT_IN.contains(&attribute.as_str())
        {
            let hint = crate::load::reader::nearest(attribute.as_str(), declared.iter().map(String::as_str))
                .map_or_else(|| "declare it in the workspace".to_owned(), |near| format!("did you mean `{near}`?"));
            let message = format!("the workspace declares no attribute `{attribute}`; {hint}");
            r.report(Code::AttributeUndeclared, one.place("from"), message);
        }
        if !used.contains(name) && !input.identifies && !in_same(connector, name) {
            let message = format!("`{name}` appears neither in the request nor in `same`; remove it");
            r.report(Code::InputUnused, one.place(""), message);
        }
    }
}

fn in_same(connector: &Connector, name: &InputName) -> bool {
    connector.idempotency.as_ref().is_some_and(|one| one.same.contains(name))
}

/// Email as the only identifier.
fn emails(r: &mut Reader, Read { connector, spec, .. }: &Read) {
    let is_email = |input: &Input| match &input.source {
        Source::ProvenEmail => true,
        Source::ContactAttribute(name) => name.as_str().to_ascii_lowercase().contains("email"),
        Source::ContactId | Source::ProvenPhone | Source::Agent | Source::Caller | Source::Constant(_) => false,
    };
    if connector.identifying().all(|(_, input)| is_email(input)) {
        for (name, _) in connector.identifying() {
            let message = format!(
                "`{name}` identifies by email, which is guessable and changes hands; use a signed, non-guessable id"
            );
            r.report(Code::EmailIdentifies, spec.place_of(&["inputs", name.as_str(), "identifies"]), message);
        }
    }
}

struct One<'a> {
    name: &'a InputName,
    input: &'a Input,
    spec: &'a Node,
}

impl One<'_> {
    fn place(&self, field: &str) -> &crate::diagnostic::Place {
        self.spec.place_of(&["inputs", self.name.as_str(), field])
    }

    /// Whether an agent or a browser may supply it.
    fn is_from_outside(&self) -> bool {
        self.input.source == Source::Agent || self.input.accept.contains(Provenance::Client)
    }

    fn identifies(&self, r: &mut Reader, used: &BTreeSet<InputName>) {
        let Self { name, input, .. } = *self;
        if !input.identifies {
            return;
        }
        let weak: Vec<_> = input.accept.iter().filter(|one| !one.is_verified()).map(Provenance::as_str).collect();
        if !weak.is_empty() {
            let message = format!(
                "`{name}` identifies a person and accepts {}, for which nobody vouches; take it from the contact and \
                 accept only SIGNED_TOKEN, SIGNED_HASH, SERVER, OTP_EMAIL or OTP_SMS",
                weak.join(", ")
            );
            r.report(Code::UnverifiedIdentifier, self.place("accept"), message);
        }
        if !used.contains(name) {
            let message =
                format!("`{name}` identifies a person and is not sent; put it into path, query, headers or body");
            r.report(Code::IdentifierUnused, self.place("identifies"), message);
        }
        if input.optional {
            let message = format!("`{name}` identifies a person and may be absent; remove `optional` and `default`");
            r.report(Code::IdentifierOptional, self.place("optional"), message);
        }
    }

    fn ownership(&self, r: &mut Reader) {
        // Refused by name already: then the author knows.
        if ["owned_by", "asserted"].iter().any(|later| self.has(later)) {
            return;
        }
        if self.is_from_outside() && self.input.plain == self.input.choices.is_some() {
            let message = format!(
                "`{}` comes from outside and needs exactly one of `choices` (it is on the contact's own list) and \
                 `plain: true` (it names no object)",
                self.name
            );
            r.report(Code::OwnershipMissing, self.place(""), message);
        }
    }

    fn has(&self, field: &str) -> bool {
        let input = self.spec.get("inputs").and_then(|inputs| inputs.value.get(self.name.as_str()));
        input.is_some_and(|input| input.value.get(field).is_some())
    }

    fn contradictions(&self, r: &mut Reader) {
        let Self { name, input, .. } = self;
        let impossible: Vec<_> =
            input.accept.iter().filter(|one| !possible(&input.source).contains(*one)).map(Provenance::as_str).collect();
        if !impossible.is_empty() {
            let can: Vec<_> = possible(&input.source).iter().map(Provenance::as_str).collect();
            let message = format!(
                "`{name}` accepts {}, which its source never has; it can have {}",
                impossible.join(", "),
                can.join(", ")
            );
            r.report(Code::InputContradiction, self.place("accept"), message);
        }
        let contact = matches!(
            input.source,
            Source::ContactAttribute(_) | Source::ContactId | Source::ProvenEmail | Source::ProvenPhone
        );
        if input.max_age.is_some() && !contact {
            let message =
                format!("`max_age` is the age of a proof, and `{name}` does not come from the contact; remove it");
            r.report(Code::InputContradiction, self.place("max_age"), message);
        }
        if input.choices.is_some() && !matches!(input.source, Source::Agent) {
            let message =
                format!("`choices` is what an agent picks from, and `{name}` does not come from the agent; remove it");
            r.report(Code::InputContradiction, self.place("choices"), message);
        }
        if input.default.is_some()
            && (contact || matches!(input.source, Source::Constant(_)) || input.choices.is_some())
        {
            let message = format!(
                "a default cannot stand for a constant, for what is known of a contact or for a choice; remove it from `{name}`"
            );
            r.report(Code::InputContradiction, self.place("default"), message);
        }
    }

    fn schema(&self, r: &mut Reader) {
        let Self { name, input, .. } = self;
        if !self.is_from_outside() && input.source != Source::Caller {
            return;
        }
        let schema = input.schema.as_ref().map(crate::schema::Schema::as_value);
        let has = |field: &str| schema.is_some_and(|schema| schema.get(field).is_some());
        if !(has("type") || has("enum") || has("const")) {
            let message =
                format!("`{name}` comes from outside; give it a `schema` with a `type`, an `enum` or a `const`");
            r.report(Code::SchemaMissing, self.place("schema"), message);
            return;
        }
        let is_string = schema.and_then(|schema| schema.get("type")).is_some_and(|kind| match kind {
            Value::String(one) => one == "string",
            Value::Array(many) => many.iter().any(|one| one == "string"),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        });
        if is_string && !["maxLength", "pattern", "enum", "const", "format"].iter().any(|bound| has(bound)) {
            let message = format!("`{name}` takes a text of any length; add `maxLength`, a `pattern` or an `enum`");
            r.report(Code::StringUnbounded, self.place("schema"), message);
        }
    }

    /// What the definition itself supplies has the form that it asks for. The message never repeats the value.
    fn values(&self, r: &mut Reader) {
        let Some(schema) = &self.input.schema else { return };
        if let Source::Constant(value) = &self.input.source
            && schema.validate(value).is_err()
        {
            r.report(
                Code::ValueInvalid,
                self.place("constant"),
                format!("the constant of `{}` does not fit its schema", self.name),
            );
        }
        if let Some(value) = &self.input.default
            && schema.validate(value).is_err()
        {
            r.report(
                Code::ValueInvalid,
                self.place("default"),
                format!("the default of `{}` does not fit its schema", self.name),
            );
        }
    }
}

/// What a value from this source can be worth.
fn possible(source: &Source) -> ProvenanceSet {
    use Provenance::{Agent, Caller, Client, Constant, OtpEmail, OtpSms, Server, SignedHash, SignedToken};
    let all: &[Provenance] = match source {
        Source::ContactAttribute(_) => &[Client, OtpSms, OtpEmail, Server, SignedHash, SignedToken],
        Source::ContactId => &[OtpSms, OtpEmail, Server, SignedHash, SignedToken],
        Source::ProvenEmail => &[OtpEmail],
        Source::ProvenPhone => &[OtpSms],
        Source::Agent => &[Agent],
        Source::Caller => &[Caller, Server],
        Source::Constant(_) => &[Constant],
    };
    all.iter().copied().collect()
}
