//! What workspaces say about one-time passwords.

use std::collections::BTreeMap;
use std::sync::Arc;

use safeconduct_connector_domain::diagnostic::Place;
use safeconduct_connector_domain::workspace::Workspace;
use safeconduct_otp::WorkspaceDirectory;
use safeconduct_otp::delivery::{Route, Sender, WorkspaceRoutes};
use safeconduct_otp_domain::policy::{OtpPolicy, OtpSpec};
pub(super) use safeconduct_otp_domain::unquoted::unquoted;
use safeconduct_types::{Violation, WorkspaceId};

use super::{Found, Taken};

/// The workspace's policy, and whether its connectors fit it: a purpose that nobody declared cannot be told to anybody.
pub(super) fn policy(workspace: &Workspace, found: &mut Found) -> Result<Option<Arc<OtpPolicy>>, ()> {
    let policy = match &workspace.otp {
        None => None,
        Some(section) => {
            let spec = serde_json::from_value::<OtpSpec>(section.value.clone());
            let policy = match spec.map(OtpPolicy::try_from) {
                Ok(Ok(policy)) => Ok(policy),
                Ok(Err(error)) => Err(error.0),
                Err(error) => Err(vec![Violation::new("", unquoted(&error))]),
            };
            match policy {
                Ok(policy) => Some(policy),
                Err(violations) => {
                    for violation in &violations {
                        found.wrong_otp(&section.place, violation);
                    }
                    return Err(());
                }
            }
        }
    };
    let versions = workspace.connectors.values().flat_map(|family| family.versions.values());
    let unknown: Vec<_> = versions
        .filter_map(|one| Some((one, one.purpose.as_ref()?)))
        .filter(|(_, purpose)| !policy.as_ref().is_some_and(|policy| policy.purposes.contains_key(*purpose)))
        .map(|(one, purpose)| (one.name.to_string(), one.version.to_string(), purpose.clone()))
        .collect();
    if unknown.is_empty() {
        return Ok(policy.map(Arc::new));
    }
    for (name, version, purpose) in unknown {
        found.errors += 1;
        found.problems.push(format!(
            "error[PURPOSE_UNKNOWN]: workspace `{}`, connector `{name}` {version}: `purpose: {purpose}` is none of the \
             workspace's `spec.otp.purposes`; declare it there",
            workspace.id
        ));
    }
    Err(())
}

impl Found {
    fn wrong_otp(&mut self, place: &Place, violation: &Violation) {
        self.errors += 1;
        let field = Some(&violation.field).filter(|field| !field.is_empty());
        let field = field.map_or_else(String::new, |field| format!(".{field}"));
        self.problems.push(format!("{place}: error[OTP_INVALID]: spec.otp{field}: {}", violation.description));
    }
}

/// How the messages of these workspaces travel.
pub(crate) fn routes(taken: &[Taken]) -> impl Iterator<Item = WorkspaceRoutes> {
    taken.iter().filter_map(|one| {
        let policy = one.otp.as_ref()?;
        Some(WorkspaceRoutes {
            workspace: one.workspace.id.clone(),
            email: policy
                .email
                .as_ref()
                .map(|email| Route { from: Sender::parse(&email.from), via: email.via.clone() }),
            sms: policy.sms.as_ref().map(|sms| Route { from: Sender::default(), via: sms.via.clone() }),
            providers: policy.delivery.clone(),
        })
    })
}

/// What otp asks about workspaces.
#[derive(Debug)]
pub(crate) struct OtpDirectory(BTreeMap<WorkspaceId, Arc<OtpPolicy>>);

impl OtpDirectory {
    /// Those of them whose messages can travel.
    pub(crate) fn new(taken: &[Taken], serves: impl Fn(&WorkspaceId) -> bool) -> Self {
        let offering = taken.iter().filter(|one| serves(&one.workspace.id));
        Self(offering.filter_map(|one| Some((one.workspace.id.clone(), Arc::clone(one.otp.as_ref()?)))).collect())
    }
}

impl WorkspaceDirectory for OtpDirectory {
    fn otp_policy(&self, workspace: &WorkspaceId) -> Option<Arc<OtpPolicy>> {
        self.0.get(workspace).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(folder: &str) -> Found {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample").join(folder);
        super::super::read(&[folder]).unwrap()
    }

    #[test]
    fn the_samples_are_taken_as_they_stand() {
        for path in ["workspaces", "otp-providers.yaml"] {
            let found = read(path);
            assert_eq!((found.errors, found.workspaces.len()), (0, 1), "{path}: {}", found.problems.join("\n"));
            assert!(found.workspaces.iter().all(|one| one.otp.is_some()), "{path}");
        }
    }

    #[test]
    fn what_somebody_wrote_is_not_repeated_when_it_cannot_be_read() {
        const SECRET: &str = "sk-4Fh1Q, expected zWq8`\", expected it";
        for (spec, told) in [
            (serde_json::json!({"brand": [SECRET], "email": SECRET}), "expected"),
            (serde_json::json!({"code": {"length": SECRET}}), "expected"),
            (serde_json::json!({"code": {"alphabet": SECRET}}), "expected"),
            (serde_json::json!({"budgets": SECRET}), "expected"),
            (serde_json::json!({"delivery": {"a": {SECRET: {}}}}), ""),
            (serde_json::json!({"delivery": {"a": SECRET}}), ""),
            (serde_json::json!({"sms": {"via": ["a"], "countries": [], SECRET: 1}}), "unknown field"),
            (serde_json::json!({"plus_tags": 7_391_846}), "expected"),
            (serde_json::json!({"sms": {"via": ["a"], "countries": 7_391_846}}), "expected"),
        ] {
            let text = match serde_json::from_value::<OtpSpec>(spec.clone()) {
                Ok(read) => OtpPolicy::try_from(read).unwrap_err().to_string(),
                Err(error) => unquoted(&error),
            };
            let parts = ["sk-4", "zWq8", "Fh1Q", "7391846"];
            assert!(parts.iter().all(|part| !text.contains(part)), "{spec}: {text}");
            assert!(text.contains(told) && text.len() > 10, "{spec}: {text}");
        }
        let error = serde_json::from_value::<OtpSpec>(serde_json::json!({"bugdets": {}})).unwrap_err();
        assert!(unquoted(&error).contains("unknown field `bugdets`"), "{}", unquoted(&error));
    }

    #[test]
    fn a_purpose_that_nobody_declared_and_a_policy_that_is_wrong_refuse_the_workspace() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample/workspaces");
        for (file, from, to, told) in [
            ("lead-orders.yaml", "purpose: look-up-order", "purpose: look-elsewhere", "PURPOSE_UNKNOWN"),
            ("workspace.yaml", "via: [screen]", "via: [nothing]", "spec.otp.email.via[0]"),
            ("workspace.yaml", "{console: true}", "{console: yes, smtp: {}}", "spec.otp"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for name in ["workspace.yaml", "orders.yaml", "refund-order.yaml", "lead-orders.yaml"] {
                let text = std::fs::read_to_string(sample.join(name)).unwrap();
                let changed = if name == file { text.replace(from, to) } else { text.clone() };
                assert!(name != file || text != changed, "the sample has changed");
                std::fs::write(folder.path().join(name), changed).unwrap();
            }
            let found = super::super::read(&[folder.path().to_owned()]).unwrap();
            let problems = found.problems.join("\n");
            assert!(found.workspaces.is_empty() && problems.contains(told), "{problems}");
        }
    }
}
