//! Checkpoints a task of containerd's services with CRIU, while it goes on and as its end, and restores it, as
//! a client does: `checkpoint-tasks SOCKET DIRECTORY`, where the directory has a `rootfs` with a busybox. For
//! `tests/guest/checkpoint.sh`.

use std::path::{Path, PathBuf};

use gantry_api::containerd::{
    LEASE_METADATA, NAMESPACE_METADATA,
    containers::{
        Container, CreateContainerRequest, container::Runtime, containers_client::ContainersClient,
    },
    leases::{CreateRequest, leases_client::LeasesClient},
    runc::{CheckpointOptions, Options},
    tasks::{
        CheckpointTaskRequest, CreateTaskRequest, DeleteTaskRequest, ExecProcessRequest,
        KillRequest, PauseTaskRequest, ResumeTaskRequest, StartRequest, WaitRequest,
        tasks_client::TasksClient,
    },
    to_any, type_url,
    types::Descriptor,
};
use gantry_tests::{
    bundle::Bundle,
    pipes::{PipePaths, Pipes},
    service::Service,
};
use prost_types::Any;
use serde_json::json;
use tonic::{Request, transport::Channel};

const ID: &str = "counter";

/// What the container's shell runs.
const COUNT: &str = "i=0; while busybox sleep 0.1; do i=$((i + 1)); echo $i; done";

/// The lease that keeps content.
const LEASE: &str = "checkpoints";

/// What a task is restored from.
enum Image {
    None,
    At(String),
    Content(Descriptor),
}

struct Story {
    channel: Channel,
    work: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(socket), Some(work)) = (arguments.next(), arguments.next()) else {
        panic!("usage: checkpoint-tasks SOCKET DIRECTORY");
    };
    let now = std::time::SystemTime::now().into();
    let service = Service::new(socket, &work, gantry_tests::Runtime::Runc, now);
    let story = Story { channel: service.channel(), work };
    story.create_container().await;
    let paths = ["first", "second"].map(|name| story.image(name));
    let (last, answered) = story.checkpoint(paths).await;
    assert_eq!(answered, [None, None]);
    let images = ["second", "first"].map(|name| Image::At(story.image(name)));
    story.restore(last, images).await;
    story.keep().await;
    let (last, images) = story.checkpoint_to_content().await;
    story.restore(last, images).await;
    // What is being removed is set aside.
    let images = std::fs::read_dir(story.work.join("root/checkpoints")).into_iter().flatten();
    let paths = images.map(|image| image.expect("an entry").path());
    assert_eq!(paths.filter(|path| path.extension().is_none()).count(), 0);
    println!("checkpoint of tasks: ok");
}

fn of<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_METADATA, "ns".parse().expect("ASCII"));
    request
}

