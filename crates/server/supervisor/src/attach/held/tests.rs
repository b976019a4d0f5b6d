use std::{fs::File, io::Write as _};

use gantry_domain::{ContainerId, ExitStatus, Namespace, Timestamp};
use nix::unistd::pipe;

use super::*;

/// The first process of a container.
pub(in crate::attach) fn holder(generation: u64) -> Holder {
    let id = ContainerId::parse("c").unwrap();
    let key = ContainerKey { namespace: Namespace::TYPES_API, id };
    let (container, _) = ContainerHandle::new(key);
    Holder { container, generation: Generation(generation), process: ProcessId::init() }
}

/// With output, which is not open yet.
pub(in crate::attach) fn not_open(generation: u64, room: usize) -> Arc<Held> {
    let stdio = Stdio { stdout: Some(Stdio::HELD.into()), ..Stdio::default() };
    Held::new(holder(generation), &stdio, false, room, false)
}

impl Held {
    pub(in crate::attach) fn fill(&self, length: usize) {
        self.ring().push(OutputStream::Stdout, &vec![b'x'; length]);
    }
}

async fn begin(ends: Ends, room: usize) -> Arc<Held> {
    let has_output = ends.stdout.is_some();
    let held = not_open(1, room);
    if !has_output {
        held.ring().close();
    }
    let mut stdin = held.lock_stdin().await;
    held.begin(ends, &mut stdin).unwrap();
    held
}

#[tokio::test]
async fn readers_that_do_not_read_stop_nobody() {
    let (read_end, write_end) = pipe().unwrap();
    let ends = Ends { stdout: Some(read_end), ..Ends::default() };
    let held = begin(ends, 64 << 10).await;
    let attach = || Attachment { held: Arc::clone(&held), place: Place::Beginning };
    let (mut reader, mut idle) = (attach(), attach());
    let mut process = File::from(write_end);
    let writer = std::thread::spawn(move || {
        for _ in 0..1024 {
            process.write_all(&[b'x'; 1024]).unwrap();
        }
    });
    let mut total = 0;
    loop {
        match reader.next().await.unwrap() {
            Piece::Output { stream, data } => {
                assert_eq!(stream, OutputStream::Stdout);
                total += data.len() as u64;
            }
            Piece::Gap(missing) => total += missing.unwrap(),
            Piece::End => break,
        }
    }
    writer.join().unwrap();
    assert_eq!(total, 1 << 20);
    assert_eq!(reader.next().await, None);
    assert!(matches!(idle.next().await, Some(Piece::Gap(Some(_)))));
}

#[tokio::test]
async fn input_that_nobody_reads_is_dropped() {
    let (read_end, write_end) = pipe().unwrap();
    let ends = Ends { stdin: Some(write_end), ..Ends::default() };
    let held = begin(ends, 64).await;
    let mut attachment = Attachment { held, place: Place::Beginning };
    let stdin = attachment.stdin();
    stdin.write(b"a").await.unwrap();
    drop(read_end);
    for _ in 0..2 {
        stdin.write(b"b").await.unwrap();
    }
    assert_eq!(attachment.next().await, Some(Piece::End));
}

#[tokio::test]
async fn the_exit_is_that_of_the_process() {
    let held = not_open(1, 64);
    let attachment = Attachment { held: Arc::clone(&held), place: Place::Beginning };
    let exit = attachment.exit();
    let how = |code| Exit { status: ExitStatus::Code(code), at: Timestamp(1) };
    held.ended(Some(how(3)));
    held.ended(Some(how(4)));
    assert_eq!(exit.await.unwrap(), how(3));
    // Whoever has its id now is not told.
    attachment.stdin().close().await.unwrap();
    let other = Attachment { held: not_open(1, 64), place: Place::Beginning };
    other.held.ended(None);
    assert!(matches!(other.exit().await, Err(SupervisorError::ProcessNotFound(_))));
}

#[tokio::test]
async fn input_waits_until_the_streams_are_open() {
    let (read_end, write_end) = pipe().unwrap();
    let held = not_open(1, 64);
    let mut locked = held.lock_stdin().await;
    let stdin = Stdin(Arc::clone(&held));
    let writing = tokio::spawn(async move { stdin.write(b"a").await });
    let ends = Ends { stdin: Some(write_end), ..Ends::default() };
    held.begin(ends, &mut locked).unwrap();
    drop(locked);
    writing.await.unwrap().unwrap();
    let mut read = [0];
    nix::unistd::read(&read_end, &mut read).unwrap();
    assert_eq!(read, *b"a");
}
