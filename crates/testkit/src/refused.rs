//! Refusals as a client reads them: with the standard details and ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message as _;
use safeconduct_proto::common::v1::Guidance;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const DOMAIN: &str = "safeconduct.dev";
const GUIDANCE: &str = "type.googleapis.com/safeconduct.common.v1.Guidance";

/// A status that says: this call had no effect.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The code.
    pub code: Code,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// The message.
    pub message: String,
    /// The fields of `BadRequest`.
    pub fields: Vec<String>,
    /// Our own detail.
    pub guidance: Guidance,
}

/// Whether the status carries our `ErrorInfo`, and so says that nothing was done.
pub fn has_error_info(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN)
}

/// Domain and reason of an `ErrorInfo` that a client shows as base64, with or without padding.
pub fn error_info(base64: &str) -> anyhow::Result<(String, String)> {
    let bytes = STANDARD_NO_PAD.decode(base64.trim_end_matches('='))?;
    let info = tonic_types::pb::ErrorInfo::decode(bytes.as_slice())?;
    Ok((info.domain, info.reason))
}

impl Refused {
    /// Reads a status.
    ///
    /// # Panics
    /// If it is no refusal of the suite: a test that reads one is about refusals.
    pub fn read(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let Some(info) = info.filter(|info| info.domain == DOMAIN) else {
            panic!("no refusal of the suite: {status:?}");
        };
        let fields = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        let details = tonic_types::pb::Status::decode(status.details()).map(|all| all.details).unwrap_or_default();
        let guidance = details.iter().find(|one| one.type_url == GUIDANCE);
        let Some(guidance) = guidance.and_then(|one| Guidance::decode(one.value.as_slice()).ok()) else {
            panic!("a refusal without guidance: {status:?}");
        };
        Self {
            code: status.code(),
            reason: info.reason,
            message: status.message().to_owned(),
            fields: fields.into_iter().map(|one| one.field).collect(),
            guidance,
        }
    }
}
