//! A registry that answers as a test says, and notes what it is asked.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Method and path.
    pub(super) line: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Which request with this line it is, from 0.
    pub(super) count: usize,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// How an answer goes on after its data.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    End,
    /// Sends what there is, and then breaks.
    Flush,
    Break,
    Stall,
}

/// An answer.
pub(super) struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    data: Bytes,
    /// What is told, if it is not told to be in chunks.
    length: Option<u64>,
    then: Then,
    is_silent: bool,
}

pub(super) fn say(status: u16) -> Said {
    let length = Some(0);
    Said {
        status,
        headers: Vec::new(),
        data: Bytes::new(),
        length,
        then: Then::End,
        is_silent: false,
    }
}

impl Said {
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts are written in place")]
    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self.length = Some(self.data.len() as u64);
        self
    }

    /// Tells another length.
    pub(super) fn length(mut self, length: usize) -> Self {
        self.length = Some(length as u64);
        self
    }

    /// Tells no length.
    pub(super) fn chunked(mut self) -> Self {
        self.length = None;
        self
    }

    /// Breaks the connection after the data.
    pub(super) fn breaks(mut self) -> Self {
        self.then = Then::Flush;
        self
    }

    /// Says nothing after the data.
    pub(super) fn stalls(mut self) -> Self {
        self.then = Then::Stall;
        self
    }

    /// Does not even answer.
    pub(super) fn silent(mut self) -> Self {
        self.is_silent = true;
        self
    }
}

type Answers = dyn Fn(&Asked) -> Said + Send + Sync;

/// A registry, until it is dropped.
pub(super) struct Registry {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Registry {
    pub(super) async fn start(answers: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        Self::start_with(None, answers).await
    }

    /// Answers with TLS, and at the same port without.
    pub(super) async fn start_with_both(
        tls: ServerConfig,
        answers: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(tls), true, answers).await
    }

    pub(super) async fn start_with(
        tls: Option<ServerConfig>,
        answers: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    ) -> Self {
        Self::listen(tls, false, answers).await
    }

    async fn listen(
        tls: Option<ServerConfig>,
        is_plain_too: bool,
        answers: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::default());
        let (notes, answers): (Arc<Mutex<Vec<Asked>>>, Arc<Answers>) =
            (Arc::clone(&asked), Arc::new(answers));
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (notes, answers, tls) = (Arc::clone(&notes), Arc::clone(&answers), tls.clone());
                tokio::spawn(async move {
                    let mut first = [0];
                    // TLS begins with a handshake, whose records are of type 22.
                    let is_plain =
                        is_plain_too && stream.peek(&mut first).await.is_ok_and(|_| first != [22]);
                    match tls.filter(|_| !is_plain) {
                        // Who does not speak it gets no answer.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, notes, answers).await;
                            }
                        }
                        None => serve(stream, notes, answers).await,
                    }
                });
            }
        });
        Self { at, asked, server }
    }

    /// Its name and port.
    pub(super) fn host(&self) -> String {
        self.at.to_string()
    }

    pub(super) fn port(&self) -> u16 {
        self.at.port()
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Their methods and paths.
    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    notes: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Answers>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (notes, answers) = (Arc::clone(&notes), Arc::clone(&answers));
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            let query = request.uri().query().unwrap_or_default().to_owned();
            let headers = request.headers().clone();
            // An upload may break off.
            let body =
                request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let asked = {
                let mut notes = notes.lock().unwrap();
                let count = notes.iter().filter(|asked| asked.line == line).count();
                let asked = Asked { line, query, headers, body, count };
                notes.push(asked.clone());
                asked
            };
            let said = answers(&asked);
            if said.is_silent {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(Spoken {
                data: Some(said.data),
                length: said.length,
                then: said.then,
            });
            *response.status_mut() = StatusCode::from_u16(said.status).unwrap();
            for (name, value) in said.headers {
                response.headers_mut().append(name, value.parse().unwrap());
            }
            Ok::<_, Infallible>(response)
        }
    });
    // It breaks where it should.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

struct Spoken {
    data: Option<Bytes>,
    length: Option<u64>,
    then: Then,
}

impl Body for Spoken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.data.take() {
            Some(data) => {
                self.length = self.length.map(|length| length - data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None => match self.then {
                Then::End => Poll::Ready(None),
                Then::Flush => {
                    self.then = Then::Break;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Then::Break => Poll::Ready(Some(Err("on purpose"))),
                Then::Stall => Poll::Pending,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
