//! Options that `run`, `exec` and their like share: how the user and the process are connected.

use std::{fs, path::Path};

use clap::{ArgAction, Args};
use gantry_client::Stdio;

use crate::{detach::DetachKeys, failure::Failure, terminal};

/// How the process's streams are connected.
#[derive(Debug, Args)]
pub(crate) struct StreamOptions {
    /// Pass standard input on; without this the process reads /dev/null.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the process a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Leave it in the background, with its streams connected to /dev/null; with -i they wait for
    /// `gantry attach`.
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) session: SessionOptions,
}

/// How a session is left, and what it passes on.
#[derive(Debug, Clone, Args)]
pub(crate) struct SessionOptions {
    /// Keys that leave a process with a terminal running, and end this command: separated by commas,
    /// each one character or ctrl- and one of a-z@[\\]^_.
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
    /// Pass signals on to the process; with =false they end this command, and the process goes on.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true
    )]
    pub(crate) sig_proxy: bool,
}

impl StreamOptions {
    /// A terminal inside needs one outside to type at.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let connects = self.interactive && self.tty && !self.detach;
        if connects && !terminal::stdin_is_terminal() {
            return Err(Failure::new("-i with -t needs standard input to be a terminal").own());
        }
        Ok(())
    }

    pub(crate) fn stdin(&self) -> Stdio {
        if self.interactive { Stdio::Pipe } else { Stdio::Null }
    }

    pub(crate) fn output(&self) -> Stdio {
        if self.detach && !self.interactive { Stdio::Null } else { Stdio::Pipe }
    }
}

/// `K=V` as it is, and `K` with this command's own value, if it has one.
pub(crate) fn environment(variables: &[String]) -> Vec<String> {
    let inherited = |name: &str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
    let resolve = |v: &String| if v.contains('=') { Some(v.clone()) } else { inherited(v) };
    variables.iter().filter_map(resolve).collect()
}

/// The variables in a file: one a line, without quotes, as docker reads it.
pub(crate) fn environment_file(path: &Path) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|e| Failure::io(format!("--env-file: {}", path.display()), &e))?;
    let lines = text.lines().map(str::trim_start);
    let variables: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if let Some(bad) = variables.iter().find(|it| it.starts_with('=')) {
        let problem = format!("--env-file: {}: {bad:?} has no name", path.display());
        return Err(Failure::new(problem));
    }
    Ok(environment(&variables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_takes_the_value_from_here() {
        let given = vec!["A=1".to_owned(), "PATH".to_owned(), "NO_SUCH_VARIABLE".to_owned()];
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert_eq!(environment(&given), ["A=1".to_owned(), path]);
    }

    #[test]
    fn a_file_has_a_variable_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        fs::write(&file, "# comment\n\n  A=b c\nB=\"x\"\nNO_SUCH_VARIABLE\n").unwrap();
        assert_eq!(environment_file(&file).unwrap(), ["A=b c", "B=\"x\""]);
        fs::write(&file, "=b\n").unwrap();
        environment_file(&file).unwrap_err();
        environment_file(&dir.path().join("other")).unwrap_err();
    }
}
