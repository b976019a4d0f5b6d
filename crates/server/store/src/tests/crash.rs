//! A server killed while it writes: what was answered is there, and nothing half.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{container, namespace, open};
use crate::{AnyValue, Container, Labels, Store};

/// Where the child, which is this test again, writes.
const DIRECTORY: &str = "GANTRY_STORE_CRASH_TEST";

/// Writers of a child, which wait for each other's `fsync`.
const WRITERS: usize = 6;

const KILLS: usize = 40;

/// On a slow disk there are fewer kills.
const TIME: Duration = Duration::from_secs(8);

/// What was done with a container last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Updated,
    Deleted,
}

/// What a container has to be. Each of its fields follows from its id.
fn expected(id: &str, state: State) -> Option<Container> {
    let number: usize = id.split('-').next_back().unwrap().parse().unwrap();
    let value: Vec<u8> = id.bytes().cycle().take(number * 7919 % 3_000).collect();
    let label = |value: &str| Labels::from([("state".to_owned(), value.to_owned())]);
    let labels = match state {
        State::Created => label("created"),
        State::Updated => label("updated"),
        State::Deleted => return None,
    };
    let spec = Some(AnyValue { type_url: id.to_owned(), value });
    Some(Container { labels, spec, image: id.to_owned(), ..container(id) })
}

fn report(id: &str, state: State) {
    // One call, so that no line is cut by another's.
    std::io::stdout().write_all(format!("done {id} {state:?}\n").as_bytes()).unwrap();
}

/// Creates, updates and deletes, and reports each that is answered, until killed.
async fn write(store: Store, life: String, writer: usize) {
    let ns = namespace("ns");
    for number in 0.. {
        let id = format!("{life}-{writer}-{number}");
        store.create_container(&ns, expected(&id, State::Created).unwrap()).await.unwrap();
        report(&id, State::Created);
        let updated = expected(&id, State::Updated).unwrap();
        store.update_container(&ns, updated, vec!["labels.state".to_owned()]).await.unwrap();
        report(&id, State::Updated);
        if number % 3 != 0 {
            store.delete_container(&ns, &id).await.unwrap();
            report(&id, State::Deleted);
        }
    }
}

#[test]
#[ignore = "run by the next one, which kills it"]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = open(Path::new(&dir));
    let life = std::process::id().to_string();
    let writers = (0..WRITERS).map(|w| runtime.spawn(write(store.clone(), life.clone(), w)));
    for writer in writers.collect::<Vec<_>>() {
        runtime.block_on(writer).unwrap();
    }
}

/// Has a child write and kills it; adds what was done to `states`.
fn kill_one(dir: &Path, states: &mut HashMap<String, State>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::crash::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let before_the_kill = fastrand::usize(1..60);
    let mut done = 0;
    let mut note = |line: String| {
        // The harness has lines of its own, and may begin one that goes on with one of ours.
        let Some((_, line)) = line.split_once("done ") else { return };
        let (id, state) = line.split_once(' ').unwrap();
        let state = match state {
            "Created" => State::Created,
            "Updated" => State::Updated,
            "Deleted" => State::Deleted,
            other => panic!("{other}"),
        };
        states.insert(id.to_owned(), state);
        done += 1;
    };
    let mut left = before_the_kill;
    while left > 0 {
        note(lines.next().expect("the child has died by itself").unwrap());
        left -= 1;
    }
    // Not just after an answer, but at any moment.
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..5000)));
    child.kill().unwrap();
    lines.for_each(|line| note(line.unwrap()));
    assert!(!child.wait().unwrap().success());
    assert!(done > 0 || before_the_kill < 10);
}

/// What may be there after what was answered last: that, or what was under way.
fn next(state: State) -> [State; 2] {
    match state {
        State::Created => [State::Created, State::Updated],
        State::Updated => [State::Updated, State::Deleted],
        State::Deleted => [State::Deleted, State::Deleted],
    }
}

async fn check(store: &Store, states: &HashMap<String, State>) {
    let ns = namespace("ns");
    let mut stored = HashMap::new();
    let mut after = None;
    loop {
        let page =
            store.container_page(&ns, &crate::filter::Filters::default(), after).await.unwrap();
        stored.extend(page.containers.into_iter().map(|c| (c.id.clone(), c)));
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    let is = |found: Option<&Container>, id: &str, state| {
        let expected = expected(id, state);
        let times = found.map(|found| (found.created_at, found.updated_at));
        let expected = expected.map(|expected| {
            let (created_at, updated_at) =
                times.unwrap_or((expected.created_at, expected.updated_at));
            Container { created_at, updated_at, ..expected }
        });
        found == expected.as_ref()
    };
    for (id, state) in states {
        let found = stored.remove(id);
        let fits = next(*state).into_iter().any(|state| is(found.as_ref(), id, state));
        assert!(fits, "{id} was {state:?} and is {found:?}");
    }
    // What was being created when the server was killed: whole, and one of each writer of each life.
    for (id, found) in &stored {
        assert!(is(Some(found), id, State::Created), "{found:?}");
    }
}

#[test]
fn what_was_answered_outlives_a_kill() {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut states, began) = (HashMap::new(), Instant::now());
    let mut kills = 0;
    while kills < KILLS && began.elapsed() < TIME {
        kill_one(dir.path(), &mut states);
        kills += 1;
        let store = open(dir.path());
        runtime.block_on(async {
            check(&store, &states).await;
            store.close().await;
        });
    }
    assert!(kills >= 5, "{kills} kills in {TIME:?}");
    assert!(states.values().any(|state| *state == State::Deleted));
    eprintln!("{kills} kills, {} containers", states.len());
}
