//! Events that are published: in one order with those of containers, bounded, and in nobody's way.

use std::fs;

use gantry_domain::{Exit, ExitStatus, ProcessId};
use gantry_kernel::small_disk::{fill, with_small_disk};
use tempfile::TempDir;

use crate::{
    published::Feed,
    tests::{append, open, stored, times},
    tests_follower::named,
    *,
};

fn publication(value: Vec<u8>) -> Publication {
    let namespace = Namespace::named("moby").unwrap();
    let (topic, type_url) = ("/a".to_owned(), "t".to_owned());
    Publication { namespace, topic, type_url, value, happened: None }
}

fn journal_size(log_dir: &Path) -> u64 {
    fs::metadata(log_dir.join(journal::FILE)).unwrap().len()
}

/// Those that are published and those of containers, by several at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn all_events_come_in_the_order_of_their_times() {
    const EACH: usize = 3000;
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 500);
    let mut follower = log.follow(|_| true);
    let writer = |log: EventLog, published: bool| {
        move || {
            for _ in 0..EACH {
                match published {
                    true => log.publish_now(publication(vec![1])).unwrap(),
                    false => {
                        drop(log.append_now(&named("moby", "a"), Generation(1), EventKind::Paused));
                    }
                }
            }
        }
    };
    let writers = [true, false, true]
        .map(|published| tokio::task::spawn_blocking(writer(log.clone(), published)));
    let mut read = Vec::new();
    while read.len() < 3 * EACH {
        read.extend(follower.next().await.unwrap());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(read.is_sorted_by(|a, b| a.at() < b.at()));
    let published = read.iter().filter(|entry| matches!(entry, Entry::Published(_))).count();
    assert_eq!((read.len(), published), (3 * EACH, 2 * EACH));
}

/// However much is published, and also where nobody reads that.
#[tokio::test]
async fn a_flood_pushes_out_no_event_of_a_container() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 3);
    let mut slow = log.follow(|_| true);
    let process = ProcessId::init();
    let exit = Exit { status: ExitStatus::Code(0), at: Timestamp(1) };
    let exited = EventKind::Exited { process, generation: Generation(1), pid: 7, exit };
    let exit = log.append_now(&named("moby", "a"), Generation(1), exited).event;
    let types = append(&log, 3);
    for _ in 0..3000 {
        log.publish_now(publication(vec![7; 100])).unwrap();
    }
    for _ in 0..18 {
        log.publish_now(publication(vec![7; 1_000_000])).unwrap();
        // 8 MiB, and one line of twice a megabyte.
        assert!(journal_size(dir.path()) < 11 << 20);
    }
    // It has lost some of those, and nothing else.
    assert!(!slow.next().await.unwrap_err().in_replay);
    let read = slow.next().await.unwrap();
    assert_eq!(read[0], Entry::Container(Arc::clone(&exit)));
    drop(slow);
    for log in [log, open(dir.path(), 3)] {
        assert_eq!(times(&stored(&log, Timestamp(0))), times(&types));
        assert!(log.recorded(&exit.container, Generation(1), |kind| *kind == exit.kind));
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 3);
    let most = MAX_PUBLISHED - "/at".len();
    log.publish_now(publication(vec![0; most])).unwrap();
    let size = journal_size(dir.path());
    let refused = log.publish_now(publication(vec![0; most + 1]));
    assert_eq!(refused, Err(TooLong(MAX_PUBLISHED + 1)));
    assert_eq!(journal_size(dir.path()), size);
}

/// The order of time holds over a restart, also if nothing else is in the journal.
#[test]
fn what_was_published_is_in_the_journal() {
    fn stopped() -> Timestamp {
        Timestamp(5)
    }
    let dir = TempDir::new().unwrap();
    let (log, _) =
        EventLog::open_at(dir.path(), 3, || Timestamp(4_000_000_000_000_000_000)).unwrap();
    log.publish_now(publication(b"x".to_vec())).unwrap();
    drop(log);
    let lines = record::recover(&fs::read(dir.path().join(journal::FILE)).unwrap());
    assert_eq!(lines.published[0].publication, publication(b"x".to_vec()));
    let (log, recovery) = EventLog::open_at(dir.path(), 3, stopped).unwrap();
    assert!(recovery.is_clean(), "{recovery}");
    assert!(append(&log, 1)[0].at > lines.published[0].at);
}

