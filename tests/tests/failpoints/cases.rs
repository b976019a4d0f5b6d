//! When each point is reached.

use gantry_failpoints::Point;

/// What happens to the container when the point is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// It is created.
    Create,
    /// It is created, and its cgroup is not known beforehand.
    CreateWithoutCgroup,
    /// Its creation fails.
    FailedCreate,
    /// An exec is started.
    Exec,
    /// The start of an exec fails.
    FailedExec,
    Pause,
    Resume,
    /// It is out of memory.
    Oom,
    /// The exec is killed.
    ExecEnd,
    /// Init ends.
    End,
    /// Init ends while there is no server.
    EndWithoutServer,
    /// The server starts, and the container runs.
    Restart,
    /// The server starts after it died on the report that init was launched.
    RestartAfterHalfMade,
    /// The server starts after it died on the report that an exec was launched.
    RestartAfterHalfMadeExec,
    /// The server starts after it died when it had set the container aside.
    RestartAfterSetAside,
    /// The server starts, and container.json is empty.
    RestartAfterDamage,
    /// It is paused, and the journal is long.
    PauseWithLongJournal,
}

/// A point, and how to reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) point: Point,
    pub(crate) when: When,
}

pub(crate) fn of(point: Point) -> impl Iterator<Item = Case> {
    moments(point).iter().map(move |when| Case { point, when: *when })
}

/// No wildcard: a new point must find its place.
fn moments(point: Point) -> &'static [When] {
    use When::*;
    match point {
        Point::ServerStateOpened | Point::ServerListening => &[Restart, RestartAfterHalfMade],
        Point::ServerDirectoryMade
        | Point::ServerContainerRecorded
        | Point::ServerInitPlaced
        | Point::ServerStarted
        | Point::ServerStartToBeJournalled
        | Point::ServerStartJournalled
        | Point::ServerStartNoted => &[Create],
        // Of tasks, see tests/containerd/failpoints.rs.
        Point::ServerBundleMade | Point::ServerUnmounted => &[],
        // Of content, see tests/containerd/content/failpoints.rs.
        Point::ServerIngestBegun
        | Point::ServerIngestMade
        | Point::ServerBlobSynced
        | Point::ServerBlobPlaced
        | Point::ServerBlobRecorded
        | Point::ServerBlobForgotten
        | Point::ServerIngestForgotten => &[],
        // Of snapshots, see tests/containerd/snapshots/failpoints.rs.
        Point::ServerSnapshotMade
        | Point::ServerSnapshotRecorded
        | Point::ServerSnapshotSynced
        | Point::ServerSnapshotCommitted
        | Point::ServerSnapshotForgotten
        | Point::ServerSnapshotSetAside => &[],
        // Of pulls, see tests/containerd/transfer/registry/failpoints.rs.
        Point::ServerTransferLeased
        | Point::ServerPartFetched
        | Point::ServerReferencesLabelled
        | Point::ServerEntryUnpacked
        | Point::ServerLayerUnpacked
        | Point::ServerLayerLabelled
        | Point::ServerConfigurationLabelled
        | Point::ServerImageNamed
        | Point::ServerTransferReleased => &[],
        // Of collections, see tests/containerd/collection/failpoints.rs.
        Point::ServerCollectionBegun
        | Point::ServerPieceForgotten
        | Point::ServerBlobFilesRemoved
        | Point::ServerPieceRemoved => &[],
        Point::ServerCgroupRecorded => &[CreateWithoutCgroup],
        Point::ServerShimSpawned
        | Point::ServerProcessRecorded
        | Point::ServerLaunchSent
        | Point::ServerLaunchedReceived
        | Point::ShimListening
        | Point::ShimLaunchReceived
        | Point::ShimStdioOpened
        | Point::ShimRuntimeSpawned
        | Point::ShimRuntimeEnded
        | Point::ShimPidfdOpened
        | Point::ShimStartedRecorded
        | Point::ShimLaunchedSent => &[Create, CreateWithoutCgroup, Exec],
        Point::ServerExecPlaced
        | Point::ServerExecSpecWritten
        | Point::ServerExecToBeJournalled
        | Point::ServerExecJournalled
        | Point::ServerExecNoted => &[Exec],
        Point::ServerOperated | Point::ServerOperationJournalled | Point::ServerOperationNoted => {
            &[Pause, Resume]
        }
        Point::ServerOomJournalled | Point::ServerOomNoted => &[Oom],
        Point::ServerInitExited
        | Point::ServerInitDismissed
        | Point::ServerCleared
        | Point::ServerRuntimeDeleted
        | Point::ServerCgroupRemoved
        | Point::ServerSetAside
        | Point::ServerExitJournalled
        | Point::ServerStateRemoved => &[End],
        Point::ServerExecExited | Point::ServerExecExitJournalled | Point::ServerExecRemoved => {
            &[ExecEnd]
        }
        Point::ServerFailureNoted | Point::ServerUndoneInRuntime | Point::ServerUndone => {
            &[FailedCreate]
        }
        Point::ServerExecUndone => &[FailedExec],
        Point::ServerHalfMadeKilled
        | Point::ServerHalfMadeDeleted
        | Point::ServerHalfMadeRemoved => &[RestartAfterHalfMade],
        Point::ServerHalfMadeExecRemoved => &[RestartAfterHalfMadeExec],
        Point::ServerMissedExitJournalled => &[RestartAfterSetAside],
        Point::ServerPutAway => &[RestartAfterDamage],
        Point::ServerJournalRewritten | Point::ServerJournalReplaced => &[PauseWithLongJournal],
        Point::ShimAborting | Point::ShimFailureSent => &[FailedCreate, FailedExec],
        Point::ShimFileWritten => &[Create, Exec, ExecEnd, End, EndWithoutServer],
        Point::ShimProcessReaped | Point::ShimExitRecorded | Point::ShimExitedSent => {
            &[ExecEnd, End, EndWithoutServer]
        }
        Point::ShimAcknowledged => &[ExecEnd, End],
        Point::ShimClosed => &[FailedCreate, ExecEnd, End, EndWithoutServer],
    }
}
