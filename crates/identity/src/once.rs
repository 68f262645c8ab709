//! Tokens that count once: the first that brings one uses it up, whoever else comes is refused.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_identity_domain::token::Once;
use safeconduct_store::{Change, Committed, Ends, Expected, Records, StoreError, StoreKeyer, Write};
use safeconduct_types::{OperationId, Random, Reason, Refusal, WorkspaceId};

/// How far the store's clock may be ahead of ours.
const CLOCK_MARGIN: Duration = Duration::from_mins(1);

/// What is stored: that it is there says all.
const USED: &[u8] = b"1";

/// Uses the token up. Exact however many bring it at once: the record is written where there was none, or it is not.
pub(crate) async fn consume(
    records: &dyn Records,
    keyer: &StoreKeyer,
    random: &Arc<dyn Random>,
    workspace: &WorkspaceId,
    once: &Once,
) -> Result<(), Refusal> {
    let parts: [&[u8]; 4] = [b"token", workspace.as_str().as_bytes(), once.issuer.as_bytes(), once.id.as_bytes()];
    let slot = keyer.slot(&parts);
    let key = keyer.key(&slot, "token", &[]);
    let change = [Change {
        key,
        expected: Expected::Absent,
        write: Write::put(USED.to_vec(), Ends::At(once.until.after(CLOCK_MARGIN))),
    }];
    let operation = OperationId::generate(&**random);
    let committed = match records.commit(&slot, operation, &change).await {
        // It may have been written; the same operation tells.
        Err(StoreError::Unanswered(_)) => records.commit(&slot, operation, &change).await?,
        other => other?,
    };
    match committed {
        Committed::Done => Ok(()),
        Committed::Conflict => {
            Err(Refusal::new(Reason::ProofInvalid, "the token is not accepted: it was used before; make a new one"))
        }
    }
}
