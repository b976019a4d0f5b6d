//! What the server knows of its containers at the moment.

use std::collections::HashSet;

use gantry_api::{INIT, types};

use crate::{
    call::Operation,
    connection::{Api, Connection},
    error::Result,
    exits::Key,
};

/// The container, or `None` if the server does not know it.
pub(crate) async fn find_container(
    connection: &Connection,
    id: &str,
) -> Result<Option<types::Container>> {
    let operation = Operation::repeatable(format!("look up container {id}"));
    match ask(connection, operation, id).await {
        Ok(state) => Ok(state.containers.into_iter().find(|c| c.id == id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn all_containers(connection: &Connection) -> Result<types::StateResponse> {
    ask(connection, Operation::repeatable("list containers"), "").await
}

async fn ask(
    connection: &Connection,
    operation: Operation<'_>,
    id: &str,
) -> Result<types::StateResponse> {
    let request = types::StateRequest { id: id.to_owned() };
    let state = |mut api: Api, request| async move { api.state(request).await };
    connection.call(operation, request, state).await
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
