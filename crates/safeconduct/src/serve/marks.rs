//! How the services of this process hear of marks.

use std::sync::Arc;
use std::time::Duration;

use safeconduct_admission_client::Mirror;
use safeconduct_service::channel::SisterChannel;
use safeconduct_service::process::Process;

/// How long the start waits for an admission that is not there. Without it the process starts, and refuses what it must
/// not do without knowing.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// The way to admission, and what is heard from there.
pub(super) struct Marks {
    pub(super) admission: SisterChannel,
    pub(super) mirror: Mirror,
}

impl Marks {
    /// Follows the marks; back once all of them are known, so that nobody who asks at once is put off.
    pub(super) async fn follow(admission: SisterChannel, process: &Process) -> Self {
        let mirror = Mirror::new(Arc::clone(&process.clock));
        let (following, channel) = (mirror.clone(), admission.clone());
        drop(process.tasks.spawn_background(move |stop| following.follow(channel, stop)));
        if tokio::time::timeout(HEARD_WITHIN, mirror.ready()).await.is_err() {
            tracing::warn!("admission cannot be heard: what may have been revoked is refused until it can be");
        }
        Self { admission, mirror }
    }
}