fn any(type_url: &str, value: &serde_json::Value) -> Any {
    Any { type_url: type_url.to_owned(), value: value.to_string().into_bytes() }
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

impl Story {
    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn image(&self, name: &str) -> String {
        text(&self.work.join("images").join(name))
    }

    async fn create_container(&self) {
        let bundle = Bundle::new(self.work.join("none"), &self.work.join("rootfs"), "/counter");
        let mut spec = bundle.config;
        spec["process"]["args"] = json!(["/bin/busybox", "sh", "-c", COUNT]);
        let name = "io.containerd.runc.v2".to_owned();
        let container = Some(Container {
            id: ID.to_owned(),
            runtime: Some(Runtime { name, options: None }),
            spec: Some(any(type_url::SPEC, &spec)),
            ..Container::default()
        });
        let mut containers = ContainersClient::new(self.channel.clone());
        let created = containers.create(of(CreateContainerRequest { container })).await;
        created.expect("create a container");
    }

    /// The task with its pipes; its pid.
    async fn create(&self, image: Image) -> (Pipes, u32) {
        let (criu_image_path, checkpoint) = match image {
            Image::None => (String::new(), None),
            Image::At(path) => (path, None),
            Image::Content(descriptor) => (String::new(), Some(descriptor)),
        };
        let pipes = PipePaths::make(&self.work.join("pipes"), ID);
        let request = CreateTaskRequest {
            container_id: ID.to_owned(),
            stdin: text(&pipes.stdin),
            stdout: text(&pipes.stdout),
            stderr: text(&pipes.stderr),
            checkpoint,
            options: Some(to_any(&Options { criu_image_path, ..Options::default() })),
            ..CreateTaskRequest::default()
        };
        let pipes = pipes.open();
        let created = self.tasks().create(of(request)).await.expect("create a task");
        (pipes, created.into_inner().pid)
    }

    async fn start(&self, exec_id: &str) -> u32 {
        let request = StartRequest { container_id: ID.to_owned(), exec_id: exec_id.to_owned() };
        self.tasks().start(of(request)).await.expect("Start").into_inner().pid
    }

    async fn wait(&self, exec_id: &str) -> u32 {
        let request = WaitRequest { container_id: ID.to_owned(), exec_id: exec_id.to_owned() };
        self.tasks().wait(of(request)).await.expect("Wait").into_inner().exit_status
    }

    async fn delete(&self) {
        let request = DeleteTaskRequest { container_id: ID.to_owned() };
        let deleted = self.tasks().delete(of(request)).await.expect("Delete").into_inner();
        assert_eq!(deleted.exit_status, 137);
    }

    /// At this path, or as content.
    async fn write_image(&self, image_path: String, exit: bool) -> Option<Descriptor> {
        let options = CheckpointOptions { exit, image_path, ..<_>::default() };
        let request = CheckpointTaskRequest {
            container_id: ID.to_owned(),
            options: Some(to_any(&options)),
            ..CheckpointTaskRequest::default()
        };
        let mut request = of(request);
        request.metadata_mut().insert(LEASE_METADATA, LEASE.parse().expect("ASCII"));
        let made = self.tasks().checkpoint(request).await.expect("Checkpoint").into_inner();
        made.descriptors.into_iter().next()
    }

    /// Makes the lease that keeps content.
    async fn keep(&self) {
        let request = CreateRequest { id: LEASE.to_owned(), ..CreateRequest::default() };
        LeasesClient::new(self.channel.clone()).create(of(request)).await.expect("a lease");
    }

    async fn checkpoint_to_content(&self) -> (u32, [Image; 2]) {
        let (last, made) = self.checkpoint([String::new(), String::new()]).await;
        let [first, second] = made.map(|made| Image::Content(made.expect("a descriptor")));
        (last, [second, first])
    }

    /// The last number that was counted before the checkpoint that was the end, and what was answered.
    async fn checkpoint(&self, [first, second]: [String; 2]) -> (u32, [Option<Descriptor>; 2]) {
        let (mut pipes, _) = self.create(Image::None).await;
        self.start("").await;
        pipes.stdout_until("3\n").await;
        // As clients do it.
        let container_id = ID.to_owned();
        self.tasks().pause(of(PauseTaskRequest { container_id })).await.expect("Pause");
        let first = self.write_image(first, false).await;
        let container_id = ID.to_owned();
        self.tasks().resume(of(ResumeTaskRequest { container_id })).await.expect("Resume");
        let mut counted = pipes.stdout_until("\n").await;
        counted += &pipes.stdout_until("\n").await;
        let second = self.write_image(second, true).await;
        assert_eq!(self.wait("").await, 137);
        self.delete().await;
        counted += &pipes.stdout_text().await;
        let last = counted.lines().last().and_then(|line| line.parse().ok()).expect("a number");
        (last, [first, second])
    }

    /// Restores from the last image, and from the first.
    async fn restore(&self, last: u32, images: [Image; 2]) {
        for (image, first) in images.into_iter().zip([Some(last + 1), None]) {
            let (mut pipes, pid) = self.create(image).await;
            assert_eq!(pid, 0, "it does not run before it is started");
            assert!(self.start("").await > 0);
            let counted = pipes.stdout_until("\n").await;
            let number: u32 =
                counted.lines().next().and_then(|line| line.parse().ok()).expect("a number");
            match first {
                Some(first) => assert_eq!(number, first, "it goes on where it was"),
                None => assert!(number > 3 && number < last, "restored at {number} of {last}"),
            }
            self.exec().await;
            let kill = KillRequest { container_id: ID.to_owned(), signal: 9, ..<_>::default() };
            self.tasks().kill(of(kill)).await.expect("Kill");
            assert_eq!(self.wait("").await, 137);
            self.delete().await;
            // Its shim waits for a reader of what was not read.
            pipes.stdout_text().await;
        }
    }

    /// An exec in what was restored.
    async fn exec(&self) {
        let process = json!({
            "args": ["/bin/busybox", "sh", "-c", "exit 7"], "cwd": "/", "env": ["PATH=/bin"], "user": {}
        });
        let request = ExecProcessRequest {
            container_id: ID.to_owned(),
            exec_id: "exec".to_owned(),
            spec: Some(any(type_url::PROCESS, &process)),
            ..ExecProcessRequest::default()
        };
        self.tasks().exec(of(request)).await.expect("Exec");
        self.start("exec").await;
        assert_eq!(self.wait("exec").await, 7);
    }
}
