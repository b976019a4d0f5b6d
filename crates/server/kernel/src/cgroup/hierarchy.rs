//! Which cgroup hierarchies are mounted where, and which directory of each a process is in.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{Cgroup, CgroupError, file::Reader};

const MOUNTS: &str = "/proc/self/mountinfo";
pub(super) const OWN: &str = "/proc/self/cgroup";

/// The mounted hierarchies, found once.
#[derive(Debug, Default)]
pub struct Hierarchies(Vec<Hierarchy>);

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// As in /proc/pid/cgroup: "cpu,cpuacct", "name=systemd", empty for v2.
    controllers: String,
    mount: PathBuf,
    /// The cgroup that is mounted: "/", or deeper where a part of the tree was bind-mounted.
    root: PathBuf,
    /// Where the server is, if that is below `mount`.
    own: Option<PathBuf>,
}

impl Hierarchies {
    /// The hierarchies that the server can see.
    pub fn discover() -> Result<Self, CgroupError> {
        let mut reader = Reader::default();
        let own = reader.read(Path::new(OWN))?.to_owned();
        Ok(Self::parse(reader.read(Path::new(MOUNTS))?, &own))
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let hierarchies = cgroup_lines(own).filter_map(|(controllers, own)| {
            let of_hierarchy = mounts.iter().filter(|mount| mount.is_of(controllers));
            // A hierarchy can be mounted more than once; the whole tree is better than a part.
            let mount = of_hierarchy.min_by_key(|mount| mount.root.components().count())?;
            let mut hierarchy = Hierarchy {
                controllers: controllers.to_owned(),
                mount: mount.point.clone(),
                root: mount.root.clone(),
                own: None,
            };
            hierarchy.own = hierarchy.dir(own);
            Some(hierarchy)
        });
        Self(hierarchies.collect())
    }

    /// The directory of a process with this /proc/pid/cgroup in the hierarchy of a v1 controller that
    /// runtimes use.
    pub(super) fn own_v1(&self, own: &str) -> Option<PathBuf> {
        const USED: [&str; 3] = ["pids", "memory", "cpu"];
        self.0.iter().find_map(|hierarchy| {
            hierarchy.controllers.split(',').find(|name| USED.contains(name))?;
            hierarchy.dir_in(own)
        })
    }

    /// Where the v1 hierarchy of a controller is mounted, and the server's directory in it. The name
    /// of v2 is empty.
    pub(super) fn own_dir(&self, controller: &str) -> Option<(&Path, &Path)> {
        let mut hierarchies = self.0.iter();
        let found =
            hierarchies.find(|of| of.controllers.split(',').any(|name| name == controller))?;
        Some((&found.mount, found.own.as_deref()?))
    }

    fn cgroup(&self, dir: impl Fn(&Hierarchy) -> Option<PathBuf>) -> Option<Cgroup> {
        let mut cgroup = Cgroup { v1: BTreeMap::new(), unified: None };
        for hierarchy in &self.0 {
            let Some(dir) = dir(hierarchy).filter(|dir| !hierarchy.holds_server(dir)) else {
                continue;
            };
            if hierarchy.controllers.is_empty() {
                cgroup.unified = Some(dir);
            } else {
                let names = hierarchy.controllers.split(',');
                cgroup.v1.extend(names.map(|name| (name.to_owned(), dir.clone())));
            }
        }
        (cgroup.unified.is_some() || !cgroup.v1.is_empty()).then_some(cgroup)
    }
}

impl Hierarchy {
    /// The directory of a process, from its /proc/pid/cgroup.
    fn dir_in(&self, text: &str) -> Option<PathBuf> {
        self.dir(cgroup_lines(text).find(|(names, _)| *names == self.controllers)?.1)
    }

    /// The directory of a cgroup whose path was read from /proc/pid/cgroup.
    fn dir(&self, path: &str) -> Option<PathBuf> {
        let removed = path.ends_with(" (deleted)");
        let below = Path::new(path).strip_prefix(&self.root).ok().filter(|_| !removed)?;
        self.join(below)
    }

    /// A directory below the mount point, which ".." must not leave.
    fn join(&self, below: &Path) -> Option<PathBuf> {
        let mut dir = self.mount.clone();
        for component in below.components() {
            match component {
                Component::Normal(name) => dir.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return None,
            }
        }
        Some(dir)
    }

    /// Whether it is the root of the hierarchy, the server's own cgroup or one around it: never a container's.
    fn holds_server(&self, dir: &Path) -> bool {
        dir == self.mount || self.own.as_ref().is_some_and(|own| own.starts_with(dir))
    }
}

/// A cgroup mount, see proc_pid_mountinfo(5).
struct Mount {
    root: PathBuf,
    point: PathBuf,
    v2: bool,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let v2 = match filesystem.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = filesystem.nth(1)?.to_owned();
        Some(Self { root: unescape(root).into(), point: unescape(point).into(), v2, options })
    }

    fn is_of(&self, controllers: &str) -> bool {
        if controllers.is_empty() || self.v2 {
            return controllers.is_empty() && self.v2;
        }
        controllers.split(',').all(|name| self.options.split(',').any(|option| option == name))
    }
}

