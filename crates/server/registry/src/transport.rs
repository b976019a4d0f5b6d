//! Sends a request, and follows redirections. What is meant for one host is told to no other.

use std::{
    error::Error,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, InvalidMessage};
use tokio::time::timeout;

use crate::{
    Limits, RegistryError,
    address::Address,
    answer::Answer,
    dial::Dial,
    error::Fault,
    names::Names,
    payload::{Content, Payload},
    proxy::Proxies,
    reference::split_port,
};

/// How often a request is sent elsewhere.
const MAX_REDIRECTS: usize = 10;

/// How much of a connection is read ahead, which is also the most that headers may have.
const READ_BUFFER: usize = 128 << 10;

/// How long a connection is kept that nobody uses.
const KEEP_IDLE: Duration = Duration::from_secs(30);

/// Connections to a host, and to where it sends us.
pub(crate) struct Transport {
    client: Client<HttpsConnector<Dial>, Payload>,
    proxies: Proxies,
    /// The host's own address.
    home: Address,
    /// Whether http may be tried instead of https, at the host's own address.
    may_be_plain: bool,
    /// That the host speaks http, as was found out.
    is_plain: AtomicBool,
    limits: Limits,
}

/// How connections are made, for all transports alike.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) names: Names,
    pub(crate) proxies: Proxies,
    /// Whom a proxy has to be that is asked with TLS.
    pub(crate) proxy_tls: Arc<ClientConfig>,
}

/// Whom a question is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The host of the transport, which may speak http instead of https.
    Home,
    /// Whoever gives its tokens, or takes its uploads: asked exactly as the address says.
    Other,
}

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) whom: Whom,
    pub(crate) method: Method,
    pub(crate) address: Address,
    /// For whoever answers.
    pub(crate) headers: HeaderMap,
    /// For nobody else than the host that the question is for.
    pub(crate) secret: HeaderMap,
    pub(crate) content: Content<'a>,
}

