//! `gantry run`

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use gantry_client::{Client, Container, ContainerBuilder};

use crate::{
    bundles::{self, Bundle},
    failure::{Failure, Outcome},
    output, parse, pipe_dirs,
    session::{Ended, Kind, Session},
    spec::{self, Wishes},
    streams::{StreamOptions, environment},
    terminal, users,
};

/// Longest host name, see sethostname(2).
const HOSTNAME_MAX: usize = 64;

/// Run a program in a new container
///
/// The container gets namespaces of its own, docker's default capabilities, and no network. It is
/// gone once the program has ended; what stays is its bundle (config.json, checkpoints), in
/// /run/gantry-cli/containers/ID or $XDG_RUNTIME_DIR/gantry-cli/containers/ID, for `gantry restore`
/// and to look at. With --rm that goes as well: at once, or with -d when a later `gantry run` finds
/// the container ended.
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
pub(crate) struct Run {
    /// Directory that becomes the container's root, used as it is
    #[arg(long, value_name = "DIR")]
    rootfs: PathBuf,
    #[command(flatten)]
    streams: StreamOptions,
    /// Remove the bundle when the container has ended
    #[arg(long)]
    rm: bool,
    /// Set a variable; without a value, pass this command's own on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR", default_value = "/")]
    cwd: String,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Runtime to use, instead of the server's default
    #[arg(long, value_name = "NAME|PATH")]
    runtime: Option<String>,
    /// Path of its cgroup [default: /gantry/ID]
    #[arg(long, value_name = "PATH")]
    cgroup_path: Option<String>,
    /// Host name in the container [default: ID]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Network of the container
    #[arg(long, value_enum, default_value_t = Net::None)]
    net: Net,
    /// Memory limit, such as 64m or 1g
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    memory: Option<u64>,
    /// Id of the container
    id: String,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Net {
    /// A loopback device only
    None,
    /// The host's
    Host,
}

impl Run {
    pub(crate) async fn run(self, client: &Client, server: &Path) -> Outcome {
        self.streams.check()?;
        pipe_dirs::sweep();
        bundles::sweep(client, server).await;
        let bundle = Bundle::claim(&self.id).map_err(Failure::own)?;
        let builder = match self.describe(client, &bundle) {
            Ok(builder) => builder,
            Err(failure) => {
                bundle.abandon();
                return Err(failure.own());
            }
        };
        let started = Started { streams: self.streams, rm: self.rm, bundle };
        started.run(builder, server).await
    }

    fn describe(&self, client: &Client, bundle: &Bundle) -> Result<ContainerBuilder, Failure> {
        let spec = spec::build(self.wishes()?)
            .map_err(|error| Failure::new(format!("write the configuration: {error}")))?;
        let builder = client.create(&self.id, bundle.path()).spec(spec);
        Ok(match &self.runtime {
            Some(runtime) => builder.runtime(runtime),
            None => builder,
        })
    }

    fn wishes(&self) -> Result<Wishes, Failure> {
        let rootfs =
            fs::canonicalize(&self.rootfs).map_err(|e| Failure::io(self.rootfs.display(), &e))?;
        let user = self.user.as_deref().map(|user| users::resolve(&rootfs, user)).transpose()?;
        let hostname =
            self.hostname.clone().unwrap_or_else(|| self.id.chars().take(HOSTNAME_MAX).collect());
        let cgroup_path = self.cgroup_path.clone().unwrap_or(format!("/gantry/{}", self.id));
        Ok(Wishes {
            args: self.command.clone(),
            env: environment(&self.env),
            cwd: self.cwd.clone(),
            user: user.unwrap_or_default(),
            terminal: self.streams.tty,
            console_size: terminal::size().filter(|_| self.streams.tty),
            rootfs,
            hostname,
            host_network: self.net == Net::Host,
            memory: self.memory,
            cgroup_path,
        })
    }
}

/// A container that is about to be started from a bundle of this command's.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) streams: StreamOptions,
    pub(crate) rm: bool,
    pub(crate) bundle: Bundle,
}

impl Started {
    /// Starts it, stays with it unless it is to be detached, and cleans up.
    pub(crate) async fn run(self, builder: ContainerBuilder, server: &Path) -> Outcome {
        let builder = builder
            .stdin(self.streams.stdin())
            .stdout(self.streams.output())
            .stderr(self.streams.output());
        let kind = Kind { terminal: self.streams.tty, visit: false };
        let mut session = Session::prepare(&self.streams.session, kind)?;
        let container = match session.start(builder.start()).await {
            Ok(container) => container,
            Err(failure) => {
                self.bundle.abandon();
                return Err(failure);
            }
        };
        if self.streams.detach {
            output::line(container.id())?;
            self.leave(server)?;
            return Ok(ExitCode::SUCCESS);
        }
        let streams = container.take_stdio();
        let ended = session.hold(container.init(), streams).await.map_err(Failure::own)?;
        match ended {
            Ended::Exited(_) => self.clean_up(&container)?,
            Ended::Left(_) => self.leave(server)?,
        }
        Ok(ended.code())
    }

    fn leave(&self, server: &Path) -> Result<(), Failure> {
        if self.rm { self.bundle.mark_for_removal(server) } else { Ok(()) }
    }

    fn clean_up(self, container: &Container) -> Result<(), Failure> {
        container.init().remove_pipes();
        if self.rm { self.bundle.remove() } else { Ok(()) }
    }
}