/// Undoes the octal escapes of blanks, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, char)| text.replace(escape, char))
}

/// The controllers and the path of each line of /proc/pid/cgroup, see cgroups(7).
fn cgroup_lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

impl Cgroup {
    /// The cgroup that a living process is in.
    pub fn of_process(hierarchies: &Hierarchies, pid: u32) -> Result<Self, CgroupError> {
        let mut reader = Reader::default();
        let text = match reader.read_present(Path::new(&format!("/proc/{pid}/cgroup")))? {
            Some(text) => text.to_owned(),
            None => return Err(CgroupError::Gone { pid }),
        };
        // A process that is ending shows the root of every v1 hierarchy (proc_cgroup_show), so
        // what was read is only good if it has not begun to end by now.
        if is_ending(&mut reader, pid)? {
            return Err(CgroupError::Gone { pid });
        }
        Self::parse(hierarchies, &text).ok_or(CgroupError::Shared { pid })
    }

    fn parse(hierarchies: &Hierarchies, text: &str) -> Option<Self> {
        hierarchies.cgroup(|hierarchy| hierarchy.dir_in(text))
    }

    /// Where a runtime puts a container without a cgroup manager in between: the OCI
    /// `linux.cgroupsPath`, if absolute, below every mount point. For a container that ended
    /// before anyone could look. Not all of the directories need to exist.
    pub fn predicted(hierarchies: &Hierarchies, cgroups_path: &str) -> Option<Self> {
        let path = Some(Path::new(cgroups_path)).filter(|path| path.is_absolute())?;
        hierarchies.cgroup(|hierarchy| hierarchy.join(path))
    }
}

/// `PF_EXITING` of include/linux/sched.h.
const EXITING: u64 = 4;

