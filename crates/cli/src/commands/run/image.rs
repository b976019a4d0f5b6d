//! A container of an image: a record of containerd's API that keeps a snapshot, and a task on that.
//!
//! ```text
//! directory claimed -> lease -> image unpacked -> snapshot -> record, lease ended -> task created -> started
//! ```
//! The lease keeps what the record does not keep yet. Whatever of this is left when the command is killed has the directory
//! in a label; once nobody has that locked, `gantry system prune` removes it.

use std::process::ExitCode;

use gantry_api::containerd::{
    containers::{Container, container::Runtime},
    images::Image,
    runc, to_any, type_url,
    types::Mount,
};
use gantry_client::{Client, Signal, Stdio, types::User};
use prost_types::Any;

use super::Run;
use crate::{
    blobs::Blobs,
    bundles::TaskDir,
    containers::{Containers, DIRECTORY, LOG, REMOVE, STOP_SIGNAL},
    failure::{Failure, Outcome},
    fifos::{self, Ends, Wanted},
    held::{Held, HeldStreams},
    ids,
    images::{
        Images,
        chosen::{Chosen, choose},
        manifest::{Platform, Settings},
        unpack::Unpacker,
    },
    leases::Lease,
    logs::Prepared,
    output,
    session::{Ended, Kind, Session},
    snapshots::Snapshots,
    spec::{self, Wishes},
    tasks::Task,
    users,
};

/// What runs a container unless somebody says otherwise, as clients of containerd call it.
const RUNTIME: &str = "io.containerd.runc.v2";

/// How much of an image's name is in an id that nobody has chosen.
const LONGEST_NAME: usize = 40;

/// A container without a task.
struct New {
    record: Container,
    rootfs: Vec<Mount>,
    program: String,
}

/// Where a container is made.
struct Place<'a> {
    client: &'a Client,
    snapshots: Snapshots,
    lease: Lease,
    id: &'a str,
}

impl Run {
    pub(super) async fn run_image(
        self,
        client: &Client,
        image: &str,
        program: Vec<String>,
        log: Option<Prepared>,
    ) -> Outcome {
        let namespace = &self.namespace.namespace;
        let containers = Containers::of(client, namespace);
        containers.sweep().await;
        let image = Images::of(client, namespace).find(image).await.map_err(Failure::own)?;
        let id = match &self.name {
            Some(id) => id.clone(),
            None => name(&image.name).map_err(Failure::own)?,
        };
        let dir = TaskDir::claim(namespace, &id).map_err(Failure::own)?;
        let new = match self.make(&containers, &image, &id, program, &dir).await {
            Ok(new) => new,
            Err(failure) => {
                dir.abandon();
                return Err(failure.own());
            }
        };
        let kind = Kind { terminal: self.streams.tty, visit: false };
        let mut session = Session::prepare(&self.streams.session, kind)?;
        let task = containers.task(&id);
        let streams = match session.start(self.start(&task, &new, &dir)).await {
            Ok(streams) => streams,
            Err(failure) => {
                // Nothing has run in it, so that nobody wants to see it.
                let removed = async {
                    task.destroy().await?;
                    containers.remove(&new.record).await?;
                    dir.remove()
                };
                removed.await.unwrap_or_else(|failure| failure.warn());
                return Err(failure);
            }
        };
        log.into_iter().for_each(Prepared::keep);
        if self.streams.detach {
            output::line(&id)?;
            return Ok(ExitCode::SUCCESS);
        }
        let ended = session.hold(&Held::Task(&task), streams).await.map_err(Failure::own)?;
        if let Ended::Exited(_) = ended {
            containers.clean_up(&new.record).await.map_err(Failure::own)?;
        }
        Ok(ended.code())
    }

