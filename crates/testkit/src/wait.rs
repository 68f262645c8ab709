//! Waiting for something, within a bound.

use std::time::Duration;

use anyhow::Context as _;

/// How long to pause before asking again.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is something, for at most `within`. `what` says what was waited for if nothing comes.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let asking = async {
        loop {
            if let Some(found) = ask().await? {
                return Ok(found);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(within, asking).await.with_context(|| format!("waited {within:?} for {what}"))?
}
