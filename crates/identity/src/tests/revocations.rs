//! Who is signed out or blocked, and sessions that are revoked.

use safeconduct_identity_domain::contact::{Identifier, Identity as Claimed};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn who_is_blocked_proves_nothing_until_that_is_lifted_even_if_all_marks_are_lost() {
    let suite = Suite::people().await;
    let held = suite.user("u1").await.assertion;
    let contact = suite.revoke("u1", pb::RevokeMode::Block).await.contact_id;
    let kinds: Vec<_> = suite.marking.0.lock().unwrap().iter().map(|one| one.key.subject.kind()).collect();
    assert!(kinds.contains(&"CONTACT_BLOCKED") && kinds.contains(&"CONTACT_SIGNED_OUT"));
    suite.clock.advance(SECOND * 5);
    suite.heard();
    assert_eq!(reason(suite.verify("messenger", hashed("u1", SECRET)).await), Reason::AssertionRevoked);
    assert_eq!(reason(suite.renew(&held).await), Reason::AssertionRevoked);
    let unblock = pb::UnblockContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::unblock_contact_request::Subject::ContactId(contact)),
        reason: "mistaken".to_owned(),
    };
    assert_eq!(reason(suite.unblock_contact("messenger", unblock.clone()).await), Reason::CallerNotAllowed);
    suite.unblock_contact("backend", unblock).await.unwrap();
    assert_eq!(reason(suite.renew(&held).await), Reason::AssertionRevoked, "the old session stays over");
    suite.user("u1").await;
}

#[tokio::test]
async fn who_is_blocked_by_an_address_adds_it_to_no_user() {
    let suite = Suite::people().await;
    let visitor = suite.begin("messenger", visitor()).await.unwrap().assertion;
    let lead = suite.prove(&visitor, "ann@example.com", "v1").await.unwrap().contact.unwrap().contact_id;
    let block = pb::RevokeContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::revoke_contact_request::Subject::ContactId(lead)),
        mode: pb::RevokeMode::Block.into(),
        reason: "abuse".to_owned(),
    };
    suite.revoke_contact("operator", block).await.unwrap();
    suite.clock.advance(SECOND * 5);
    let user = suite.user("u1").await.assertion;
    assert_eq!(reason(suite.prove(&user, "ann@example.com", "v2").await), Reason::AssertionRevoked);
    suite.prove(&user, "bob@example.com", "v3").await.unwrap();
}

/// Proofs are over the email: an address names a user.
async fn by_address() -> Suite {
    let suite = Suite::people().await;
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(MAIL))];
    suite
}

fn hashed_address(address: &str) -> pb::VerifyIdentityRequest {
    let mut request = hashed(address, SECRET);
    if let Some(pb::verify_identity_request::Proof::UserHash(proof)) = &mut request.proof {
        proof.subject = Some(pb::user_hash::Subject::Email(address.to_owned()));
    }
    request
}

fn block_address(address: &str) -> pb::RevokeContactRequest {
    pb::RevokeContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::revoke_contact_request::Subject::Email(address.to_owned())),
        mode: pb::RevokeMode::Block.into(),
        reason: "abuse".to_owned(),
    }
}

fn unblock_address(address: &str) -> pb::UnblockContactRequest {
    pb::UnblockContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::unblock_contact_request::Subject::Email(address.to_owned())),
        reason: "by mistake".to_owned(),
    }
}

fn address_of_user(suite: &Suite, address: &str) -> ContactId {
    let claimed = Claimed::parse(Identifier::Email, address, "email").unwrap();
    suite.identity.contacts.user(&"acme".parse().unwrap(), &claimed)
}

#[tokio::test]
async fn blocking_an_address_blocks_the_lead_and_the_user_whom_it_names_though_never_seen() {
    let suite = by_address().await;
    let visitor = async || suite.begin("messenger", visitor()).await.unwrap().assertion;
    let proven = suite.prove(&visitor().await, "ann@example.com", "v1").await.unwrap();
    let lead: ContactId = proven.contact.unwrap().contact_id.parse().unwrap();
    suite.revoke_contact("operator", block_address("ann@example.com")).await.unwrap();
    // It may be said again, whether or not the answer was heard.
    suite.revoke_contact("operator", block_address("ann@example.com")).await.unwrap();
    suite.clock.advance(SECOND * 5);
    suite.heard();
    let refused = suite.verify("messenger", hashed_address("ann@example.com")).await;
    assert_eq!(reason(refused), Reason::AssertionRevoked, "a user hash never expires");
    assert_eq!(reason(suite.prove(&visitor().await, "ann@example.com", "v2").await), Reason::AssertionRevoked);
    suite.verify("messenger", hashed_address("bob@example.com")).await.unwrap();

    suite.unblock_contact("operator", unblock_address("ann@example.com")).await.unwrap();
    for contact in [address_of_user(&suite, "ann@example.com"), lead] {
        let record = suite.identity.people.read(&"acme".parse().unwrap(), &contact).await.unwrap().unwrap();
        assert_eq!(record.blocked, None, "{record:?}");
    }
}

