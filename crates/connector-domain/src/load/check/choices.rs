//! A list vouches for what is on it only if it is this contact's, by a proof as strong as the consumer asks for.

use std::collections::BTreeMap;

use safeconduct_types::{ConnectorName, Provenance, ProvenanceSet, Version};

use super::Read;
use crate::definition::{Connector, Effect, Sensitivity};
use crate::diagnostic::Code;
use crate::load::reader::Reader;

/// All definitions of a workspace that could be read; `None` for one that could not.
pub(in crate::load) type Families = BTreeMap<ConnectorName, BTreeMap<Version, Option<Read>>>;

/// Checks the lists behind one definition's choices. Every version of a list is checked: each can become the live one.
pub(in crate::load) fn choices(r: &mut Reader, read: &Read, families: &Families) {
    for (name, input) in &read.connector.inputs {
        let Some(choices) = &input.choices else { continue };
        let place = read.spec.place_of(&["inputs", name.as_str(), "choices", "connector"]);
        let Some(versions) = families.get(&choices.connector) else {
            let near =
                super::super::reader::nearest(choices.connector.as_str(), families.keys().map(ConnectorName::as_str))
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            r.report(Code::ChoicesSource, place, format!("there is no connector `{}`{near}", choices.connector));
            continue;
        };
        // A version that could not be read has findings of its own.
        for (version, source) in versions.iter().filter_map(|(version, read)| Some((version, read.as_ref()?))) {
            for problem in problems(&read.connector, &source.connector) {
                r.report(Code::ChoicesSource, place, format!("`{}` {version} {problem}", choices.connector));
            }
        }
    }
}

fn problems(consumer: &Connector, source: &Connector) -> Vec<String> {
    let mut problems = Vec::new();
    if source.effect != Effect::Read {
        problems.push("is not a read; a list must not change anything".to_owned());
    }
    if source.sensitivity != Sensitivity::Private || source.identifying().next().is_none() {
        problems.push("is not a private, identified read; its list is everybody's".to_owned());
    }
    for (name, input) in source.supplied() {
        if !input.optional {
            problems.push(format!(
                "needs `{name}` from whoever calls; a list is fetched from what is known of the contact"
            ));
        }
    }
    let (own, theirs) = (accepted(consumer), accepted(source));
    // A public consumer has no identifying input: then any verified list will do.
    if !own.is_empty() && !theirs.is_within(own) {
        let weaker: Vec<_> = theirs.iter().filter(|one| !own.contains(*one)).map(Provenance::as_str).collect();
        problems.push(format!(
            "identifies by {}, which this connector does not accept; narrow its `accept` or widen this one's",
            weaker.join(", ")
        ));
    }
    if !consumer.audience.kinds.is_subset(&source.audience.kinds) {
        problems.push(
            "is not open to every kind of contact that this connector is open to; correct `audience.kinds`".to_owned(),
        );
    }
    problems
}

/// What the identifying inputs accept, all together.
fn accepted(connector: &Connector) -> ProvenanceSet {
    connector.identifying().flat_map(|(_, input)| input.accept.iter()).collect()
}
