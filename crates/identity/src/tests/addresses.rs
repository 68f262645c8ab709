//! Addresses that were proven, and whom they lead to.

use safeconduct_identity_domain::contact::{Identifier, Identity as Claimed, Method};
use safeconduct_types::Provenance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_visitor_who_proves_an_address_is_one_lead_in_every_session() {
    let suite = Suite::people().await;
    let mut leads = Vec::new();
    for operation in ["v1", "v2"] {
        let held = suite.begin("messenger", visitor()).await.unwrap().assertion;
        let issued = suite.prove(&held, "ann@example.com", operation).await.unwrap();
        let read = suite.read(&issued.assertion, "messenger").unwrap();
        assert_eq!((read.contact().kind, read.method(), read.epoch()), (ContactKind::Lead, Method::EmailCode, 2));
        assert!(read.contact().attributes.is_empty(), "nothing but the address");
        let email = read.contact().proven.email.as_ref().unwrap();
        assert_eq!((email.value.as_str(), email.provenance), (Some("ann@example.com"), Provenance::OtpEmail));
        assert_eq!(issued.proof_expire_time.unwrap().seconds, NOW.as_seconds() + 1800);
        let again = suite.prove(&held, "ann@example.com", operation).await.unwrap();
        assert_eq!(suite.read(&again.assertion, "messenger").unwrap().epoch(), 2, "one verification counts once");
        leads.push(issued.contact.unwrap().contact_id);
    }
    assert_eq!(leads[0], leads[1]);
    suite.set("u1", &[("email", r#""ann@example.com""#)]).await;
    assert_ne!(suite.user("u1").await.contact.unwrap().contact_id, leads[0], "never a user's");
}

#[tokio::test]
async fn the_session_of_a_lead_takes_no_other_address_and_no_user() {
    let suite = Suite::people().await;
    let held = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let lead = suite.prove(&held, "ann@example.com", "v1").await.unwrap().assertion;
    assert_eq!(reason(suite.prove(&lead, "bob@example.com", "v2").await), Reason::SessionBound);
    suite.heard();
    assert_eq!(reason(suite.verify("messenger", within(&lead, hashed("u1", SECRET))).await), Reason::SessionBound);
    let both = suite.prove(&lead, "+353861234567", "v3").await.unwrap().assertion;
    let read = suite.read(&both, "messenger").unwrap();
    assert!(read.contact().proven.email.is_some() && read.contact().proven.phone.is_some());
    assert_eq!(read.contact().id, suite.read(&lead, "messenger").unwrap().contact().id);
}

#[tokio::test]
async fn a_user_who_proves_an_address_keeps_what_was_signed() {
    let suite = Suite::people().await;
    suite.set("u1", &[("email", r#""old@example.com""#)]).await;
    suite.clock.advance(SECOND * 5);
    let user = suite.user("u1").await;
    let stepped = suite.prove(&user.assertion, "ann@example.com", "v1").await.unwrap();
    let read = suite.read(&stepped.assertion, "messenger").unwrap();
    assert_eq!((read.contact().kind, read.method(), read.epoch()), (ContactKind::User, Method::UserHash, 2));
    assert_eq!(read.contact().attributes["user_id"].provenance, Provenance::SignedHash);
    assert_eq!(read.contact().attributes["email"].value, "old@example.com");
    assert_eq!(read.contact().proven.email.as_ref().unwrap().value, "ann@example.com");
    assert_eq!(stepped.proof_expire_time, user.proof_expire_time);
    assert_eq!(reason(suite.renew(&user.assertion).await), Reason::AssertionStale, "from before");
    // Ends with its own time.
    suite.clock.advance(SECOND * 899);
    let later = suite.renew(&stepped.assertion).await.unwrap();
    suite.clock.advance(SECOND * 890);
    let last = suite.renew(&later.assertion).await.unwrap();
    assert_eq!(last.expire_time.unwrap().seconds, NOW.as_seconds() + 5 + 1800);
    suite.clock.advance(SECOND * 20);
    let over = suite.renew(&last.assertion).await.unwrap();
    assert!(suite.read(&over.assertion, "messenger").unwrap().contact().proven.is_empty());
}

#[tokio::test]
async fn a_proven_address_ends_when_the_backend_names_another_one() {
    let suite = Suite::people().await;
    let user = suite.user("u1").await.assertion;
    suite.prove(&user, "ann@example.com", "v1").await.unwrap();
    for (address, stays) in [("Ann@example.com", true), ("bob@example.com", false)] {
        suite.clock.advance(SECOND * 5);
        suite.set("u1", &[("email", &format!("{address:?}"))]).await;
        suite.heard();
        let again = suite.verify("messenger", within(&user, hashed("u1", SECRET))).await.unwrap();
        let read = suite.read(&again.assertion, "messenger").unwrap();
        assert_eq!(read.contact().proven.email.is_some(), stays, "{address}");
    }
}

#[tokio::test]
async fn only_services_say_that_an_address_was_proven() {
    let suite = Suite::people().await;
    let held = suite.begin("messenger", visitor()).await.unwrap().assertion;
    for caller in ["agent", "messenger", "backend", "operator"] {
        let request = pb::IssueAssertionRequest {
            workspace_id: "acme".to_owned(),
            assertion: held.clone(),
            proven_address: Some(pb::ProvenAddress {
                method: common::VerificationMethod::EmailCode.into(),
                address: "ann@example.com".to_owned(),
                prove_time: Some(prost_types::Timestamp { seconds: NOW.as_seconds(), nanos: 0 }),
            }),
            operation_id: "v1".to_owned(),
            ..Default::default()
        };
        assert_eq!(reason(suite.issue_assertion(caller, request).await), Reason::CallerNotAllowed, "{caller}");
    }
}

#[tokio::test]
async fn one_address_on_two_users_stays_two_contacts() {
    let suite = Suite::people().await;
    for user in ["u1", "u2"] {
        suite.set(user, &[("email", r#""Ann@example.com""#)]).await;
    }
    let by_email = || pb::GetContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::get_contact_request::Subject::Email("ann@example.com".to_owned())),
    };
    let refused = suite.get_contact("backend", by_email()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InputInvalid);
    suite.set("u2", &[("email", r#""other@example.com""#)]).await;
    assert_eq!(suite.get_contact("backend", by_email()).await.unwrap().contact.unwrap().user_id, "u1");
    assert_eq!(reason(suite.get_contact("messenger", by_email()).await), Reason::CallerNotAllowed);
}

#[tokio::test]
async fn an_address_that_was_changed_leads_nowhere_and_no_index_remembers_whose_it_was() {
    let suite = Suite::people().await;
    let acme: WorkspaceId = "acme".parse().unwrap();
    let by = |email: &str| pb::GetContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::get_contact_request::Subject::Email(email.to_owned())),
    };
    let indexed = async |email: &str| suite.identity.people.indexed(&acme, email).await.unwrap().len();
    suite.set("u1", &[("email", r#""old@example.com""#)]).await;
    suite.set("u1", &[("email", r#""Old@example.com""#)]).await;
    assert_eq!(indexed("OLD@example.com").await, 1, "another case is no other address");
    suite.set("u1", &[("email", r#""new@example.com""#)]).await;
    assert_eq!(reason(suite.get_contact("backend", by("old@example.com")).await), Reason::ContactUnknown);
    assert_eq!(suite.get_contact("backend", by("new@example.com")).await.unwrap().contact.unwrap().user_id, "u1");
    assert_eq!((indexed("old@example.com").await, indexed("new@example.com").await), (0, 1));
    assert!(suite.known("u1").await.former.is_empty());
    // Back and forth, and away.
    suite.set("u1", &[("email", r#""old@example.com""#)]).await;
    assert_eq!((indexed("old@example.com").await, indexed("new@example.com").await), (1, 0));
    suite.set("u1", &[("email", "null")]).await;
    assert_eq!((indexed("old@example.com").await, indexed("new@example.com").await), (0, 0));
    // Somebody else's entry stays.
    suite.set("u1", &[("email", r#""both@example.com""#)]).await;
    suite.set("u2", &[("email", r#""both@example.com""#)]).await;
    suite.set("u1", &[("email", r#""own@example.com""#)]).await;
    assert_eq!(suite.get_contact("backend", by("both@example.com")).await.unwrap().contact.unwrap().user_id, "u2");
    let erased = pb::DeleteContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::delete_contact_request::Subject::UserId("u1".to_owned())),
        reason: "asked for".to_owned(),
    };
    suite.delete_contact("backend", erased).await.unwrap();
    assert_eq!((indexed("own@example.com").await, indexed("both@example.com").await), (0, 1));
}

#[tokio::test]
async fn what_a_process_that_died_had_yet_to_forget_is_forgotten_by_the_next_change_and_by_erasure() {
    for by_erasure in [false, true] {
        let suite = Suite::people().await;
        let acme: WorkspaceId = "acme".parse().unwrap();
        let indexed = async |email: &str| suite.identity.people.indexed(&acme, email).await.unwrap().len();
        suite.set("u1", &[("email", r#""old@example.com""#)]).await;
        let contact = suite.identity.contacts.user(&acme, &Claimed::parse(Identifier::UserId, "u1", "f").unwrap());
        suite.identity.people.change_and_die(&acme, &contact, "email", "new@example.com").await;
        assert!(suite.known("u1").await.former.has("old@example.com"));
        assert!(!format!("{:?}", suite.known("u1").await).contains("example.com"));
        assert_eq!(indexed("old@example.com").await, 1);
        if by_erasure {
            let erased = pb::DeleteContactRequest {
                workspace_id: "acme".to_owned(),
                subject: Some(pb::delete_contact_request::Subject::UserId("u1".to_owned())),
                reason: "asked for".to_owned(),
            };
            suite.delete_contact("backend", erased).await.unwrap();
        } else {
            suite.set("u1", &[("tier", r#""gold""#)]).await;
        }
        assert_eq!(indexed("old@example.com").await, 0);
        assert!(suite.known("u1").await.former.is_empty());
    }
}
