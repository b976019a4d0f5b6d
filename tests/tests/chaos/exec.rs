//! The callers' execs.

use gantry_api::types::{AddProcessRequest, User};

use crate::{
    kills::now,
    life::Worker,
    model::{Attempt, Expected, Life},
};

/// Starts a process in the container, and at times ends it.
pub(crate) async fn start(worker: &mut Worker, life: &mut Life, process: &str) {
    let code = worker.next_code();
    let signal = [None, None, Some(9), Some(15)][worker.rng.usize(..4)];
    let (script, expected) = match signal {
        None => {
            let script = format!("sleep 0.{:03}; exit {code}", worker.rng.u16(..500));
            (script, Expected { own: Some(code.into()), forced: Vec::new() })
        }
        Some(signal) => {
            let forced = vec![128 + signal];
            ("exec sleep 1000000".to_owned(), Expected { own: None, forced })
        }
    };
    let request = AddProcessRequest {
        id: worker.history.id.clone(),
        pid: process.to_owned(),
        user: Some(User::default()),
        args: ["sh", "-c", &script].map(str::to_owned).into(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        ..AddProcessRequest::default()
    };
    let asked_at = now();
    let mut api = worker.shared.service.api();
    let known = match worker.cut(api.add_process(request)).await {
        Ok(_) => true,
        Err(_) => worker.has(process).await,
    };
    let mut attempt = Attempt { process: process.to_owned(), expected, known, asked_at };
    match signal {
        // SIGTERM before the shell has become `sleep` is the shell's to die of, too.
        Some(signal) if known => worker.signal_until_gone(process, signal).await,
        // It may be started later, and ends with its container then.
        _ if !known => attempt.expected.forced.push(137),
        _ => {}
    }
    life.execs.push(attempt);
}

/// Waits for the end of all execs that are known.
pub(crate) async fn await_all(worker: &mut Worker, life: &Life) {
    for exec in life.execs.iter().filter(|exec| exec.known) {
        worker.until_gone(&exec.process).await;
    }
}
