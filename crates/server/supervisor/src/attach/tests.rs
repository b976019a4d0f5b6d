use gantry_domain::{ExitStatus, Timestamp};

use super::{
    held::tests::{holder, not_open},
    *,
};

fn exit(code: u8) -> Exit {
    Exit { status: ExitStatus::Code(code), at: Timestamp(1) }
}

/// How the process has ended that somebody has attached to.
async fn told(attachment: &Attachment) -> Option<Exit> {
    tokio::time::timeout(std::time::Duration::ZERO, attachment.exit()).await.ok()?.ok()
}

#[tokio::test]
async fn a_process_and_its_successor_have_an_exit_each() {
    let attachments = Attachments::default();
    let (container, init) = (holder(1).container.key, ProcessId::init());
    let attach = || attachments.attach(&container, &init).unwrap();
    attachments.lock().add(not_open(1, 64));
    let first = attach();
    // Its id is free a moment before its exit is told.
    attachments.lock().add(not_open(2, 64));
    let second = attach();
    for _ in 0..2 {
        attachments.ended(&container, Generation(1), &init, exit(3));
    }
    assert_eq!((told(&first).await, told(&second).await), (Some(exit(3)), None));
    attachments.gone(&container, Generation(1));
    assert_eq!(told(&attach()).await, None);
    attachments.ended(&container, Generation(2), &init, exit(4));
    attachments.gone(&container, Generation(2));
    assert_eq!((told(&second).await, told(&attach()).await), (Some(exit(4)), Some(exit(4))));
    assert_eq!(attachments.lock().ended.len(), 2);
}

#[tokio::test]
async fn what_never_ends_goes_with_its_container() {
    let attachments = Attachments::default();
    let (container, init) = (holder(1).container.key, ProcessId::init());
    attachments.lock().add(not_open(1, 64));
    let attachment = attachments.attach(&container, &init).unwrap();
    attachments.gone(&container, Generation(1));
    assert!(attachment.exit().await.is_err());
    assert_eq!(attachments.lock().ended.len(), 1);
}

#[tokio::test]
async fn the_oldest_make_room_for_those_that_end() {
    let attachments = Attachments::default();
    let container = holder(1).container.key;
    let end = |name: String, length: usize| {
        let process = ProcessId::parse(&name).unwrap();
        let held = not_open_exec(&process, ENDED_BYTES);
        held.fill(length);
        attachments.lock().add(held);
        attachments.ended(&container, Generation(1), &process, exit(0));
        process
    };
    let processes: Vec<_> = (0..=ENDED).map(|number| end(format!("e{number}"), 16)).collect();
    let is_kept = |process: &ProcessId| attachments.attach(&container, process).is_some();
    assert!(!is_kept(&processes[0]) && is_kept(&processes[1]));
    let large = end("large".to_owned(), ENDED_BYTES - 64);
    assert!(is_kept(&large));
    let inner = attachments.lock();
    assert_eq!((inner.held.len(), inner.ended.len()), (1, 1));
}

fn not_open_exec(process: &ProcessId, room: usize) -> Arc<Held> {
    let of = Holder { process: process.clone(), ..holder(1) };
    let stdio = gantry_domain::Stdio { stdout: Some("gantry://".into()), ..Default::default() };
    Held::new(of, &stdio, false, room, false)
}
