//! `containerd oci-hook -- PROGRAM ARGUMENTS`: a hook of the OCI runtime specification whose arguments and environment name
//! things of the container, as `ctr run --gpus` has it. The runtime's state arrives on standard input, `{{pid}}` and so on
//! are replaced, and the program takes over.

mod template;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde::{Deserialize, de::DeserializeOwned};
use template::{Unrenderable, render};

use crate::logging::say;

/// The longest state or config.json in bytes.
const LONGEST: u64 = 64 << 20;

/// The runtime's state, as far as templates name it.
#[derive(Debug, Default, Deserialize)]
struct State {
    #[serde(default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    bundle: PathBuf,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What matters of config.json.
#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    root: Option<Root>,
}

#[derive(Debug, Default, Deserialize)]
struct Root {
    #[serde(default)]
    path: PathBuf,
}

/// Why the program was not executed.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("cannot read the container's state from standard input: {0}")]
    State(serde_json::Error),
    #[error("cannot open {path}: {cause}", path = .0.display(), cause = .1)]
    Open(PathBuf, io::Error),
    #[error("cannot read {path}: {cause}", path = .0.display(), cause = .1)]
    Spec(PathBuf, serde_json::Error),
    #[error("no program is named")]
    Nothing,
    #[error(transparent)]
    Template(#[from] Unrenderable),
    #[error("cannot execute {program:?}: {cause}")]
    Execute { program: OsString, cause: io::Error },
}

/// Becomes the program; returns only if that fails.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let error = become_program(words, io::stdin().lock());
    say(io::stderr(), &format!("containerd: oci-hook: {error}\n"));
    ExitCode::FAILURE
}

fn become_program(words: Vec<OsString>, state: impl Read) -> HookError {
    let command = State::read(state).and_then(|state| {
        let rootfs = state.rootfs()?;
        command(words, std::env::vars_os(), &|name, argument| state.value(&rootfs, name, argument))
    });
    match command {
        Ok(mut command) => {
            let cause = command.exec();
            HookError::Execute { program: command.get_program().to_owned(), cause }
        }
        Err(error) => error,
    }
}

/// The program with its arguments and environment, everything rendered.
fn command(
    words: Vec<OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
    value: &impl Fn(&str, Option<&str>) -> Option<String>,
) -> Result<Command, HookError> {
    let rendered = |text: OsString| match text.to_str() {
        Some(template) => render(template, value).map(OsString::from),
        None => Ok(text),
    };
    let mut words = words.into_iter().map(rendered);
    let program = words.next().ok_or(HookError::Nothing)??;
    #[expect(clippy::disallowed_methods, reason = "nothing is started: this process becomes it")]
    let mut command = Command::new(&program);
    command.args(words.collect::<Result<Vec<_>, _>>()?).env_clear();
    for (name, content) in env {
        command.env(name, rendered(content)?);
    }
    Ok(command)
}

impl State {
    fn read(from: impl Read) -> Result<Self, HookError> {
        json(from).map_err(HookError::State)
    }

    /// The path of the container's root file system.
    fn rootfs(&self) -> Result<PathBuf, HookError> {
        let path = self.bundle.join("config.json");
        let file = File::open(&path).map_err(|cause| HookError::Open(path.clone(), cause))?;
        let spec: Spec = json(file).map_err(|cause| HookError::Spec(path, cause))?;
        Ok(self.bundle.join(spec.root.unwrap_or_default().path))
    }

    /// What a template names, `None` if there is no such thing.
    fn value(&self, rootfs: &Path, name: &str, argument: Option<&str>) -> Option<String> {
        Some(match (name, argument) {
            ("id", None) => self.id.clone(),
            ("bundle", None) => self.bundle.to_string_lossy().into_owned(),
            ("rootfs", None) => rootfs.to_string_lossy().into_owned(),
            ("pid", None) => self.pid.to_string(),
            ("status", None) => self.status.clone(),
            ("annotation", Some(key)) => self.annotations.get(key).cloned().unwrap_or_default(),
            _ => return None,
        })
    }
}

/// The first JSON document.
fn json<T: DeserializeOwned>(from: impl Read) -> Result<T, serde_json::Error> {
    T::deserialize(&mut serde_json::Deserializer::from_reader(io::BufReader::new(
        from.take(LONGEST),
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STATE: &str = r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":17,
        "annotations":{"a.b/c":"x y"},"bundle":"BUNDLE"}"#;

    fn state(root: &str) -> (tempfile::TempDir, State) {
        let bundle = tempfile::tempdir().unwrap();
        let spec = format!(r#"{{"root":{{"path":"{root}","readonly":true}},"process":{{}}}}"#);
        fs::write(bundle.path().join("config.json"), spec).unwrap();
        let text = STATE.replace("BUNDLE", bundle.path().to_str().unwrap());
        (bundle, State::read(format!("{text}\n{{}}").as_bytes()).unwrap())
    }

    #[test]
    fn arguments_and_environment_name_things_of_the_container() {
        let (bundle, state) = state("rootfs");
        let rootfs = state.rootfs().unwrap();
        let words = [
            "/p",
            "--pid",
            "{{pid}}",
            "{{id}}:{{ status }}",
            "{{annotation \"a.b/c\"}}",
            "{{rootfs}}",
        ];
        let env = [("A".into(), "{{bundle}}/x".into())];
        let value = |name: &str, argument: Option<&str>| state.value(&rootfs, name, argument);
        let command = command(words.map(OsString::from).to_vec(), env.into_iter(), &value).unwrap();
        assert_eq!(command.get_program(), "/p");
        let of_root = bundle.path().join("rootfs");
        let expected = ["--pid", "17", "c1:creating", "x y", of_root.to_str().unwrap()];
        assert_eq!(command.get_args().collect::<Vec<_>>(), expected);
        let env: Vec<_> = command.get_envs().collect();
        let place = bundle.path().join("x").into_os_string();
        assert_eq!(env, [("A".as_ref(), Some(place.as_os_str()))]);
    }

    #[test]
    fn an_absolute_root_is_taken_as_it_is() {
        assert_eq!(state("/r").1.rootfs().unwrap(), Path::new("/r"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |words: &[&str], state: &str| {
            let words = words.iter().map(OsString::from).collect();
            become_program(words, state.as_bytes()).to_string()
        };
        assert!(error(&["/p"], "no").starts_with("cannot read the container's state"));
        let gone = error(&["/p"], r#"{"bundle":"/no/such"}"#);
        assert!(gone.starts_with("cannot open /no/such/config.json: "), "{gone}");
        let (bundle, _) = state("rootfs");
        let text = STATE.replace("BUNDLE", bundle.path().to_str().unwrap());
        assert_eq!(error(&[], &text), "no program is named");
        assert!(error(&["/p", "{{foo}}"], &text).contains("\"foo\""));
        assert!(error(&["/no/such"], &text).starts_with("cannot execute \"/no/such\": "));
    }
}
