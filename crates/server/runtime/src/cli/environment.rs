//! The environment of every runtime call, the server's own and those that a shim makes.
//!
//! It is chosen, not inherited: a runtime that inherits the address of the server's service manager
//! (`NOTIFY_SOCKET`) takes the container for a unit, and one that finds `XDG_RUNTIME_DIR` in one
//! call and not in the next looks for the container in two places.

use std::{collections::BTreeMap, ffi::OsString, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names one more configuration file, see criu(8).
pub const CRIU_CONFIG_VARIABLE: &str = "CRIU_CONFIG_FILE";

/// Where runtimes and what they call are looked for, if the server was started without a PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a runtime of a user other than root needs: where it keeps its state (runc(8), crun(1),
/// youki), and how it reaches the user's systemd. Root's is at a fixed place; crun would follow
/// root's login there.
const OF_USERS: [&str; 3] = ["XDG_RUNTIME_DIR", "HOME", "DBUS_SESSION_BUS_ADDRESS"];

/// Those that decide where a runtime keeps its containers, if its arguments do not: the first for
/// runc and crun, the second for youki.
const OF_ROOT: [&str; 2] = ["XDG_RUNTIME_DIR", "HOME"];

/// Variables that are never passed on: those that a service manager sets for the server alone (sd_notify(3),
/// sd_listen_fds(3), sd_watchdog_enabled(3)), those that runc sets for itself, and those that are set here for a
/// single call.
const NEVER: [&str; 8] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    CRIU_CONFIG_VARIABLE,
];
const NEVER_BEGINNING: &str = "_LIBCONTAINER_";

/// One more variable, as configured: `NAME` passes the server's own value on, if it has one, and
/// `NAME=VALUE` sets another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    name: String,
    value: Option<String>,
}

/// Why something cannot be a variable of a runtime's environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BadVariable {
    #[error("{0:?} is not NAME or NAME=VALUE")]
    Malformed(String),
    #[error("{0} is meant for one process only and is never passed on")]
    Never(String),
}

impl FromStr for Variable {
    type Err = BadVariable;

    fn from_str(text: &str) -> Result<Self, BadVariable> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || text.contains('\0') {
            return Err(BadVariable::Malformed(text.to_owned()));
        }
        if NEVER.contains(&name) || name.starts_with(NEVER_BEGINNING) {
            return Err(BadVariable::Never(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

/// The variables that decide where a runtime keeps its containers, as they were when it made a container. With
/// others it does not find that container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootVariables(BTreeMap<String, String>);

impl RootVariables {
    /// The directory of a user's runtimes for files that end with the user's last session.
    pub(super) fn runtime_dir(&self) -> Option<&str> {
        self.0.get(OF_ROOT[0]).map(String::as_str).filter(|dir| !dir.is_empty())
    }
}

/// The environment of every runtime call.
#[derive(Clone, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The environment that follows from the server's own, at its start.
    pub fn of_server(more: &[Variable]) -> Self {
        Self::new(|name| std::env::var_os(name), nix::unistd::geteuid().is_root(), more)
    }

    fn new(inherited: impl Fn(&str) -> Option<OsString>, is_root: bool, more: &[Variable]) -> Self {
        let own = |name: &str| match inherited(name)?.into_string() {
            Ok(value) => Some(value),
            // It could not be sent to a shim: records are UTF-8.
            Err(value) => {
                tracing::warn!(name, ?value, "a variable that is not UTF-8 is not passed on");
                None
            }
        };
        let mut environment = Self::default();
        environment.set("PATH", own("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned()));
        let of_users = OF_USERS.iter().filter(|_| !is_root);
        for (name, value) in of_users.filter_map(|name| Some((name, own(name)?))) {
            environment.set(name, value);
        }
        for Variable { name, value } in more {
            if let Some(value) = value.clone().or_else(|| own(name)) {
                environment.set(name, value);
            }
        }
        environment
    }

    fn set(&mut self, name: &str, value: String) {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), value));
    }

    /// Where programs are looked for.
    pub(super) fn path(&self) -> &str {
        let path = self.0.iter().find(|(name, _)| name == "PATH");
        path.map_or(DEFAULT_PATH, |(_, path)| path)
    }

    /// The variables for a container that is made now.
    pub(crate) fn root_variables(&self) -> RootVariables {
        let of_root = self.0.iter().filter(|(name, _)| OF_ROOT.contains(&name.as_str()));
        RootVariables(of_root.cloned().collect())
    }

    /// The variables for a container that was made with `root`, `NAME=VALUE`.
    pub fn lines<'a>(&'a self, root: &'a RootVariables) -> impl Iterator<Item = String> + 'a {
        let others = self.0.iter().filter(|(name, _)| !OF_ROOT.contains(&name.as_str()));
        let all = others.map(|(name, value)| (name, value)).chain(&root.0);
        all.map(|(name, value)| format!("{name}={value}"))
    }
}

/// Names only: a value may be a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_A_UNIT: [(&str, &str); 7] = [
        ("PATH", "/bin"),
        ("NOTIFY_SOCKET", "/run/systemd/notify"),
        ("LISTEN_FDS", "1"),
        ("WATCHDOG_USEC", "1"),
        ("XDG_RUNTIME_DIR", "/run/user/0"),
        ("HOME", "/root"),
        ("PROXY", "p"),
    ];

