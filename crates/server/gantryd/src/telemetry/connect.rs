//! Connects to the collector. Its name is looked up on a thread of `disk`: tokio's own lookup ends the server if the
//! machine has no thread left.

use std::{io, net::ToSocketAddrs, time::Duration};

use gantry_disk::OwnFiles;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long the look-up may take, and each address: a name may have one that nobody answers at, such as `localhost` with
/// `::1` where IPv6 is dropped.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn connect(to: Uri, names: OwnFiles) -> io::Result<TokioIo<TcpStream>> {
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    // The configuration wants a port.
    let port = to.port_u16().unwrap_or_default();
    let find = move |_: &_| (host.as_str(), port).to_socket_addrs();
    // A name that nobody waits for any more would only hold up others.
    let addresses = timeout(DEADLINE, names.run_if_wanted(find)).await???;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match timeout(DEADLINE, TcpStream::connect(address))
            .await
            .unwrap_or_else(|late| Err(late.into()))
        {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(TokioIo::new(stream));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
