//! `gantry run`

mod image;
mod own;
mod rootfs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use gantry_client::{Client, ContainerBuilder, types::User};

pub(crate) use self::rootfs::Started;
use crate::{
    bundles::{self, Bundle},
    containerd::NamespaceOption,
    failure::{Failure, Outcome},
    images::manifest::Platform,
    logs::Prepared,
    pipe_dirs,
    spec::{self, DeviceOption, LimitOptions, MountOptions, SecurityOptions, Wishes},
    streams::{self, StreamOptions, environment},
    terminal, users,
};

/// Longest host name, see sethostname(2).
const HOSTNAME_MAX: usize = 64;

/// Run a program in a new container
///
/// The root of the container is made of an image that is there (see `gantry images`), or is the directory that --rootfs
/// names. It gets namespaces of its own, docker's default capabilities, a filter of
/// system calls, and no network.
///
/// What an image says of program, arguments, variables, user and working directory counts unless options say otherwise.
/// Names of images may be short: alpine is docker.io/library/alpine:latest, if there is no image called alpine. The
/// container's id is the name that --name gives. It belongs to a namespace of containerd's API, and stays, with the
/// files it has written, until `gantry rm` removes it; with --rm it goes when the program has ended: at once, or with -d
/// when a later `gantry run` finds it ended.
///
/// With --rootfs or --bundle, the container is gone once the program has ended; what stays is its bundle (config.json, checkpoints), in
/// /run/gantry-cli/containers/ID or $XDG_RUNTIME_DIR/gantry-cli/containers/ID, for `gantry restore`
/// and to look at. With --rm that goes as well.
///
/// The exit status is the program's (128+n after signal n), 127 if it was not found, 126 if it
/// cannot be run, and 125 if Gantry itself failed. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1,
/// SIGUSR2 and SIGCONT are passed on to the program; if nobody reads its output any more it is
/// killed, as in a pipe.
///
/// With -t, the detach keys leave it running, and so does the end of the terminal (SIGHUP).
/// `gantry attach` goes on with it. Until then its output waits in a pipe: of 64 KiB nothing is lost,
/// and a program that writes more waits. With -d and without -i its output is thrown away, so that
/// it never waits.
#[derive(Debug, Args)]
#[command(override_usage = "gantry run [OPTIONS] IMAGE [PROGRAM [ARGUMENT]...]
       gantry run [OPTIONS] --rootfs DIR ID PROGRAM [ARGUMENT]...
       gantry run [OPTIONS] --bundle DIR ID")]
pub(crate) struct Run {
    /// Directory that becomes the container's root, used as it is, instead of an image
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_IMAGES)]
    rootfs: Option<PathBuf>,
    /// Bundle of the OCI specification, whose config.json is used as it is, instead of an image
    #[arg(long, value_name = "DIR", conflicts_with_all = own::OF_CONFIGURATIONS)]
    bundle: Option<PathBuf>,
    /// Id of the container of an image [default: the image's name and a random number]
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    #[command(flatten)]
    namespace: NamespaceOption,
    /// Program to run instead of the image's; arguments that the image has are left out
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Platform to choose of an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Where the image is unpacked to [default: the namespace's, or overlayfs]
    #[arg(long, value_name = "NAME")]
    snapshotter: Option<String>,
    #[command(flatten)]
    streams: StreamOptions,
    /// With -d, append output and errors to a file, for `gantry logs`; the file is not removed with the container
    #[arg(long, value_name = "FILE", requires = "detach", conflicts_with = "interactive")]
    log: Option<PathBuf>,
    /// Remove the container when the program has ended: its bundle, or its record and snapshot
    #[arg(long)]
    rm: bool,
    /// Set a variable; without a value, pass this command's own on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file: NAME=VALUE or NAME a line, # begins a comment; --env counts more
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Add a label; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Working directory in the container [default: the image's, or /]
    #[arg(short = 'w', long, visible_alias = "workdir", value_name = "DIR")]
    cwd: Option<String>,
    /// User and group, names or numbers [default: the image's, or root]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Runtime to use, instead of the server's default
    #[arg(long, value_name = "NAME|PATH")]
    runtime: Option<String>,
    /// Path of its cgroup [default: /gantry/ID, or /gantry-NAMESPACE/ID]
    #[arg(long, value_name = "PATH")]
    cgroup_path: Option<String>,
    /// Host name in the container [default: ID]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Network of the container
    #[arg(long, value_enum, default_value_t = Net::None)]
    net: Net,
    /// Nothing in the container's root can be written to; mounts can
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    mounts: MountOptions,
    /// Give a device of the host; may be repeated
    #[arg(long, value_name = "DEVICE[:PATH][:rwm]")]
    device: Vec<DeviceOption>,
    #[command(flatten)]
    security: SecurityOptions,
    #[command(flatten)]
    limits: LimitOptions,
    /// Image, or ID with --rootfs or --bundle, then program and arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "WORDS"
    )]
    words: Vec<String>,
}

