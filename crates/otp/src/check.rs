//! `CheckVerification`: a code that somebody typed.
//!
//! What became of the guess is written, if the challenge is still what was read, and only then told. So of any number of
//! guesses at once, as many are compared as the challenge allows, each against the count that it itself has written.

use safeconduct_identity_domain::assertion::VerifiedContact;
use safeconduct_otp_domain::budget::Parties;
use safeconduct_otp_domain::challenge::{Challenge, Ended, Guessed, Standing, Verified};
use safeconduct_otp_domain::policy::OtpPolicy;
use safeconduct_service::caller::Caller;
use safeconduct_store::Committed;
use safeconduct_types::{Deadline, NextAction, OperationId, Reason, Refusal};

use crate::Otp;
use crate::holder::Which;
use crate::identity::{Issued, Proven};
use crate::resend::over;
use crate::verifications::{ATTEMPTS, Found, contended};
use crate::wire::Check;
use crate::workspaces::policy;

impl Otp {
    pub(crate) async fn check(&self, caller: &Caller, asked: Check, deadline: Deadline) -> Result<Issued, Refusal> {
        let held = self.holders.verify(caller, &asked.of.assertion, Which::Earlier).await?;
        self.note(&held);
        let policy = policy(&*self.workspaces, held.workspace())?;
        let verified = self.verdict(caller, &held, &asked, &policy, deadline).await?;
        let facts = verified.facts();
        if let Some(network) = &asked.of.network
            && let Err(error) =
                self.verifications.make_familiar(held.workspace(), &facts.binding.address, network).await
        {
            // Who proved the address is let in all the same.
            tracing::warn!(
                reason = error.reason().as_str(),
                "a network could not be noted as one that proved an address"
            );
        }
        let proven = Proven {
            workspace: held.workspace().clone(),
            assertion: asked.of.assertion,
            address: facts.binding.address.clone(),
            at: verified.at(),
            lifetime: policy.proof_lifetime,
            purpose: facts.binding.purpose.clone(),
            verification: facts.id,
        };
        // Were identity away now, the verification stays verified, and the same code completes it later.
        self.identity.issue_assertion(proven, deadline).await
    }

    /// Compares and counts the guess, and says what came of it once that is written.
    async fn verdict(
        &self,
        caller: &Caller,
        held: &VerifiedContact,
        asked: &Check,
        policy: &OtpPolicy,
        deadline: Deadline,
    ) -> Result<Verified, Refusal> {
        for _ in 0..ATTEMPTS {
            let found = self.verifications.of_session(held.workspace(), held.session(), asked.of.verification).await?;
            // As if it were a wrong code: whoever tries ids learns nothing of them.
            let found = found.ok_or_else(|| Refusal::new(Reason::CodeInvalid, WRONG))?;
            if found.challenge.standing(found.now) != Standing::Verified {
                // What was upgraded since is not upgraded further by who held it before.
                self.holders.heed(held, Which::Latest).await?;
            }
            if !self.may_guess(caller, held, asked, policy, &found, deadline).await? {
                let ended = found.challenge.clone().end(Ended::Exhausted, found.now);
                let Some(ended) = ended else { continue };
                if self.verifications.replace(found.revision(), &ended).await? == Committed::Done {
                    return Err(over(Standing::Exhausted));
                }
                continue;
            }
            let revision = found.revision();
            match found.challenge.guess(&asked.guess, &self.verifications.codes(), found.now) {
                Guessed::TooLate(standing) => return Err(over(standing)),
                Guessed::Again(verified) => return Ok(verified),
                Guessed::Right(verified) => {
                    if self.verifications.replace(revision, &Challenge::from(verified.clone())).await?
                        == Committed::Done
                    {
                        return Ok(verified);
                    }
                }
                Guessed::Wrong(after, left) => {
                    if self.verifications.replace(revision, &after).await? == Committed::Done {
                        return Err(wrong(left));
                    }
                }
            }
        }
        Err(contended())
    }

    /// Whether the budget of the address has a guess for this one. The first of each code was taken with it.
    async fn may_guess(
        &self,
        caller: &Caller,
        held: &VerifiedContact,
        asked: &Check,
        policy: &OtpPolicy,
        found: &Found,
        deadline: Deadline,
    ) -> Result<bool, Refusal> {
        if !found.challenge.next_guess_is_charged(found.now) {
            return Ok(true);
        }
        let parties = Parties {
            workspace: held.workspace(),
            session: held.session(),
            network: asked.of.network.as_ref(),
            caller: caller.name(),
            address: &found.challenge.facts().binding.address,
        };
        // The same for all who try to make this very guess, of whom one will: it is taken once.
        let operation = OperationId::from_bytes(*found.revision().as_bytes());
        self.spender(parties, deadline).guess(&policy.budgets, operation).await
    }
}

const WRONG: &str = "this is not the code that was sent; ask the person to read it again";

fn wrong(left: u8) -> Refusal {
    let refusal = Refusal::new(Reason::CodeInvalid, WRONG).with_metadata("attempts_left", left.to_string());
    // Nobody needs to type another one.
    if left == 0 { refusal.with_next_action(NextAction::Verify) } else { refusal }
}
