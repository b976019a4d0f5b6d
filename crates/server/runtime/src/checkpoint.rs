//! Checkpoints: a directory each, with CRIU's image and, beside it, how it was made.

mod at_path;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

pub use at_path::{Image, ImageOptions, NewImage, create_at};
use gantry_disk::{DiskError, Disks, ReadError, read_regular};
use gantry_domain::ContainerId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{OciError, OciRuntime, Runtimes};

const CONFIG_FILE: &str = "config.json";

/// Where the checkpoints of a bundle are kept in it, if their caller does not say.
pub const DEFAULT_DIR: &str = "checkpoints";

/// Larger ones were not made by [`create`].
const MAX_CONFIG: u64 = 16 << 20;

/// CRIU's logs, inside the checkpoint's directory.
const WORK_DIR: &str = "criu.work";

/// Settings for CRIU that runtimes do not pass on, which it finds by [`crate::CRIU_CONFIG_VARIABLE`].
pub const CRIU_CONFIG_FILE: &str = "criu.conf";

/// How a checkpoint is, or was, made; its config.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointConfig {
    /// Of its directory.
    pub name: String,
    /// Stop the container after it.
    pub exit: bool,
    /// Open TCP connections are part of it.
    pub tcp: bool,
    /// Unix sockets with an end outside of the container are part of it.
    pub unix_sockets: bool,
    /// The first process may be the leader of a session of a terminal outside.
    pub shell: bool,
    #[serde(rename = "emptyNS")]
    /// Namespaces whose content is not part of it: `network`.
    pub empty_ns: Vec<String>,
    /// Pipes of the caller that the first process writes to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pipes: Vec<OuterPipe>,
}

/// A named pipe outside the container that is one of the first process's streams. CRIU cannot look
/// it up inside, and has an option to leave it to us (`external`): at the restore, the streams of the new process
/// take its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterPipe {
    /// 1 or 2.
    pub fd: u32,
    /// What CRIU calls it: mount id and inode in hexadecimal (External files in CRIU's wiki).
    pub key: String,
}

impl OuterPipe {
    /// The pipes that a process writes to.
    fn of_process(pid: u32) -> Vec<Self> {
        let pipe = |fd| Some(Self { fd, key: pipe_key(pid, fd)? });
        [1, 2].into_iter().filter_map(pipe).collect()
    }
}

/// CRIU's options for pipes that are not part of an image.
fn external(pipes: &[OuterPipe]) -> String {
    pipes.iter().map(|pipe| format!("external file[{}]\n", pipe.key)).collect()
}

/// CRIU's options for the pipes that take their place.
fn inherited(pipes: &[OuterPipe]) -> String {
    let line = |pipe: &OuterPipe| format!("inherit-fd fd[{}]:file[{}]\n", pipe.fd, pipe.key);
    pipes.iter().map(line).collect()
}

fn pipe_key(pid: u32, fd: u32) -> Option<String> {
    let link = format!("/proc/{pid}/fd/{fd}");
    // Unnamed pipes, which runtimes handle themselves, have no path: "pipe:[1234]".
    let is_named = fs::read_link(&link).ok()?.is_absolute();
    let metadata = fs::metadata(&link).ok()?;
    if !is_named || !metadata.file_type().is_fifo() {
        return None;
    }
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    let mount: u32 = mount.trim().parse().ok()?;
    Some(format!("{mount:x}:{:x}", metadata.ino()))
}

/// A checkpoint that is to be made.
#[derive(Debug, Clone)]
pub struct CheckpointRequest {
    /// Whose it is.
    pub container: ContainerId,
    /// Host pid of its first process.
    pub init: u32,
    /// Where the container's checkpoints live.
    pub dir: PathBuf,
    /// How it is to be made.
    pub config: CheckpointConfig,
}

/// A checkpoint that is there.
#[derive(Debug, Clone)]
pub struct CheckpointImage {
    /// Its directory.
    pub path: PathBuf,
    /// How it was made.
    pub config: CheckpointConfig,
}

/// What can go wrong with a checkpoint's directory.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CheckpointError {
    #[error("checkpoint not found: {0}")]
    NotFound(PathBuf),
    #[error("checkpoint {0} exists already")]
    Taken(PathBuf),
    #[error("cannot {what} {path}: {cause}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("{path} is damaged: {cause}", path = .path.display())]
    Damaged { path: PathBuf, cause: serde_json::Error },
    #[error("{path} {problem}", path = .path.display())]
    Config { path: PathBuf, problem: ReadError },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{path} is not certainly a checkpoint and is not removed: {why}", path = .path.display())]
    NotACheckpoint { path: PathBuf, why: String },
    #[error(transparent)]
    Oci(#[from] OciError),
}

fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> CheckpointError + 'a {
    move |cause| CheckpointError::Io { what, path: path.to_owned(), cause }
}

impl CheckpointConfig {
    /// The options of a runtime's `checkpoint` and `restore` alike.
    fn options(&self) -> Vec<String> {
        let flags = [
            (self.tcp, "--tcp-established"),
            (self.unix_sockets, "--ext-unix-sk"),
            (self.shell, "--shell-job"),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned());
        let namespaces = self.empty_ns.iter().map(|name| format!("--empty-ns={name}"));
        flags.chain(namespaces).collect()
    }
}

impl CheckpointRequest {
    /// The options of `checkpoint`.
    fn options(&self, path: &Path) -> Vec<String> {
        let mut options = self.config.options();
        options.push(format!("--image-path={}", path.display()));
        options.push(format!("--work-path={}", path.join(WORK_DIR).display()));
        if !self.config.exit {
            options.push("--leave-running".to_owned());
        }
        options
    }
}

impl CheckpointImage {
    /// Finds a checkpoint by name.
    pub async fn find(disks: &Disks, dir: &Path, name: &str) -> Result<Self, CheckpointError> {
        let path = dir.join(name);
        let config = disks.run("read", &path.join(CONFIG_FILE), read_config).await??;
        Ok(Self { path, config })
    }

    /// Settings for CRIU that no runtime has an option for, at the restore: the streams of the new
    /// process, which a runtime passes on under their own numbers, replace those of the old one.
    pub fn criu_config(&self) -> String {
        inherited(&self.config.pipes)
    }

    /// The options of `restore`.
    pub fn restore_options(&self) -> Vec<String> {
        let mut options = self.config.options();
        options.push(format!("--image-path={}", self.path.display()));
        options.push(format!("--work-path={}", self.path.join(WORK_DIR).display()));
        options
    }
}

/// Makes a checkpoint of a container. A failed one leaves nothing.
pub async fn create(
    disks: &Disks,
    runtimes: &Runtimes,
    runtime: &OciRuntime,
    mut request: CheckpointRequest,
) -> Result<(), CheckpointError> {
    let path = request.dir.join(&request.config.name);
    let init = request.init;
    // Where these are mounted may hang just as well.
    let find = move |_: &Path| OuterPipe::of_process(init);
    request.config.pipes = disks.run("examine", Path::new("/proc"), find).await?;
    let id = request.container.clone();
    let options = request.options(&path);
    let settings = disks.run("write", &path, move |path| prepare(&request, path)).await??;
    let made = runtimes.checkpoint(runtime, &id, &options, &settings).await;
    if made.is_err() {
        disks.run("remove", &path, remove_failed).await?;
    }
    Ok(made?)
}

/// Makes the directory with all that is to be there before the image; the settings for CRIU.
fn prepare(request: &CheckpointRequest, path: &Path) -> Result<PathBuf, CheckpointError> {
    let mut builder = fs::DirBuilder::new();
    builder
        .mode(0o700)
        .recursive(true)
        .create(&request.dir)
        .map_err(failed("create", &request.dir))?;
    builder.recursive(false).create(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CheckpointError::Taken(path.to_owned()),
        _ => failed("create", path)(error),
    })?;
    let filled = fill(path, &request.config);
    if filled.is_err() {
        remove_failed(path);
    }
    filled
}

fn remove_failed(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "a failed checkpoint leaves files behind");
    }
}

fn fill(path: &Path, config: &CheckpointConfig) -> Result<PathBuf, CheckpointError> {
    let work = path.join(WORK_DIR);
    fs::create_dir(&work).map_err(failed("create", &work))?;
    write_config(path, config)?;
    let settings = work.join(CRIU_CONFIG_FILE);
    fs::write(&settings, external(&config.pipes)).map_err(failed("write", &settings))?;
    Ok(settings)
}

