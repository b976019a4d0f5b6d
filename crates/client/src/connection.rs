//! One connection to the server: opens it, opens it again, and gives every call a deadline.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use gantry_api::types::api_client::ApiClient;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    backoff::Backoff,
    error::{Error, ErrorKind, Result},
    status::classify,
};

/// Longer than the server's own deadline for a start, so that its better error comes first.
const CALL_DEADLINE: Duration = Duration::from_secs(150);

/// The state of thousands of containers, environments included, exceeds tonic's 4 MiB.
const LARGEST_MESSAGE: usize = 256 << 20;

/// Cheap to clone; all clones share one HTTP/2 connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
}

impl Connection {
    /// Waits up to `patience` for the server, now and whenever it is away later.
    pub(crate) async fn open(address: &Path, patience: Duration) -> Result<Connection> {
        let address = socket_path(address);
        let operation = format!("connect to {}", address.display());
        let connector = tower::service_fn(move |_: Uri| dial(address.clone(), patience));
        // The name is never resolved; a URI needs one, and Go servers want a valid :authority.
        let endpoint = Endpoint::from_static("http://localhost");
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok(Connection { channel }),
            Err(error) => Err(Error::new(operation, connect_failure(&error))),
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn api(&self) -> ApiClient<Channel> {
        ApiClient::new(self.channel()).max_decoding_message_size(LARGEST_MESSAGE)
    }
}

/// What a call does, for its errors, and how long that may take.
pub(crate) struct Operation<'a> {
    name: String,
    /// The program that it starts.
    command: Option<&'a str>,
    deadline: Duration,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(name: impl Into<String>) -> Operation<'a> {
        Operation { name: name.into(), command: None, deadline: CALL_DEADLINE }
    }

    pub(crate) fn starts(self, command: Option<&'a str>) -> Operation<'a> {
        Operation { command, ..self }
    }

    pub(crate) fn within(self, deadline: Duration) -> Operation<'a> {
        Operation { deadline, ..self }
    }

    /// Runs the call to its end or deadline. Boxed, as tonic's futures are several KiB.
    pub(crate) fn run<T>(
        self,
        call: impl Future<Output = std::result::Result<Response<T>, Status>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>> {
        Box::pin(async move {
            let kind = match time::timeout(self.deadline, call).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => classify(&status, self.command),
                Err(_) => {
                    let message = format!("no answer within {} s", self.deadline.as_secs());
                    ErrorKind::DeadlineExceeded(message)
                }
            };
            Err(Error::new(self.name, kind))
        })
    }
}

fn socket_path(address: &Path) -> PathBuf {
    match address.to_str().and_then(|a| a.strip_prefix("unix://")) {
        Some(path) => PathBuf::from(path),
        None => address.to_owned(),
    }
}

/// Connects, waiting for a server that does not listen yet.
async fn dial(address: PathBuf, patience: Duration) -> io::Result<TokioIo<UnixStream>> {
    // None: the end of time.
    let deadline = time::Instant::now().checked_add(patience);
    let mut backoff = Backoff::new();
    loop {
        match UnixStream::connect(&address).await {
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

fn connect_failure(error: &tonic::transport::Error) -> ErrorKind {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => ErrorKind::PermissionDenied(cause.to_string()),
        _ => ErrorKind::Unavailable(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let error = Connection::open(&dir.path().join("none.sock"), patience).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_server_that_comes_late_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late.sock");
        let dialling = tokio::spawn(dial(path.clone(), Duration::from_secs(10)));
        time::sleep(Duration::from_millis(50)).await;
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        dialling.await.unwrap().unwrap();
    }
}
