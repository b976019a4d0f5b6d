//! What a runtime reports that it can do.

use gantry_domain::Kind;

use crate::{Supervisor, SupervisorError};

impl Supervisor {
    /// The output of `features` of the runtime with this name or absolute path (empty for the server's default):
    /// JSON, see features.md of the OCI runtime specification. `None` if it has no such command.
    ///
    /// # Errors
    /// If there is no such runtime, or it does not answer.
    pub async fn runtime_features(
        &self,
        program: &str,
    ) -> Result<Option<Vec<u8>>, SupervisorError> {
        let runtime = self.find_runtime(program, &[]).await?;
        let services = &self.0.services;
        let _turn = services.turn_of_end(&runtime).await;
        match services.runtimes.features(&runtime).await {
            Ok(features) => Ok(Some(features)),
            Err(error) => {
                let error = SupervisorError::from(error);
                if matches!(error.kind(), Kind::DeadlineExceeded | Kind::Unavailable) {
                    return Err(error);
                }
                tracing::debug!(program, %error, "the runtime does not report its features");
                Ok(None)
            }
        }
    }
}