/// Options that have no meaning without an image.
const OF_IMAGES: [&str; 4] = ["name", "entrypoint", "platform", "snapshotter"];

/// What a container without an image is made of.
#[derive(Debug)]
enum Of {
    Directory { rootfs: PathBuf, program: Vec<String> },
    Bundle(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Net {
    /// A loopback device only
    None,
    /// The host's
    Host,
}

impl Run {
    pub(crate) async fn run(mut self, client: &Client, server: &Path) -> Outcome {
        self.streams.check()?;
        let log = self.log.as_deref().map(Prepared::new).transpose().map_err(Failure::own)?;
        self.log = log.as_ref().map(|log| log.path().to_owned());
        let program = self.words.split_off(1);
        let word = self.words.remove(0);
        match (self.rootfs.take(), self.bundle.take()) {
            (None, None) => self.run_image(client, &word, program, log).await,
            (Some(_), _) if program.is_empty() => {
                Err(Failure::new("--rootfs needs ID and PROGRAM").own())
            }
            (Some(rootfs), _) => {
                let of = Of::Directory { rootfs, program };
                self.run_rootfs(client, server, of, word, log).await
            }
            (None, Some(_)) if !program.is_empty() => {
                Err(Failure::new("--bundle needs ID, and its program is in config.json").own())
            }
            (None, Some(bundle)) => {
                self.run_rootfs(client, server, Of::Bundle(bundle), word, log).await
            }
        }
    }

    async fn run_rootfs(
        self,
        client: &Client,
        server: &Path,
        of: Of,
        id: String,
        log: Option<Prepared>,
    ) -> Outcome {
        pipe_dirs::sweep();
        bundles::sweep(client, server).await;
        let bundle = Bundle::claim(&id).map_err(Failure::own)?;
        let builder = match self.describe(client, &bundle, of, &id) {
            Ok(builder) => builder,
            Err(failure) => {
                bundle.abandon();
                return Err(failure.own());
            }
        };
        let started = Started { streams: self.streams, log, rm: self.rm, bundle };
        started.run(builder, server).await
    }

    fn describe(
        &self,
        client: &Client,
        bundle: &Bundle,
        of: Of,
        id: &str,
    ) -> Result<ContainerBuilder, Failure> {
        let spec = match of {
            Of::Directory { rootfs, program } => {
                let rootfs =
                    fs::canonicalize(&rootfs).map_err(|e| Failure::io(rootfs.display(), &e))?;
                let user =
                    self.user.as_deref().map(|user| users::resolve(&rootfs, user)).transpose()?;
                let mut wishes = self.wishes(id, user)?;
                wishes.args = program;
                wishes.rootfs = rootfs;
                spec::build(wishes)?
            }
            Of::Bundle(own) => {
                own::configuration(&own, self.cgroup_path.as_deref(), self.streams.tty)?
            }
        };
        let builder = client.create(id, bundle.path()).spec(spec);
        let builder =
            builder.labels(self.label.iter().map(|(name, value)| format!("{name}={value}")));
        Ok(match &self.runtime {
            Some(runtime) => builder.runtime(runtime),
            None => builder,
        })
    }

    /// What options say, without root and program.
    fn wishes(&self, id: &str, user: Option<User>) -> Result<Wishes, Failure> {
        let hostname = self.hostname.clone();
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(streams::environment_file(file)?);
        }
        env.extend(environment(&self.env));
        Ok(Wishes {
            args: Vec::new(),
            env,
            cwd: self.cwd.clone().unwrap_or_else(|| "/".to_owned()),
            user: user.unwrap_or_default(),
            terminal: self.streams.tty,
            console_size: terminal::size().filter(|_| self.streams.tty),
            rootfs: PathBuf::new(),
            hostname: hostname.unwrap_or_else(|| id.chars().take(HOSTNAME_MAX).collect()),
            host_network: self.net == Net::Host,
            read_only: self.read_only,
            mounts: self.mounts.clone(),
            devices: self.device.clone(),
            security: self.security.clone(),
            limits: self.limits.clone(),
            cgroup_path: self.cgroup_path.clone().unwrap_or(format!("/gantry/{id}")),
        })
    }
}

/// A label as containerd takes it.
fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(format!("{text:?}: want NAME=VALUE"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
