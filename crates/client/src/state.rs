//! What the server knows of its containers at the moment.

use std::collections::HashSet;

use gantry_api::{INIT, types};

use crate::{
    connection::{Connection, Operation},
    error::Result,
    exits::Key,
};

/// The container, or `None` if the server does not know it.
pub(crate) async fn find_container(
    connection: &Connection,
    id: &str,
) -> Result<Option<types::Container>> {
    let request = types::StateRequest { id: id.to_owned() };
    let operation = Operation::new(format!("look up container {id}"));
    let mut api = connection.api();
    match operation.run(async move { api.state(request).await }).await {
        Ok(state) => Ok(state.containers.into_iter().find(|c| c.id == id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn all_containers(connection: &Connection) -> Result<types::StateResponse> {
    let mut api = connection.api();
    let call = async move { api.state(types::StateRequest::default()).await };
    Operation::new("list containers").run(call).await
}

pub(crate) fn has_process(container: &types::Container, process: &str) -> bool {
    container.processes.iter().any(|p| p.pid == process)
}

/// All processes that there are.
pub(crate) async fn living(connection: &Connection) -> Result<HashSet<Key>> {
    let state = all_containers(connection).await?;
    let keys = |container: types::Container| {
        let id = container.id;
        // As long as there is a container, the exit of its first process is still to come.
        let init = std::iter::once(INIT.to_owned());
        let processes = init.chain(container.processes.into_iter().map(|process| process.pid));
        processes.map(move |process| Key { container: id.clone(), process })
    };
    Ok(state.containers.into_iter().flat_map(keys).collect())
}
