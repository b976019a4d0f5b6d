//! Data of files begin to go to the disk while the rest of a layer is unpacked: a layer is synced before its snapshot is
//! committed, and then little is left to be waited for.

use std::{
    io,
    os::fd::OwnedFd,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, Scope},
};

use gantry_kernel::begin_writeback;

/// What is smaller is left to the sync: it takes more calls than time.
const SMALL: u64 = 32 << 10;

/// After so much of a file the disk begins with it.
const PART: u64 = 16 << 20;

/// Files that wait for their turn. When there are more, the sync has them.
const WAITING: usize = 64;

/// A thread that has the kernel write files to the disk.
pub(super) struct Early(SyncSender<OwnedFd>);

impl Early {
    /// The thread ends after this was dropped, and what waits then is written; or once nobody wants the layer any more.
    pub(super) fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        is_wanted: impl Fn() -> bool + Send + 'scope,
    ) -> io::Result<Self> {
        let (files, to_write) = sync_channel::<OwnedFd>(WAITING);
        let thread = thread::Builder::new().name("layer-write".to_owned());
        let write = move || {
            to_write.iter().take_while(|_| is_wanted()).for_each(begin_writeback);
        };
        thread.spawn_scoped(scope, write)?;
        Ok(Self(files))
    }

    /// So many bytes more are in the file; `since` counts them.
    pub(super) fn written(&self, file: &OwnedFd, bytes: u64, since: &mut u64) {
        *since += bytes;
        if *since >= PART {
            *since = 0;
            if let Ok(file) = file.try_clone() {
                let _ = self.0.try_send(file);
            }
        }
    }

    /// The file has all its data.
    pub(super) fn finished(&self, file: OwnedFd, size: u64) {
        if size >= SMALL {
            let _ = self.0.try_send(file);
        }
    }
}
