//! `Attach` of `gantry.v1`: processes whose streams the server holds.

use gantry_api::{
    containerd::tasks::{DeleteTaskRequest, StartRequest},
    types::{AddProcessRequest, User},
    v1::{
        AttachBegin, AttachRequest, AttachResponse, CloseStdin, OutputStream, Resize,
        attach_request::Message as Asked, attach_response::Message,
        container_service_client::ContainerServiceClient,
    },
};
use gantry_tests::{Runtime, Server, container::Container, patiently};
use rstest::rstest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    Bed, of,
    tasks::{NewTask, finish},
};

const HELD: &str = "gantry://";

/// One who is attached.
struct Attached {
    input: mpsc::Sender<AttachRequest>,
    output: Streaming<AttachResponse>,
}

impl Attached {
    async fn to(bed: &Bed, namespace: &str, id: &str, process: &str) -> Result<Self, Status> {
        let begin = AttachBegin {
            namespace: namespace.to_owned(),
            container_id: id.to_owned(),
            process_id: process.to_owned(),
        };
        let (input, requests) = mpsc::channel(4);
        let mut attached = Self::send(bed, input, requests, Asked::Begin(begin)).await?;
        assert!(matches!(attached.next().await, Some(Message::Attached(_))));
        Ok(attached)
    }

    async fn send(
        bed: &Bed,
        input: mpsc::Sender<AttachRequest>,
        requests: mpsc::Receiver<AttachRequest>,
        first: Asked,
    ) -> Result<Self, Status> {
        let _ = input.send(AttachRequest { message: Some(first) }).await;
        let mut client = ContainerServiceClient::new(bed.server.service.channel());
        let attach = client.attach(ReceiverStream::new(requests));
        let output = patiently("Attach", attach).await?.into_inner();
        Ok(Self { input, output })
    }

    async fn says(&self, message: Asked) {
        self.input.send(AttachRequest { message: Some(message) }).await.unwrap();
    }

    async fn types(&self, text: &str) {
        self.says(Asked::StdinData(text.into())).await;
    }

    async fn next(&mut self) -> Option<Message> {
        let message = patiently("a message", self.output.message()).await.unwrap();
        message.map(|message| message.message.expect("a message"))
    }