    /// Makes the container.
    async fn make(
        &self,
        containers: &Containers,
        image: &Image,
        id: &str,
        program: Vec<String>,
        dir: &TaskDir,
    ) -> Result<New, Failure> {
        let (client, namespace) = (&containers.client, &self.namespace.namespace);
        containers.refuse(id).await?;
        let platform = self.platform.clone().unwrap_or_else(Platform::here);
        let chosen = choose(&Blobs::of(client), namespace, image, &platform).await?;
        let args = arguments(self.entrypoint.as_deref(), &chosen.config.config, program);
        let args = args.ok_or_else(|| {
            Failure::new(format!("{} does not say which program to run: name one", image.name))
        })?;
        let snapshots = match &self.snapshotter {
            Some(name) => Snapshots::of(client, namespace, name),
            None => Snapshots::by_default(client, namespace).await?,
        };
        let lease = Lease::make(client, namespace, Some(dir.path())).await?;
        let directory = dir.path().to_string_lossy().into_owned();
        let place = Place { client, snapshots, lease, id };
        let made = self.record(&place, image, &chosen, args, directory).await;
        let made = match made {
            Ok(new) => containers.create(new.record.clone()).await.map(|()| new),
            Err(failure) => Err(failure),
        };
        // What the record does not keep is collected now.
        place.lease.end().await.unwrap_or_else(|failure| failure.warn());
        made
    }

    /// Makes all but the record.
    async fn record(
        &self,
        place: &Place<'_>,
        image: &Image,
        chosen: &Chosen,
        args: Vec<String>,
        directory: String,
    ) -> Result<New, Failure> {
        let Place { client, snapshots, lease, id } = place;
        let parent = Unpacker::new(client, snapshots, lease).unpack(chosen).await?;
        // Not the id alone, which a command that was killed may have used for a snapshot.
        let snapshot_key = format!("{id}-{}", ids::random()?);
        let rootfs = snapshots.prepare(lease, &snapshot_key, parent.as_deref()).await?;
        let settings = &chosen.config.config;
        let user = self.user(settings, &rootfs)?;
        let program = args.first().cloned().unwrap_or_default();
        let spec = spec::build(self.image_wishes(id, settings, args, user)?)?;
        let value = serde_json::to_vec(&spec)
            .map_err(|error| Failure::new(format!("write the configuration: {error}")))?;
        let mut labels = self.labels(settings);
        labels.push((DIRECTORY.to_owned(), directory));
        let record = Container {
            id: (*id).to_owned(),
            labels: labels.into_iter().collect(),
            image: image.name.clone(),
            runtime: Some(self.image_runtime()),
            spec: Some(Any { type_url: type_url::SPEC.to_owned(), value }),
            snapshotter: snapshots.snapshotter().to_owned(),
            snapshot_key,
            ..Container::default()
        };
        Ok(New { record, rootfs, program })
    }

    fn labels(&self, settings: &Settings) -> Vec<(String, String)> {
        let signal = settings.stop_signal.as_deref().filter(|it| it.parse::<Signal>().is_ok());
        let signal = signal.map(|signal| (STOP_SIGNAL.to_owned(), signal.to_owned()));
        let remove = self.rm.then(|| (REMOVE.to_owned(), "true".to_owned()));
        let log = self.log.as_ref().map(|log| (LOG.to_owned(), log.display().to_string()));
        self.label.iter().cloned().chain(signal).chain(remove).chain(log).collect()
    }

    fn image_runtime(&self) -> Runtime {
        let options = self.runtime.as_ref().map(|runtime| {
            to_any(&runc::Options { binary_name: runtime.clone(), ..runc::Options::default() })
        });
        Runtime { name: RUNTIME.to_owned(), options }
    }

    /// The options' user, or else the image's. Names are looked up in the image's files.
    fn user(&self, settings: &Settings, rootfs: &[Mount]) -> Result<Option<User>, Failure> {
        let user = self.user.as_ref().or(settings.user.as_ref()).filter(|user| !user.is_empty());
        user.map(|user| users::resolve_in_layers(rootfs, user)).transpose()
    }

