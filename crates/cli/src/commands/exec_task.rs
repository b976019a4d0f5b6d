//! `gantry exec` in a container of a namespace.

use std::{cell::Cell, path::Path, process::ExitCode};

use gantry_api::containerd::type_url;
use gantry_client::{INIT, Stdio, types::User};
use prost_types::Any;
use serde_json::{Value, json};

use super::exec::Exec;
use crate::{
    execs::{self, Note},
    failure::{Failure, Outcome},
    fifos::{self, Ends, Wanted},
    held::{Held, HeldStreams},
    output,
    pipe_dirs::PipeDir,
    place::Found,
    session::{Ended, Kind, Session},
    users,
};

impl Exec {
    pub(super) async fn run_in(&self, found: &Found, process: &str, pipes: PipeDir) -> Outcome {
        let user = self.user_in(found).await.map_err(Failure::own)?;
        let spec = self.spec(found, user).map_err(Failure::own)?;
        let kind = Kind { terminal: self.streams.tty, visit: false };
        execs::sweep(found).await;
        let note = Note::make(found, process).map_err(Failure::own)?;
        let task = found.process(process);
        if task.get().await.map_err(Failure::own)?.is_some() {
            let problem = format!("{} has a process {process} already", found.record.id);
            return Err(Failure::new(problem).own());
        }
        let mut session = Session::prepare(&self.streams.session, kind)?;
        let refused = Cell::new(false);
        let start = self.start_in(found, process, spec, &pipes, &refused);
        let streams = match session.start(start).await {
            Ok(streams) => streams,
            Err(failure) => {
                // What could not be started is still there. But what has the same name may be another command's.
                let discarded = match refused.get() {
                    true => Ok(()),
                    false => task.discard().await,
                };
                match discarded {
                    Ok(()) => note.remove(),
                    Err(failure) => failure.warn(),
                }
                return Err(failure);
            }
        };
        if self.streams.detach {
            if self.streams.interactive {
                pipes.keep();
            }
            output::line(process)?;
            return Ok(ExitCode::SUCCESS);
        }
        let ended = session.hold(&Held::Task(&task), streams).await.map_err(Failure::own)?;
        match ended {
            Ended::Left(_) => pipes.keep(),
            Ended::Exited(_) => note.remove(),
        }
        Ok(ended.code())
    }

    /// Makes and starts the process; `refused` hears whether the server would not make it.
    async fn start_in(
        &self,
        found: &Found,
        process: &str,
        spec: Any,
        pipes: &PipeDir,
        refused: &Cell<bool>,
    ) -> Result<HeldStreams, Failure> {
        let output = self.streams.output() == Stdio::Pipe;
        let stdin = self.streams.interactive;
        let wanted = Wanted { stdin, stdout: output, stderr: output && !self.streams.tty };
        let (paths, keepers) = fifos::make(pipes.path(), wanted).map_err(Failure::own)?;
        let ends = match self.streams.detach {
            true => Ends::default(),
            false => fifos::open(&paths).map_err(Failure::own)?,
        };
        let task = found.process(process);
        let what = format!("start {process} in {}", found.record.id);
        let program = self.command.first().map_or("", String::as_str);
        let failed = |status| Failure::of_task_start(&what, &status, program);
        let made = task.exec(spec, &paths, self.streams.tty).await;
        refused.set(made.is_err());
        made.map_err(failed)?;
        task.start().await.map_err(failed)?;
        drop(keepers);
        Ok(HeldStreams::of_task(ends, &task))
    }

    /// What the container's first process has, and what options say.
    fn spec(&self, found: &Found, user: Option<User>) -> Result<Any, Failure> {
        let id = &found.record.id;
        let spec = found.record.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
        let mut spec: Value = serde_json::from_slice(spec)
            .map_err(|error| Failure::new(format!("read the configuration of {id}: {error}")))?;
        let process = &mut spec["process"];
        process["args"] = json!(self.command);
        process["terminal"] = json!(self.streams.tty);
        process["consoleSize"] = match self.console_size() {
            Some(size) => json!({ "width": size.width, "height": size.height }),
            None => Value::Null,
        };
        let inherited = process["env"].as_array().into_iter().flatten();
        let inherited = inherited.filter_map(|it| it.as_str().map(str::to_owned)).collect();
        process["env"] = json!(merged(inherited, self.environment()?));
        if let Some(cwd) = &self.cwd {
            process["cwd"] = json!(cwd);
        }
        if let Some(user) = user {
            let User { uid, gid, additional_gids } = user;
            process["user"] = json!({ "uid": uid, "gid": gid, "additionalGids": additional_gids });
        }
        let value = serde_json::to_vec(process)
            .map_err(|error| Failure::new(format!("write the configuration: {error}")))?;
        Ok(Any { type_url: type_url::PROCESS.to_owned(), value })
    }

    async fn user_in(&self, found: &Found) -> Result<Option<User>, Failure> {
        let Some(user) = &self.user else { return Ok(None) };
        let init = found.process(INIT).get().await?;
        let init = init.ok_or_else(|| Failure::new("nothing runs in the container"))?;
        let root = format!("/proc/{}/root", init.pid);
        users::resolve(Path::new(&root), user).map(Some)
    }
}

/// An environment in which later variables replace earlier ones.
fn merged(mut env: Vec<String>, later: Vec<String>) -> Vec<String> {
    for variable in later {
        let name = |it: &str| it.split('=').next().map(str::to_owned);
        env.retain(|it| name(it) != name(&variable));
        env.push(variable);
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variables_replace_earlier_ones() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(merged(words("A=1 B=2"), words("A=3 C=")), words("B=2 A=3 C="));
    }
}
