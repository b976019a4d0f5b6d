//! A process that is left without being ended: by keys, by a terminal that is closed, by a signal.

use std::{path::Path, process::Command};

use Runtime::Runc;
use gantry_tests::{Runtime, terminal::Terminal};

use crate::{Bed, bed::BUNDLES, output, succeeds};

/// ctrl-p ctrl-q
const KEYS: &str = "\x10\x11";

/// How a session ends without its process.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// The keys that leave, as they are by default.
    Keys,
    /// Other keys.
    ChosenKeys,
    /// The window is closed.
    Closing,
}

use Leaving::{ChosenKeys, Closing, Keys};

impl Leaving {
    const ALL: [Leaving; 3] = [Keys, ChosenKeys, Closing];

    fn options(self) -> &'static [&'static str] {
        if let ChosenKeys = self { &["--detach-keys", "ctrl-a,x"] } else { &[] }
    }

    /// Leaves, and checks how the command ends.
    async fn leave(self, mut terminal: Terminal) {
        match self {
            Keys => terminal.type_in(KEYS).await,
            ChosenKeys => terminal.type_in("\x01x").await,
            Closing => terminal.hang_up(),
        }
        let status = terminal.end().await;
        let expected = if let Closing = self { 129 } else { 0 };
        assert_eq!(status.code(), Some(expected), "{self:?}: {status:?}");
    }
}

async fn is_running(bed: &Bed, id: &str) -> bool {
    bed.server.service.state(&bed.id(id)).await.is_ok_and(|state| state.status == "running")
}

/// Sits down at a shell that goes on, and shows that it is the same.
async fn remembers(command: &Command, what: &str) -> Terminal {
    let mut terminal = Terminal::run(command, 81, 25);
    terminal.type_in("echo \"<$X>\"\n").await;
    terminal.until(&format!("<{what}>\r\n")).await;
    terminal
}

#[tokio::test]
async fn a_run_is_left_and_taken_up_again() {
    let Some(bed) = Bed::make(Runc).await else { return };
    for how in Leaving::ALL {
        let options = [&["--rm", "-it"], how.options()].concat();
        let mut terminal = Terminal::run(&bed.run(&options, "c", &["sh"]), 80, 24);
        terminal.type_in("X=remembered; echo re''ady\n").await;
        terminal.until("ready\r\n").await;
        how.leave(terminal).await;
        assert!(is_running(&bed, "c").await, "{how:?}");

        // And once more, as an attach is left in the same ways.
        let attach = [&["attach"], how.options(), &["@c"]].concat();
        how.leave(remembers(&bed.gantry(&attach), "remembered").await).await;
        assert!(is_running(&bed, "c").await, "{how:?}");

        let mut terminal = remembers(&bed.gantry(&["attach", "@c"]), "remembered").await;
        terminal.type_in("exit 8\n").await;
        assert_eq!(terminal.end().await.code(), Some(8), "{how:?}");
        // --rm holds, whoever is there at the end.
        assert!(!Path::new(BUNDLES).join(bed.id("c")).exists(), "{how:?}");
    }
    bed.finish().await;
}

#[tokio::test]
async fn an_exec_is_left_and_taken_up_again() {
    let Some(bed) = Bed::make(Runc).await else { return };
    succeeds(&bed.run(&["-d", "--rm"], "c", &["sleep", "1000000"]));
    for how in Leaving::ALL {
        let exec = [&["exec", "-it", "--pid", "sh"], how.options(), &["@c", "sh"]].concat();
        let mut terminal = Terminal::run(&bed.gantry(&exec), 80, 24);
        terminal.type_in("X=kept; echo re''ady\n").await;
        terminal.until("ready\r\n").await;
        let pipes = pipes(&bed, "sh").await;
        how.leave(terminal).await;
        // Another exec tidies up, but not this.
        succeeds(&bed.gantry(&["exec", "@c", "true"]));
        assert!(pipes.exists(), "{how:?}");

        let mut terminal = remembers(&bed.gantry(&["attach", "--pid", "sh", "@c"]), "kept").await;
        terminal.type_in("exit 7\n").await;
        assert_eq!(terminal.end().await.code(), Some(7), "{how:?}");
        assert!(!pipes.exists(), "{how:?}");
    }
    // What was left and ended alone is tidied up by the next.
    succeeds(&bed.gantry(&["exec", "-d", "-i", "--pid", "cat", "@c", "cat"]));
    let pipes = pipes(&bed, "cat").await;
    succeeds(&bed.gantry(&["kill", "-s", "KILL", "--pid", "cat", "@c"]));
    bed.server.service.events.wait_exit(0, &bed.id("c"), "cat").await;
    gantry_tests::eventually("its pipes are removed", || {
        succeeds(&bed.gantry(&["exec", "@c", "true"]));
        !pipes.exists()
    })
    .await;
    succeeds(&bed.gantry(&["kill", "-s", "KILL", "@c"]));
    bed.server.service.events.wait_exit(0, &bed.id("c"), "init").await;
    bed.finish().await;
}

/// Where the pipes of a process are.
async fn pipes(bed: &Bed, pid: &str) -> std::path::PathBuf {
    let state = bed.server.service.state(&bed.id("c")).await.unwrap();
    let process = state.processes.into_iter().find(|process| process.pid == pid).unwrap();
    Path::new(&process.stdout).parent().unwrap().to_owned()
}

#[tokio::test]
async fn one_that_takes_no_input_can_be_left() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mut terminal = Terminal::run(&bed.run(&["--rm", "-it"], "c", &["sh"]), 80, 24);
    terminal.type_in("stty -echo; echo re''ady\n").await;
    terminal.until("ready\r\n").await;
    succeeds(&bed.gantry(&["pause", "@c"]));
    // More than its terminal, the shim and the pipes hold.
    for _ in 0..100 {
        terminal.type_in(&"x".repeat(4000)).await;
    }
    terminal.type_in(KEYS).await;
    assert_eq!(terminal.end().await.code(), Some(0));
    succeeds(&bed.gantry(&["resume", "@c"]));
    succeeds(&bed.gantry(&["kill", "-s", "KILL", "@c"]));
    bed.server.service.events.wait_exit(0, &bed.id("c"), "init").await;
    bed.finish().await;
}

/// Output meanwhile waits in the pipe, and a process that writes more than fits waits with it.
#[tokio::test]
async fn no_output_is_lost_in_between() {
    let Some(bed) = Bed::make(Runc).await else { return };
    succeeds(&bed.run(&["-d", "-i", "--rm"], "c", &["seq", "1", "100000"]));
    let output = output(&bed.gantry(&["attach", "@c"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(output.stdout == expected.as_bytes(), "{} bytes", output.stdout.len());

    let mut terminal = Terminal::run(&bed.run(&["-it", "--rm"], "t", &["sh"]), 80, 24);
    terminal.type_in("echo re''ady; read line; seq 1 9999; echo st''ill there\n").await;
    terminal.until("ready\r\n").await;
    terminal.type_in(KEYS).await;
    assert_eq!(terminal.end().await.code(), Some(0));
    let mut terminal = Terminal::run(&bed.gantry(&["attach", "@t"]), 80, 24);
    terminal.type_in("\n").await;
    terminal.until("9998\r\n9999\r\nstill there\r\n").await;
    terminal.type_in("exit\n").await;
    assert_eq!(terminal.end().await.code(), Some(0));
    bed.finish().await;
}
