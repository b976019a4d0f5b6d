//! Options that `run`, `exec` and their like share: how the user and the process are connected.

use clap::Args;
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
    /// Leave it in the background, with its streams connected to /dev/null.
    #[arg(short, long, conflicts_with = "interactive")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

/// How a session with a terminal is left.
#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    /// Keys that leave the process running and end this command.
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
}

impl StreamOptions {
    /// A terminal inside needs one outside to type at.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.interactive && self.tty && !terminal::stdin_is_terminal() {
            return Err(Failure::new("-i with -t needs standard input to be a terminal").own());
        }
        Ok(())
    }

    pub(crate) fn stdin(&self) -> Stdio {
        if self.interactive { Stdio::Pipe } else { Stdio::Null }
    }

    pub(crate) fn output(&self) -> Stdio {
        if self.detach { Stdio::Null } else { Stdio::Pipe }
    }
}

/// `K=V` as it is, and `K` with this command's own value, if it has one.
pub(crate) fn environment(variables: &[String]) -> Vec<String> {
    let inherited = |name: &str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
    let resolve = |v: &String| if v.contains('=') { Some(v.clone()) } else { inherited(v) };
    variables.iter().filter_map(resolve).collect()
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
}
