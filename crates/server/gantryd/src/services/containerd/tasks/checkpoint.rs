//! Checkpoints: what a caller wants of one, and where a task is restored from.

use std::path::PathBuf;

use gantry_api::containerd::{from_any, runc::CheckpointOptions, types::Descriptor};
use gantry_supervisor::ImageOptions;
use prost_types::Any;
use tonic::Status;

use crate::{rpc::BadField, services::path};

/// The annotation of a checkpoint that a task is created from, with the path of the image.
const RESTORE_FROM_PATH: &str = "RestoreFromPath";

/// Those of CRIU's modes (`--manage-cgroups`) that runc accepts.
const CGROUP_MODES: [&str; 4] = ["soft", "full", "strict", "ignore"];

/// An image that is to be made.
#[derive(Debug)]
pub(super) struct Wanted {
    /// `None` of one that is to be content.
    pub(super) path: Option<PathBuf>,
    /// For CRIU's logs.
    pub(super) work: Option<PathBuf>,
    pub(super) options: ImageOptions,
}

/// The image that is to be made of a task, by the options for a runtime of this name.
pub(super) fn wanted(options: Option<&Any>, runtime: &str) -> Result<Wanted, Status> {
    let empty = |any: &&Any| !any.type_url.is_empty() || !any.value.is_empty();
    let options = match options.filter(empty).map(from_any::<CheckpointOptions>) {
        None => CheckpointOptions::default(),
        Some(Ok(Some(options))) => options,
        Some(_) => {
            let problem = format!("invalid task checkpoint option for {runtime}");
            return Err(BadField::new("options", problem).into());
        }
    };
    let work = path::optional("options.work_path", &options.work_path)?;
    let path = path::optional("options.image_path", &options.image_path)?;
    if let Some(bad) = options.empty_namespaces.iter().find(|name| !is_word(name)) {
        let problem = format!("must be names of namespaces, as \"network\", is {bad:?}");
        return Err(BadField::new("options.empty_namespaces", problem).into());
    }
    let mode = options.cgroups_mode;
    if !mode.is_empty() && !CGROUP_MODES.contains(&mode.as_str()) {
        let problem = format!("must be one of {}, is {mode:?}", CGROUP_MODES.join(", "));
        return Err(BadField::new("options.cgroups_mode", problem).into());
    }
    let options = ImageOptions {
        exit: options.exit,
        tcp: options.open_tcp,
        unix_sockets: options.external_unix_sockets,
        terminal: options.terminal,
        file_locks: options.file_locks,
        empty_namespaces: options.empty_namespaces,
        cgroups_mode: mode,
        ..ImageOptions::default()
    };
    Ok(Wanted { path, work, options })
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// The directory of the image that a task is to be restored from, if the image is not content.
pub(super) fn image(checkpoint: &Descriptor) -> Result<Option<PathBuf>, BadField> {
    const FIELD: &str = "checkpoint.annotations.RestoreFromPath";
    let path = checkpoint.annotations.get(RESTORE_FROM_PATH);
    path.map(|path| path::absolute(FIELD, path)).transpose()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gantry_api::containerd::to_any;
    use tonic::Code;

    use super::*;

    fn of(options: &CheckpointOptions) -> Result<Wanted, Status> {
        wanted(Some(&to_any(options)), "io.containerd.runc.v2")
    }

    fn at(path: &str) -> CheckpointOptions {
        CheckpointOptions { image_path: path.to_owned(), ..CheckpointOptions::default() }
    }

    #[test]
    fn every_option_has_its_place() {
        let all = CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned()],
            cgroups_mode: "soft".to_owned(),
            work_path: "/w".to_owned(),
            ..at("/i")
        };
        let Wanted { path, work, options } = of(&all).unwrap();
        assert_eq!(
            (path.as_deref(), work.as_deref()),
            (Some(Path::new("/i")), Some(Path::new("/w")))
        );
        let expected = ImageOptions {
            exit: true,
            tcp: true,
            unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned()],
            cgroups_mode: "soft".to_owned(),
            pipes: Vec::new(),
        };
        assert_eq!(options, expected);
        assert_eq!(of(&at("/i")).unwrap().options, ImageOptions::default());
    }

    #[test]
    fn an_image_has_a_path_or_is_content() {
        for none in [None, Some(&Any::default())] {
            assert_eq!(wanted(none, "r").unwrap().path, None);
        }
        let exit = CheckpointOptions { exit: true, ..at("") };
        let wanted_with_exit = of(&exit).unwrap();
        assert!(wanted_with_exit.path.is_none() && wanted_with_exit.options.exit);
        for (bad, field) in [
            (at("i"), "options.image_path"),
            (at("/a/../i"), "options.image_path"),
            (CheckpointOptions { work_path: "w".to_owned(), ..at("/i") }, "options.work_path"),
            (
                CheckpointOptions { cgroups_mode: "--x".to_owned(), ..at("/i") },
                "options.cgroups_mode",
            ),
            (
                CheckpointOptions { empty_namespaces: vec!["-x".to_owned()], ..at("/i") },
                "options.empty_namespaces",
            ),
        ] {
            let error = of(&bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().starts_with(field), "{error:?}");
        }
        let other = Any { type_url: "other".to_owned(), value: Vec::new() };
        let error = wanted(Some(&other), "r").unwrap_err();
        assert_eq!(error.message(), "options: invalid task checkpoint option for r");
    }
}
