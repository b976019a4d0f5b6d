//! Options that `run`, `exec` and their like share: how the user and the process are connected.

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
