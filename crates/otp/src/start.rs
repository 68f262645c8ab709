//! `StartVerification`: a code for an address.
//!
//! The same is done whoever has the address: nobody is looked up, and the message leaves after the answer.

use safeconduct_otp_domain::address::Address;
use safeconduct_otp_domain::budget::{Nearness, Parties};
use safeconduct_otp_domain::challenge::{Binding, Challenge, Ended, Issued, New, Standing};
use safeconduct_otp_domain::code::CodeForm;
use safeconduct_otp_domain::policy::OtpPolicy;
use safeconduct_service::caller::Caller;
use safeconduct_store::Committed;
use safeconduct_types::{Deadline, OperationId, Reason, Refusal, Timestamp};

use crate::Otp;
use crate::holder::Which;
use crate::spend::Spender;
use crate::verifications::{ATTEMPTS, Latest, contended};
use crate::wire::Start;
use crate::workspaces::policy;

/// A verification and the time at which it stands so.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) challenge: Challenge,
    pub(crate) now: Timestamp,
}

impl Otp {
    pub(crate) async fn start(&self, caller: &Caller, asked: Start, deadline: Deadline) -> Result<Shown, Refusal> {
        let held = self.holders.verify(caller, &asked.assertion, Which::Latest).await?;
        let (workspace, session) = (held.workspace(), held.session());
        self.note(&held);
        let policy = policy(&*self.workspaces, workspace)?;
        let address = destination(&policy, &asked)?;
        let mut latest = self.verifications.latest(workspace, session, &address).await?;
        if let Some(shown) = self.again(&latest, &asked).await? {
            return Ok(shown);
        }
        let network = asked.network.as_ref();
        let parties = Parties { workspace, session, network, caller: caller.name(), address: &address };
        let spender = self.spender(parties, deadline);
        spender.message(&policy.budgets, self.nearness(&parties).await?).await?;
        let form = self.form(&policy, &spender).await?;
        for _ in 0..ATTEMPTS {
            let earlier = latest.earlier.as_ref().map(|found| &found.challenge);
            let binding = Binding {
                workspace: workspace.clone(),
                session: session.clone(),
                address: address.clone(),
                purpose: asked.purpose.clone(),
            };
            let new = New {
                id: self.verifications.mint(workspace, session),
                binding,
                form,
                key: self.verifications.codes().primary().to_owned(),
                locale: asked.locale.clone(),
                guesses: policy.guesses,
                lifetime: policy.code_lifetime,
                most_sends: policy.budgets.sends_per_verification,
                sends_before: latest.sends_before(policy.budgets.sends_per_verification),
            };
            let challenge = Challenge::from(Issued::issue(new, latest.now));
            let superseded = earlier.cloned().and_then(|earlier| earlier.end(Ended::Superseded, latest.now));
            if self.verifications.supersede(&latest, superseded, &challenge).await? == Committed::Done {
                self.send(&challenge).await?;
                return Ok(Shown { challenge, now: latest.now });
            }
            latest = self.verifications.latest(workspace, session, &address).await?;
            if let Some(shown) = self.again(&latest, &asked).await? {
                return Ok(shown);
            }
        }
        Err(contended())
    }

    /// The open verification that was asked for just before, again: its answer got lost, or somebody is impatient. If
    /// it is too soon for another one that is not the same, that is refused.
    async fn again(&self, latest: &Latest, asked: &Start) -> Result<Option<Shown>, Refusal> {
        let Some(found) = &latest.earlier else { return Ok(None) };
        let Some(wait) = found.challenge.next_start().map(|at| at.since(found.now)).filter(|wait| !wait.is_zero())
        else {
            return Ok(None);
        };
        let is_same = found.challenge.standing(found.now) == Standing::Issued
            && found.challenge.facts().binding.purpose == asked.purpose;
        if !is_same {
            let detail = "a code was sent to this address just now; wait as long as told before asking for another one";
            return Err(Refusal::new(Reason::RateLimited, detail).with_retry_after(wait));
        }
        // Its message may have got lost with the answer.
        self.send_again(&found.challenge).await?;
        Ok(Some(Shown { challenge: found.challenge.clone(), now: found.now }))
    }

    pub(crate) async fn nearness(&self, parties: &Parties<'_>) -> Result<Nearness, Refusal> {
        let Some(network) = parties.network else { return Ok(Nearness::Unknown) };
        let is_familiar = self.verifications.is_familiar(parties.workspace, parties.address, network).await?;
        Ok(if is_familiar { Nearness::Familiar } else { Nearness::Stranger })
    }

    /// The form of the code. With a guessable one comes its first guess, taken now, so that nobody can take it away.
    async fn form(&self, policy: &OtpPolicy, spender: &Spender<'_>) -> Result<CodeForm, Refusal> {
        if !policy.code.is_guessable() {
            return Ok(policy.code);
        }
        let operation = OperationId::generate(&*self.random);
        Ok(if spender.guess(&policy.budgets, operation).await? { policy.code } else { CodeForm::STRONG })
    }

    pub(crate) fn spender<'a>(&'a self, parties: Parties<'a>, deadline: Deadline) -> Spender<'a> {
        let (admission, random) = (&*self.admission, &*self.random);
        Spender { admission, namer: self.verifications.namer(), random, parties, deadline }
    }
}

/// Where the code goes, if the workspace sends codes there.
fn destination(policy: &OtpPolicy, asked: &Start) -> Result<Address, Refusal> {
    if !policy.offers(asked.channel) {
        return Err(Refusal::invalid_field("channel", "this workspace does not offer it"));
    }
    if !policy.purposes.contains_key(&asked.purpose) {
        return Err(Refusal::invalid_field("purpose", "must be one that the workspace declares"));
    }
    let address = Address::parse(asked.channel, asked.address.expose(), policy.plus_tags)
        .map_err(|error| Refusal::invalid_field("address", error.to_string()))?;
    match (&address, &policy.sms) {
        (Address::Sms(number), Some(sms)) if !sms.reaches(number) => {
            Err(Refusal::invalid_field("address", "no text messages are sent to this country or kind of number"))
        }
        (Address::Sms(_) | Address::Email(_), _) => Ok(address),
    }
}