/// Whether the process has begun to end, from the flags in /proc/pid/stat (field 9 of proc(5)).
fn is_ending(reader: &mut Reader, pid: u32) -> Result<bool, CgroupError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let Some(stat) = reader.read_present(&path)? else { return Ok(true) };
    // The command in field 2 can contain anything, also blanks and parentheses.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
    let flags = fields.and_then(|fields| fields.split(' ').nth(6)?.parse::<u64>().ok());
    flags.map(|flags| flags & EXITING != 0).ok_or_else(|| CgroupError::malformed(&path, stat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::TestCgroup;

    /// systemd on a hybrid host.
    const HYBRID: &str = "\
22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
29 28 0:25 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,mode=755
30 29 0:26 / /sys/fs/cgroup/unified rw,nosuid,nodev shared:10 - cgroup2 cgroup2 rw,nsdelegate
31 29 0:27 / /sys/fs/cgroup/systemd rw,nosuid,nodev shared:11 - cgroup cgroup rw,xattr,name=systemd
34 29 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
35 29 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory
";
    const HYBRID_OWN: &str = "\
8:memory:/system.slice/gantryd.service
5:cpu,cpuacct:/
1:name=systemd:/system.slice/gantryd.service
0::/system.slice/gantryd.service
";
    /// In a container that sees its own part of the v1 hierarchies.
    const NESTED: &str = "\
812 811 0:31 /docker/4d7f /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory
813 811 0:33 /docker/4d7f /sys/fs/cgroup/pids ro,nosuid master:17 - cgroup cgroup rw,pids
";
    const NESTED_OWN: &str = "9:pids:/docker/4d7f/gantry\n8:memory:/docker/4d7f\n0::/docker/4d7f\n";

    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn cgroup<const N: usize>(v1: [(&str, &str); N], unified: Option<&str>) -> Cgroup {
        let v1 = v1.map(|(name, dir)| (name.to_owned(), format!("/sys/fs/cgroup/{dir}").into()));
        let unified = unified.map(|dir| format!("/sys/fs/cgroup/{dir}").into());
        Cgroup { v1: v1.into(), unified }
    }

    #[test]
    fn a_process_in_all_hierarchies() {
        let hierarchies = Hierarchies::parse(HYBRID, HYBRID_OWN);
        let text = "9:pids:/x\n8:memory:/docker/1\n5:cpu,cpuacct:/docker/1\n\
                    1:name=systemd:/docker/1/init.scope\n0::/system.slice/docker:a:b\n";
        let expected = cgroup(
            [
                ("cpu", "cpu,cpuacct/docker/1"),
                ("cpuacct", "cpu,cpuacct/docker/1"),
                ("memory", "memory/docker/1"),
                ("name=systemd", "systemd/docker/1/init.scope"),
            ],
            Some("unified/system.slice/docker:a:b"),
        );
        assert_eq!(Cgroup::parse(&hierarchies, text), Some(expected.clone()));
        let json = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), expected);
    }

    #[test]
    fn what_holds_the_server_is_left_out() {
        let hierarchies = Hierarchies::parse(HYBRID, HYBRID_OWN);
        let text = "8:memory:/system.slice\n5:cpu,cpuacct:/\n\
                    1:name=systemd:/system.slice/gantryd.service/c\n\
                    0::/system.slice/gantryd.service\n";
        let expected = cgroup([("name=systemd", "systemd/system.slice/gantryd.service/c")], None);
        assert_eq!(Cgroup::parse(&hierarchies, text), Some(expected));
        let zombie = "8:memory:/\n5:cpu,cpuacct:/\n1:name=systemd:/\n0::/x (deleted)\n";
        assert_eq!(Cgroup::parse(&hierarchies, zombie), None);
        assert_eq!(Cgroup::parse(&hierarchies, HYBRID_OWN), None);
        assert_eq!(Cgroup::parse(&hierarchies, "8:memory:/../x\n0::/a/../../b\n"), None);
    }

    #[test]
    fn where_the_server_is() {
        let hierarchies = Hierarchies::parse(HYBRID, HYBRID_OWN);
        let moved = "8:memory:/elsewhere\n5:cpu,cpuacct:/\n0::/elsewhere\n";
        let own = hierarchies.own_v1(moved);
        assert_eq!(own.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/elsewhere")));
        let next = hierarchies.own_v1("5:cpu,cpuacct:/a\n1:name=systemd:/b\n");
        assert_eq!(next.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/a")));
        assert_eq!(hierarchies.own_v1("1:name=systemd:/b\n0::/elsewhere\n"), None);
        assert_eq!(Hierarchies::parse(V2, "0::/\n").own_v1("0::/\n"), None);
    }

    #[test]
    fn a_part_of_the_tree_is_mounted() {
        let hierarchies = Hierarchies::parse(NESTED, NESTED_OWN);
        let inside = "9:pids:/docker/4d7f/c\n8:memory:/docker/4d7f/c\n0::/docker/4d7f\n";
        let expected = Some(cgroup([("memory", "memory/c"), ("pids", "pids/c")], None));
        assert_eq!(Cgroup::parse(&hierarchies, inside), expected);
        let outside = "9:pids:/docker/4d7fx\n8:memory:/docker\n";
        assert_eq!(Cgroup::parse(&hierarchies, outside), None);
        // The mount point is the root, wherever it is; so is what the server is in.
        assert_eq!(Cgroup::parse(&hierarchies, NESTED_OWN), None);
        assert_eq!(Cgroup::predicted(&hierarchies, "/c"), expected);
    }

    #[test]
    fn the_whole_tree_is_preferred() {
        let both = format!("{}{V2}", V2.replace("0:26 / /sys/fs", "0:26 /part /mnt\\040a"));
        let hierarchies = Hierarchies::parse(&both, "0::/\n");
        assert_eq!(hierarchies.0[0].mount, Path::new("/sys/fs/cgroup"));
        let part = V2.replace("0:26 / /sys/fs", "0:26 /part /mnt\\040a");
        let hierarchies = Hierarchies::parse(&part, "0::/elsewhere\n");
        let expected = Hierarchy {
            controllers: String::new(),
            mount: "/mnt a/cgroup".into(),
            root: "/part".into(),
            own: None,
        };
        assert_eq!(hierarchies.0, [expected]);
    }

    #[test]
    fn prediction() {
        let hierarchies = Hierarchies::parse(V2, "0::/system.slice/gantryd.service\n");
        let predicted = |path| Cgroup::predicted(&hierarchies, path);
        assert_eq!(predicted("/docker//1/"), Some(cgroup([], Some("docker/1"))));
        for refused in ["", "docker/1", "system.slice:docker:1", "/", "/a/../..", "/system.slice"] {
            assert_eq!(predicted(refused), None, "{refused}");
        }
        let hierarchies = Hierarchies::parse(HYBRID, HYBRID_OWN);
        let cgroup = Cgroup::predicted(&hierarchies, "/docker/1").unwrap();
        assert_eq!(cgroup.v1["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct/docker/1"));
        assert_eq!(cgroup.unified.unwrap(), Path::new("/sys/fs/cgroup/unified/docker/1"));
    }

    #[test]
    fn processes_of_this_host() {
        let Some(test) = TestCgroup::new("process") else { return };
        let hierarchies = Hierarchies::discover().unwrap();
        let mut child = test.sh("exec sleep 100");
        let found = Cgroup::of_process(&hierarchies, child.id()).unwrap();
        assert_eq!(found.controller("memory"), test.cgroup.controller("memory"));
        assert_eq!(found.pids().unwrap(), [child.id()]);
        child.kill().unwrap();
        crate::cgroup::testing::until(|| {
            matches!(
                Cgroup::of_process(&hierarchies, child.id()),
                Err(CgroupError::Gone { pid }) if pid == child.id()
            )
        });
        child.wait().unwrap();
        let own = Cgroup::of_process(&hierarchies, std::process::id()).unwrap_err();
        assert!(matches!(own, CgroupError::Shared { .. }), "{own}");
        let none = Cgroup::of_process(&hierarchies, u32::MAX).unwrap_err();
        assert!(matches!(none, CgroupError::Gone { .. }), "{none}");
    }
}
