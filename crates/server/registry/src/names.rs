//! Addresses of hosts by their names. `getaddrinfo` can take half a minute: it runs on threads of its own.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use gantry_disk::OwnFiles;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

/// Asks the machine for addresses. Clones share their threads.
#[derive(Debug, Clone)]
pub(crate) struct Names(OwnFiles);

impl Names {
    /// # Errors
    /// If not even one thread can be made.
    pub(crate) fn new() -> io::Result<Self> {
        OwnFiles::new().map(Self)
    }
}

impl Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let threads = self.0.clone();
        Box::pin(async move {
            let find = move |_: &_| (name.as_str(), 0).to_socket_addrs();
            // Who has waited too long is gone; names that nobody waits for any more would only hold up others.
            threads.run_if_wanted(find).await?
        })
    }
}