#[test]
fn only_those_who_follow_hold_it_and_no_more_than_is_allowed() {
    let mut feed = Feed::default().with_most((10_000, 5));
    let publish = |feed: &mut Feed, at, size| {
        let publication = publication(vec![0; size]);
        feed.push(Arc::new(Published { at: Timestamp(at), publication }));
    };
    let read = |feed: &mut Feed, id, until: Option<u64>| {
        feed.check(id)?;
        let read = feed.read(id, until.map(Timestamp));
        Ok(read.iter().map(|published| published.at.0).collect::<Vec<_>>())
    };
    publish(&mut feed, 1, 10);
    feed.subscribe(1);
    assert_eq!(read(&mut feed, 1, None), Ok(vec![]));
    (2..=4).for_each(|at| publish(&mut feed, at, 10));
    feed.subscribe(2);
    publish(&mut feed, 5, 10);
    assert_eq!(read(&mut feed, 1, Some(4)), Ok(vec![2, 3]));
    assert_eq!(read(&mut feed, 1, Some(4)), Ok(vec![]));
    assert_eq!(read(&mut feed, 2, None), Ok(vec![5]));
    // As many as are allowed, and one more.
    (6..=9).for_each(|at| publish(&mut feed, at, 10));
    let lagged = |at| Err(Lagged { resume_after: Timestamp(at), in_replay: false });
    assert_eq!(read(&mut feed, 1, None), lagged(4));
    assert_eq!(read(&mut feed, 1, None), Ok((5..=9).collect()));
    assert_eq!(read(&mut feed, 2, None), Ok((6..=9).collect()));
    // As many bytes, and too many.
    publish(&mut feed, 10, 4000);
    publish(&mut feed, 11, 4000);
    publish(&mut feed, 12, 4000);
    assert_eq!(read(&mut feed, 1, None), lagged(10));
    assert_eq!(read(&mut feed, 1, None), Ok(vec![11, 12]));
    feed.unsubscribe(2);
    publish(&mut feed, 13, 9000);
    assert_eq!(read(&mut feed, 1, None), Ok(vec![13]));
}

#[test]
fn how_far_each_reader_is_behind() {
    let mut feed = Feed::default().with_most((1 << 20, 4));
    let cost = |size: u64| 259 + size;
    let publish = |feed: &mut Feed, size: u64| {
        let publication = publication(vec![0; usize::try_from(size).unwrap()]);
        feed.push(Arc::new(Published { at: Timestamp(size), publication }));
    };
    let lag = |feed: &Feed, id, sizes: &[u64]| {
        let bytes = sizes.iter().map(|size| cost(*size)).sum();
        assert_eq!(feed.lag(id), Lag { events: sizes.len() as u64, bytes });
    };
    feed.subscribe(1);
    publish(&mut feed, 1);
    publish(&mut feed, 20);
    feed.subscribe(2);
    publish(&mut feed, 300);
    lag(&feed, 1, &[1, 20, 300]);
    lag(&feed, 2, &[300]);
    feed.read(1, Some(Timestamp(20)));
    lag(&feed, 1, &[20, 300]);
    feed.read(2, None);
    lag(&feed, 2, &[]);
    // Those that were dropped are not to be read any more.
    [4, 5, 6, 7].into_iter().for_each(|size| publish(&mut feed, size));
    lag(&feed, 1, &[4, 5, 6, 7]);
    lag(&feed, 2, &[4, 5, 6, 7]);
    feed.unsubscribe(1);
    feed.read(2, Some(Timestamp(6)));
    lag(&feed, 2, &[6, 7]);
    feed.read(2, None);
    publish(&mut feed, 8);
    lag(&feed, 2, &[8]);
    lag(&feed, 3, &[]);
}

/// A full disk: they are delivered, wait for no room, and take none of what is kept back for others.
#[test]
fn a_full_disk_does_not_make_them_pile_up() {
    with_small_disk(TempDir::new().unwrap().path(), "1m", |dir| {
        let log = open(dir, 500);
        let mut follower = log.follow(|_| true);
        let filler = fill(dir);
        for _ in 0..20 {
            log.publish_now(publication(vec![0; 10_000])).unwrap();
        }
        assert!(dir.join("events.reserve").exists());
        assert!(log.append_now(&named("moby", "a"), Generation(1), EventKind::Paused).durable);
        fs::remove_file(filler).unwrap();
        log.publish_now(publication(b"last".to_vec())).unwrap();
        let lines = record::recover(&fs::read(dir.join(journal::FILE)).unwrap());
        assert_eq!((lines.events.len(), lines.damage), (1, vec![]));
        assert_eq!(lines.published.last().unwrap().publication.value, b"last");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut read = 0;
        while read < 22 {
            read += runtime.block_on(follower.next()).unwrap().len();
        }
    });
}
