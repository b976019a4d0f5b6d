//! `gantry`: runs and watches containers on a gantryd.

#![forbid(unsafe_code)]

mod attached;
mod blobs;
mod bundles;
mod commands;
mod containerd;
mod containers;
mod copies;
mod detach;
mod execs;
mod failure;
mod fifos;
mod held;
mod holders;
mod ids;
mod images;
mod layers;
mod leases;
mod lock;
mod logs;
mod new_file;
mod output;
mod parse;
mod pipe_dirs;
mod place;
mod screen;
mod session;
mod signals;
mod snapshots;
mod spec;
mod streams;
mod tasks;
mod terminal;
mod transfers;
mod users;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};
use gantry_client::Client;

use crate::failure::{Failure, Outcome, exit_code};

/// How long to wait for a server that is just being restarted.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs and watches containers on a gantryd.
#[derive(Debug, Parser)]
#[command(name = "gantry", version, arg_required_else_help = true)]
struct Arguments {
    /// The server's socket.
    #[arg(long, global = true, env = "GANTRY_ADDRESS", default_value = "/run/gantry/gantryd.sock")]
    address: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<commands::run::Run>),
    Rm(commands::rm::Rm),
    Exec(commands::exec::Exec),
    Attach(commands::attach::Attach),
    Kill(commands::kill::Kill),
    Wait(commands::wait::Wait),
    Inspect(commands::inspect::Inspect),
    Ps(commands::ps::Ps),
    Top(commands::top::Top),
    Logs(commands::logs::Logs),
    Events(commands::events::Events),
    Stats(commands::stats::Stats),
    Pause(commands::control::Pause),
    Resume(commands::control::Resume),
    Update(commands::update::Update),
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::Checkpoint),
    Restore(commands::restore::Restore),
    Images(commands::images::Images),
    Rmi(commands::images::Rmi),
    Pull(commands::pull::Pull),
    Push(commands::pull::Push),
    Import(commands::import::Import),
    Export(commands::export::Export),
    #[command(subcommand)]
    System(commands::system::System),
    #[command(subcommand)]
    Content(commands::content::Content),
    Version(commands::version::Version),
    Completion(commands::completion::Completion),
    Man(commands::completion::Man),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse_from(commands::kill::spelt_out(std::env::args_os()))
    {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("start the runtime: {error}")).report(),
    };
    let code = match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    // Not waited for: a thread of it may hang in a read of standard input.
    runtime.shutdown_background();
    code
}

/// Prints help, or what is wrong with the command line. Where the exit status is a container's, it
/// must not look as if one had run.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing to be done if even this cannot be printed.
    let _ = error.print();
    let starts = std::env::args().any(|word| ["run", "exec", "restore"].contains(&word.as_str()));
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if starts => failure::OWN_FAILURE.into(),
        code => exit_code(u32::try_from(code).unwrap_or(1)),
    }
}

async fn run(Arguments { address, command }: Arguments) -> Outcome {
    match command {
        Command::Version(version) => return version.run(&address).await,
        Command::Completion(completion) => return completion.run(&mut Arguments::command()),
        Command::Man(man) => return man.run(Arguments::command()),
        _ => {}
    }
    let client = Client::connect(&address, PATIENCE).await.map_err(|error| match &command {
        Command::Run(_) | Command::Exec(_) | Command::Restore(_) => Failure::of_start(&error),
        _ => error.into(),
    })?;
    match command {
        Command::Run(run) => Box::pin(run.run(&client, &address)).await,
        Command::Rm(rm) => rm.run(&client).await,
        Command::Exec(exec) => exec.run(&client).await,
        Command::Attach(attach) => attach.run(&client).await,
        Command::Kill(kill) => kill.run(&client).await,
        Command::Inspect(inspect) => inspect.run(&client).await,
        Command::Wait(wait) => wait.run(&client).await,
        Command::Ps(ps) => ps.run(&client).await,
        Command::Top(top) => top.run(&client).await,
        Command::Logs(logs) => logs.run(&client).await,
        Command::Events(events) => events.run(&client).await,
        Command::Stats(stats) => stats.run(&client).await,
        Command::Pause(pause) => pause.run(&client).await,
        Command::Resume(resume) => resume.run(&client).await,
        Command::Update(update) => update.run(&client).await,
        Command::Checkpoint(checkpoint) => checkpoint.run(&client).await,
        Command::Restore(restore) => restore.run(&client, &address).await,
        Command::Images(images) => images.run(&client).await,
        Command::Rmi(rmi) => rmi.run(&client).await,
        Command::Pull(pull) => pull.run(&client).await,
        Command::Push(push) => push.run(&client).await,
        Command::Import(import) => import.run(&client).await,
        Command::Export(export) => export.run(&client).await,
        Command::System(system) => Box::pin(system.run(&client, &address)).await,
        Command::Content(content) => content.run(&client).await,
        Command::Version(version) => version.run(&address).await,
        Command::Completion(completion) => completion.run(&mut Arguments::command()),
        Command::Man(man) => man.run(Arguments::command()),
    }
}
