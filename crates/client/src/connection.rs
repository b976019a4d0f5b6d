//! One connection to the server: opens it, and opens it again.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gantry_api::types::api_client::ApiClient;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{
    backoff::Backoff,
    call::Absence,
    error::{Error, ErrorKind, Result},
};

/// Longer than the server's own deadline for a start, so that its better error comes first.
const CALL_DEADLINE: Duration = Duration::from_secs(150);

/// Enough for a restart by a service manager.
const PATIENCE: Duration = Duration::from_secs(15);

/// The contract's stub.
pub(crate) type Api = ApiClient<Channel>;

/// How long calls wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For a server that is away.
    pub(crate) patience: Duration,
    /// For the answer of a server; `None` if the caller has not set a limit.
    pub(crate) call_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { patience: PATIENCE, call_timeout: None }
    }
}

/// The state of thousands of containers, environments included, exceeds tonic's 4 MiB.
const LARGEST_MESSAGE: usize = 256 << 20;

/// Cheap to clone; all clones share one HTTP/2 connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
    limits: Limits,
}

impl Connection {
    /// Waits for the server, now and whenever it is away later.
    pub(crate) async fn open<F, S>(
        operation: impl Into<String>,
        connector: impl Fn() -> F + Send + Sync + 'static,
        limits: Limits,
    ) -> Result<Connection>
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connector = Arc::new(connector);
        let dial = move |_: Uri| dial(Arc::clone(&connector), limits.patience);
        // The name is never resolved; a URI needs one, and Go servers want a valid :authority.
        let endpoint = Endpoint::from_static("http://localhost");
        let mut absence = Absence::since_now(limits.patience);
        loop {
            let connector = tower::service_fn(dial.clone());
            let error = match endpoint.connect_with_connector(connector).await {
                Ok(channel) => return Ok(Connection { channel, limits }),
                Err(error) => error,
            };
            // A server that was killed before the first exchange counts as away.
            if !is_broken(root(&error)) || !absence.may_go_on(false).await {
                return Err(connect_failure(operation, error));
            }
        }
    }

    pub(crate) fn over(channel: Channel, limits: Limits) -> Connection {
        Connection { channel, limits }
    }

    pub(crate) fn within(self, call_timeout: Duration) -> Connection {
        let limits = Limits { call_timeout: Some(call_timeout), ..self.limits };
        Connection { limits, ..self }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn api(&self) -> Api {
        ApiClient::new(self.channel()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    pub(crate) fn patience(&self) -> Duration {
        self.limits.patience
    }

    /// What the caller has set, or the default of the operation, or that of all.
    pub(crate) fn deadline(&self, of_operation: Option<Duration>) -> Duration {
        self.limits.call_timeout.or(of_operation).unwrap_or(CALL_DEADLINE)
    }
}

pub(crate) fn socket_path(address: &Path) -> PathBuf {
    match address.to_str().and_then(|a| a.strip_prefix("unix://")) {
        Some(path) => PathBuf::from(path),
        None => address.to_owned(),
    }
}

/// Connects, waiting for a server that does not listen yet.
async fn dial<F, S>(connector: Arc<impl Fn() -> F>, patience: Duration) -> io::Result<TokioIo<S>>
where
    F: Future<Output = io::Result<S>>,
{
    // None: the end of time.
    let deadline = time::Instant::now().checked_add(patience);
    let mut backoff = Backoff::new();
    loop {
        match connector().await {
            Ok(stream) => return Ok(TokioIo::new(stream)),
            Err(error) if is_absent(&error) => {
                let next = time::Instant::now() + backoff.next();
                if deadline.is_some_and(|deadline| next > deadline) {
                    return Err(error);
                }
                time::sleep_until(next).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// No socket yet, one that nobody listens on, or one whose queue is full (EAGAIN).
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
    matches!(error.kind(), NotFound | ConnectionRefused | WouldBlock)
}

/// The operating system's error at the root of an error, if there is one.
fn root(error: &tonic::transport::Error) -> Option<&io::Error> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.downcast_ref()
}

/// Whether the other side closed the connection.
fn is_broken(error: Option<&io::Error>) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let broken = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof];
    error.is_some_and(|error| broken.contains(&error.kind()))
}

fn connect_failure(operation: impl Into<String>, error: tonic::transport::Error) -> Error {
    let kind = match root(&error).map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => {
            ErrorKind::PermissionDenied("not allowed to connect".to_owned())
        }
        _ => ErrorKind::Unavailable("no connection".to_owned()),
    };
    // The system's error is what helps; the library's own say "transport error".
    let system = root(&error).and_then(io::Error::raw_os_error).map(io::Error::from_raw_os_error);
    let failed = Error::new(operation, kind);
    match system {
        Some(system) => failed.caused_by(system),
        None => failed.caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use tokio::net::UnixStream;

    #[test]
    fn an_address_may_carry_its_scheme() {
        assert_eq!(socket_path(Path::new("unix:///run/a.sock")), Path::new("/run/a.sock"));
        assert_eq!(socket_path(Path::new("/run/a.sock")), Path::new("/run/a.sock"));
    }

    #[tokio::test]
    async fn an_absent_server_is_waited_for_until_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let patience = Duration::from_millis(60);
        let begun = time::Instant::now();
        let path = dir.path().join("none.sock");
        let client = Client::builder().patience(patience).connect(&path).await;
        let error = client.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
        assert!(format!("{error:#}").ends_with(": No such file or directory (os error 2)"));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert!(begun.elapsed() < PATIENCE);
    }

    #[tokio::test]
    async fn a_server_that_comes_late_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late.sock");
        let socket = path.clone();
        let connector = Arc::new(move || UnixStream::connect(socket.clone()));
        let dialling = tokio::spawn(dial(connector, Duration::from_secs(60)));
        time::sleep(Duration::from_millis(50)).await;
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        dialling.await.unwrap().unwrap();
    }
}