impl Transport {
    /// A transport for the host at the address `home`.
    pub(crate) fn new(
        home: Address,
        means: Means,
        tls: impl Into<Arc<ClientConfig>>,
        may_be_plain: bool,
        dial_timeout: Option<Duration>,
        limits: Limits,
    ) -> Self {
        let within = dial_timeout.unwrap_or(limits.dial);
        let mut tcp = HttpConnector::new_with_resolver(means.names);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(within));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_IDLE));
        let dial = Dial::new(tcp, means.proxies.clone(), means.proxy_tls, within);
        let https = HttpsConnector::from((dial, tls.into()));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(4)
            .http1_max_buf_size(READ_BUFFER)
            .build(https);
        // A connection may take as long as is configured before anything can be answered.
        let answer = limits.answer.saturating_add(dial_timeout.unwrap_or_default());
        let limits = Limits { answer, ..limits };
        let proxies = means.proxies;
        Self { client, proxies, home, may_be_plain, is_plain: AtomicBool::new(false), limits }
    }

    /// Sends a question, also to where the host says, and gives whatever answer comes.
    ///
    /// # Errors
    /// If no answer comes, or the host leads nowhere.
    pub(crate) async fn ask(&self, question: &Question<'_>) -> Result<Answer, RegistryError> {
        let mut address = question.address.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = if question.whom == Whom::Home && self.is_home(&address) {
                address.is_https = self.home.is_https;
                self.send_home(question, &address).await?
            } else {
                let is_meant = address.is_same_host(&question.address);
                self.send(question, &address, is_meant).await?
            };
            if !is_followed(&question.method, answer.status()) {
                return Ok(answer);
            }
            let Some(location) = answer.header(header::LOCATION) else { return Ok(answer) };
            let next = answer.address.follow(location);
            address = next.map_err(|problem| RegistryError::Answer {
                address: answer.address.to_string(),
                problem: format!("leads to what {problem}"),
            })?;
            if question.content.is_secret() && !address.is_same_host(&question.address) {
                let problem = format!("leads to {address}, which must not know what is sent here");
                return Err(RegistryError::Answer { address: answer.address.to_string(), problem });
            }
        }
        let problem = format!("leads elsewhere more than {MAX_REDIRECTS} times");
        Err(RegistryError::Answer { address: question.address.to_string(), problem })
    }

    fn is_plain(&self) -> bool {
        self.is_plain.load(Ordering::Relaxed)
    }

    /// Whether an address is of the transport's own host, which leads to itself by http if it speaks that only.
    pub(crate) fn is_home(&self, address: &Address) -> bool {
        let home = &self.home;
        address.is_same_host(home) || (self.is_plain() && address.is_same_host(&home.plain()))
    }

    /// Sends to the transport's own host, which may speak http.
    async fn send_home(
        &self,
        question: &Question<'_>,
        address: &Address,
    ) -> Result<Answer, RegistryError> {
        if !self.may_be_plain {
            return self.send(question, address, true).await;
        }
        if !self.is_plain() {
            match self.send(question, address, true).await {
                Err(RegistryError::Transport { fault, .. }) if is_http(fault, address) => {
                    self.is_plain.store(true, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        self.send(question, &address.plain(), true).await
    }

    async fn send(
        &self,
        question: &Question<'_>,
        address: &Address,
        is_meant: bool,
    ) -> Result<Answer, RegistryError> {
        let wrong =
            |problem: String| RegistryError::Answer { address: address.to_string(), problem };
        let payload = question.content.payload().await;
        let (payload, sent) = payload.map_err(|cause| wrong(format!("cannot send: {cause}")))?;
        let uri = address.uri().map_err(|error| wrong(error.to_string()))?;
        // To a proxy that forwards each request: one that forwards connections is told when they are made.
        let proxy = if address.is_https { None } else { self.proxies.of(&uri) };
        let mut request = Request::new(payload);
        *request.method_mut() = question.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        let secret = if is_meant { Some(&question.secret) } else { None };
        let is_said = |name: &HeaderName| secret.is_some_and(|secret| secret.contains_key(name));
        let general = question.headers.iter().filter(|(name, _)| !is_said(name));
        for (name, value) in general.chain(secret.into_iter().flatten()) {
            let appended = headers.try_append(name.clone(), value.clone());
            appended.map_err(|_| wrong("too many headers to send".to_owned()))?;
        }
        if let Some(proxy) = proxy.and_then(|proxy| proxy.authorization.clone()) {
            let inserted = headers.try_insert(header::PROXY_AUTHORIZATION, proxy);
            inserted.map_err(|_| wrong("too many headers to send".to_owned()))?;
        }
        let mut response = pin!(self.client.request(request));
        loop {
            let before = sent.bytes();
            match timeout(self.limits.answer, &mut response).await {
                Ok(Ok(response)) => {
                    let stalled_after = self.limits.stalled;
                    return Ok(Answer::new(
                        question.method.clone(),
                        address.clone(),
                        response,
                        stalled_after,
                    ));
                }
                Ok(Err(error)) => {
                    if let Some(failure) = sent.failure() {
                        return Err(wrong(format!("cannot send: {failure}")));
                    }
                    let fault = fault(&error);
                    let cause = go_words(fault).map_or_else(|| causes(&error), ToOwned::to_owned);
                    return Err(RegistryError::Transport {
                        address: address.to_string(),
                        cause,
                        fault,
                    });
                }
                // The registry takes what it is sent.
                Err(_) if sent.bytes() != before => {}
                Err(_) => {
                    let cause = format!("no answer for {:?}: unavailable", self.limits.answer);
                    return Err(RegistryError::Transport {
                        address: address.to_string(),
                        cause,
                        fault: Fault::Late,
                    });
                }
            }
        }
    }
}

/// Whether an answer is only where to ask. What would have to be asked in another way is not followed.
fn is_followed(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        301..=303 => method == Method::GET || method == Method::HEAD,
        307 | 308 => true,
        _ => false,
    }
}

/// Whether a host that cannot be asked by https may be asked by http.
fn is_http(fault: Fault, address: &Address) -> bool {
    match fault {
        Fault::Plain => true,
        // Each has a port of its own.
        Fault::Refused | Fault::Late => split_port(&address.authority).1.is_none(),
        // Else whoever can disturb a connection could have its secrets sent by http.
        Fault::Connect | Fault::Tls | Fault::Broken => false,
    }
}

/// The words of Go's library for what clients of containerd decide by: `nerdctl --insecure-registry` tries http only
/// after an error with these.
fn go_words(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Refused => Some("connect: connection refused"),
        Fault::Plain => Some("http: server gave HTTP response to HTTPS client"),
        _ => None,
    }
}

/// An error with all that caused it, each once.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

fn fault(error: &ClientError) -> Fault {
    let mut found = if error.is_connect() { Fault::Connect } else { Fault::Broken };
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            // What http begins with is no type of a TLS record.
            let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
            return if *error == plain { Fault::Plain } else { Fault::Tls };
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(io) => {
                use io::ErrorKind::{
                    BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut,
                    UnexpectedEof,
                };
                match io.kind() {
                    TimedOut => found = Fault::Late,
                    ConnectionRefused => found = Fault::Refused,
                    BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
                        found = Fault::Broken;
                    }
                    _ => {}
                }
                // What an io error holds is not its source, but that one's source is.
                io.get_ref().map(|inner| inner as &(dyn Error + 'static))
            }
            None => error.source(),
        };
    }
    found
}

/// Headers of one name and value.
pub(crate) fn header_of(name: HeaderName, value: header::HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(name, value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_tried_where_nobody_speaks_https() {
        let alone = Address::parse("https://h.example/v2").unwrap();
        let with_port = Address::parse("https://h.example:5000/v2").unwrap();
        for (fault, is_tried, is_tried_at_port) in [
            (Fault::Plain, true, true),
            (Fault::Refused, true, false),
            (Fault::Late, true, false),
            (Fault::Connect, false, false),
            (Fault::Tls, false, false),
            (Fault::Broken, false, false),
        ] {
            assert_eq!(is_http(fault, &alone), is_tried, "{fault:?}");
            assert_eq!(is_http(fault, &with_port), is_tried_at_port, "{fault:?}");
        }
    }
}
