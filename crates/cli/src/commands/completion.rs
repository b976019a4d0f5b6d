//! `gantry completion` and `gantry man`: what shells and readers get from the definition of the commands.

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::{Args, Command, ValueEnum};
use clap_complete::{generate, shells};

use crate::{
    failure::{Failure, Outcome},
    output,
};

/// What the definition of the commands does not tell: which containers there are.
const BASH_IDS: &str = include_str!("completion.bash");

/// Print the completion of this command's options and subcommands for a shell
///
/// That of bash completes ids of containers, too.
///
/// bash: to /usr/share/bash-completion/completions/gantry, or `source <(gantry completion bash)`. zsh: to _gantry in a
/// directory of $fpath. fish: to ~/.config/fish/completions/gantry.fish.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Shell to complete in
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(&self, command: &mut Command) -> Outcome {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        match self.shell {
            Shell::Bash => {
                generate(shells::Bash, command, name, &mut script);
                script.extend_from_slice(BASH_IDS.as_bytes());
            }
            Shell::Zsh => generate(shells::Zsh, command, name, &mut script),
            Shell::Fish => generate(shells::Fish, command, name, &mut script),
        }
        output::raw(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the man pages of this command and of each subcommand into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory, which is made if need be
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(&self, command: Command) -> Outcome {
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            clap_mangen::generate_to(command, &self.directory)
        };
        write().map_err(|error| Failure::io(self.directory.display(), &error))?;
        Ok(ExitCode::SUCCESS)
    }
}
