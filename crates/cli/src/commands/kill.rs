//! `gantry kill`

use std::{ffi::OsString, process::ExitCode};

use clap::Args;
use gantry_client::{Client, INIT, Signal};

use crate::{containers::STOP_SIGNAL, failure::Outcome, place::PlaceOption};

/// Send a signal to a process of a container
///
/// The signal may also be written as an option of its own: `gantry kill -9 ID`, `gantry kill -HUP ID`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal, by name or number [default: the one that the container's image names, or else TERM]
    #[arg(short, long)]
    signal: Option<Signal>,
    /// Id of the process in the container
    #[arg(long, value_name = "PROCESS", default_value = INIT)]
    pid: String,
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: String,
}

impl Kill {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match self.place.find(client, &self.id).await? {
            Some(found) => {
                let named = found.record.labels.get(STOP_SIGNAL).and_then(|name| name.parse().ok());
                let signal = self.signal.or(named).unwrap_or(Signal::TERM);
                found.process(&self.pid).signal_living(signal).await?;
            }
            None => {
                let signal = self.signal.unwrap_or(Signal::TERM);
                client.container(&self.id).process(&self.pid).signal(signal).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The command line in which the signal of `gantry kill -9` is an option with a value.
pub(crate) fn spelt_out(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = words.into_iter().collect();
    let Some(command) = subcommand(&words).filter(|at| words[*at] == "kill") else { return words };
    for word in words[command + 1..].iter_mut().take_while(|word| *word != "--") {
        let signal = word.to_str().and_then(|word| word.strip_prefix('-'));
        if let Some(signal) = signal.filter(|signal| is_signal(signal)) {
            *word = format!("--signal={signal}").into();
        }
    }
    words
}

/// Where the subcommand is: before it are only options of all commands, of which one has a value.
fn subcommand(words: &[OsString]) -> Option<usize> {
    let mut is_value = false;
    let is_command = |word: &OsString| {
        let is_option = word.to_str().is_some_and(|word| word.starts_with('-'));
        !std::mem::replace(&mut is_value, word == "--address") && !is_option
    };
    words.iter().skip(1).position(is_command).map(|at| at + 1)
}

/// A number, or a name: no option of one capital letter is taken for one.
fn is_signal(text: &str) -> bool {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number || (text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_may_be_options() {
        let spelt = |text: &str| {
            let words = spelt_out(text.split(' ').map(OsString::from));
            words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(spelt("gantry kill -9 web"), "gantry kill --signal=9 web");
        assert_eq!(spelt("gantry kill -HUP web"), "gantry kill --signal=HUP web");
        for unchanged in
            ["gantry run -9 web", "gantry kill -s 9 web", "gantry kill -- -9", "g kill -"]
        {
            assert_eq!(spelt(unchanged), unchanged);
        }
    }
}