    /// Reads up to the end of this text, which is the last that comes at the moment.
    async fn reads(&mut self, stream: OutputStream, text: &str) {
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            match self.next().await {
                Some(Message::Output(output)) => {
                    assert_eq!(output.stream(), stream);
                    seen.extend(output.data);
                }
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&seen)),
            }
        }
        assert_eq!(String::from_utf8(seen).unwrap(), text);
    }

    /// Reads to the end: what came of each stream, how many gaps, and the exit's status.
    async fn rest(mut self) -> Rest {
        let mut rest = Rest::default();
        while let Some(message) = self.next().await {
            match message {
                Message::Output(output) => match output.stream() {
                    OutputStream::Stdout => rest.stdout.extend(output.data),
                    _ => rest.stderr.extend(output.data),
                },
                Message::OutputGap(gap) => rest.missing += gap.missing_bytes.expect("a number"),
                Message::OutputEnd(_) => assert!(!std::mem::replace(&mut rest.ended, true)),
                Message::Exit(exit) => rest.status = exit.status,
                Message::Attached(_) => panic!("attached twice"),
            }
        }
        assert!(rest.ended);
        rest
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Rest {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    missing: u64,
    ended: bool,
    status: Option<u32>,
}

/// A container of `types.API` with all three streams held.
async fn held(bed: &Bed, id: &str, script: &str) -> Container {
    let new = bed.server.container(id).without_pipes().sh(script);
    let new = new.request(|request| {
        for stream in [&mut request.stdin, &mut request.stdout, &mut request.stderr] {
            HELD.clone_into(stream);
        }
    });
    new.create().await.unwrap()
}

#[rstest]
#[tokio::test]
async fn everybody_reads_all_and_one_writes(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let script = "echo out; read line; echo error >&2; read line; echo got $line; cat; exit 3";
    let container = held(&bed, "a", script).await;
    assert_eq!(container.state().await.unwrap().processes[0].stdout, HELD);
    let mut one = Attached::to(&bed, "", "a", "").await.unwrap();
    one.reads(OutputStream::Stdout, "out\n").await;
    one.types("\n").await;
    one.reads(OutputStream::Stderr, "error\n").await;
    let other = Attached::to(&bed, "", "a", "init").await.unwrap();
    one.types("it\n").await;
    one.reads(OutputStream::Stdout, "got it\n").await;
    one.types("more").await;
    one.says(Asked::CloseStdin(CloseStdin {})).await;
    assert_eq!(container.init.exit().await, 3);
    let all = Rest {
        stdout: b"out\ngot it\nmore".to_vec(),
        stderr: b"error\n".to_vec(),
        ended: true,
        status: Some(3),
        ..Rest::default()
    };
    assert_eq!(other.rest().await, all);
    let rest = Rest { stdout: b"more".to_vec(), stderr: Vec::new(), ..all };
    assert_eq!(one.rest().await, rest);
    // It is gone, and what it has written is still there.
    let late = Attached::to(&bed, "", "a", "").await.unwrap();
    // For nobody; the stream may have ended already.
    let message = Some(Asked::StdinData(b"x".to_vec()));
    let _ = late.input.send(AttachRequest { message }).await;
    assert_eq!(late.rest().await.stdout, b"out\ngot it\nmore");
    finish(bed).await;
}

/// What is written while the server is away waits in the pipe.
#[rstest]
#[tokio::test]
async fn streams_survive_a_restart(#[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime) {
    let Some(mut bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let script = "echo early; read line; echo $line; while ! test -e /tmp/go; do sleep 0.02; done; echo away; \
        touch /tmp/gone; read line; echo $line; exit 4";
    let container = held(&bed, "a", script).await;
    let mut one = Attached::to(&bed, "", "a", "").await.unwrap();
    one.reads(OutputStream::Stdout, "early\n").await;
    one.types("one\n").await;
    one.reads(OutputStream::Stdout, "one\n").await;
    let root = format!("/proc/{}/root/tmp", container.init.system_pid);
    bed.server.kill().await;
    std::fs::write(format!("{root}/go"), "").unwrap();
    gantry_tests::eventually("it has written", || std::fs::exists(format!("{root}/gone")).unwrap())
        .await;
    bed.server.start_again().await;
    let mut again = Attached::to(&bed, "", "a", "").await.unwrap();
    match again.next().await {
        Some(Message::OutputGap(gap)) => assert_eq!(gap.missing_bytes, None),
        other => panic!("{other:?}"),
    }
    again.reads(OutputStream::Stdout, "away\n").await;
    again.types("two\n").await;
    again.reads(OutputStream::Stdout, "two\n").await;
    assert_eq!(again.rest().await.status, Some(4));
    finish(bed).await;
}

#[tokio::test]
async fn a_slow_reader_stops_nobody_and_gets_a_gap() {
    let Some(bed) = Bed::start().await else { return };
    const SIZE: u64 = 16 << 20;
    let script = format!("read line; head -c {SIZE} /dev/zero; echo end");
    let container = held(&bed, "a", &script).await;
    let slow = Attached::to(&bed, "", "a", "").await.unwrap();
    let writer = Attached::to(&bed, "", "a", "").await.unwrap();
    writer.types("\n").await;
    // Nobody reads.
    assert_eq!(container.init.exit().await, 0);
    let slow = slow.rest().await;
    assert!(slow.missing > 0);
    assert_eq!(slow.missing + slow.stdout.len() as u64, SIZE + 4);
    assert!(slow.stdout.ends_with(b"end\n"));
    let late = Attached::to(&bed, "", "a", "").await.unwrap().rest().await;
    assert_eq!(late.missing + late.stdout.len() as u64, SIZE + 4);
    assert!(late.stdout.len() <= 256 << 10);
    finish(bed).await;
}

#[rstest]
#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_given(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let new = bed.server.container("a").without_pipes().terminal();
    let new = new.sh("read line; stty size; exit 5").request(|request| {
        HELD.clone_into(&mut request.stdin);
        HELD.clone_into(&mut request.stdout);
    });
    let container = new.create().await.unwrap();
    let mut one = Attached::to(&bed, "", "a", "").await.unwrap();
    one.says(Asked::Resize(Resize { width: 123, height: 45 })).await;
    one.types("x\n").await;
    one.reads(OutputStream::Stdout, "x\r\n45 123\r\n").await;
    assert_eq!(container.init.exit().await, 5);
    assert_eq!(one.rest().await.status, Some(5));
    finish(bed).await;
}

#[tokio::test]
async fn execs_and_tasks_have_held_streams() {
    let Some(bed) = Bed::start().await else { return };
    let container = bed.server.container("a").create().await.unwrap();
    let exec = AddProcessRequest {
        id: "a".to_owned(),
        pid: "e".to_owned(),
        args: ["sh", "-c", "echo exec; exit 6"].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin:/usr/bin".to_owned()],
        cwd: "/".to_owned(),
        stdout: HELD.to_owned(),
        user: Some(User::default()),
        ..AddProcessRequest::default()
    };
    bed.server.service.api().add_process(exec).await.unwrap();
    let rest = Attached::to(&bed, "", "a", "e").await.unwrap().rest().await;
    assert_eq!((rest.stdout.as_slice(), rest.status), (&b"exec\n"[..], Some(6)));
    assert_eq!(container.init.kill().await, 137);

    let mut new = NewTask::new(&bed, "ns", "a").sh("echo task; exit 7");
    new.create_container().await.unwrap();
    HELD.clone_into(&mut new.request.stdout);
    HELD.clone_into(&mut new.request.stderr);
    bed.tasks().create(of("ns", new.request.clone())).await.unwrap();
    // Before it is started.
    let attached = Attached::to(&bed, "ns", "a", "").await.unwrap();
    let start = StartRequest { container_id: "a".to_owned(), ..StartRequest::default() };
    bed.tasks().start(of("ns", start)).await.unwrap();
    let rest = attached.rest().await;
    assert_eq!((rest.stdout.as_slice(), rest.status), (&b"task\n"[..], Some(7)));
    let delete = DeleteTaskRequest { container_id: "a".to_owned() };
    bed.tasks().delete(of("ns", delete)).await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn what_cannot_be_attached_to_is_told() {
    let Some(bed) = Bed::start().await else { return };
    let container = bed.server.container("a").create().await.unwrap();
    let refused = async |id: &str, process: &str| match Attached::to(&bed, "", id, process).await {
        Ok(_) => panic!("{id}/{process}"),
        Err(error) => (error.code(), error.message().to_owned()),
    };
    assert_eq!(refused("b", "").await, (Code::NotFound, "container not found: b".to_owned()));
    assert_eq!(refused("a", "e").await, (Code::NotFound, "process not found: e".to_owned()));
    let (code, message) = refused("a", "").await;
    assert_eq!(code, Code::FailedPrecondition);
    assert!(
        message.starts_with("the server does not hold the streams of process init"),
        "{message}"
    );
    let (code, message) = refused("/", "").await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.starts_with("begin.container_id: "), "{message}");
    let (input, requests) = mpsc::channel(4);
    let first = Asked::CloseStdin(CloseStdin {});
    let error = Attached::send(&bed, input, requests, first).await.map(drop).unwrap_err();
    assert_eq!(error.message(), "begin: must be the first message");
    assert_eq!(container.init.kill().await, 137);

    let container = held(&bed, "a", "sleep 60").await;
    let mut one = Attached::to(&bed, "", "a", "").await.unwrap();
    one.says(Asked::Begin(AttachBegin::default())).await;
    let error = patiently("an error", one.output.message()).await.unwrap_err();
    assert_eq!(error.message(), "begin: must be the first message, and only that");
    assert_eq!(container.init.kill().await, 137);
    finish(bed).await;
}
