//! Unmodified clients of containerd on `gantryd`: Debian's dockerd 20.10 with its client, and `ctr` of
//! Debian's containerd 1.6. Each test has a server, and most a dockerd, in namespaces for network and
//! mounts of their own, so nothing of the host's network or mounts is touched.
//!
//! These containers' cgroups are made by runc or crun, as on a host without systemd. tests/guest/docker.sh has
//! dockerd where systemd makes them, on cgroup v2.
//!
//! A client that is missing fails the test: `.ci/install test` brings them.
//!
//! Environment:
//! - `GANTRY_TEST_PEER=containerd`: the same tests against the original, Debian's containerd 1.6 with its
//!   own shims. All pass there too, which shows that the tests ask for what clients have from containerd.
//! - `GANTRY_TEST_DOCKERD`, `GANTRY_TEST_DOCKER`: another daemon and client than Debian's;
//!   `GANTRY_TEST_DOCKERD_ARGS`: what that daemon is given beside. Of Docker 29, whose own default is
//!   containerd's image store: `--feature containerd-snapshotter=false --feature time-namespaces=false`
//!   (runc 1.1 has no time namespaces).
//! - `GANTRY_TEST_AWAY`: how often the server is ended under containers that end meanwhile (10).

mod away;
mod crun;
mod ctr_containers;
mod ctr_content;
mod ctr_events;
mod ctr_images;
mod ctr_run;
mod ctr_snapshots;
mod ctr_tasks;
mod dockerd;
mod ends;
mod exec;
mod host;
mod inspect;
mod live_restore;
mod many;
mod network;
mod peer;
mod run;
