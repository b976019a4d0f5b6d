//! A power cut: of what was written since the last `fsync` any part may be on the disk, and none.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use redb::{Builder, Database, ReadableDatabase, StorageBackend};

use super::{container, namespace};
use crate::{AnyValue, Container, containers, tables};

/// A disk with a cache: `durable` is what survives.
#[derive(Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// What was written since the last `fsync`.
    waiting: Vec<(usize, Vec<u8>)>,
    /// Writes until the power fails.
    left: usize,
    has_power: bool,
}

#[derive(Debug, Clone)]
struct Cached(Arc<Mutex<Disk>>);

impl Cached {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.0.lock().unwrap();
        if disk.has_power { Ok(disk) } else { Err(io::Error::other("no power")) }
    }
}

impl Disk {
    /// A step on the way: the last one is not taken.
    fn step(&mut self) -> io::Result<()> {
        self.left = self.left.saturating_sub(1);
        self.has_power = self.left > 0;
        if self.has_power { Ok(()) } else { Err(io::Error::other("the power has failed")) }
    }

    /// What is on the disk when the power is back: any of what waited, in sectors, in any order.
    fn cut(&mut self) -> Vec<u8> {
        let mut left = std::mem::take(&mut self.durable);
        fastrand::shuffle(&mut self.waiting);
        let share = fastrand::u8(0..=4);
        for (offset, data) in self.waiting.drain(..) {
            for (number, sector) in data.chunks(512).enumerate() {
                if fastrand::u8(0..4) < share {
                    let at = offset + number * 512;
                    left.resize(left.len().max(at + sector.len()), 0);
                    left[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        left
    }
}

impl StorageBackend for Cached {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.disk()?.now[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut disk, len) = (self.disk()?, usize::try_from(len).unwrap());
        disk.now.resize(len, 0);
        // The length is on the disk at once, or at the next `fsync`.
        if fastrand::bool() {
            disk.durable.resize(len, 0);
        }
        disk.step()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.step()?;
        let len = disk.now.len();
        disk.durable.resize(len, 0);
        for (offset, data) in std::mem::take(&mut disk.waiting) {
            // A file that has become shorter since.
            let end = len.min(offset + data.len());
            if offset < end {
                disk.durable[offset..end].copy_from_slice(&data[..end - offset]);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut disk, offset) = (self.disk()?, usize::try_from(offset).unwrap());
        disk.now[offset..offset + data.len()].copy_from_slice(data);
        disk.waiting.push((offset, data.to_vec()));
        disk.step()
    }
}

fn on(image: Vec<u8>, left: usize) -> Cached {
    let disk = Disk { durable: image.clone(), now: image, waiting: vec![], left, has_power: true };
    Cached(Arc::new(Mutex::new(disk)))
}

fn open(disk: &Cached) -> Result<Database, redb::DatabaseError> {
    Builder::new().set_cache_size(1 << 20).create_with_backend(disk.clone())
}

/// Creates a container as the store does.
fn create(database: &Database, number: usize) -> Result<(), redb::Error> {
    let value = vec![u8::try_from(number % 251).unwrap(); number * 7919 % 3_000];
    let spec = Some(AnyValue { type_url: "t".to_owned(), value });
    let container = Container { spec, ..container(&format!("c{number}")) };
    let transaction = database.begin_write()?;
    match containers::create(&transaction, &namespace("ns"), container) {
        Ok(_) => {}
        Err(tables::Failure::Database(error)) => return Err(error),
        Err(tables::Failure::Answer(error)) => panic!("{error}"),
    }
    Ok(transaction.commit()?)
}

/// How many there are, if they are the first ones and whole.
fn count(database: &Database) -> usize {
    let reader = database.begin_read().unwrap();
    for number in 0.. {
        match containers::get(&reader, &namespace("ns"), &format!("c{number}")) {
            Ok(container) => {
                let value = container.spec.unwrap().value;
                assert_eq!(value.len(), number * 7919 % 3_000);
                assert!(value.iter().all(|byte| usize::from(*byte) == number % 251));
            }
            Err(tables::Failure::Answer(crate::StoreError::NotFound(_))) => return number,
            Err(other) => panic!("{other:?}"),
        }
    }
    unreachable!()
}

#[test]
fn what_was_committed_outlives_a_power_cut() {
    let disk = on(Vec::new(), usize::MAX);
    tables::make(&open(&disk).unwrap()).unwrap();
    let mut image = disk.0.lock().unwrap().now.clone();
    let mut committed = 0;
    for _ in 0..100 {
        let disk = on(image, fastrand::usize(1..60));
        // The power may fail while the file is repaired, too.
        if let Ok(database) = open(&disk) {
            let found = count(&database);
            assert!(found >= committed, "{found} of {committed} are there");
            committed = found;
            let before = committed;
            while create(&database, committed).is_ok() {
                committed += 1;
                assert!(committed < before + 100, "nothing is written");
            }
        }
        image = disk.0.lock().unwrap().cut();
    }
    assert!(committed > 50, "{committed}");
    let database = open(&on(image, usize::MAX)).unwrap();
    // That which was being committed may be there.
    assert!((committed..=committed + 1).contains(&count(&database)));
}

/// A disk whose `fsync` waits for the test.
#[derive(Debug)]
struct Slow {
    inner: redb::backends::InMemoryBackend,
    /// Signals that an `fsync` has begun, and waits until it may end.
    gate: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
}

impl StorageBackend for Slow {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let gate = self.gate.lock().unwrap().take();
        if let Some((begun, may_end)) = gate {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
        }
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}

#[derive(Debug, Clone)]
struct Shared(Arc<Slow>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn a_read_does_not_wait_for_an_fsync() {
    let slow = Slow { inner: redb::backends::InMemoryBackend::new(), gate: Mutex::new(None) };
    let disk = Shared(Arc::new(slow));
    let database = Builder::new().create_with_backend(disk.clone()).unwrap();
    tables::make(&database).unwrap();
    create(&database, 0).unwrap();
    let (begun, begins) = sync_channel(1);
    let (end, may_end) = sync_channel(1);
    *disk.0.gate.lock().unwrap() = Some((begun, may_end));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| create(&database, 1).unwrap());
        begins.recv().unwrap();
        assert_eq!(count(&database), 1);
        assert!(!writer.is_finished());
        end.send(()).unwrap();
        writer.join().unwrap();
    });
    assert_eq!(count(&database), 2);
}
