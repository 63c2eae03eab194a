//! Recording that a server starts with another version.

use std::time::Duration;

use super::{read::last_deploy, record::record_deploy};
use crate::{
    broker::{BrokerError, ServerInfo, SharedBroker},
    task::Name,
};

/// Servers of a new version start together, and each of them could take another one for a sign that it was recorded.
const TOGETHER: Duration = Duration::from_secs(60);

/// Records the version of a server that starts, unless it was deployed last or another server runs it already. The
/// restart of a server is not a deployment.
pub(crate) async fn starts_with(
    broker: &SharedBroker,
    server: &Name,
    version: &str,
) -> Result<(), BrokerError> {
    let now = broker.now();
    let runs_it = |other: &ServerInfo| {
        let is_other = other.name != *server && !other.is_lost(now);
        is_other && other.version.as_deref() == Some(version) && other.started + TOGETHER < now
    };
    if broker.servers().await?.iter().any(runs_it) {
        return Ok(());
    }
    if last_deploy(broker).await?.as_deref() == Some(version) {
        return Ok(());
    }
    record_deploy(broker, server, version).await
}
