//! Where a runtime keeps its containers: a directory for each.

use std::path::{Path, PathBuf};

/// The root that its arguments name, else the one that runtimes of its name use, see runc(8) and
/// crun(1).
pub(super) fn find(args: &[String], program: &Path) -> PathBuf {
    given(args).unwrap_or_else(|| Path::new("/run").join(program.file_name().unwrap_or_default()))
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
            find(&args, Path::new("/usr/bin/crun"))
        };
        assert_eq!(root_of(&[]), Path::new("/run/crun"));
        assert_eq!(root_of(&["--debug", "--root", "/a"]), Path::new("/a"));
        assert_eq!(root_of(&["--root=/b", "--debug"]), Path::new("/b"));
        assert_eq!(root_of(&["-root", "/c"]), Path::new("/c"));
        assert_eq!(root_of(&["--root=/b", "--root", "/d"]), Path::new("/d"));
    }
}
