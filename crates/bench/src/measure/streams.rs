//! Bytes per second from a process to its caller.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat},
    io::retry_on_intr,
};
use serde_json::json;

use super::{Bench, GANTRY};
use crate::{
    bare::Bare,
    bed::Bundle,
    gantry::Gantry,
    report::{Bound::AtLeast, Measure, Versus},
};

const FLOOR: &str = "one pipe";
const SOCAT: &str = "socat";
const SCRIPT: &str = "script";
const MIB: usize = 1 << 20;

/// Through the pipes, and through a terminal.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let gantry = bench.gantry("runc").await?;
    let runtime = Bare::new(&bench.bed, "runc");
    Ok(vec![pipe(bench, &runtime, &gantry).await?, terminal(bench, &gantry).await?])
}

/// A process in a container is in a CPU cgroup of its own and scheduled apart from its reader, so
/// there is a second floor: the same in a container of the bare runtime.
async fn pipe(bench: &Bench, runtime: &Bare, gantry: &Gantry) -> Result<Measure> {
    let mib = bench.count(4096, 512);
    let args = dd(mib);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut measure = Measure::new(format!("stdout of {mib} MiB"), "MiB/s")
        .more_is_better()
        .aim(GANTRY, Versus::Ratio(FLOOR.to_owned()), AtLeast(0.95))
        .aim(GANTRY, Versus::Ratio(runtime.subject()), AtLeast(0.95));
    let bare = bench.bed.bundle("bare-stdout", &args)?;
    let bundle = bench.bed.bundle("stdout", &args)?;
    for _ in 0..bench.count(7, 2) {
        let mut command = Command::new("/bin/busybox");
        command.args(&args);
        measure.push(FLOOR, by_hand(command, mib)?);
        measure.push(&runtime.subject(), in_bare_container(runtime, &bare, mib)?);
        measure.push(GANTRY, in_container(gantry, &bundle, mib).await?);
    }
    Ok(measure)
}

async fn terminal(bench: &Bench, gantry: &Gantry) -> Result<Measure> {
    let mib = bench.count(256, 32);
    let args = dd(mib);
    let line = format!("/bin/busybox {}", args.join(" "));
    let mut measure = Measure::new(format!("terminal output of {mib} MiB"), "MiB/s")
        .more_is_better()
        .aim(GANTRY, Versus::Ratio(SOCAT.to_owned()), AtLeast(0.9))
        .aim(GANTRY, Versus::Ratio(SCRIPT.to_owned()), AtLeast(0.9));
    let bundle = bench.bed.changed_bundle("terminal", |config| {
        config["process"]["args"] = json!(args);
        config["process"]["terminal"] = json!(true);
    })?;
    for _ in 0..bench.count(7, 2) {
        let mut socat = Command::new("socat");
        socat.args(["-u", &format!("EXEC:{line},pty"), "-"]);
        measure.push(SOCAT, by_hand(socat, mib)?);
        let mut script = Command::new("script");
        script.args(["-q", "-c", &line, "/dev/null"]);
        measure.push(SCRIPT, by_hand(script, mib)?);
        measure.push(GANTRY, in_container(gantry, &bundle, mib).await?);
    }
    Ok(measure)
}

/// Zeros pass through a terminal as they are.
fn dd(mib: usize) -> Vec<String> {
    let words = ["dd", "if=/dev/zero", "bs=64k"].map(str::to_owned);
    words.into_iter().chain([format!("count={}", mib * 16), "status=none".to_owned()]).collect()
}

fn by_hand(mut command: Command, mib: usize) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("run {command:?}"))?;
    let output = child.stdout.take().context("no pipe")?;
    let rate = read(File::from(OwnedFd::from(output)), mib)?;
    child.wait().context("wait")?;
    Ok(rate)
}

fn in_bare_container(runtime: &Bare, bundle: &Bundle, mib: usize) -> Result<f64> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let pid = runtime.run_into(bundle, writer.into())?;
    let rate = read(OwnedFd::from(reader).into(), mib)?;
    runtime.wait_and_delete(bundle, pid)?;
    Ok(rate)
}

async fn in_container(gantry: &Gantry, bundle: &Bundle, mib: usize) -> Result<f64> {
    let path = bundle.path.join("init-stdout");
    if !path.exists() {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &path, FileType::Fifo, mode, 0).context("make a pipe")?;
    }
    let output = open(&path)?;
    let (_, exit) = gantry.create(bundle, Some(&path)).await?;
    // The writer is there by now, so that reading can wait.
    fcntl_setfl(output.as_fd(), OFlags::RDONLY)?;
    #[expect(clippy::disallowed_methods, reason = "a measurement may fail")]
    let rate = tokio::task::spawn_blocking(move || read(output, mib)).await??;
    exit.arrived().await?;
    Ok(rate)
}

/// A caller opens its end first, without waiting for the other.
fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
    Ok(fd.with_context(|| format!("open {}", path.display()))?.into())
}

/// MiB per second from the first byte to the last.
fn read(mut file: File, mib: usize) -> Result<f64> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = (mib * MIB).saturating_sub(file.read(&mut buffer)?);
    let begin = Instant::now();
    while left > 0 {
        let count = file.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "{left} bytes are missing");
        left -= count.min(left);
    }
    Ok(mib as f64 / begin.elapsed().as_secs_f64())
}