#[tokio::test]
async fn an_address_that_leads_to_more_than_a_user_and_a_lead_closes_nobody() {
    let suite = by_address().await;
    let visitor = suite.begin("messenger", visitor()).await.unwrap().assertion;
    suite.prove(&visitor, "ann@example.com", "v1").await.unwrap();
    // Identities are compared byte for byte, addresses are not.
    suite.verify("messenger", hashed_address("Ann@example.com")).await.unwrap();
    let refused = suite.revoke_contact("operator", block_address("ann@example.com")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InputInvalid);
    suite.clock.advance(SECOND * 5);
    for address in ["ann@example.com", "Ann@example.com"] {
        suite.verify("messenger", hashed_address(address)).await.unwrap();
    }
}

#[tokio::test]
async fn a_block_that_outlived_an_erasure_is_lifted_by_the_address_again() {
    let suite = by_address().await;
    suite.verify("messenger", hashed_address("ann@example.com")).await.unwrap();
    suite.revoke_contact("operator", block_address("ann@example.com")).await.unwrap();
    let erase = pb::DeleteContactRequest {
        workspace_id: "acme".to_owned(),
        subject: Some(pb::delete_contact_request::Subject::Email("ann@example.com".to_owned())),
        reason: "asked for".to_owned(),
    };
    suite.delete_contact("backend", erase).await.unwrap();
    suite.clock.advance(SECOND * 5);
    suite.heard();
    assert!(suite.verify("messenger", hashed_address("ann@example.com")).await.is_err());
    suite.unblock_contact("operator", unblock_address("ann@example.com")).await.unwrap();
}

#[tokio::test]
async fn who_may_renew_an_assertion_may_end_its_session() {
    let suite = Suite::people().await;
    let held = suite.user("u1").await.assertion;
    suite.clock.advance(Duration::from_mins(15) + SECOND * 30);
    suite.heard();
    let target = Some(pb::revoke_session_request::Target::Assertion(held.clone()));
    let request = pb::RevokeSessionRequest { target, reason: "signing out".to_owned(), ..Default::default() };
    suite.revoke_session("messenger", request).await.unwrap();
    assert_eq!(reason(suite.renew(&held).await), Reason::AssertionRevoked);
}

#[tokio::test]
async fn who_was_signed_out_proves_again_in_a_new_session_only() {
    let suite = Suite::people().await;
    let held = suite.user("u1").await.assertion;
    suite.revoke("u1", pb::RevokeMode::SignOut).await;
    suite.clock.advance(SECOND);
    assert_eq!(reason(suite.renew(&held).await), Reason::AssertionRevoked);
    suite.heard();
    assert_eq!(reason(suite.verify("messenger", within(&held, hashed("u1", SECRET))).await), Reason::AssertionRevoked);
    suite.user("u1").await;
}

#[tokio::test]
async fn a_revoked_session_is_over_for_good_and_no_other_is() {
    let suite = Suite::people().await;
    let (one, two) = (suite.user("u1").await, suite.user("u1").await);
    let target = Some(pb::revoke_session_request::Target::Assertion(one.assertion.clone()));
    let request = pb::RevokeSessionRequest { target, reason: "signing out".to_owned(), ..Default::default() };
    let answer = suite.revoke_session("messenger", request).await.unwrap();
    assert!(answer.effective_time.unwrap().seconds <= NOW.as_seconds() + 1);
    suite.heard();
    assert_eq!(reason(suite.renew(&one.assertion).await), Reason::AssertionRevoked);
    let again = suite.verify("messenger", within(&one.assertion, hashed("u1", SECRET))).await;
    assert_eq!(reason(again), Reason::AssertionRevoked);
    suite.renew(&two.assertion).await.unwrap();
}
