//! `ResendCode`: the same code once more.

use safeconduct_otp_domain::budget::Parties;
use safeconduct_otp_domain::challenge::{Challenge, Resend};
use safeconduct_service::caller::Caller;
use safeconduct_store::Committed;
use safeconduct_types::{Deadline, Reason, Refusal};

use crate::Otp;
use crate::holder::Which;
use crate::start::Shown;
use crate::verifications::{ATTEMPTS, contended};
use crate::wire::Of;
use crate::workspaces::policy;

impl Otp {
    pub(crate) async fn resend(&self, caller: &Caller, asked: Of, deadline: Deadline) -> Result<Shown, Refusal> {
        let held = self.holders.verify(caller, &asked.assertion, Which::Latest).await?;
        let (workspace, session) = (held.workspace(), held.session());
        self.note(&held);
        let policy = policy(&*self.workspaces, workspace)?;
        let mut is_paid = false;
        for _ in 0..ATTEMPTS {
            let found = self.verifications.of_session(workspace, session, asked.verification).await?;
            let found = found.ok_or_else(forgotten)?;
            let (now, revision) = (found.now, found.revision());
            let after = counted(found.challenge.clone().resend(now))?;
            if !is_paid {
                let address = &after.facts().binding.address;
                let network = asked.network.as_ref();
                let parties = Parties { workspace, session, network, caller: caller.name(), address };
                let nearness = self.nearness(&parties).await?;
                self.spender(parties, deadline).message(&policy.budgets, nearness).await?;
                is_paid = true;
            }
            if self.verifications.replace(revision, &after).await? == Committed::Done {
                self.send(&after).await?;
                return Ok(Shown { challenge: after, now });
            }
        }
        Err(contended())
    }
}

fn counted(resend: Resend) -> Result<Challenge, Refusal> {
    match resend {
        Resend::Counted(issued) => Ok(issued.into()),
        Resend::TooSoon(wait) => {
            let detail = "the code was sent just now; wait as long as told, and look among unwanted messages";
            Err(Refusal::new(Reason::RateLimited, detail).with_retry_after(wait))
        }
        Resend::NoMore => {
            let detail = "this code was sent as often as it may be; start a new verification later";
            Err(Refusal::new(Reason::CapReached, detail).with_metadata("limit", "otp sends per verification"))
        }
        Resend::Over(standing) => Err(over(standing)),
    }
}

/// The refusal of who asks for a verification that is not this session's, or that is forgotten.
pub(crate) fn forgotten() -> Refusal {
    Refusal::new(
        Reason::ChallengeOver,
        "there is no such verification in this session, or it is forgotten; start a new one",
    )
}

/// The refusal of who comes too late.
pub(crate) fn over(standing: safeconduct_otp_domain::challenge::Standing) -> Refusal {
    use safeconduct_otp_domain::challenge::Standing;

    let what = match standing {
        // Only a code that cannot be compared any more is over while its challenge stands.
        Standing::Issued | Standing::Expired => "its code has ended",
        Standing::Verified => "its code was used",
        Standing::Exhausted => "no guess is left for its code",
        Standing::Superseded => "a newer one took its place",
        Standing::Cancelled => "it was cancelled",
    };
    Refusal::new(Reason::ChallengeOver, format!("this verification is over: {what}; start a new one"))
}
