//! Contacts: attributes, leads, renewal, revocation, erasure.

use safeconduct_identity_domain::contact::{Identifier, Identity as Claimed, Method};
use safeconduct_identity_domain::record::ContactRecord;
use serde_json::Value;

use super::*;
use crate::issue::Issued;
use crate::proof::Proof;

/// `spec.attributes` of every workspace.
pub(super) const DECLARED: &str = r#"{"tier":{"protected":true,"schema":{"type":"string","enum":["silver","gold"]}},
    "nickname":{"client_writable":true,"schema":{"type":"string","maxLength":40}},"segment":{}}"#;

const TRAVELS: &str = r#"{"secrets":[{"id":"s1","secret":"current","use":"user_hash"}],
    "user_hash":{"over":"user_id"},"assertion_attributes":["tier","nickname","email"]}"#;

const SECOND: Duration = Duration::from_secs(1);

macro_rules! calls {
    ($($call:ident($request:ident) -> $response:ident;)*) => {
        impl Suite {
            $(pub(super) async fn $call(&self, caller: &str, message: pb::$request) -> Result<pb::$response, Refusal> {
                self.heard();
                plain(self.grpc.$call(self.request(caller, message)).await)
            })*
        }
    };
}

calls! {
    renew_assertion(RenewAssertionRequest) -> RenewAssertionResponse;
    update_attributes(UpdateAttributesRequest) -> UpdateAttributesResponse;
    set_attributes(SetAttributesRequest) -> SetAttributesResponse;
    get_contact(GetContactRequest) -> GetContactResponse;
    export_contact(ExportContactRequest) -> ExportContactResponse;
    delete_contact(DeleteContactRequest) -> DeleteContactResponse;
    revoke_session(RevokeSessionRequest) -> RevokeSessionResponse;
    revoke_contact(RevokeContactRequest) -> RevokeContactResponse;
    unblock_contact(UnblockContactRequest) -> UnblockContactResponse;
    issue_assertion(IssueAssertionRequest) -> IssueAssertionResponse;
}

impl Suite {
    /// The mirror knows the marks that were put into `marks`, and what time it is.
    pub(super) fn heard(&self) {
        self.mirror.tell(self.marks.lock().unwrap().clone());
        *self.marking.1.lock().unwrap() = self.clock.now();
    }

    pub(super) async fn people() -> Self {
        let suite = Self::start().await;
        *suite.directory.0.lock().unwrap() = vec![("acme", policy(TRAVELS)), ("globex", policy(TRAVELS))];
        suite
    }

    pub(super) async fn user(&self, id: &str) -> pb::VerifyIdentityResponse {
        self.heard();
        self.verify("messenger", hashed(id, SECRET)).await.unwrap()
    }

    pub(super) async fn renew(&self, assertion: &str) -> Result<pb::RenewAssertionResponse, Refusal> {
        self.renew_assertion("messenger", pb::RenewAssertionRequest { assertion: assertion.to_owned() }).await
    }

