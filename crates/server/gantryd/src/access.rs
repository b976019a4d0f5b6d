//! Who may do what: the role of each client, by the socket that it has opened and by who it is. What a call needs
//! is in `rpc/permission`.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use gantry_kernel::peer_groups;
use serde::Deserialize;
use tokio::net::UnixStream;

/// What a client may do. Each role may do all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Reads what is there and what happens.
    Observer,
    /// Signals, freezes and thaws processes, changes limits, and ends their input.
    Operator,
    /// Everything, and so whatever root can do.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observer => "observer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// Who has opened a connection, and where: the kernel's answer, of the moment of connect(2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: Option<u32>,
    /// The group of the process, and its supplementary ones.
    pub(crate) groups: Vec<u32>,
    /// The pid, if the server can see that process.
    pub(crate) process: Option<u32>,
    /// The path of the socket.
    pub(crate) listener: PathBuf,
}

impl Identity {
    /// Of a connection to the socket at this path. A client that the kernel does not name is nobody.
    pub(crate) fn of(stream: &UnixStream, listener: &Path) -> Self {
        let listener = listener.to_owned();
        let Ok(peer) = stream.peer_cred() else { return Self { listener, ..Self::default() } };
        let further = peer_groups(stream).unwrap_or_else(|error| {
            tracing::warn!(%error, uid = peer.uid(), "a client's further groups are not known");
            Vec::new()
        });
        Self {
            user: Some(peer.uid()),
            groups: [vec![peer.gid()], further].concat(),
            // Zero is a process outside of the server's pid namespace.
            process: peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            listener,
        }
    }
}

/// Gives a role to some clients; each that is not given matches all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) role: Role,
}

impl Rule {
    fn matches(&self, who: &Identity) -> bool {
        self.user.is_none_or(|user| who.user == Some(user))
            && self.group.is_none_or(|group| who.groups.contains(&group))
    }
}

/// Who has which role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Sockets with a role: it is that of everybody who opens them, whatever the rules say.
    pub(crate) listeners: Vec<(PathBuf, Role)>,
    /// Of all other sockets. Without rules, whoever can open these is an admin.
    pub(crate) rules: Vec<Rule>,
}

impl Policy {
    /// This policy, for a server that began with another one: its sockets stay open until it ends, and those that are
    /// not configured any more keep their roles, instead of being left to the rules.
    pub(crate) fn after(mut self, earlier: &Self, is_configured: impl Fn(&Path) -> bool) -> Self {
        let left = earlier.listeners.iter().filter(|(path, _)| !is_configured(path));
        self.listeners.extend(left.cloned());
        self
    }

    /// Logs those of the sockets at these paths that make every user an admin.
    pub(crate) fn warn_of_open(&self, sockets: &[PathBuf]) {
        for path in self.open(sockets) {
            let path = path.display();
            tracing::warn!(%path, "every user can open this socket, which has no role, and become root");
        }
    }

    fn open<'a>(&self, sockets: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
        sockets.iter().filter(|path| is_everybodys(path) && self.makes_admins_at(path))
    }

    /// Whether whoever opens the socket at this path is an admin.
    fn makes_admins_at(&self, path: &Path) -> bool {
        self.role(&Identity { listener: path.to_owned(), ..Identity::default() })
            == Some(Role::Admin)
    }

    /// The role of a client: the highest that a rule gives, if any does.
    pub(crate) fn role(&self, who: &Identity) -> Option<Role> {
        if let Some((_, role)) = self.listeners.iter().find(|(path, _)| *path == who.listener) {
            return Some(*role);
        }
        if self.rules.is_empty() {
            return Some(Role::Admin);
        }
        self.rules.iter().filter(|rule| rule.matches(who)).map(|rule| rule.role).max()
    }
}

/// Whether every user may open the socket at this path, its directories aside. One without a path, which a service
/// manager may pass, has no permissions either (unix(7), "Abstract sockets").
fn is_everybodys(path: &Path) -> bool {
    path.as_os_str().is_empty() || fs::metadata(path).is_ok_and(|file| file.mode() & 0o002 != 0)
}

/// The policy that is in force. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Access(Arc<RwLock<Arc<Policy>>>);

impl Access {
    pub(crate) fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// The role of a client, for a call that begins now.
    pub(crate) fn role(&self, who: &Identity) -> Option<Role> {
        let policy = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        policy.role(who)
    }

    /// Changes what calls from now on are judged by.
    pub(crate) fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ROOT: u32 = 0;
    const WEB: u32 = 33;
    const STAFF: u32 = 50;

    fn rule(user: Option<u32>, group: Option<u32>, role: Role) -> Rule {
        Rule { user, group, role }
    }

    fn who(user: u32, groups: &[u32]) -> Identity {
        Identity { user: Some(user), groups: groups.to_vec(), ..Identity::default() }
    }

