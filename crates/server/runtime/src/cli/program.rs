//! Finds a runtime. The errors for one that cannot be run are worded as containerd 0.2's.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_disk::{DiskError, Disks};
use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};
use tokio::time::timeout;

use super::{Environment, OciError, OciRuntime, Runtimes};

/// How long the lookup in one directory of PATH may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);

const LOOK_FOR: &str = "look for";

impl Runtimes {
    /// Finds a runtime by name in PATH, or by path. `by_caller` says who has named it.
    pub fn find(
        &self,
        name: &str,
        args: &[String],
        by_caller: bool,
    ) -> Result<OciRuntime, OciError> {
        let program = self.environment.find(name, by_caller)?;
        Ok(self.found(program, name, args, by_caller))
    }

    fn found(&self, program: PathBuf, name: &str, args: &[String], by_caller: bool) -> OciRuntime {
        let (name, args) = (name.to_owned(), args.to_vec());
        let variables = self.environment.root_variables();
        OciRuntime { name, program, args, variables, by_caller, bundle: None }
    }

    /// As [`Self::find`], on threads where nobody else waits for a file system that does not answer. A directory of
    /// PATH that does not answer is skipped.
    pub async fn find_aside(
        &self,
        disks: &Disks,
        name: &str,
        args: &[String],
        by_caller: bool,
    ) -> Result<Result<OciRuntime, OciError>, DiskError> {
        if name.contains('/') {
            let (runtimes, path) = (self.clone(), PathBuf::from(name));
            let (name, args) = (name.to_owned(), args.to_vec());
            let find = move |_: &Path| runtimes.find(&name, &args, by_caller);
            return disks.run(LOOK_FOR, &path, find).await;
        }
        for place in self.environment.places(name) {
            let look = disks.run(LOOK_FOR, &place, |place| executable(place).ok());
            match timeout(LOOK_DEADLINE, look).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(program))) => {
                    return Ok(Ok(self.found(program, name, args, by_caller)));
                }
                Ok(Err(error)) => tracing::warn!(%error, "an entry of PATH is passed over"),
                Err(_) => {
                    let place = place.display();
                    tracing::warn!(%place, "an entry of PATH does not answer, and is passed over");
                }
            }
        }
        Ok(Err(OciError::NotOnPath { runtime: name.to_owned(), by_caller }))
    }
}

impl Environment {
    /// Where a program of this name may be, in the order of PATH.
    fn places(&self, name: &str) -> Vec<PathBuf> {
        std::env::split_paths(self.path()).map(|dir| dir.join(name)).collect()
    }

    /// Finds the program of a runtime in the PATH of all runtimes.
    pub fn find(&self, name: &str, by_caller: bool) -> Result<PathBuf, OciError> {
        if name.contains('/') {
            executable(Path::new(name)).map_err(|cause| {
                let program = PathBuf::from(name);
                OciError::Exec { program, by_caller, cause }
            })
        } else {
            let found = self.places(name).iter().find_map(|place| executable(place).ok());
            found.ok_or_else(|| OciError::NotOnPath { runtime: name.to_owned(), by_caller })
        }
    }
}

/// The program's absolute path, as a shim has another working directory; or the error that execve(2) would
/// give, except errors that depend on the file's content.
fn executable(program: &Path) -> io::Result<PathBuf> {
    let metadata = program.metadata()?;
    if !metadata.is_file() {
        return Err(Errno::EACCES.into());
    }
    access(program, AccessFlags::X_OK)?;
    if program.is_absolute() { Ok(program.to_owned()) } else { std::path::absolute(program) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

    use super::super::InMemory;
    use super::*;
    use gantry_disk::OwnFiles;
    use gantry_kernel::Reaper;

    fn find(path: &str, name: &str) -> Result<PathBuf, String> {
        let variable = format!("PATH={path}").parse().unwrap();
        let runtimes = Runtimes {
            reaper: Reaper::default(),
            deadline: Duration::ZERO,
            environment: Environment::of_server(&[variable]),
            in_memory: InMemory::never(),
            files: OwnFiles::new().unwrap(),
            calls: Arc::default(),
        };
        match runtimes.find(name, &[], true) {
            Ok(runtime) => Ok(runtime.program),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_runtime_is_an_executable_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (first, second) = (path("first"), path("second"));
        for (file, mode) in [("first/runc", 0o644), ("second/runc", 0o755)] {
            fs::create_dir_all(Path::new(&path(file)).parent().unwrap()).unwrap();
            fs::write(path(file), "").unwrap();
            fs::set_permissions(path(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(path("first/crun")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();

        let both = format!("{first}:{second}");
        assert_eq!(find(&both, "runc").unwrap(), Path::new(&path("second/runc")));
        assert_eq!(find("/", &path("second/runc")).unwrap(), Path::new(&path("second/runc")));
        for name in ["crun", "no-such"] {
            let words = format!("exec: {name:?}: executable file not found in $PATH");
            assert_eq!(find(&both, name).unwrap_err(), format!("oci runtime error: {words}"));
        }
        for (name, words) in [
            ("no-such", "no such file or directory"),
            ("first", "permission denied"),
            ("first/runc", "permission denied"),
            ("second/runc/x", "not a directory"),
            ("loop", "too many levels of symbolic links"),
            (&"x".repeat(300), "file name too long"),
        ] {
            let path = path(name);
            let words = format!("oci runtime error: fork/exec {path}: {words}");
            assert_eq!(find(&both, &path).unwrap_err(), words);
        }
    }
}
