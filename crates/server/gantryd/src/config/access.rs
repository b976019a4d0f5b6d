//! The tables `[[listener]]` and `[[access]]` of the configuration file: further sockets, and who has which role.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use nix::unistd::{Group, User};
use serde::Deserialize;

use super::{Config, ConfigError, absolute, socket, value};
use crate::access::{self, Policy, Role};

/// For the owner and the group.
const DEFAULT_MODE: u32 = 0o660;

/// A socket as it is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    path: PathBuf,
    mode: Option<String>,
    group: Option<Name>,
    role: Option<Role>,
}

/// A rule as it is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    user: Option<Name>,
    group: Option<Name>,
    role: Role,
}

/// A user or a group.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a name or a number")]
enum Name {
    Id(u32),
    Name(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// A socket that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    /// The server's own, if it is not given.
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
}

impl Socket {
    /// With what is not given otherwise.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), mode: DEFAULT_MODE, user: None, group: None }
    }
}

impl Config {
    /// The sockets that are to be made where a service manager has passed those at `passed`: they stand for all of
    /// `listen`, and for what a `[[listener]]` has in the same place.
    pub(crate) fn sockets(&self, passed: &[&Path]) -> Vec<Socket> {
        let own = |path: &&PathBuf| self.listener.iter().all(|socket| socket.path != **path);
        let (user, group) = self.owner.unzip();
        let listen = self.listen.iter().filter(|_| passed.is_empty()).filter(own);
        let listen = listen.map(|path| Socket { user, group, ..Socket::at(path) });
        let further = self.listener.iter().filter(|socket| !passed.contains(&&*socket.path));
        listen.chain(further.cloned()).collect()
    }
}

/// The sockets of `[[listener]]`.
pub(super) fn sockets(given: &[Listener]) -> Result<Vec<Socket>, ConfigError> {
    let mut sockets: Vec<Socket> = Vec::new();
    for listener in given {
        let path = absolute("listener.path", socket("listener.path", &listener.path)?)?;
        if sockets.iter().any(|other| other.path == path) {
            return Err(value("listener.path", format!("{} is there twice", path.display())));
        }
        sockets.push(Socket {
            path,
            mode: listener.mode.as_deref().map(mode).transpose()?.unwrap_or(DEFAULT_MODE),
            user: None,
            group: listener.group.as_ref().map(|name| group("listener.group", name)).transpose()?,
        });
    }
    Ok(sockets)
}

/// As chmod(1) takes it.
fn mode(text: &str) -> Result<u32, ConfigError> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
    mode.ok_or_else(|| {
        value("listener.mode", format!("{text:?} is no mode of octal digits, such as \"0660\""))
    })
}

/// What the tables say about roles: `sockets` are those of `listeners`.
pub(super) fn policy(
    sockets: &[Socket],
    listeners: &[Listener],
    rules: &[Rule],
) -> Result<Policy, ConfigError> {
    let roles = sockets.iter().zip(listeners);
    let roles = roles.filter_map(|(socket, given)| Some((socket.path.clone(), given.role?)));
    let rules = rules.iter().map(Rule::resolved).collect::<Result<_, _>>()?;
    Ok(Policy { listeners: roles.collect(), rules })
}

impl Rule {
    fn resolved(&self) -> Result<access::Rule, ConfigError> {
        Ok(access::Rule {
            user: self.user.as_ref().map(|name| user("access.user", name)).transpose()?,
            group: self.group.as_ref().map(|name| group("access.group", name)).transpose()?,
            role: self.role,
        })
    }
}

fn user(key: &'static str, name: &Name) -> Result<u32, ConfigError> {
    resolve(key, "user", name, |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

fn group(key: &'static str, name: &Name) -> Result<u32, ConfigError> {
    resolve(key, "group", name, |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

/// The number of a name, from wherever this machine has its users (nsswitch.conf(5)).
fn resolve(
    key: &'static str,
    what: &str,
    given: &Name,
    find: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, ConfigError> {
    let name = match given {
        Name::Id(id) => return Ok(*id),
        Name::Name(name) => name,
    };
    match find(name) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(value(key, format!("there is no {what} {given}"))),
        Err(error) => Err(value(key, format!("cannot look up the {what} {given}: {error}"))),
    }
}

#[cfg(test)]
mod tests;