    fn environment(is_root: bool, more: &[&str]) -> Vec<String> {
        let more: Vec<Variable> = more.iter().map(|text| text.parse().unwrap()).collect();
        let inherited = |wanted: &str| {
            OF_A_UNIT.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into())
        };
        let environment = Environment::new(inherited, is_root, &more);
        environment.lines(&environment.root_variables()).collect()
    }

    #[test]
    fn root_gives_its_runtimes_a_path_and_what_is_configured() {
        assert_eq!(environment(true, &[]), ["PATH=/bin"]);
        let more = ["PROXY", "ABSENT", "OWN=a=b", "PATH=/opt"];
        assert_eq!(environment(true, &more), ["PROXY=p", "OWN=a=b", "PATH=/opt"]);
        assert_eq!(environment(true, &["XDG_RUNTIME_DIR"])[1], "XDG_RUNTIME_DIR=/run/user/0");
    }

    #[test]
    fn runtimes_of_users_get_the_variables_that_show_their_state() {
        assert_eq!(
            environment(false, &[]),
            ["PATH=/bin", "HOME=/root", "XDG_RUNTIME_DIR=/run/user/0"]
        );
    }

    #[test]
    fn a_container_keeps_the_variables_of_its_root() {
        let with = |name: &str, value: &str| {
            let variable = Variable { name: name.to_owned(), value: Some(value.to_owned()) };
            Environment::new(|_| None, true, &[variable])
        };
        let earlier = with("XDG_RUNTIME_DIR", "/run/user/1").root_variables();
        assert_eq!(earlier.runtime_dir(), Some("/run/user/1"));
        let kept = serde_json::to_string(&earlier).unwrap();
        assert_eq!(serde_json::from_str::<RootVariables>(&kept).unwrap(), earlier);
        for now in [with("XDG_RUNTIME_DIR", "/run/user/2"), Environment::new(|_| None, true, &[])] {
            let lines: Vec<String> = now.lines(&earlier).collect();
            assert_eq!(lines[1..], ["XDG_RUNTIME_DIR=/run/user/1"]);
        }
        // Made without the variable, it is found without it.
        let now = with("XDG_RUNTIME_DIR", "/run/user/2");
        assert_eq!(now.lines(&with("A", "b").root_variables()).count(), 1);
    }

    #[test]
    fn without_a_path_there_is_one_all_the_same() {
        let environment = Environment::new(|_| None, true, &[]);
        assert_eq!(environment.path(), DEFAULT_PATH);
        assert_eq!(environment.lines(&RootVariables::default()).count(), 1);
    }

    #[test]
    fn variables_of_the_service_manager_are_never_passed_on() {
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS=1", "WATCHDOG_USEC", "_LIBCONTAINER_STATEDIR"] {
            assert!(matches!(name.parse::<Variable>(), Err(BadVariable::Never(_))), "{name}");
        }
        for text in ["", "=x", "A\0B"] {
            assert!(matches!(text.parse::<Variable>(), Err(BadVariable::Malformed(_))), "{text}");
        }
    }
}
