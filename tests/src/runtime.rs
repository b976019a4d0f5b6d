//! The OCI runtimes that every test is run with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cgroup;

/// A runc-compatible runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// <https://github.com/opencontainers/runc>
    Runc,
    /// <https://github.com/containers/crun>
    Crun,
}

impl Runtime {
    /// Its name on `$PATH`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// Whether it is installed.
    #[must_use]
    pub fn is_installed(self) -> bool {
        Command::new(self.name()).arg("--version").output().is_ok()
    }

    /// Whether it has to be kept from seeing the second hierarchy of a hybrid host: crun takes
    /// the mere sight of it for a reason to refuse.
    #[must_use]
    pub fn needs_pure_v1(self) -> bool {
        self == Self::Crun && cgroup::is_hybrid()
    }

    /// Global arguments that put its state below `root`.
    #[must_use]
    pub fn arguments(self, root: &Path) -> Vec<String> {
        vec!["--root".to_owned(), root.to_str().expect("UTF-8").to_owned()]
    }

    /// Containers that it knows, by what it keeps on disk. It is what `list` reads, and a leftover
    /// that `list` cannot read counts too.
    #[must_use]
    pub fn list(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Removes a container by force; for cleaning up only.
    pub fn delete(self, root: &Path, id: &str) {
        let mut command = Command::new(self.name());
        let _ = command.args(self.arguments(root)).args(["delete", "--force", id]).output();
    }
}

/// Writes a runtime that does what `script` says before it becomes `runtime`; `$command` in it is
/// the sub-command it was called for.
#[must_use]
pub fn wrapper(directory: &Path, runtime: Runtime, script: &str) -> PathBuf {
    let path = directory.join(format!("{}-wrapper", runtime.name()));
    let finds_command = r#"
command=
for word; do
    case $word in
        create|run|start|exec|state|kill|delete|pause|resume|update|ps|checkpoint|restore)
            command=$word
            break;;
    esac
done
"#;
    let text = format!("#!/bin/sh\n{finds_command}\n{script}\nexec {} \"$@\"\n", runtime.name());
    write_script(&path, &text);
    path
}

/// A runtime that makes a container, and then hangs without having said so.
#[derive(Debug)]
pub struct HangingRuntime {
    /// The executable file.
    pub path: PathBuf,
    hangs: PathBuf,
    made: PathBuf,
}

impl HangingRuntime {
    /// Writes it into a directory.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(directory: &Path, runtime: Runtime) -> Self {
        let (hangs, made) = (directory.join("hangs"), directory.join("made"));
        let script = format!(
            r#"
case $command in create|run)
    if [ -e {hangs} ]; then
        count=$# skip=
        while [ "$count" -gt 0 ]; do
            word=$1 count=$((count - 1))
            shift
            case $skip$word in
                yes*) skip= ;;
                --pid-file) skip=yes ;;
                *) set -- "$@" "$word" ;;
            esac
        done
        {runtime} "$@" && : > {made}
        exec sleep 1000000
    fi ;;
esac"#,
            hangs = hangs.display(),
            made = made.display(),
            runtime = runtime.name(),
        );
        fs::write(&hangs, "").expect("write a file");
        Self { path: wrapper(directory, runtime, &script), hangs, made }
    }

    /// Whether the container is there.
    #[must_use]
    pub fn has_made(&self) -> bool {
        self.made.exists()
    }

    /// From now on it is as any other.
    ///
    /// # Panics
    /// When that cannot be noted.
    pub fn hang_no_more(&self) {
        fs::remove_file(&self.hangs).expect("remove a file");
    }
}

/// Writes an executable script.
///
/// # Panics
/// When it cannot be written.
pub fn write_script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    // Renamed into place: a file that a concurrent fork holds open for writing cannot be executed
    // (ETXTBSY), and the shell that writes it forks nothing.
    let temporary = path.with_extension("new");
    let quoted = temporary.to_str().expect("UTF-8");
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", "printf %s \"$1\" > \"$2\"", "sh", text, quoted]).status();
    assert!(status.expect("run sh").success());
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).expect("make executable");
    fs::rename(&temporary, path).expect("put the script into place");
}
