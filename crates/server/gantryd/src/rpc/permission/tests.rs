//! Which calls reach a service, what the others are told, and what is noted of them.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::Code;
use tower::{ServiceExt, service_fn};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{
    access::{Policy, Rule},
    rpc::{Peers, receives},
};

const KILL: &str = "/containerd.services.tasks.v1.Tasks/Kill";
const CREATE: &str = "/types.API/CreateContainer";

/// User 1 is an observer, user 2 an operator, and user 3 an admin.
fn policy() -> Policy {
    let roles = [Role::Observer, Role::Operator, Role::Admin];
    let rule = |(user, role)| Rule { user: Some(user), group: None, role };
    Policy { rules: (1..).zip(roles).map(rule).collect(), ..Policy::default() }
}

fn request(path: &str, user: u32) -> http::Request<Body> {
    let who = Identity { user: Some(user), process: Some(77), ..Identity::default() };
    let request = http::Request::builder().uri(path).header("containerd-namespace", "n");
    request.extension(Peers::default().next(who)).body(Body::empty()).unwrap()
}

/// What a client is answered by a service whose calls all end with this code, and how many calls that had.
async fn answer(request: http::Request<Body>, code: Code) -> (Status, u32) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |request: http::Request<Body>| {
        counted.fetch_add(1, Ordering::SeqCst);
        if let Some(subject) = request.extensions().get::<Subject>() {
            subject.set("c1".to_owned());
        }
        future::ready(Ok::<_, Infallible>(Status::new(code, "").into_http::<Body>()))
    });
    let service = PermissionLayer::new(Access::new(policy())).layer(service);
    let answer = service.oneshot(request).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    (status, calls.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_role_decides_which_calls_reach_a_service() {
    for (path, user, reaches) in [
        ("/types.API/State", 1, true),
        ("/grpc.health.v1.Health/Check", 1, true),
        (KILL, 1, false),
        (CREATE, 1, false),
        (KILL, 2, true),
        (CREATE, 2, false),
        ("/containerd.services.tasks.v1.Tasks/Exec", 2, false),
        (CREATE, 3, true),
        ("/types.API/State", 4, false),
        ("/grpc.health.v1.Health/Check", 4, false),
    ] {
        let (status, calls) = answer(request(path, user), Code::Ok).await;
        let code = if reaches { Code::Ok } else { Code::PermissionDenied };
        assert_eq!((status.code(), calls), (code, u32::from(reaches)), "{path} by {user}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_call_and_the_role() {
    let (status, _) = answer(request(KILL, 1), Code::Ok).await;
    let words = format!("{KILL} needs the role operator, and user 1 has the role observer here");
    assert_eq!(status.message(), words);
    let (status, _) = answer(request(CREATE, 4), Code::Ok).await;
    let words = format!("{CREATE} needs the role admin, and user 4 has no role here");
    assert_eq!(status.message(), words);
}

/// Those who only watch events are known by it.
#[tokio::test]
async fn a_service_sees_the_role_of_who_is_no_admin() {
    for (user, role) in [(1, Some(Role::Observer)), (2, Some(Role::Operator)), (3, None)] {
        let service = service_fn(move |request: http::Request<Body>| {
            assert_eq!(request.extensions().get::<Role>().copied(), role);
            assert_eq!(receives(&tonic::Request::from_http(request)), role.is_none());
            future::ready(Ok::<_, Infallible>(Status::ok("").into_http::<Body>()))
        });
        let service = PermissionLayer::new(Access::new(policy())).layer(service);
        service.oneshot(request("/types.API/Events", user)).await.unwrap();
    }
}

/// Not even an admin's.
#[tokio::test]
async fn a_call_without_a_role_reaches_no_service() {
    for path in ["/types.API/NewCall", "/gantry.v1.New/Call", "/", "/types.API/State/"] {
        let (status, calls) = answer(request(path, 3), Code::Ok).await;
        assert_eq!((status.code(), calls), (Code::Unimplemented, 0), "{path}");
    }
}

/// What is logged by a thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What is logged until the guard is dropped, without times.
fn logged() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false);
    let subscriber = subscriber.with_writer(lines.clone()).finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

fn text(lines: &Lines) -> String {
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn what_changes_something_is_noted_with_its_end() {
    let (lines, _guard) = logged();
    answer(request("/types.API/State", 1), Code::Ok).await;
    answer(request("/types.API/State", 4), Code::Ok).await;
    assert_eq!(text(&lines), "", "nothing of reads");
    answer(request(KILL, 2), Code::Ok).await;
    answer(request(KILL, 3), Code::NotFound).await;
    answer(request(KILL, 4), Code::Ok).await;
    let line = |level: &str, user: u32, role: &str, subject: &str, code: &str| {
        format!(
            "{level} audit: call=\"{KILL}\" uid={user} pid=77 role=\"{role}\" \
             namespace=\"n\"{subject} code={code}\n"
        )
    };
    let subject = " subject=\"c1\"";
    let expected = [
        line(" INFO", 2, "operator", subject, "Ok"),
        line(" INFO", 3, "admin", subject, "NotFound"),
        line(" WARN", 4, "none", "", "PermissionDenied"),
    ];
    assert_eq!(text(&lines), expected.concat());
}

/// A body that only has trailers.
struct End(Code);

impl HttpBody for End {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut trailers = http::HeaderMap::new();
        Status::new(self.0, "").add_header(&mut trailers).unwrap();
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// The end of a call that has a message is behind that.
#[tokio::test]
async fn the_end_of_a_stream_is_noted_when_it_comes() {
    let (lines, _guard) = logged();
    let service = service_fn(|_: http::Request<Body>| {
        future::ready(Ok::<_, Infallible>(http::Response::new(Body::new(End(Code::Aborted)))))
    });
    let service = PermissionLayer::new(Access::new(policy())).layer(service);
    let answer = service.clone().oneshot(request(KILL, 2)).await.unwrap();
    assert_eq!(text(&lines), "");
    let mut body = answer.into_body();
    let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(frame.unwrap().unwrap().is_trailers());
    assert!(text(&lines).ends_with("code=Aborted\n"), "{}", text(&lines));
    drop(body);
    assert_eq!(text(&lines).lines().count(), 1, "it is noted once");
    drop(service.oneshot(request(KILL, 2)).await.unwrap());
    assert!(text(&lines).ends_with("code=Cancelled\n"), "its client has gone");
}