    #[test]
    fn without_a_policy_everybody_is_an_admin() {
        let policy = Policy::default();
        for who in [who(ROOT, &[ROOT]), who(WEB, &[]), Identity::default()] {
            assert_eq!(policy.role(&who), Some(Role::Admin));
        }
        assert!(policy.makes_admins_at(Path::new("/s")));
    }

    #[test]
    fn the_highest_rule_that_matches_decides() {
        let rules = vec![
            rule(Some(ROOT), None, Role::Admin),
            rule(None, Some(STAFF), Role::Operator),
            rule(Some(WEB), None, Role::Observer),
            rule(Some(WEB), Some(ROOT), Role::Admin),
        ];
        let policy = Policy { rules, ..Policy::default() };
        for (who, role) in [
            (who(ROOT, &[ROOT]), Some(Role::Admin)),
            (who(WEB, &[WEB]), Some(Role::Observer)),
            (who(WEB, &[WEB, STAFF]), Some(Role::Operator)),
            (who(WEB, &[STAFF, WEB]), Some(Role::Operator)),
            (who(WEB, &[WEB, ROOT]), Some(Role::Admin)),
            (who(1000, &[STAFF]), Some(Role::Operator)),
            (who(1000, &[1000]), None),
            (who(1000, &[]), None),
            (Identity::default(), None),
        ] {
            assert_eq!(policy.role(&who), role, "{who:?}");
        }
    }

    #[test]
    fn a_rule_without_user_and_group_is_for_everybody() {
        let policy = Policy { rules: vec![rule(None, None, Role::Observer)], ..Policy::default() };
        assert_eq!(policy.role(&who(1000, &[])), Some(Role::Observer));
        assert_eq!(policy.role(&Identity::default()), Some(Role::Observer));
    }

    #[test]
    fn the_role_of_a_socket_is_nobodys_to_raise_or_lower() {
        let listeners = vec![(PathBuf::from("/observe"), Role::Observer)];
        let rules = vec![rule(Some(ROOT), None, Role::Admin)];
        let policy = Policy { listeners, rules };
        let at = |path: &str, user| Identity { listener: path.into(), ..who(user, &[]) };
        assert_eq!(policy.role(&at("/observe", ROOT)), Some(Role::Observer));
        assert_eq!(policy.role(&at("/observe", WEB)), Some(Role::Observer));
        assert_eq!(policy.role(&at("/main", ROOT)), Some(Role::Admin));
        assert_eq!(policy.role(&at("/main", WEB)), None);
        assert!(!policy.makes_admins_at(Path::new("/observe")));
        assert!(!policy.makes_admins_at(Path::new("/main")));
    }

    #[test]
    fn a_socket_is_open_by_its_mode_and_without_a_role() {
        let dir = tempfile::tempdir().unwrap();
        let [observe, all, group] =
            [("observe", 0o666), ("all", 0o662), ("group", 0o660)].map(|(name, mode)| {
                let path = dir.path().join(name);
                fs::write(&path, "").unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                path
            });
        let sockets =
            [observe.clone(), all.clone(), group, PathBuf::new(), dir.path().join("removed")];
        let listeners = vec![(observe, Role::Observer)];
        let mut policy = Policy { listeners, ..Policy::default() };
        assert_eq!(policy.open(&sockets).collect::<Vec<_>>(), [&all, Path::new("")]);
        policy.rules.push(rule(Some(ROOT), None, Role::Admin));
        assert_eq!(policy.open(&sockets).count(), 0);
        policy.rules.push(rule(None, None, Role::Admin));
        assert_eq!(policy.open(&sockets).count(), 2);
    }

    #[test]
    fn a_socket_that_is_configured_no_more_keeps_its_role() {
        let listeners = ["/a", "/b"].map(|path| (PathBuf::from(path), Role::Observer));
        let earlier = Policy { listeners: listeners.into(), ..Policy::default() };
        let new = Policy::default().after(&earlier, |path| path == Path::new("/b"));
        assert_eq!(new.listeners, [(PathBuf::from("/a"), Role::Observer)]);
        assert_eq!(Policy::default().after(&new, |_| false), new);
    }

    #[test]
    fn a_new_policy_is_everybodys() {
        let access = Access::new(Policy::default());
        let other = access.clone();
        assert_eq!(other.role(&who(WEB, &[])), Some(Role::Admin));
        let rules = vec![rule(Some(ROOT), None, Role::Admin)];
        access.set(Policy { rules, ..Policy::default() });
        assert_eq!(other.role(&who(WEB, &[])), None);
    }

    #[tokio::test]
    async fn the_kernel_says_who_has_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let who = Identity::of(&one, Path::new("/s"));
        assert_eq!(who.user, Some(nix::unistd::getuid().as_raw()));
        assert_eq!(who.groups[0], nix::unistd::getgid().as_raw());
        assert_eq!((who.process, &*who.listener), (Some(std::process::id()), Path::new("/s")));
    }

    #[test]
    fn roles_have_an_order() {
        assert!(Role::Observer < Role::Operator && Role::Operator < Role::Admin);
    }
}