    fn image_wishes(
        &self,
        id: &str,
        settings: &Settings,
        args: Vec<String>,
        user: Option<User>,
    ) -> Result<Wishes, Failure> {
        let mut wishes = self.wishes(id, user)?;
        wishes.args = args;
        // Below the task's bundle, where the server mounts the snapshot.
        wishes.rootfs = "rootfs".into();
        let image_env = settings.env.clone().unwrap_or_default();
        wishes.env = image_env.into_iter().chain(wishes.env).collect();
        if let (None, Some(dir)) = (&self.cwd, &settings.working_dir)
            && !dir.is_empty()
        {
            wishes.cwd.clone_from(dir);
        }
        if self.cgroup_path.is_none() {
            wishes.cgroup_path = format!("/gantry-{}/{id}", self.namespace.namespace);
        }
        Ok(wishes)
    }

    /// Starts the program; the streams, if this command stays.
    async fn start(&self, task: &Task, new: &New, dir: &TaskDir) -> Result<HeldStreams, Failure> {
        let output = self.streams.output() == Stdio::Pipe;
        let stdin = self.streams.interactive;
        let wanted = Wanted { stdin, stdout: output, stderr: output && !self.streams.tty };
        let (mut paths, keepers) = fifos::make(dir.path(), wanted).map_err(Failure::own)?;
        if let Some(log) = &self.log {
            paths.stdout = log.display().to_string();
            paths.stderr.clone_from(&paths.stdout);
        }
        let ends = match self.streams.detach {
            true => Ends::default(),
            false => fifos::open(&paths).map_err(Failure::own)?,
        };
        let what = format!("start {}", new.record.id);
        let failed = |status| Failure::of_task_start(&what, &status, &new.program);
        task.create(new.rootfs.clone(), &paths, self.streams.tty).await.map_err(failed)?;
        drop(keepers);
        task.start().await.map_err(failed)?;
        Ok(HeldStreams::of_task(ends, task))
    }
}

/// The program and its arguments; none if nobody has said any.
fn arguments(
    entrypoint: Option<&str>,
    settings: &Settings,
    program: Vec<String>,
) -> Option<Vec<String>> {
    let args: Vec<_> = match entrypoint {
        Some(entrypoint) => std::iter::once(entrypoint.to_owned()).chain(program).collect(),
        None => {
            let first = settings.entrypoint.clone().unwrap_or_default();
            let rest = match program.is_empty() {
                true => settings.cmd.clone().unwrap_or_default(),
                false => program,
            };
            first.into_iter().chain(rest).collect()
        }
    };
    (!args.is_empty()).then_some(args)
}

/// An id for a container of an image, by the last part of the image's name.
fn name(image: &str) -> Result<String, Failure> {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    let last = last.split(':').next().unwrap_or(last);
    let letters: String =
        last.chars().filter(char::is_ascii_alphanumeric).take(LONGEST_NAME).collect();
    let random = ids::random()?;
    Ok(if letters.is_empty() { random } else { format!("{letters}-{random}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_said_counts_more_than_the_image() {
        let settings = Settings {
            entrypoint: Some(words("/entry -e")),
            cmd: Some(words("default")),
            ..Settings::default()
        };
        let args = |entrypoint, program| arguments(entrypoint, &settings, words(program)).unwrap();
        assert_eq!(args(None, ""), words("/entry -e default"));
        assert_eq!(args(None, "a b"), words("/entry -e a b"));
        assert_eq!(args(Some("sh"), ""), words("sh"));
        assert_eq!(args(Some("sh"), "-c x"), words("sh -c x"));
        assert_eq!(arguments(None, &Settings::default(), Vec::new()), None);
    }

    #[test]
    fn an_id_is_made_of_the_name() {
        let name = |image: &str| name(image).unwrap();
        assert!(name("docker.io/library/alpine:3").starts_with("alpine-"));
        assert!(name("localhost:5000/a_b--c@sha256:0a").starts_with("abc-"));
        assert_eq!(name("_").len(), 8);
        assert_ne!(name("a"), name("a"));
    }
}
