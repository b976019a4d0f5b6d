//! Images at a path of their caller's own, with nothing beside them but what a restore has to know.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use gantry_disk::{Disks, ReadError, read_regular};
use gantry_domain::ContainerId;
use serde::{Deserialize, Serialize};

use super::{CRIU_CONFIG_FILE, CheckpointError, MAX_CONFIG, OuterPipe, WORK_DIR, failed};
use crate::cli::{OciRuntime, Runtimes};

/// How the image was made, beside it. An image that another server has made has none.
const OPTIONS_FILE: &str = "gantry.json";

/// CRIU writes it into every image.
const INVENTORY: &str = "inventory.img";

/// How an image is, or was, made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageOptions {
    /// End the container with it.
    #[serde(skip)]
    pub exit: bool,
    /// Open TCP connections are part of it.
    pub tcp: bool,
    /// Unix sockets with an end outside of the container are part of it.
    pub unix_sockets: bool,
    /// The first process may be the leader of a session of a terminal outside.
    pub terminal: bool,
    /// Locks of files are part of it.
    pub file_locks: bool,
    /// Namespaces whose content is not part of it: `network`.
    pub empty_namespaces: Vec<String>,
    /// What happens to cgroups, as CRIU names it: `soft`, `full`, `strict`; empty for the runtime's default.
    pub cgroups_mode: String,
    /// Pipes of the caller that the first process writes to. Filled in when the image is made.
    pub pipes: Vec<OuterPipe>,
}

impl ImageOptions {
    /// The options of a runtime's `checkpoint` and `restore` alike.
    fn words(&self) -> Vec<String> {
        let flags = [
            (self.tcp, "--tcp-established"),
            (self.unix_sockets, "--ext-unix-sk"),
            (self.terminal, "--shell-job"),
            (self.file_locks, "--file-locks"),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned());
        let namespaces = self.empty_namespaces.iter().map(|name| format!("--empty-ns={name}"));
        let mut words: Vec<String> = flags.chain(namespaces).collect();
        if !self.cgroups_mode.is_empty() {
            words.push(format!("--manage-cgroups-mode={}", self.cgroups_mode));
        }
        words
    }
}

/// An image that is to be made.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Whose it is.
    pub container: ContainerId,
    /// Host pid of its first process.
    pub init: u32,
    /// Its directory: empty, or not there.
    pub path: PathBuf,
    /// For CRIU's logs; if none is given, they are removed once the image is made.
    pub work: Option<PathBuf>,
    /// How it is to be made.
    pub options: ImageOptions,
}

/// An image that is there.
#[derive(Debug, Clone)]
pub struct Image {
    path: PathBuf,
    work: PathBuf,
    options: ImageOptions,
}

impl Image {
    /// Looks for an image. `work` is for CRIU's logs of the restore.
    pub async fn find(disks: &Disks, path: &Path, work: &Path) -> Result<Self, CheckpointError> {
        let options = disks.run("read", path, read).await??;
        Ok(Self { path: path.to_owned(), work: work.to_owned(), options })
    }

    /// Makes the directory for CRIU's logs, which may be there.
    pub async fn make_work_dir(&self, disks: &Disks) -> Result<(), CheckpointError> {
        let make = |work: &Path| {
            let mut dirs = fs::DirBuilder::new();
            dirs.mode(0o700).recursive(true).create(work).map_err(failed("create", work))
        };
        disks.run("create", &self.work, make).await?
    }

    /// See [`super::CheckpointImage::criu_config`].
    pub fn criu_config(&self) -> String {
        super::inherited(&self.options.pipes)
    }

    /// The options of `restore`.
    pub fn restore_options(&self) -> Vec<String> {
        let mut words = self.options.words();
        words.push(format!("--image-path={}", self.path.display()));
        words.push(format!("--work-path={}", self.work.display()));
        words
    }
}

fn read(path: &Path) -> Result<ImageOptions, CheckpointError> {
    fs::metadata(path.join(INVENTORY)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            CheckpointError::NotFound(path.to_owned())
        }
        _ => failed("examine", path)(error),
    })?;
    let file = path.join(OPTIONS_FILE);
    match read_regular(&file, MAX_CONFIG) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|cause| CheckpointError::Damaged { path: file, cause }),
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(ImageOptions::default())
        }
        Err(problem) => Err(CheckpointError::Config { path: file, problem }),
    }
}

