//! The comparison: a containerd 1.6 of our own, through its gRPC API.
//!
//! The messages have the fields that are used here, with their numbers in
//! `api/services/{containers,tasks}/v1/*.proto` of containerd.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use prost::Message;
use prost_types::Any;
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::bed::{Bed, Bundle};

const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/";
const SIGKILL: u32 = 9;

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "4")]
    runtime: Option<Runtime>,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Runtime {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    options: Option<Any>,
}

/// `containerd.runc.v1.Options`.
#[derive(Clone, PartialEq, Message)]
struct RuncOptions {
    #[prost(string, tag = "7")]
    root: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

/// Every other request that names a container, and perhaps one of its processes.
#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, tag = "2")]
    process: String,
}

#[derive(Clone, PartialEq, Message)]
struct Kill {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(uint32, tag = "3")]
    signal: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(message, optional, tag = "6")]
    spec: Option<Any>,
    #[prost(string, tag = "7")]
    process: String,
}

/// A running containerd. Dropping it ends it.
pub(crate) struct Containerd {
    pub(crate) client: Client,
    child: Child,
    socket: PathBuf,
}

/// A connection to it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    runc_root: String,
}

impl Containerd {
    /// `None` where it is not installed.
    pub(crate) async fn start(bed: &Bed) -> Result<Option<Self>> {
        if Command::new("containerd").arg("--version").output().is_err() {
            return Ok(None);
        }
        let work = bed.work().join("containerd");
        fs::create_dir_all(&work).context("make containerd's directory")?;
        let socket = work.join("sock");
        let config = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{0}/sock'\n",
            work.display()
        );
        fs::write(work.join("config.toml"), config).context("write containerd's config")?;
        let log = fs::File::create(work.join("log")).context("open containerd's log")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(work.join("config.toml"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.context("start containerd")?;
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))?;
        let mut attempts = 0;
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(error) if attempts > 1000 => return Err(error).context("containerd"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            attempts += 1;
        };
        let runc_root = work.join("runc").to_string_lossy().into_owned();
        Ok(Some(Self { client: Client { channel, runc_root }, child, socket }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its shims have in their arguments.
    pub(crate) fn address(&self) -> String {
        self.socket.to_string_lossy().into_owned()
    }

    /// `ctr run --rm`: from start to end.
    pub(crate) fn ctr_run(&self, bundle: &Bundle) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket);
        command.args([
            "run",
            "--rm",
            "--null-io",
            "--runc-root",
            &self.client.runc_root,
            "--config",
        ]);
        command.arg(bundle.path.join("config.json")).arg(&bundle.id);
        command
    }

    /// `ctr task exec --detach`.
    pub(crate) fn ctr_exec(&self, bundle: &Bundle, process: &str) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket);
        command.args(["task", "exec", "--detach", "--exec-id", process, &bundle.id]);
        command.args(["sleep", "1000000"]);
        command
    }
}

impl Client {
    /// Makes a container and starts its process.
    pub(crate) async fn create(&self, bundle: &Bundle) -> Result<()> {
        let options = RuncOptions { root: self.runc_root.clone() };
        let options = any("containerd.runc.v1.Options", options.encode_to_vec());
        let runtime = Runtime { name: "io.containerd.runc.v2".to_owned(), options: Some(options) };
        let spec = any(&format!("{SPEC}Spec"), bundle.config.to_string().into_bytes());
        let container =
            Container { id: bundle.id.clone(), runtime: Some(runtime), spec: Some(spec) };
        let create = CreateContainer { container: Some(container) };
        self.call("/containerd.services.containers.v1.Containers/Create", create).await?;
        self.call("/containerd.services.tasks.v1.Tasks/Create", name(bundle, "")).await?;
        self.call("/containerd.services.tasks.v1.Tasks/Start", name(bundle, "")).await
    }

    /// Starts a further process like the first one.
    pub(crate) async fn exec(&self, bundle: &Bundle, process: &str) -> Result<()> {
        let spec =
            any(&format!("{SPEC}Process"), bundle.config["process"].to_string().into_bytes());
        let (container, process) = (bundle.id.clone(), process.to_owned());
        let exec = Exec { container, spec: Some(spec), process: process.clone() };
        self.call("/containerd.services.tasks.v1.Tasks/Exec", exec).await?;
        self.call("/containerd.services.tasks.v1.Tasks/Start", name(bundle, &process)).await
    }

    pub(crate) async fn kill(&self, bundle: &Bundle) -> Result<()> {
        let kill = Kill { container: bundle.id.clone(), signal: SIGKILL };
        self.call("/containerd.services.tasks.v1.Tasks/Kill", kill).await
    }

    /// Waits for the end of the process, and has it all forgotten.
    pub(crate) async fn wait_and_delete(&self, bundle: &Bundle) -> Result<()> {
        self.call("/containerd.services.tasks.v1.Tasks/Wait", name(bundle, "")).await?;
        self.call("/containerd.services.tasks.v1.Tasks/Delete", name(bundle, "")).await?;
        self.call("/containerd.services.containers.v1.Containers/Delete", name(bundle, "")).await
    }

    async fn call<M: Message + 'static>(&self, method: &'static str, message: M) -> Result<()> {
        let mut request = Request::new(message);
        let namespace = MetadataValue::from_static("default");
        request.metadata_mut().insert("containerd-namespace", namespace);
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.context("containerd")?;
        // Of the answers, nothing is needed.
        let codec: ProstCodec<M, ()> = ProstCodec::default();
        grpc.unary(request, PathAndQuery::from_static(method), codec).await.context(method)?;
        Ok(())
    }
}

fn any(kind: &str, value: Vec<u8>) -> Any {
    Any { type_url: kind.to_owned(), value }
}

fn name(bundle: &Bundle, process: &str) -> Name {
    Name { container: bundle.id.clone(), process: process.to_owned() }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
