//! Bounds the number of runtime calls for existing containers at a time.
//!
//! Without a bound, five hundred containers that end together would start as many runtimes and delay all
//! other calls. A single end finds a free turn. Launches have turns of their own, so that ends and starts do
//! not wait for each other.

use gantry_domain::ContainerId;
use gantry_runtime::{OciError, OciRuntime, RuntimeState};

use crate::{
    Caller, Services,
    create::Identity,
    turns::{Lane, Turn},
};

impl Services {
    /// Waits until the runtime may be called for a container that is over.
    pub(crate) async fn turn_of_end(&self, runtime: &OciRuntime) -> Option<Turn> {
        self.call_turn(Lane::Ends(runtime.program().to_owned())).await
    }

    /// Waits until the runtime may be called to change a container.
    pub(crate) async fn turn_of_change(&self, identity: &Identity) -> Option<Turn> {
        self.call_turn(Lane::Changes(identity.runtime.program().to_owned())).await
    }

    /// A queue that is never closed gives each a turn.
    async fn call_turn(&self, lane: Lane) -> Option<Turn> {
        self.calls.take(Caller::default(), lane).await.ok()
    }

    /// What the runtime knows of a container that may be over.
    pub(crate) async fn ask_runtime(
        &self,
        runtime: &OciRuntime,
        id: &ContainerId,
    ) -> Result<Option<RuntimeState>, OciError> {
        let _turn = self.turn_of_end(runtime).await;
        self.runtimes.state(runtime, id).await
    }
}