/// Makes an image. A failed one leaves nothing but what its caller has made.
pub async fn create_at(
    disks: &Disks,
    runtimes: &Runtimes,
    runtime: &OciRuntime,
    mut new: NewImage,
) -> Result<(), CheckpointError> {
    let init = new.init;
    // Where these are mounted may hang just as well.
    let find = move |_: &Path| OuterPipe::of_process(init);
    new.options.pipes = disks.run("examine", Path::new("/proc"), find).await?;
    let NewImage { container, path, work, options, .. } = new;
    let own_work = path.join(WORK_DIR);
    let mut words = options.words();
    words.push(format!("--image-path={}", path.display()));
    words.push(format!("--work-path={}", work.as_deref().unwrap_or(&own_work).display()));
    if !options.exit {
        words.push("--leave-running".to_owned());
    }
    let is_new = disks.run("write", &path, move |path| prepare(path, &options)).await??;
    let settings = own_work.join(CRIU_CONFIG_FILE);
    let made = runtimes.checkpoint(runtime, &container, &words, &settings).await;
    let is_made = made.is_ok();
    let clean = move |path: &Path| {
        let cleaned = match is_made {
            true => fs::remove_dir_all(path.join(WORK_DIR)),
            false => remove(path, is_new),
        };
        if let Err(error) = cleaned {
            tracing::warn!(path = %path.display(), %error, "a checkpoint leaves files behind");
        }
    };
    disks.run("clean", &path, clean).await?;
    Ok(made?)
}

/// Makes everything that must exist before the image. Returns whether the directory is new.
fn prepare(path: &Path, options: &ImageOptions) -> Result<bool, CheckpointError> {
    let is_new = !path.try_exists().map_err(failed("look for", path))?;
    let mut dirs = fs::DirBuilder::new();
    dirs.mode(0o700).recursive(true).create(path).map_err(failed("create", path))?;
    // Of two images in one directory neither could be restored.
    if fs::read_dir(path).map_err(failed("list", path))?.next().is_some() {
        return Err(CheckpointError::Taken(path.to_owned()));
    }
    if let Err(error) = fill(path, options) {
        if let Err(error) = remove(path, is_new) {
            tracing::warn!(path = %path.display(), %error, "a failed checkpoint leaves files behind");
        }
        return Err(error);
    }
    Ok(is_new)
}

fn fill(path: &Path, options: &ImageOptions) -> Result<(), CheckpointError> {
    let work = path.join(WORK_DIR);
    fs::create_dir(&work).map_err(failed("create", &work))?;
    let settings = work.join(CRIU_CONFIG_FILE);
    fs::write(&settings, super::external(&options.pipes)).map_err(failed("write", &settings))?;
    let file = path.join(OPTIONS_FILE);
    let text = serde_json::to_vec(options)
        .map_err(|cause| CheckpointError::Damaged { path: file.clone(), cause })?;
    fs::write(&file, text).map_err(failed("write", &file))
}

/// Removes what was written into a directory that was empty, and the directory if it is new.
fn remove(path: &Path, is_new: bool) -> io::Result<()> {
    if is_new {
        return fs::remove_dir_all(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_image_is_restored_as_it_was_made() {
        let disks = Disks::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/image");
        let missing = Image::find(&disks, &path, Path::new("/work")).await.unwrap_err();
        assert!(matches!(missing, CheckpointError::NotFound(_)), "{missing}");
        let options = ImageOptions {
            exit: true,
            tcp: true,
            unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned()],
            cgroups_mode: "soft".to_owned(),
            pipes: vec![OuterPipe { fd: 1, key: "a:b".to_owned() }],
        };
        assert!(prepare(&path, &options).unwrap());
        let taken = prepare(&path, &options).unwrap_err();
        assert!(matches!(taken, CheckpointError::Taken(_)), "{taken}");
        fs::write(path.join(INVENTORY), "").unwrap();
        let found = Image::find(&disks, &path, Path::new("/work")).await.unwrap();
        assert_eq!(found.options, ImageOptions { exit: false, ..options });
        let image = format!("--image-path={}", path.display());
        assert_eq!(
            found.restore_options(),
            [
                "--tcp-established",
                "--ext-unix-sk",
                "--shell-job",
                "--file-locks",
                "--empty-ns=network",
                "--manage-cgroups-mode=soft",
                &image,
                "--work-path=/work",
            ]
        );
        assert_eq!(found.criu_config(), "inherit-fd fd[1]:file[a:b]\n");
        remove(&path, true).unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_image_of_somebody_else_has_no_options() {
        let disks = Disks::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(INVENTORY), "").unwrap();
        let found = Image::find(&disks, dir.path(), Path::new("/work")).await.unwrap();
        assert_eq!(found.options, ImageOptions::default());
        fs::write(dir.path().join(OPTIONS_FILE), "{").unwrap();
        let damaged = Image::find(&disks, dir.path(), Path::new("/work")).await.unwrap_err();
        assert!(matches!(damaged, CheckpointError::Damaged { .. }), "{damaged}");
    }

    #[test]
    fn a_directory_that_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!prepare(dir.path(), &ImageOptions::default()).unwrap());
        remove(dir.path(), false).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