/// All checkpoints in a directory, in the order of their names. One whose config.json cannot be
/// read is left out, and logged.
pub async fn list(disks: &Disks, dir: &Path) -> Result<Vec<CheckpointConfig>, CheckpointError> {
    let mut found = Vec::new();
    for path in disks.run("list", dir, entries).await?? {
        // Each by itself: any of them may be a link to anywhere.
        match disks.run("read", &path.join(CONFIG_FILE), read_config).await? {
            Ok(config) => found.push(config),
            Err(CheckpointError::NotFound(_)) => {}
            Err(error) => tracing::warn!(%error, "not listed"),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("list", dir))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    paths.map_err(failed("list", dir))
}

/// Removes a checkpoint.
pub async fn delete(disks: &Disks, dir: &Path, name: &str) -> Result<(), CheckpointError> {
    let CheckpointImage { path, .. } = CheckpointImage::find(disks, dir, name).await?;
    let remove = |path: &Path| {
        require_checkpoint(path)?;
        fs::remove_dir_all(path).map_err(failed("remove", path))
    };
    disks.run("remove", &path, remove).await?
}

/// A caller may name any directory: one is removed only if it is surely a checkpoint and has nothing else in it,
/// whichever tool made it.
fn require_checkpoint(path: &Path) -> Result<(), CheckpointError> {
    let refuse = |why: String| CheckpointError::NotACheckpoint { path: path.to_owned(), why };
    let metadata = fs::symlink_metadata(path).map_err(failed("examine", path))?;
    if !metadata.is_dir() {
        return Err(refuse("it is a link".to_owned()));
    }
    let config = path.join(CONFIG_FILE);
    let text = read_regular(&config, MAX_CONFIG)
        .map_err(|problem| CheckpointError::Config { path: config.clone(), problem })?;
    let written: Value = serde_json::from_slice(&text)
        .map_err(|cause| CheckpointError::Damaged { path: config.clone(), cause })?;
    if let Some(field) = FIELDS.into_iter().find(|field| written.get(field).is_none()) {
        return Err(refuse(format!("its {CONFIG_FILE} does not have {field:?}")));
    }
    let mut has_image = false;
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(failed("examine", &entry.path()))?;
        let known =
            if name == WORK_DIR { kind.is_dir() } else { is_images(&name) && !kind.is_dir() };
        if !known {
            return Err(refuse(format!("it has {name:?}")));
        }
        has_image |= name != CONFIG_FILE;
    }
    if has_image { Ok(()) } else { Err(refuse("it has no image".to_owned())) }
}

/// What containerd and its clients write into a checkpoint's config.json, too.
const FIELDS: [&str; 6] = ["created", "name", "tcp", "unixSockets", "shell", "exit"];

/// Files that CRIU and runtimes leave in a checkpoint, and its config.json: see criu(8) and "Images"
/// in CRIU's wiki.
fn is_images(name: &str) -> bool {
    [CONFIG_FILE, "descriptors.json", "parent"].contains(&name)
        || name.starts_with("stats-")
        || [".img", ".log"].iter().any(|end| name.ends_with(end))
}

fn read_config(path: &Path) -> Result<CheckpointConfig, CheckpointError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let text = read_regular(path, MAX_CONFIG).map_err(|problem| match problem {
        ReadError::Io(error) if [NotFound, NotADirectory].contains(&error.kind()) => {
            CheckpointError::NotFound(path.parent().unwrap_or(path).to_owned())
        }
        ReadError::Io(error) => failed("read", path)(error),
        problem => CheckpointError::Config { path: path.to_owned(), problem },
    })?;
    serde_json::from_slice(&text)
        .map_err(|cause| CheckpointError::Damaged { path: path.to_owned(), cause })
}

/// With a `created` time, as containerd writes it.
fn write_config(checkpoint: &Path, config: &CheckpointConfig) -> Result<(), CheckpointError> {
    #[derive(Serialize)]
    struct File<'a> {
        created: String,
        #[serde(flatten)]
        config: &'a CheckpointConfig,
    }
    let path = checkpoint.join(CONFIG_FILE);
    let created = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let text = serde_json::to_vec(&File { created, config })
        .map_err(|cause| CheckpointError::Damaged { path: path.clone(), cause })?;
    fs::write(&path, text).map_err(failed("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_a_checkpoint_if_it_says_how_it_was_made() {
        let disks = Disks::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = CheckpointConfig {
            name: "b".to_owned(),
            tcp: true,
            empty_ns: vec!["net".to_owned()],
            ..CheckpointConfig::default()
        };
        for name in ["b", "not-one"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        write_config(&dir.path().join("b"), &config).unwrap();
        assert_eq!(config.options(), ["--tcp-established", "--empty-ns=net"]);
        assert_eq!(list(&disks, dir.path()).await.unwrap(), [config]);

        let missing = delete(&disks, dir.path(), "not-one").await.unwrap_err();
        assert!(matches!(missing, CheckpointError::NotFound(_)), "{missing}");
        let bare = delete(&disks, dir.path(), "b").await.unwrap_err();
        assert!(matches!(bare, CheckpointError::NotACheckpoint { .. }), "{bare}");
        fs::create_dir(dir.path().join("b").join(WORK_DIR)).unwrap();
        delete(&disks, dir.path(), "b").await.unwrap();
        assert_eq!(list(&disks, dir.path()).await.unwrap(), []);
        assert_eq!(list(&disks, &dir.path().join("nowhere")).await.unwrap(), []);
    }
}
