//! What a runtime is and can do, for clients that ask before they use it: `ctr info` and `nerdctl info`.

use gantry_api::containerd::{
    type_url,
    types::{RuntimeInfo, RuntimeRequest, RuntimeVersion},
};
use gantry_supervisor::{Supervisor, SupervisorError};
use prost_types::Any;
use serde::de::IgnoredAny;
use tonic::Status;

use super::{tasks, version::VERSION};
use crate::rpc::code;

/// The runtime's own features are missing if it does not report them, as in containerd.
pub(super) async fn of(
    supervisor: &Supervisor,
    asked: RuntimeRequest,
) -> Result<RuntimeInfo, Status> {
    let RuntimeRequest { runtime_path: name, options } = asked;
    let runtime = tasks::asked_of(&name, options.as_ref())?;
    let features = supervisor.runtime_features(&runtime.program).await.map_err(failed)?;
    let features = features.filter(|json| serde_json::from_slice::<IgnoredAny>(json).is_ok());
    Ok(RuntimeInfo {
        name,
        version: Some(RuntimeVersion {
            version: VERSION.to_owned(),
            revision: env!("CARGO_PKG_VERSION_PRE").to_owned(),
        }),
        options,
        features: features.map(|value| Any { type_url: type_url::FEATURES.to_owned(), value }),
        ..RuntimeInfo::default()
    })
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: SupervisorError) -> Status {
    let (code, message) = (code(error.kind()), error.to_string());
    tracing::info!(?code, error = message, "request failed");
    Status::new(code, message)
}
