//! Connects to the collector. Its name is looked up on a thread of `disk`: tokio's own lookup ends the server if the
//! machine has no thread left.

use std::{io, net::ToSocketAddrs};

use gantry_disk::OwnFiles;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(super) async fn connect(to: Uri, names: OwnFiles) -> io::Result<TokioIo<TcpStream>> {
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    // The configuration wants a port.
    let port = to.port_u16().unwrap_or_default();
    let find = move |_: &_| (host.as_str(), port).to_socket_addrs();
    // A name that nobody waits for any more would only hold up others.
    let addresses = names.run_if_wanted(find).await??;
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}
