//! The monitor as a configuration says.

use asynqueue_core::{broker::SharedBroker, config::Monitoring};

use super::{Monitor, Role};
use crate::{Endpoint, ServeError};

impl Monitor {
    /// Serves the monitor as a configuration says; `None` if that does not enable it. With a name and a password it listens on
    /// all addresses of this machine, without them on the loopback address only.
    ///
    /// # Errors
    ///
    /// When nothing can listen at the port, or only one of name and password is given.
    pub async fn serve_configured(
        broker: impl Into<SharedBroker>,
        monitoring: &Monitoring,
    ) -> Result<Option<Endpoint>, ServeError> {
        if !monitoring.enable {
            return Ok(None);
        }
        let mut monitor = Self::new(broker).path(&monitoring.path);
        let missing = |given, missing| Err(ServeError::Incomplete { given, missing });
        let host = match (&monitoring.username, &monitoring.password) {
            (Some(name), Some(password)) => {
                monitor = monitor.user(name, password.reveal(), Role::Admin)?;
                "0.0.0.0"
            }
            (None, None) => "127.0.0.1",
            (Some(_), None) => return missing("username", "password"),
            (None, Some(_)) => return missing("password", "username"),
        };
        let endpoint = monitor.serve(format!("{host}:{}", monitoring.port)).await?;
        Ok(Some(endpoint))
    }
}