    pub(super) async fn set(&self, id: &str, attributes: &[(&str, &str)]) -> pb::SetAttributesResponse {
        let request = pb::SetAttributesRequest {
            workspace_id: "acme".to_owned(),
            subject: Some(pb::set_attributes_request::Subject::UserId(id.to_owned())),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        self.set_attributes("backend", request).await.unwrap()
    }

    pub(super) async fn update(&self, assertion: &str, name: &str, value: &str) -> Option<pb::AttributeRefusal> {
        let attributes = [(name.to_owned(), value.to_owned())].into();
        let request = pb::UpdateAttributesRequest { assertion: assertion.to_owned(), attributes };
        let answer = self.update_attributes("messenger", request).await.unwrap();
        let [one] = answer.results.as_slice() else { panic!("one") };
        (!one.applied).then(|| one.refusal())
    }

    /// A token that says this, made at `said`.
    async fn token(&self, id: &str, said: Timestamp, attributes: &[(&str, Value)]) -> Issued {
        let proof = Proof {
            identity: Claimed::parse(Identifier::UserId, id, "f").unwrap(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            provenance: Provenance::SignedToken,
            method: Method::Token,
            proof_id: "k1".to_owned(),
            proof_mark: self.mark(),
            proof_time: said,
            expires: None,
        };
        self.heard();
        let presenters = vec!["messenger".parse().unwrap()];
        self.identity.accept("acme".parse().unwrap(), None, proof, presenters, self.clock.now()).await.unwrap()
    }

    /// Of a secret that the workspace accepts.
    fn mark(&self) -> String {
        let accepted = self.identity.accepted_by(&"acme".parse().unwrap()).unwrap();
        let secret = &accepted.policy.secrets()[0].id;
        accepted.secrets.hashes.mark(secret).unwrap().to_owned()
    }

    pub(super) async fn known(&self, id: &str) -> ContactRecord {
        let acme = "acme".parse().unwrap();
        let contact = self.identity.contacts.user(&acme, &Claimed::parse(Identifier::UserId, id, "f").unwrap());
        self.identity.people.read(&acme, &contact).await.unwrap().unwrap()
    }

    pub(super) async fn prove(
        &self,
        assertion: &str,
        address: &str,
        operation: &str,
    ) -> Result<pb::IssueAssertionResponse, Refusal> {
        let mut proven = pb::ProvenAddress {
            address: address.to_owned(),
            prove_time: Some(prost_types::Timestamp { seconds: self.clock.now().as_seconds(), nanos: 0 }),
            ..Default::default()
        };
        let method = if address.starts_with('+') {
            common::VerificationMethod::SmsCode
        } else {
            common::VerificationMethod::EmailCode
        };
        proven.set_method(method);
        let request = pb::IssueAssertionRequest {
            workspace_id: "acme".to_owned(),
            assertion: assertion.to_owned(),
            proven_address: Some(proven),
            operation_id: operation.to_owned(),
            ..Default::default()
        };
        self.issue_assertion("otp", request).await
    }

    pub(super) async fn revoke(&self, id: &str, mode: pb::RevokeMode) -> pb::RevokeContactResponse {
        let request = pb::RevokeContactRequest {
            workspace_id: "acme".to_owned(),
            subject: Some(pb::revoke_contact_request::Subject::UserId(id.to_owned())),
            mode: mode.into(),
            reason: "abuse".to_owned(),
        };
        self.revoke_contact("operator", request).await.unwrap()
    }
}

#[tokio::test]
async fn a_browser_changes_what_is_declared_for_it_and_nothing_else() {
    let suite = Suite::people().await;
    suite.set("u1", &[("tier", r#""silver""#)]).await;
    suite.clock.advance(SECOND * 3);
    let held = suite.user("u1").await.assertion;
    assert_eq!(suite.update(&held, "nickname", r#""Ann""#).await, None);
    let refused = [
        ("tier", pb::AttributeRefusal::Protected),
        ("segment", pb::AttributeRefusal::NotWritable),
        ("user_id", pb::AttributeRefusal::Identifier),
        ("email", pb::AttributeRefusal::Protected),
        ("Tier", pb::AttributeRefusal::Unknown),
        ("t\u{456}er", pb::AttributeRefusal::Unknown),
        ("tier\u{200b}", pb::AttributeRefusal::Unknown),
        ("\u{ff54}ier", pb::AttributeRefusal::Unknown),
        ("contact.tier", pb::AttributeRefusal::Unknown),
        ("attributes.tier", pb::AttributeRefusal::Unknown),
    ];
    for (name, why) in refused {
        assert_eq!(suite.update(&held, name, r#""gold""#).await, Some(why), "{name:?}");
    }
    assert_eq!(suite.update(&held, "nickname", "7").await, Some(pb::AttributeRefusal::Invalid));
    let fresh = suite.renew(&held).await.unwrap();
    let read = suite.read(&fresh.assertion, "messenger").unwrap();
    let attributes = &read.contact().attributes;
    assert_eq!(attributes["nickname"].provenance, Provenance::Client);
    assert_eq!(
        (attributes["tier"].value.as_str(), attributes["tier"].provenance),
        (Some("silver"), Provenance::Server)
    );
}

#[tokio::test]
async fn values_with_two_meanings_or_out_of_bounds_are_refused() {
    let suite = Suite::people().await;
    let held = suite.user("u1").await.assertion;
    for bad in
        ["", "x", r#"{"a":1,"a":2}"#, "1} , {", r#"1,"w":2"#, &"[".repeat(20), &format!("\"{}\"", "x".repeat(4096))]
    {
        let attributes = [("nickname".to_owned(), bad.to_owned())].into();
        let request = pb::UpdateAttributesRequest { assertion: held.clone(), attributes };
        assert_eq!(reason(suite.update_attributes("messenger", request).await), Reason::InputInvalid, "{bad}");
    }
    let request =
        pb::UpdateAttributesRequest { assertion: held, attributes: [("nickname".to_owned(), "1".to_owned())].into() };
    assert_eq!(reason(suite.update_attributes("agent", request).await), Reason::CallerNotAllowed);
}

#[tokio::test]
async fn a_browser_never_overwrites_what_somebody_stronger_said() {
    let suite = Suite::people().await;
    suite.set("u1", &[("nickname", r#""Ann""#)]).await;
    let held = suite.user("u1").await.assertion;
    for value in [r#""Bob""#, r#""Ann""#, "null"] {
        assert_eq!(
            suite.update(&held, "nickname", value).await,
            Some(pb::AttributeRefusal::WeakerProvenance),
            "{value}"
        );
    }
    assert_eq!(suite.known("u1").await.attributes["nickname"].attribute.provenance, Provenance::Server);
}

#[tokio::test]
async fn the_latest_of_backend_and_token_counts_and_an_old_token_rolls_nothing_back() {
    let suite = Suite::people().await;
    let tier = |record: ContactRecord| record.attributes["tier"].attribute.value.clone();
    suite.token("u1", NOW, &[("tier", "silver".into()), ("other", 1.into())]).await;
    assert!(!suite.known("u1").await.attributes.contains_key("other"), "not declared");
    suite.clock.advance(SECOND * 10);
    suite.set("u1", &[("tier", r#""gold""#)]).await;
    suite.token("u1", NOW.after(SECOND * 5), &[("tier", "silver".into())]).await;
    assert_eq!(tier(suite.known("u1").await), "gold");
    suite.clock.advance(SECOND * 10);
    suite.token("u1", NOW.after(SECOND * 15), &[("tier", "silver".into())]).await;
    assert_eq!(tier(suite.known("u1").await), "silver");
    suite.set("u1", &[("tier", "null")]).await;
    suite.token("u1", NOW.after(SECOND * 16), &[("tier", "gold".into())]).await;
    assert!(tier(suite.known("u1").await).is_null(), "what was removed stays so");
}

#[tokio::test]
async fn a_changed_protected_value_makes_older_assertions_stale_and_newer_ones_not() {
    let suite = Suite::people().await;
    let old = suite.user("u1").await.assertion;
    suite.set("u1", &[("nickname", r#""Ann""#)]).await;
    suite.renew(&old).await.unwrap();
    suite.set("u1", &[("tier", r#""gold""#)]).await;
    let stale = suite.marking.0.lock().unwrap().last().cloned().unwrap();
    assert!(matches!(stale.key.subject, Subject::AssertionStale(_, None)));
    let refused = suite.renew(&old).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AssertionStale);
    assert!(refused.metadata().contains(&("changed".into(), "contact".to_owned())));
    // In the same instant.
    let new = suite.user("u1").await.assertion;
    let stale = Mark { effective: stale.effective.unwrap(), expires: stale.expires, ..mark(stale.key) };
    let meets = |token: &str| {
        suite
            .read(token, "messenger")
            .unwrap()
            .marks()
            .iter()
            .any(|check| check.key == stale.key && stale.is_met(check))
    };
    assert!(meets(&old) && !meets(&new));
    assert!(stale.in_force(NOW.after(suite.identity.settings.assertion_lifetime)));
    suite.renew(&new).await.unwrap();
    // Setting what is so changes nothing, for anybody.
    let before = suite.known("u1").await.changed;
    suite.clock.advance(SECOND * 60);
    suite.set("u1", &[("tier", r#""gold""#)]).await;
    assert_eq!(suite.known("u1").await.changed, before);
}

#[tokio::test]
async fn an_assertion_that_was_renewed_while_a_token_took_its_time_is_stale_too() {
    let suite = Suite::people().await;
    suite.set("u1", &[("tier", r#""silver""#)]).await;
    suite.clock.advance(SECOND * 5);
    let held = suite.user("u1").await.assertion;
    let came = suite.clock.now();
    // The keys of the token are being fetched.
    suite.clock.advance(SECOND * 2);
    let renewed = suite.renew(&held).await.unwrap().assertion;
    let proof = Proof {
        identity: Claimed::parse(Identifier::UserId, "u1", "f").unwrap(),
        attributes: [("tier".to_owned(), "gold".into())].into(),
        provenance: Provenance::SignedToken,
        method: Method::Token,
        proof_id: "k1".to_owned(),
        proof_mark: suite.mark(),
        proof_time: came,
        expires: None,
    };
    let presenters = vec!["messenger".parse().unwrap()];
    suite.identity.accept("acme".parse().unwrap(), None, proof, presenters, came).await.unwrap();
    assert_eq!(reason(suite.renew(&renewed).await), Reason::AssertionStale);
}

#[tokio::test]
async fn an_assertion_is_renewed_until_its_proof_is_too_old() {
    let suite = Suite::people().await;
    let first = suite.user("u1").await;
    let until = first.proof_expire_time.unwrap().seconds;
    let mut held = first.assertion;
    while suite.clock.now().as_seconds() < until - 900 {
        suite.clock.advance(SECOND * 930);
        let fresh = suite.renew(&held).await.unwrap();
        assert_eq!(
            (fresh.session_id.as_str(), fresh.proof_expire_time.unwrap().seconds),
            (first.session_id.as_str(), until)
        );
        held = fresh.assertion;
        let read = suite.read(&held, "messenger").unwrap();
        assert_eq!((read.method(), read.contact().attributes["user_id"].proof_time), (Method::UserHash, NOW));
    }
    suite.clock.set(Timestamp::from_seconds(until));
    let refused = suite.renew(&held).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AssertionStale);
    assert!(refused.metadata().contains(&("changed".into(), "proof".to_owned())));
}

#[tokio::test]
async fn an_assertion_is_renewed_by_who_may_present_it_and_up_to_a_minute_late() {
    let suite = Suite::people().await;
    let held = suite.user("u1").await.assertion;
    let by =
        |caller: &'static str| suite.renew_assertion(caller, pb::RenewAssertionRequest { assertion: held.clone() });
    assert_eq!(reason(by("agent").await), Reason::AudienceMismatch);
    suite.clock.advance(SECOND * (900 + 59));
    by("messenger").await.unwrap();
    suite.clock.advance(SECOND);
    assert_eq!(reason(by("messenger").await), Reason::AssertionExpired);
}

#[tokio::test]
async fn an_assertion_from_before_an_upgrade_is_not_renewed() {
    let suite = Suite::people().await;
    let visitor = suite.begin("messenger", visitor()).await.unwrap().assertion;
    suite.renew(&visitor).await.unwrap();
    suite.verify("messenger", within(&visitor, hashed("u1", SECRET))).await.unwrap();
    assert_eq!(reason(suite.renew(&visitor).await), Reason::AssertionStale);
}

#[tokio::test]
async fn who_was_erased_is_unknown_and_comes_back_as_somebody_new() {
    let suite = Suite::people().await;
    suite.set("u1", &[("tier", r#""gold""#), ("email", r#""ann@example.com""#)]).await;
    suite.clock.advance(SECOND * 3);
    let held = suite.user("u1").await.assertion;
    let contact = || pb::get_contact_request::Subject::UserId("u1".to_owned());
    let get = || pb::GetContactRequest { workspace_id: "acme".to_owned(), subject: Some(contact()) };
    let export = pb::ExportContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::export_contact_request::Subject::UserId("u1".to_owned())),
        ..Default::default()
    };
    let exported = suite.export_contact("operator", export).await.unwrap();
    assert!(exported.parts_json.iter().any(|part| part.contains("ann@example.com")));
    for _ in 0..2 {
        let request = pb::DeleteContactRequest {
            workspace_id: "acme".to_owned(),
            subject: Some(pb::delete_contact_request::Subject::UserId("u1".to_owned())),
            reason: "asked for".to_owned(),
        };
        assert!(suite.delete_contact("backend", request).await.unwrap().complete);
    }
    assert_eq!(reason(suite.get_contact("backend", get()).await), Reason::ContactUnknown);
    assert_eq!(reason(suite.renew(&held).await), Reason::AssertionRevoked);
    suite.clock.advance(SECOND * 2);
    suite.heard();
    assert_eq!(reason(suite.verify("messenger", within(&held, hashed("u1", SECRET))).await), Reason::AssertionRevoked);
    suite.user("u1").await;
    assert!(suite.get_contact("backend", get()).await.unwrap().contact.unwrap().attributes.is_empty());
}

#[test]
fn neither_assertions_nor_what_is_said_of_people_are_printed() {
    let attributes: std::collections::BTreeMap<_, _> = [("nickname".to_owned(), r#""Ann""#.to_owned())].into();
    let update = pb::UpdateAttributesRequest { assertion: "a.b.c".to_owned(), attributes: attributes.clone() };
    let subject = Some(pb::set_attributes_request::Subject::UserId("u-Ann".to_owned()));
    let set = pb::SetAttributesRequest { workspace_id: "acme".to_owned(), subject, attributes };
    let shown = format!(
        "{:?} {:?}",
        crate::wire::attributes::update_attributes(update).unwrap(),
        crate::wire::attributes::set_attributes(set).unwrap()
    );
    assert!(!shown.contains("Ann") && !shown.contains("a.b.c"), "{shown}");
}

#[tokio::test]
async fn a_visitors_own_words_are_not_carried_over_to_who_they_prove_to_be() {
    let suite = Suite::people().await;
    let held = suite.begin("messenger", visitor()).await.unwrap().assertion;
    assert_eq!(suite.update(&held, "nickname", r#""Ann""#).await, None);
    let read = suite.read(&suite.renew(&held).await.unwrap().assertion, "messenger").unwrap();
    assert_eq!(read.contact().attributes["nickname"].value, "Ann");
    let user = suite.verify("messenger", within(&held, hashed("u1", SECRET))).await.unwrap();
    assert!(!suite.read(&user.assertion, "messenger").unwrap().contact().attributes.contains_key("nickname"));
}

#[tokio::test]
async fn what_does_not_fit_into_an_assertion_stays_out_and_keeps_nobody_out() {
    let suite = Suite::people().await;
    suite.set("u1", &[("email", &format!("\"{}@example.com\"", "a".repeat(200)))]).await;
    suite.set("u1", &[("tier", r#""gold""#)]).await;
    let names: Vec<String> = (0..16).map(|n| format!("{}{n}", "p".repeat(40))).collect();
    let presenters = names.iter().cloned().chain(["messenger".to_owned()]).skip(1).collect();
    suite.heard();
    let issued =
        suite.verify("messenger", pb::VerifyIdentityRequest { presenters, ..hashed("u1", SECRET) }).await.unwrap();
    assert!(issued.assertion.len() <= 4096);
    let plain = suite.user("u1").await.assertion;
    assert!(plain.len() < 1500, "{} bytes", plain.len());
}
