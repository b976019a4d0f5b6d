//! Processes on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use gantry_shim_proto::{Launch, ToShim, WaitStatus};

use crate::bundle::Bundle;
use crate::harness::{PATIENCE, Pipe, Shim, eventually, is_readable, read_all, sized};

const MOMENT: Duration = Duration::from_millis(100);

/// Half of what a shim waits for a reader who is there, when its process has ended.
const HALF_THE_WAIT: Duration = Duration::from_millis(500);

struct Console {
    shim: Shim,
    stdin: Pipe,
    stdout: Pipe,
    bundle: Bundle,
}

/// A container with a terminal of 100 by 40 that runs `command`.
fn start(command: &str) -> Console {
    let bundle = Bundle::new(command, true);
    let (stdin, stdout) = (Pipe::new(), Pipe::new());
    let shim = Shim::start();
    let launch = Launch {
        stdin: stdin.name(),
        stdout: stdout.name(),
        width: 100,
        height: 40,
        ..bundle.run(&shim)
    };
    shim.order(launch);
    Console { shim, stdin, stdout, bundle }
}

/// Reads up to and with these bytes.
fn expect(file: &mut File, text: &str) -> String {
    let mut seen = String::new();
    while !seen.ends_with(text) {
        assert!(is_readable(file, PATIENCE), "only {seen:?}");
        let mut byte = [0];
        assert_eq!(file.read(&mut byte).unwrap(), 1, "end of file after {seen:?}");
        seen.push(char::from(byte[0]));
        assert!(seen.len() < 10_000, "{seen}");
    }
    seen
}

#[test]
fn output_is_exact_at_awkward_sizes() {
    let sizes = [0, 1, 63, 1023, 4095, 4096, 4097, 8191, 8193, 12_289, 65_535, 65_536, 65_537];
    for size in sizes.into_iter().chain([131_073, 1_048_575]) {
        let console = start(&format!("stty -opost; head -c {size} /dev/zero"));
        let reader = console.stdout.reader();
        let mut shim = console.shim;
        shim.server.hear_launched();
        let reading = std::thread::spawn(move || read_all(reader));
        assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
        shim.ack();
        shim.assert_leaves();
        assert_eq!(reading.join().unwrap().len(), size);
    }
}

#[test]
fn more_than_the_pipe_holds_and_nobody_reads() {
    // A busy machine may take its time, but not each time.
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        // A pipe takes 65536, the rest stays in the terminal.
        let console = start("stty -opost; head -c 70000 /dev/zero");
        let mut shim = console.shim;
        let (_, pidfd) = shim.server.hear_launched();
        assert!(crate::harness::ends(&pidfd));
        let since = Instant::now();
        assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
        quickest = quickest.min(since.elapsed());
        shim.ack();
        assert!(!shim.leaves_within(MOMENT));
        eventually(|| shim.is_idle_for(MOMENT));
        assert_eq!(read_all(console.stdout.reader()).len(), 70_000);
        shim.assert_leaves();
        if quickest < HALF_THE_WAIT {
            break;
        }
    }
    assert!(quickest < HALF_THE_WAIT, "nobody is there to be waited for: {quickest:?}");
}

#[test]
fn more_than_the_pipe_holds_and_a_reader_that_sleeps() {
    // A busy machine may be late to look, but not each time.
    let mut waits = false;
    for _ in 0..10 {
        let console = start("stty -opost; head -c 70000 /dev/zero");
        let reader = console.stdout.reader();
        let mut shim = console.shim;
        let (_, pidfd) = shim.server.hear_launched();
        assert!(crate::harness::ends(&pidfd));
        // It may wake up.
        waits = shim.server.says_nothing_for(HALF_THE_WAIT);
        // It is not waited for as long as its output is kept.
        assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
        shim.ack();
        assert!(!shim.leaves_within(MOMENT));
        assert_eq!(read_all(reader).len(), 70_000);
        shim.assert_leaves();
        if waits {
            break;
        }
    }
    assert!(waits, "the reader was not waited for");
}

#[test]
fn sizes() {
    let command =
        sized("40 100", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done");
    let console = start(&command);
    let mut reader = console.stdout.reader();
    console.shim.server.hear_launched();
    expect(&mut reader, "ready\r\n");
    console.shim.server.say(&ToShim::Resize { width: 132, height: 25 });
    expect(&mut reader, "25 132\r\n");
}

#[test]
fn orders_before_the_terminal_is_there() {
    let console = start(&sized("30 90", "cat; echo over"));
    let mut reader = console.stdout.reader();
    console.shim.server.say(&ToShim::Resize { width: 90, height: 30 });
    console.shim.server.say(&ToShim::CloseStdin);
    console.shim.server.hear_launched();
    expect(&mut reader, "over\r\n");
    assert_eq!(console.shim.server.hear_exited(), WaitStatus::Code(0));
}

#[test]
fn input_is_typed_and_its_end_too() {
    let console = start("stty -echo; echo ready; cat; echo over");
    let mut reader = console.stdout.reader();
    console.shim.server.hear_launched();
    expect(&mut reader, "ready\r\n");
    let mut writer = console.stdin.writer();
    writer.write_all(b"line\n").unwrap();
    expect(&mut reader, "line\r\n");
    drop(writer);
    assert!(!is_readable(&reader, MOMENT), "the caller only went away");
    console.stdin.writer().write_all(b"last\n").unwrap();
    console.shim.server.say(&ToShim::CloseStdin);
    expect(&mut reader, "last\r\nover\r\n");
    assert_eq!(console.shim.server.hear_exited(), WaitStatus::Code(0));
}

#[test]
fn the_end_of_an_unfinished_line() {
    let console = start("stty -echo; echo ready; cat; echo over");
    let mut reader = console.stdout.reader();
    console.shim.server.hear_launched();
    expect(&mut reader, "ready\r\n");
    console.stdin.writer().write_all(b"unfinished").unwrap();
    console.shim.server.say(&ToShim::CloseStdin);
    expect(&mut reader, "unfinishedover\r\n");
    assert_eq!(console.shim.server.hear_exited(), WaitStatus::Code(0));
}

#[test]
fn a_terminal_that_is_closed_and_opened_again() {
    let console = start(
        "echo one; exec </dev/null >/dev/null 2>&1; until test -e /go; do sleep 0.01; done
         echo two > /dev/console; sleep 0.2",
    );
    let mut reader = console.stdout.reader();
    let mut shim = console.shim;
    shim.server.hear_launched();
    expect(&mut reader, "one\r\n");
    eventually(|| shim.is_idle_for(Duration::from_millis(300)));
    assert!(!is_readable(&reader, Duration::ZERO));
    std::fs::write(console.bundle.path("rootfs/go"), "").unwrap();
    expect(&mut reader, "two\r\n");
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    shim.assert_leaves();
}

#[test]
fn an_idle_terminal_costs_nothing() {
    let console = start("echo ready; exec sleep 1000");
    let mut reader = console.stdout.reader();
    console.shim.server.hear_launched();
    expect(&mut reader, "ready\r\n");
    eventually(|| !console.shim.path("console.sock").exists());
    // Once it has come to rest.
    eventually(|| console.shim.is_idle_for(Duration::from_secs(1)));
}
