//! Points at which a test can have gantryd or gantry-shim die: one after every step that changes
//! what is on disk, in the runtime or with the other side.
//!
//! A test puts an empty file of a point's name into the directory that [`DIRECTORY`] names. The
//! first process that reaches the point removes the file and dies there as if by SIGKILL: once,
//! and the missing file shows the test that the point was reached. Unlike the points of the `fail` crate these
//! can be listed, so that no test can miss one, and cost the shim nothing but this file.

#![forbid(unsafe_code)]

/// The environment variable with the directory of the points that are armed.
pub const DIRECTORY: &str = "GANTRY_FAILPOINTS";

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A point, named after the step that has just been done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $name),+ }

        impl Point {
            /// Every point there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name of the file that arms it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

points! {
    /// The server holds the state directory.
    ServerStateOpened,
    /// The server has bound its socket.
    ServerListening,
    /// The directory of a container is made.
    ServerDirectoryMade,
    /// container.json is written.
    ServerContainerRecorded,
    /// The bundle of a task is made, and its root file system is mounted.
    ServerBundleMade,
    /// process.json is written, in a directory that has no place yet.
    ServerProcessRecorded,
    /// The directory of init, with process.json and a shim, has its place.
    ServerInitPlaced,
    /// The directory of an exec, with process.json and a shim, has its place.
    ServerExecPlaced,
    /// The runtime's input for an exec is written.
    ServerExecSpecWritten,
    /// The shim of a process was spawned.
    ServerShimSpawned,
    /// The shim was sent what to launch.
    ServerLaunchSent,
    /// The shim has launched it.
    ServerLaunchedReceived,
    /// container.json says where the cgroup is.
    ServerCgroupRecorded,
    /// The runtime has started what it created before.
    ServerStarted,
    /// A container is about to be journalled as started.
    ServerStartToBeJournalled,
    /// The journal says that a container was started.
    ServerStartJournalled,
    /// The process's directory notes that.
    ServerStartNoted,
    /// An exec is about to be journalled as started.
    ServerExecToBeJournalled,
    /// The journal says that an exec was started.
    ServerExecJournalled,
    /// The process's directory notes that.
    ServerExecNoted,
    /// The runtime has paused or resumed a container.
    ServerOperated,
    /// The journal says so.
    ServerOperationJournalled,
    /// container.json says so.
    ServerOperationNoted,
    /// The journal says that memory was short.
    ServerOomJournalled,
    /// container.json says so.
    ServerOomNoted,
    /// The exit of init is known.
    ServerInitExited,
    /// Its shim may leave.
    ServerInitDismissed,
    /// Nothing lives in the container any more.
    ServerCleared,
    /// The runtime has deleted the container.
    ServerRuntimeDeleted,
    /// Its cgroup is removed.
    ServerCgroupRemoved,
    /// The root file system of a task is unmounted.
    ServerUnmounted,
    /// Its state is set aside, and its id free on disk.
    ServerSetAside,
    /// The journal says that it has ended.
    ServerExitJournalled,
    /// Its state is removed.
    ServerStateRemoved,
    /// The exit of an exec is known.
    ServerExecExited,
    /// The journal says that an exec has ended.
    ServerExecExitJournalled,
    /// The exec's state is removed.
    ServerExecRemoved,
    /// The record of a container says that it is not made.
    ServerFailureNoted,
    /// The runtime knows nothing any more of a container that was not started.
    ServerUndoneInRuntime,
    /// Nothing is left of it.
    ServerUndone,
    /// Nothing is left of an exec that was not started.
    ServerExecUndone,
    /// The first process of a half-made container is dead.
    ServerHalfMadeKilled,
    /// The runtime knows nothing any more of a half-made container.
    ServerHalfMadeDeleted,
    /// Nothing is left of a half-made container.
    ServerHalfMadeRemoved,
    /// Nothing is left of a half-made exec.
    ServerHalfMadeExecRemoved,
    /// The end of a container that was set aside is journalled.
    ServerMissedExitJournalled,
    /// A file that could not be read is moved to quarantine/.
    ServerPutAway,
    /// A new journal is written, but not in its place.
    ServerJournalRewritten,
    /// It is.
    ServerJournalReplaced,
    /// The record of a write of content is there.
    ServerIngestBegun,
    /// Its file is, too.
    ServerIngestMade,
    /// All that was written of a blob is on the disk.
    ServerBlobSynced,
    /// The file of a blob is in its place.
    ServerBlobPlaced,
    /// The record of the blob is there.
    ServerBlobRecorded,
    /// A collection has found something to remove.
    ServerCollectionBegun,
    /// The records of a piece of it are removed, and the files are not.
    ServerPieceForgotten,
    /// Files of some of its blobs are removed.
    ServerBlobFilesRemoved,
    /// All that was removed of a piece has no file any more, and directories are in the trash.
    ServerPieceRemoved,
    /// A blob is forgotten, and its file is not removed.
    ServerBlobForgotten,
    /// A write of content is forgotten, and its file is not removed.
    ServerIngestForgotten,
    /// The directory of a snapshot is made.
    ServerSnapshotMade,
    /// The record of a snapshot is there.
    ServerSnapshotRecorded,
    /// What is to be committed is on the disk.
    ServerSnapshotSynced,
    /// The record says that a snapshot is committed.
    ServerSnapshotCommitted,
    /// A snapshot is forgotten, and its directory is in its place.
    ServerSnapshotForgotten,
    /// Its directory is in the trash.
    ServerSnapshotSetAside,
    /// A transfer has its lease.
    ServerTransferLeased,
    /// A part of an image is fetched.
    ServerPartFetched,
    /// A document refers to its parts.
    ServerReferencesLabelled,
    /// An entry of a layer is unpacked.
    ServerEntryUnpacked,
    /// All of a layer is unpacked.
    ServerLayerUnpacked,
    /// The record of a layer says that it was unpacked.
    ServerLayerLabelled,
    /// The configuration of an image refers to the snapshot of its layers.
    ServerConfigurationLabelled,
    /// The name of an image that is transferred is there.
    ServerImageNamed,
    /// The lease of a transfer is gone.
    ServerTransferReleased,
    /// The shim can be connected to.
    ShimListening,
    /// The shim has received what to launch.
    ShimLaunchReceived,
    /// The stdio paths are open.
    ShimStdioOpened,
    /// The runtime is at work.
    ShimRuntimeSpawned,
    /// The runtime has done its work.
    ShimRuntimeEnded,
    /// The shim knows the process.
    ShimPidfdOpened,
    /// started.json or exit.json is written, but not under its name.
    ShimFileWritten,
    /// started.json says who the process is.
    ShimStartedRecorded,
    /// The server was sent the report that the process lives.
    ShimLaunchedSent,
    /// The launch is given up.
    ShimAborting,
    /// The server was sent the report that the launch failed.
    ShimFailureSent,
    /// The process has ended and was reaped.
    ShimProcessReaped,
    /// exit.json says how.
    ShimExitRecorded,
    /// The server was sent the report of the exit.
    ShimExitedSent,
    /// The server has allowed the shim to exit.
    ShimAcknowledged,
    /// Its socket is removed.
    ShimClosed,
}

/// Dies here if the point is armed.
#[cfg(feature = "enabled")]
pub fn reach(point: Point) {
    if let Some(directory) = std::env::var_os(DIRECTORY)
        && std::fs::remove_file(std::path::Path::new(&directory).join(point.name())).is_ok()
    {
        // Like SIGKILL it runs no destructor and no handler.
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn reach(_: Point) {}

/// The variable that a child needs in its environment to see the same points.
#[must_use]
pub fn environment() -> Option<(&'static str, std::ffi::OsString)> {
    if cfg!(feature = "enabled") { Some((DIRECTORY, std::env::var_os(DIRECTORY)?)) } else { None }
}
