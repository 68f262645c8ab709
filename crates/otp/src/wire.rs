//! Requests into what they mean, or into everything that is wrong with them; answers into messages.

use std::net::IpAddr;

use safeconduct_otp_domain::address::Channel;
use safeconduct_otp_domain::budget::Network;
use safeconduct_otp_domain::challenge::{Delivery, Standing, VerificationId};
use safeconduct_otp_domain::code::Guess;
use safeconduct_otp_domain::message::Locale;
use safeconduct_proto::common::v1 as common;
use safeconduct_proto::otp::v1 as pb;
use safeconduct_service::wire::{Fields, to_timestamp};
use safeconduct_types::{Refusal, SecretText};

use crate::identity::Issued;
use crate::start::Shown;

/// Most bytes of an address as it is written: it may be padded or written wide; what it comes to is shorter.
const MAX_ADDRESS: usize = 1024;
/// Most bytes of a purpose's name.
const MAX_PURPOSE: usize = 64;

#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) assertion: SecretText,
    pub(crate) channel: Channel,
    pub(crate) address: SecretText,
    pub(crate) locale: Option<Locale>,
    pub(crate) purpose: String,
    pub(crate) network: Option<Network>,
}

/// A call about one verification.
#[derive(Debug)]
pub(crate) struct Of {
    pub(crate) assertion: SecretText,
    pub(crate) verification: VerificationId,
    pub(crate) network: Option<Network>,
}

#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) of: Of,
    pub(crate) guess: Guess,
}

pub(crate) fn start(request: pb::StartVerificationRequest) -> Result<Start, Refusal> {
    let mut fields = Fields::new();
    let channel = fields.known::<pb::Channel>("channel", request.channel).map(|channel| match channel {
        pb::Channel::Sms => Channel::Sms,
        // Unspecified is refused above.
        pb::Channel::Email | pb::Channel::Unspecified => Channel::Email,
    });
    if request.address.is_empty() || request.address.len() > MAX_ADDRESS {
        fields.wrong("address", "must be an email address or a phone number");
    }
    let locale = fields.optional("locale", &request.locale);
    let purpose = fields.text("purpose", request.purpose, MAX_PURPOSE);
    let network = network(&mut fields, request.client_context.as_ref());
    fields.finish()?;
    let channel = channel.ok_or_else(|| Refusal::internal("a channel was lost"))?;
    let (assertion, address) = (SecretText::new(request.assertion), SecretText::new(request.address));
    Ok(Start { assertion, channel, address, locale, purpose, network })
}

pub(crate) fn resend(request: pb::ResendCodeRequest) -> Result<Of, Refusal> {
    let mut fields = Fields::new();
    let network = network(&mut fields, request.client_context.as_ref());
    of(fields, request.assertion, &request.verification_id, network)
}

pub(crate) fn cancel(request: pb::CancelVerificationRequest) -> Result<Of, Refusal> {
    of(Fields::new(), request.assertion, &request.verification_id, None)
}

pub(crate) fn get(request: pb::GetVerificationRequest) -> Result<Of, Refusal> {
    of(Fields::new(), request.assertion, &request.verification_id, None)
}

pub(crate) fn check(request: pb::CheckVerificationRequest) -> Result<Check, Refusal> {
    let mut fields = Fields::new();
    let typed = SecretText::new(request.code);
    let guess = Guess::parse(typed.expose()).map_err(|error| fields.wrong("code", error.to_string())).ok();
    let network = network(&mut fields, request.client_context.as_ref());
    let of = of(fields, request.assertion, &request.verification_id, network)?;
    let guess = guess.ok_or_else(|| Refusal::internal("a code was lost"))?;
    Ok(Check { of, guess })
}

fn of(mut fields: Fields, assertion: String, verification: &str, network: Option<Network>) -> Result<Of, Refusal> {
    let verification = fields.parse("verification_id", verification);
    fields.finish()?;
    let verification = verification.ok_or_else(|| Refusal::internal("a verification's id was lost"))?;
    Ok(Of { assertion: SecretText::new(assertion), verification, network })
}

/// The network of the device. Only the messenger calls here, and it sees the device.
fn network(fields: &mut Fields, context: Option<&common::ClientContext>) -> Option<Network> {
    let address = context.map(|context| context.ip_address.as_str()).filter(|address| !address.is_empty())?;
    let network = address.parse::<IpAddr>().map(Network::of);
    network.map_err(|_| fields.wrong("client_context.ip_address", "must be an IPv4 or IPv6 address in text form")).ok()
}

pub(crate) fn started(shown: &Shown) -> pb::StartVerificationResponse {
    let facts = shown.challenge.facts();
    pb::StartVerificationResponse {
        verification_id: facts.id.to_string(),
        expire_time: Some(to_timestamp(facts.expires)),
        resend_time: shown.challenge.resend_time(shown.now).map(to_timestamp),
        masked_address: facts.binding.address.masked(),
    }
}

pub(crate) fn resent(shown: &Shown) -> pb::ResendCodeResponse {
    let pb::StartVerificationResponse { verification_id, expire_time, resend_time, masked_address } = started(shown);
    pb::ResendCodeResponse { verification_id, expire_time, resend_time, masked_address }
}

pub(crate) fn checked(issued: Issued) -> pb::CheckVerificationResponse {
    pb::CheckVerificationResponse {
        assertion: issued.assertion,
        expire_time: issued.expires.map(to_timestamp),
        proof_expire_time: issued.proof_expires.map(to_timestamp),
        contact_id: issued.contact,
        kind: issued.kind.into(),
    }
}

pub(crate) fn verification(shown: &Shown) -> pb::Verification {
    let Shown { challenge, now } = shown;
    let facts = challenge.facts();
    pb::Verification {
        verification_id: facts.id.to_string(),
        state: state(challenge.standing(*now)).into(),
        channel: match challenge.channel() {
            Channel::Email => pb::Channel::Email,
            Channel::Sms => pb::Channel::Sms,
        }
        .into(),
        masked_address: facts.binding.address.masked(),
        purpose: facts.binding.purpose.clone(),
        expire_time: Some(to_timestamp(facts.expires)),
        resend_time: challenge.resend_time(*now).map(to_timestamp),
        attempts_left: challenge.guesses_left(*now).into(),
        delivery: match facts.delivery {
            Delivery::Queued => pb::DeliveryState::Queued,
            Delivery::Sent => pb::DeliveryState::Sent,
            Delivery::Failed => pb::DeliveryState::Failed,
        }
        .into(),
    }
}

const fn state(standing: Standing) -> pb::VerificationState {
    match standing {
        Standing::Issued => pb::VerificationState::Issued,
        Standing::Verified => pb::VerificationState::Verified,
        Standing::Exhausted => pb::VerificationState::Exhausted,
        Standing::Expired => pb::VerificationState::Expired,
        Standing::Superseded => pb::VerificationState::Superseded,
        Standing::Cancelled => pb::VerificationState::Cancelled,
    }
}
