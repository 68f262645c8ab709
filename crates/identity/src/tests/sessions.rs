//! Sessions of which nothing is stored, and what makes that a session all the same.

use safeconduct_identity_domain::contact::{Attributes, Method, visitor as began_as};
use safeconduct_identity_domain::session::Session;
use safeconduct_types::SessionId;

use super::*;
use crate::issue::Making;

const MINUTE: Duration = Duration::from_mins(1);

fn acme() -> WorkspaceId {
    "acme".parse().unwrap()
}

impl Suite {
    async fn stored(&self, session: &str) -> Option<Session> {
        self.identity.sessions.read(&acme(), &session.parse().unwrap()).await.unwrap()
    }

    /// By its id alone, as an operator does.
    async fn revoke_by_id(&self, session: &str) -> Result<pb::RevokeSessionResponse, Refusal> {
        let request = pb::RevokeSessionRequest {
            workspace_id: "acme".to_owned(),
            target: Some(pb::revoke_session_request::Target::SessionId(session.to_owned())),
            reason: "a stolen device".to_owned(),
        };
        self.revoke_session("operator", request).await
    }

    /// What is answered to each call that goes on with the session.
    async fn goes_on(&self, assertion: &str) -> [Option<Reason>; 4] {
        let reason = |refusal: Refusal| refusal.reason();
        [
            self.verify("messenger", within(assertion, hashed("u1", SECRET))).await.err().map(reason),
            self.renew(assertion).await.err().map(reason),
            self.prove(assertion, "ann@example.com", "v1").await.err().map(reason),
            self.update_attributes(
                "messenger",
                pb::UpdateAttributesRequest {
                    assertion: assertion.to_owned(),
                    attributes: [("nickname".to_owned(), r#""Al""#.to_owned())].into(),
                },
            )
            .await
            .err()
            .map(reason),
        ]
    }

    /// The marks that were set are in force and known.
    fn marks_arrive(&self) {
        let set = self.marking.0.lock().unwrap().clone();
        let in_force = |asked: SetMark| Mark {
            effective: asked.effective.unwrap_or(NOW),
            expires: asked.expires,
            min_epoch: asked.min_epoch,
            ..mark(asked.key)
        };
        *self.marks.lock().unwrap() = set.into_iter().map(in_force).collect();
        self.heard();
    }
}

#[tokio::test]
async fn nothing_is_stored_of_a_session_until_something_happens_in_it() {
    let suite = Suite::people().await;
    let quiet = suite.begin("messenger", visitor()).await.unwrap();
    suite.renew(&quiet.assertion).await.unwrap();
    let user = suite.user("u1").await;
    suite.renew(&user.assertion).await.unwrap();
    suite.verify("messenger", within(&user.assertion, hashed("u1", SECRET))).await.unwrap();
    for session in [&quiet.session_id, &user.session_id] {
        assert_eq!(suite.stored(session).await, None);
    }
    suite.verify("messenger", within(&quiet.assertion, hashed("u1", SECRET))).await.unwrap();
    suite.prove(&user.assertion, "ann@example.com", "v1").await.unwrap();
    for session in [&quiet.session_id, &user.session_id] {
        assert_eq!(suite.stored(session).await.map(|session| session.epoch()), Some(2));
    }
}

#[tokio::test]
async fn an_assertion_says_all_of_a_session_that_is_not_stored() {
    let suite = Suite::people().await;
    suite.clock.set(NOW.after(Duration::from_millis(700)));
    suite.heard();
    let lifetime = suite.identity.settings.session_lifetime;
    let id: SessionId = "ses_1".parse().unwrap();
    let contact = suite.user("u1").await.contact.unwrap().contact_id.parse::<ContactId>().unwrap();
    let now = suite.clock.now();
    for session in
        [Session::start(id.clone(), acme(), now, lifetime), Session::start_bound(id, acme(), contact, now, lifetime)]
    {
        let method = if session.bound().is_some() { Method::UserHash } else { Method::None };
        let making = Making {
            contact: session.bound().cloned().unwrap_or_else(|| began_as(&acme(), session.id())),
            named: Attributes::new(),
            record: None,
            method,
            proven_by: None,
            presenters: vec!["messenger".parse().unwrap()],
            proof_expires: session.ends(),
            session,
        };
        let issued = suite.identity.issue(making, now).unwrap();
        let held = suite.read(&issued.assertion, "messenger").unwrap();
        assert_eq!(suite.identity.unrecorded(&held), Some(issued.session));
    }
}

#[tokio::test]
async fn a_session_that_began_with_a_proof_is_nobody_elses_though_nothing_is_stored_of_it() {
    let suite = Suite::people().await;
    let user = suite.user("u1").await;
    let other = suite.verify("messenger", within(&user.assertion, hashed("u2", SECRET))).await;
    assert_eq!(reason(other), Reason::SessionBound);
    assert_eq!(suite.stored(&user.session_id).await, None);
}

#[tokio::test]
async fn a_session_is_revoked_by_its_id_alone_and_on_every_assertion_of_it() {
    let suite = Suite::people().await;
    let visitor = suite.begin("messenger", visitor()).await.unwrap();
    let user = suite.user("u1").await;
    let leads = suite.begin("messenger", super::visitor()).await.unwrap();
    let lead = suite.prove(&leads.assertion, "bob@example.com", "v0").await.unwrap();
    let spared = suite.user("u1").await;
    for (session, assertion) in [
        (&visitor.session_id, &visitor.assertion),
        (&user.session_id, &user.assertion),
        (&lead.session_id, &lead.assertion),
    ] {
        suite.revoke_by_id(session).await.unwrap();
        // Whoever verifies it elsewhere knows it by the marks alone.
        let held = suite.read(assertion, "messenger").unwrap();
        let set = suite.marking.0.lock().unwrap().clone();
        assert!(held.marks().iter().any(|check| {
            set.iter().any(|asked| asked.key == check.key && matches!(asked.key.subject, Subject::SessionRevoked(..)))
        }));
        // The record holds without them.
        assert_eq!(suite.goes_on(assertion).await, [Some(Reason::AssertionRevoked); 4]);
        suite.marks_arrive();
        assert_eq!(suite.goes_on(assertion).await, [Some(Reason::AssertionRevoked); 4]);
        suite.marks.lock().unwrap().clear();
        suite.heard();
    }
    suite.marks_arrive();
    assert_eq!(suite.goes_on(&spared.assertion).await[..2], [None, None], "another session of the same user goes on");
}

#[tokio::test]
async fn revoking_again_changes_nothing_and_what_is_stored_ends() {
    let suite = Suite::people().await;
    let lifetime = suite.identity.settings.session_lifetime;
    let user = suite.user("u1").await;
    suite.revoke_by_id(&user.session_id).await.unwrap();
    let stored = suite.stored(&user.session_id).await.unwrap();
    suite.clock.advance(MINUTE * 10);
    suite.heard();
    suite.revoke_by_id(&user.session_id).await.unwrap();
    assert_eq!(suite.stored(&user.session_id).await, Some(stored.clone()));
    assert!(stored.ends() >= NOW.after(lifetime) && stored.ends() <= NOW.after(lifetime + MINUTE));
    let set = suite.marking.0.lock().unwrap().clone();
    let revoked = set.iter().filter(|asked| matches!(asked.key.subject, Subject::SessionRevoked(..)));
    assert_eq!(revoked.count(), 2, "one mark each time, and that it was set is known at last");
    // A clock that is ahead of this one does not bring it back.
    suite.clock.set(stored.ends().after(MINUTE));
    assert!(suite.stored(&user.session_id).await.is_some());
    suite.clock.set(stored.ends().after(MINUTE * 3));
    assert_eq!(suite.stored(&user.session_id).await, None);
}

#[tokio::test]
async fn a_session_whose_record_was_lost_is_over() {
    let (suite, empty) = (Suite::people().await, Suite::people().await);
    let session = suite.begin("messenger", visitor()).await.unwrap();
    let user = suite.verify("messenger", within(&session.assertion, hashed("u1", SECRET))).await.unwrap();
    // The same keys and another store.
    empty.heard();
    assert_eq!(empty.goes_on(&user.assertion).await, [Some(Reason::AssertionExpired); 4]);
    // One from before the upgrade tells it by the mark.
    empty.renew(&session.assertion).await.expect("without the mark it could not be known");
    let (again, empty) = (suite, Suite::people().await);
    again.marks_arrive();
    *empty.marks.lock().unwrap() = again.marks.lock().unwrap().clone();
    empty.heard();
    assert_eq!(empty.goes_on(&session.assertion).await, [Some(Reason::AssertionExpired); 4]);
}

#[tokio::test]
async fn an_assertion_that_does_not_say_which_key_proved_a_user_is_not_renewed() {
    let suite = Suite::people().await;
    let user = suite.user("u1").await;
    let held = suite.read(&user.assertion, "messenger").unwrap();
    let making = |proven_by: Option<&str>| Making {
        contact: held.contact().id.clone(),
        named: Attributes::new(),
        record: None,
        method: held.method(),
        proven_by: proven_by.map(str::to_owned),
        presenters: held.presenters().to_vec(),
        proof_expires: held.proof_expires(),
        session: suite.identity.unrecorded(&held).unwrap(),
    };
    let issue = |proven_by| suite.identity.issue(making(proven_by), NOW).unwrap().assertion;
    suite.renew(&issue(held.proven_by())).await.unwrap();
    for mark in [None, Some("of another key")] {
        assert_eq!(reason(suite.renew(&issue(mark)).await), Reason::AssertionStale);
    }
}

#[tokio::test]
async fn a_renewed_assertion_rests_on_the_key_that_proved_it_and_not_on_a_later_one() {
    let suite = Suite::start().await;
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(TWO))];
    suite.heard();
    let leaked = suite.verify("messenger", hashed("u1", SPARE)).await.unwrap().assertion;
    let leaked = suite.renew(&leaked).await.unwrap().assertion;
    let good = suite.verify("messenger", within(&leaked, hashed("u1", SECRET))).await.unwrap().assertion;
    let stepped_up = suite.prove(&leaked, "ann@example.com", "v1").await.unwrap().assertion;
    *suite.directory.0.lock().unwrap() = vec![("acme", policy(ONE))];
    for held in [&leaked, &stepped_up] {
        assert_eq!(reason(suite.renew(held).await), Reason::AssertionStale);
    }
    let good = suite.verify("messenger", within(&good, hashed("u1", SECRET))).await.unwrap().assertion;
    suite.renew(&good).await.unwrap();
}
