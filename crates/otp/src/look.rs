//! `GetVerification` and `CancelVerification`.

use safeconduct_otp_domain::challenge::Ended;
use safeconduct_service::caller::Caller;
use safeconduct_store::Committed;
use safeconduct_types::Refusal;

use crate::Otp;
use crate::holder::Which;
use crate::resend::forgotten;
use crate::start::Shown;
use crate::verifications::{ATTEMPTS, contended};
use crate::wire::Of;

impl Otp {
    pub(crate) async fn get(&self, caller: &Caller, asked: Of) -> Result<Shown, Refusal> {
        let held = self.holders.verify(caller, &asked.assertion, Which::Latest).await?;
        self.note(&held);
        let found = self.verifications.of_session(held.workspace(), held.session(), asked.verification).await?;
        let found = found.ok_or_else(forgotten)?;
        Ok(Shown { challenge: found.challenge, now: found.now })
    }

    pub(crate) async fn cancel(&self, caller: &Caller, asked: Of) -> Result<Shown, Refusal> {
        let held = self.holders.verify(caller, &asked.assertion, Which::Latest).await?;
        self.note(&held);
        for _ in 0..ATTEMPTS {
            let found = self.verifications.of_session(held.workspace(), held.session(), asked.verification).await?;
            let found = found.ok_or_else(forgotten)?;
            let (now, revision) = (found.now, found.revision());
            let Some(after) = found.challenge.clone().end(Ended::Cancelled, now) else {
                return Ok(Shown { challenge: found.challenge, now });
            };
            if self.verifications.replace(revision, &after).await? == Committed::Done {
                return Ok(Shown { challenge: after, now });
            }
        }
        Err(contended())
    }
}
