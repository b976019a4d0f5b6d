//! Makes connections: to a host itself, or to the proxy that leads there.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tower::{BoxError, Service};

use crate::{
    names::Names,
    proxy::{Proxies, Proxy},
    transport::causes,
};

/// Makes connections without TLS, which may lead through a proxy's.
#[derive(Clone)]
pub(crate) struct Dial {
    tcp: HttpConnector<Names>,
    /// To proxies, which may want TLS.
    to_proxy: HttpsConnector<HttpConnector<Names>>,
    proxies: Proxies,
    /// How long a proxy may take.
    within: Duration,
}

/// A connection to a host, or to a proxy that forwards requests.
pub(crate) struct Line {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether requests say for whom they are.
    is_proxy: bool,
}

/// A proxy that does not help; the error is not the host's, of which nothing is known.
#[derive(Debug, thiserror::Error)]
#[error("proxy {proxy}: {cause}")]
struct NoWay {
    proxy: String,
    cause: String,
}

impl Dial {
    pub(crate) fn new(
        tcp: HttpConnector<Names>,
        proxies: Proxies,
        proxy_tls: Arc<ClientConfig>,
        within: Duration,
    ) -> Self {
        let to_proxy = HttpsConnector::from((tcp.clone(), proxy_tls));
        Self { tcp, to_proxy, proxies, within }
    }

    /// A connection by way of a proxy: through it for https, which it cannot look into, else to it.
    fn by(&self, proxy: &Proxy, to: Uri) -> impl Future<Output = Result<Line, NoWay>> + use<> {
        let (mut to_proxy, within) = (self.to_proxy.clone(), self.within);
        let (shown, authorization) = (proxy.address.to_string(), proxy.authorization.clone());
        let at = proxy.address.uri();
        let no_way = move |cause: String| NoWay { proxy: shown.clone(), cause };
        async move {
            let at = at.map_err(|error| no_way(error.to_string()))?;
            let is_tunnel = to.scheme_str() == Some("https");
            let connect = async {
                if !is_tunnel {
                    return to_proxy.call(at).await.map_err(|error| causes(&*error));
                }
                let mut tunnel = Tunnel::new(at, to_proxy);
                if let Some(authorization) = authorization {
                    tunnel = tunnel.with_auth(authorization);
                }
                tunnel.call(to).await.map_err(|error| causes(&error))
            };
            match timeout(within, connect).await {
                Ok(Ok(stream)) => Ok(Line { stream, is_proxy: !is_tunnel }),
                Ok(Err(cause)) => Err(no_way(cause)),
                Err(_) => Err(no_way(format!("no connection after {within:?}"))),
            }
        }
    }
}

impl Service<Uri> for Dial {
    type Response = Line;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Line, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        if let Some(proxy) = self.proxies.of(&to) {
            let connecting = self.by(proxy, to.clone());
            return Box::pin(async { connecting.await.map_err(Into::into) });
        }
        let connecting = self.tcp.call(to);
        Box::pin(async {
            let stream = MaybeHttpsStream::Http(connecting.await?);
            Ok(Line { stream, is_proxy: false })
        })
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_proxy)
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl Write for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
    }
}
