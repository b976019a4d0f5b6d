//! `gantry exec`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use gantry_client::{Client, ConsoleSize, INIT, types::User};

use crate::{
    failure::{Failure, Outcome},
    held::Held,
    ids, output,
    pipe_dirs::{self, PipeDir},
    place::PlaceOption,
    session::{Ended, Kind, Session},
    streams::{self, StreamOptions, environment},
    terminal, users,
};

/// Run a further program in a container
///
/// It gets the user, environment, working directory and capabilities of the container's first
/// process, unless options say otherwise. Exit status, signals and detaching are as with `gantry run`;
/// `gantry attach --pid PROCESS ID` goes on with what was left.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(super) streams: StreamOptions,
    /// Set a variable; without a value, pass this command's own on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file: NAME=VALUE or NAME a line, # begins a comment; --env counts more
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short = 'w', long, visible_alias = "workdir", value_name = "DIR")]
    pub(super) cwd: Option<String>,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Id of the process, for `gantry kill --pid` [default: random]
    #[arg(long, value_name = "PROCESS")]
    pid: Option<String>,
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: String,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        self.streams.check()?;
        let process = match &self.pid {
            Some(process) => process.clone(),
            None => random_id().map_err(Failure::own)?,
        };
        pipe_dirs::sweep();
        let pipes = PipeDir::make(&random_id()?).map_err(Failure::own)?;
        let found = self.place.find(client, &self.id).await.map_err(Failure::own)?;
        if let Some(found) = found {
            return self.run_in(&found, &process, pipes).await;
        }
        let user = self.resolve_user(client).await.map_err(Failure::own)?;

        let container = client.container(&self.id);
        let exec = container.exec_like_init(&process, self.command.clone()).await;
        let mut exec = exec
            .map_err(|e| Failure::of_start(&e))?
            .env(self.environment().map_err(Failure::own)?)
            .terminal(self.streams.tty)
            .pipe_dir(pipes.path())
            .stdin(self.streams.stdin())
            .stdout(self.streams.output())
            .stderr(self.streams.output());
        if let Some(cwd) = &self.cwd {
            exec = exec.cwd(cwd);
        }
        if let Some(user) = user {
            exec = exec.user(user);
        }
        if let Some(size) = self.console_size() {
            exec = exec.console_size(size);
        }

        let kind = Kind { terminal: self.streams.tty, visit: false };
        let mut session = Session::prepare(&self.streams.session, kind)?;
        let start = Box::pin(exec.start());
        let start = async { start.await.map_err(|e| Failure::of_start(&e)) };
        let process = session.start(start).await?;
        if self.streams.detach {
            if self.streams.interactive {
                pipes.keep();
            }
            output::line(process.id())?;
            return Ok(ExitCode::SUCCESS);
        }
        let streams = process.take_stdio().into();
        let ended = session.hold(&Held::Process(&process), streams).await.map_err(Failure::own)?;
        if let Ended::Left(_) = ended {
            pipes.keep();
        }
        Ok(ended.code())
    }

    pub(super) fn environment(&self) -> Result<Vec<String>, Failure> {
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(streams::environment_file(file)?);
        }
        env.extend(environment(&self.env));
        if self.streams.tty {
            env.insert(0, "TERM=xterm".to_owned());
        }
        Ok(env)
    }

    pub(super) fn console_size(&self) -> Option<ConsoleSize> {
        terminal::size().filter(|_| self.streams.tty)
    }

    /// The names are looked up in the root that the container's first process has.
    async fn resolve_user(&self, client: &Client) -> Result<Option<User>, Failure> {
        let Some(user) = &self.user else { return Ok(None) };
        let state = client.container(&self.id).state().await?;
        let init = state.processes.iter().find(|p| p.pid == INIT);
        let pid = init.ok_or_else(|| Failure::new("the container's first process has ended"))?;
        let root = format!("/proc/{}/root", pid.system_pid);
        users::resolve(Path::new(&root), user).map(Some)
    }
}

fn random_id() -> Result<String, Failure> {
    Ok(format!("exec-{}", ids::random()?))
}
