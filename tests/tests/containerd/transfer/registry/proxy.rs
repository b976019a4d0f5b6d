//! A proxy in front of a registry, which stops in the middle.

use std::sync::Arc;

use gantry_tests::docker_registry::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Passes on what is said to a registry, and so many bytes of all that it says.
pub(super) struct Proxy {
    port: u16,
    limit: watch::Sender<u64>,
    server: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    pub(super) async fn start(registry: &Registry, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), registry.host());
        let (limit, limits) = watch::channel(limit);
        let said = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let server = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let registry = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass_on(client, registry, limits.clone(), Arc::clone(&said)));
            }
        });
        Self { port, limit, server }
    }

    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Passes on all that comes.
    pub(super) fn open(&self) {
        self.limit.send_replace(u64::MAX);
    }
}

async fn pass_on(
    client: TcpStream,
    registry: TcpStream,
    mut limits: watch::Receiver<u64>,
    said: Arc<std::sync::atomic::AtomicU64>,
) {
    use std::sync::atomic::Ordering;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_registry, mut to_registry) = registry.into_split();
    let asking = tokio::io::copy(&mut from_client, &mut to_registry);
    let answering = async {
        let mut data = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from_registry.read(&mut data).await {
            let so_far = said.fetch_add(count as u64, Ordering::Relaxed);
            if limits.wait_for(|limit| so_far < *limit).await.is_err() {
                return;
            }
            if to_client.write_all(&data[..count]).await.is_err() {
                return;
            }
        }
    };
    // Either end ends both.
    tokio::select! {
        _ = asking => {}
        () = answering => {}
    }
}
