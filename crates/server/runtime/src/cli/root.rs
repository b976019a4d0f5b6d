//! Where a runtime keeps its containers: a directory for each.

use std::path::{Path, PathBuf};

use super::OciRuntime;

impl OciRuntime {
    /// The root that its arguments name, else the one that runtimes of its name use, see runc(8) and
    /// crun(1).
    pub fn root(&self) -> PathBuf {
        self.root_of_user(nix::unistd::geteuid().is_root())
    }

    fn root_of_user(&self, is_root: bool) -> PathBuf {
        let name = self.program.file_name().unwrap_or_default();
        // The root directory of root's runc is fixed.
        let runtime_dir = self.variables.runtime_dir().filter(|_| !is_root || name == "crun");
        given(&self.args).unwrap_or_else(|| Path::new(runtime_dir.unwrap_or("/run")).join(name))
    }
}

/// The root that the arguments name.
pub(super) fn given(args: &[String]) -> Option<PathBuf> {
    let mut args = args.iter();
    let mut found = None;
    while let Some(arg) = args.next() {
        match arg.trim_start_matches('-').split_once('=') {
            Some(("root", path)) => found = Some(path.into()),
            None if arg.trim_start_matches('-') == "root" => {
                found = args.next().map(PathBuf::from);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_what_the_arguments_say() {
        let root_of = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(ToString::to_string).collect();
            OciRuntime::missing("/usr/bin/crun", &args).root()
        };
        assert_eq!(root_of(&[]), Path::new("/run/crun"));
        assert_eq!(root_of(&["--debug", "--root", "/a"]), Path::new("/a"));
        assert_eq!(root_of(&["--root=/b", "--debug"]), Path::new("/b"));
        assert_eq!(root_of(&["-root", "/c"]), Path::new("/c"));
        assert_eq!(root_of(&["--root=/b", "--root", "/d"]), Path::new("/d"));
    }

    #[test]
    fn users_have_theirs_where_their_session_is() {
        let root_of = |program: &str, is_root: bool| {
            let variables = serde_json::from_str(r#"{"XDG_RUNTIME_DIR":"/run/user/7"}"#).unwrap();
            let runtime = OciRuntime { variables, ..OciRuntime::missing(program, &[]) };
            runtime.root_of_user(is_root)
        };
        assert_eq!(root_of("/usr/bin/runc", false), Path::new("/run/user/7/runc"));
        assert_eq!(root_of("/usr/bin/runc", true), Path::new("/run/runc"));
        assert_eq!(root_of("/usr/bin/crun", true), Path::new("/run/user/7/crun"));
    }
}
