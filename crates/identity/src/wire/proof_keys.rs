//! `ListProofKeys` on the wire.

use safeconduct_proto::identity::v1 as pb;
use safeconduct_types::{Refusal, WorkspaceId};

use super::{Violations, timestamp};
use crate::list_proof_keys::ProofKey;

pub(crate) fn list_proof_keys(request: &pb::ListProofKeysRequest) -> Result<WorkspaceId, Refusal> {
    let mut wrong = Violations::default();
    let workspace = wrong.workspace(&request.workspace_id);
    wrong.none(workspace)
}

pub(crate) fn proof_keys_listed(keys: Vec<ProofKey>) -> pb::ListProofKeysResponse {
    let listed = |key: ProofKey| pb::ProofKey {
        key_id: key.id,
        kind: key.kind.into(),
        primary: key.primary,
        accepted: key.accepted,
        last_use_time: key.last_use.map(timestamp),
    };
    pb::ListProofKeysResponse { keys: keys.into_iter().map(listed).collect() }
}
