//! gantry-bench: measures a `types.API` server beside the bare runtime and beside containerd 1.6,
//! each in turn within one run, so that whatever else the machine does hits all alike.

mod bare;
mod bed;
mod chart;
mod containerd;
mod docker;
mod gantry;
mod images;
mod measure;
mod proc;
mod report;
mod server;
mod tasks;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{geteuid, getpid, set_child_subreaper};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    bed::Bed,
    containerd::Containerd,
    measure::Bench,
    report::{Measure, Report},
    server::Server,
};

const HELP: &str = "\
Usage: gantry-bench [--quick] [--only NAME]... [--address SOCKET] [--out DIR]

  --quick           a few samples of each, to see that all works
  --only NAME       latency, throughput, crowd, docker, tasks, images, streams, events,
                    memory or idle
  --address SOCKET  measure the server that listens there instead of starting one
  --out DIR         where to write benchmark.md, benchmark.json and *.svg; default: docs
";

const NAMES: [&str; 10] = [
    "latency",
    "throughput",
    "crowd",
    "docker",
    "tasks",
    "images",
    "streams",
    "events",
    "memory",
    "idle",
];

/// Beside the hierarchies of version 1; crun refuses to run where it sees it.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

#[derive(Debug)]
struct Options {
    quick: bool,
    only: Vec<String>,
    address: Option<PathBuf>,
    out: PathBuf,
}

fn main() -> Result<()> {
    let Some(options) = parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    ensure!(geteuid().is_root(), "containers are made by root");
    if Path::new(UNIFIED).join("cgroup.procs").exists() {
        return without_unified();
    }
    // Containers that a runtime leaves are waited for here, as any supervisor does.
    set_child_subreaper(Some(getpid()))?;
    // One thread, so that little is measured of the client: no call of it goes from one to another.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::select! {
            result = run(&options) => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            () = terminated() => anyhow::bail!("terminated"),
        }
    })
}

/// What was started is to be cleaned up then too.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => _ = signals.recv().await,
        Err(_) => std::future::pending().await,
    }
}

fn parse() -> Result<Option<Options>> {
    use lexopt::prelude::{Long, Short, ValueExt as _};
    let mut options =
        Options { quick: false, only: Vec::new(), address: None, out: PathBuf::from("docs") };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => options.quick = true,
            Long("only") => options.only.push(parser.value()?.string()?),
            Long("address") => options.address = Some(parser.value()?.into()),
            Long("out") => options.out = parser.value()?.into(),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    let unknown = options.only.iter().find(|name| !NAMES.contains(&name.as_str()));
    ensure!(unknown.is_none(), "nothing is called {unknown:?}\n{HELP}");
    Ok(Some(options))
}

/// Runs this program again in a mount namespace of its own, without the second hierarchy.
fn without_unified() -> Result<()> {
    let script = format!("umount {UNIFIED} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(std::env::current_exe()?);
    Err(command.args(std::env::args_os().skip(1)).exec()).context("run unshare")
}

async fn run(options: &Options) -> Result<()> {
    let bed = Bed::new()?;
    let server = match &options.address {
        Some(address) => Server::foreign(address)?,
        None => Server::start(&bed, "gantryd", &[]).await?,
    };
    let containerd = Containerd::start(&bed).await?;
    let mut bench = Bench { server, containerd, bed, quick: options.quick };
    let machine = machine(&bench, options);
    let mut report = Report { machine, measures: Vec::new() };
    fs::create_dir_all(&options.out).context("make the output directory")?;
    for name in NAMES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("measuring: {name}");
        let measures = measure(name, &mut bench).await.with_context(|| name.to_owned())?;
        let all: Vec<&Measure> = measures.iter().collect();
        write(options, &format!("{name}.svg"), &chart::svg(name, &all))?;
        report.measures.extend(measures);
    }
    write(options, "benchmark.json", &serde_json::to_string(&report)?)?;
    let text = report.markdown();
    print!("{text}");
    write(options, "benchmark.md", &text)
}

async fn measure(name: &str, bench: &mut Bench) -> Result<Vec<Measure>> {
    match name {
        "latency" => measure::latency::measure(bench).await,
        "throughput" => measure::throughput::measure(bench).await,
        "crowd" => measure::crowd::measure(bench).await,
        "docker" => measure::docker::measure(bench).await,
        "tasks" => measure::many_tasks::measure(bench).await,
        "images" => measure::images::measure(bench).await,
        "streams" => measure::streams::measure(bench).await,
        "events" => measure::events::measure(bench).await,
        "memory" => measure::memory::measure(bench).await,
        _ => measure::idle::measure(bench).await,
    }
}

fn write(options: &Options, name: &str, text: &str) -> Result<()> {
    let path = options.out.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// What the figures depend on.
fn machine(bench: &Bench, options: &Options) -> Vec<(String, String)> {
    let first_line = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let server = match &options.address {
        Some(address) => format!("the server at {}", address.display()),
        None => {
            server::program().ok().and_then(|path| first_line(path.to_str()?)).unwrap_or_default()
        }
    };
    let mut facts = vec![
        ("subject".to_owned(), server),
        ("kernel".to_owned(), format!("{}, {cpus} CPUs", kernel.trim())),
        ("work directory".to_owned(), bench.bed.work().display().to_string()),
    ];
    for program in ["runc", "crun", "containerd", "dockerd", "conmon"] {
        facts.extend(first_line(program).map(|line| (program.to_owned(), line)));
    }
    facts
}
