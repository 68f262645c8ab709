//! `otp`: verifications, as a website would run them.

use safeconduct_proto::otp::v1 as pb;
use tonic::Status;

use super::client;
use crate::cli::{OtpArgs, OtpChannel, OtpCommand};
use crate::exit::{Code, Failure, Outcome};
use crate::say::say;

type Client = pb::otp_service_client::OtpServiceClient<client::Authenticated>;

pub(crate) fn run(what: OtpCommand) -> Outcome {
    let runtime = super::call::runtime()?;
    let text = runtime.block_on(async {
        match what {
            OtpCommand::Start { whom, address, channel, purpose, locale } => {
                let (mut otp, assertion) = reach(&whom)?;
                let channel = match channel {
                    OtpChannel::Email => pb::Channel::Email,
                    OtpChannel::Sms => pb::Channel::Sms,
                };
                let request = pb::StartVerificationRequest {
                    assertion,
                    channel: channel.into(),
                    address,
                    locale,
                    purpose,
                    client_context: None,
                };
                let started = otp.start_verification(request).await.map_err(refused)?.into_inner();
                Ok(started.verification_id)
            }
            OtpCommand::Check { whom, id, code } => {
                let (mut otp, assertion) = reach(&whom)?;
                let request =
                    pb::CheckVerificationRequest { assertion, verification_id: id, code, client_context: None };
                Ok(otp.check_verification(request).await.map_err(refused)?.into_inner().assertion)
            }
            OtpCommand::Resend { whom, id } => {
                let (mut otp, assertion) = reach(&whom)?;
                let request = pb::ResendCodeRequest { assertion, verification_id: id, client_context: None };
                Ok(otp.resend_code(request).await.map_err(refused)?.into_inner().verification_id)
            }
            OtpCommand::Get { whom, id } => {
                let (mut otp, assertion) = reach(&whom)?;
                let request = pb::GetVerificationRequest { assertion, verification_id: id };
                shown(otp.get_verification(request).await.map_err(refused)?.into_inner().verification)
            }
            OtpCommand::Cancel { whom, id } => {
                let (mut otp, assertion) = reach(&whom)?;
                let request = pb::CancelVerificationRequest { assertion, verification_id: id };
                shown(otp.cancel_verification(request).await.map_err(refused)?.into_inner().verification)
            }
        }
    })?;
    say!("{text}");
    Ok(Code::SUCCESS)
}

fn reach(whom: &OtpArgs) -> Result<(Client, String), Failure> {
    let token = client::read_text(&whom.token_file)?;
    let assertion = client::read_text(&whom.assertion_file)?;
    let channel = client::connect(&whom.server, &token, whom.ca.as_deref())?;
    Ok((client::otp(&channel), assertion.expose().to_owned()))
}

fn shown(verification: Option<pb::Verification>) -> Result<String, Failure> {
    let found = verification.ok_or_else(|| Failure::internal("the answer holds no verification"))?;
    let state = found.state().as_str_name();
    Ok(format!(
        "{} {} to {}, {} attempts left",
        found.verification_id,
        state.strip_prefix("VERIFICATION_STATE_").unwrap_or(state),
        found.masked_address,
        found.attempts_left
    ))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn refused(status: Status) -> Failure {
    Failure::refused(client::explain(&status))
}
