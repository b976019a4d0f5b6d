//! What config.json says, as far as the service needs it.

use gantry_domain::{ConsoleSize, ProcessId, ProcessSpec, Rlimit, Stdio, User};

use super::json::{Dialect, Malformed, Reader};

/// No list can be longer: each string of a program's arguments takes a byte and a pointer of the
/// 6 MiB that execve(2) allows at most.
const MAX_ITEMS: usize = 1 << 20;

/// What config.json says. The runtime decides whether that is valid, and reports it; what
/// cannot be read here counts as missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The first process.
    pub init: ProcessSpec,
    pub(super) cgroups_path: Option<String>,
    pub(super) capability_list: bool,
    pub(super) oom_score_adj: Option<i32>,
    /// Whether the container has a pid namespace of its own.
    pub(super) pid_namespace: bool,
}

type Read<T = ()> = Result<T, Malformed>;

impl Config {
    /// Reads as far as the text is JSON: a runtime does not take the rest either.
    pub fn read(text: &[u8], stdio: Stdio, dialect: Dialect) -> Self {
        let init = ProcessSpec { stdio, ..ProcessSpec::unknown(ProcessId::init()) };
        let mut config = Self {
            init,
            cgroups_path: None,
            capability_list: false,
            oom_score_adj: None,
            pid_namespace: false,
        };
        let _ = config.fill(&mut Reader::new(text, dialect));
        config
    }

    fn fill(&mut self, json: &mut Reader<'_>) -> Read {
        json.object(&["process", "linux"], |json, field| match field {
            "process" => self.process(json),
            _ => json.object(
                &["cgroupsPath", "namespaces", "resources"],
                |json, field| match field {
                    "cgroupsPath" => {
                        self.cgroups_path = json.string()?.or(self.cgroups_path.take());
                        Ok(())
                    }
                    "namespaces" => {
                        self.pid_namespace = list(json, own_pid_namespace)?.contains(&true);
                        Ok(())
                    }
                    // Where it was before version 1.0.0-rc6 of the spec.
                    _ => json.object(&["oomScoreAdj"], |json, _| {
                        self.oom_score_adj = self.oom_score_adj.or(json.number()?);
                        Ok(())
                    }),
                },
            ),
        })
    }

    fn process(&mut self, json: &mut Reader<'_>) -> Read {
        const FIELDS: [&str; 12] = [
            "terminal",
            "consoleSize",
            "user",
            "args",
            "env",
            "cwd",
            "capabilities",
            "apparmorProfile",
            "selinuxLabel",
            "noNewPrivileges",
            "oomScoreAdj",
            "rlimits",
        ];
        json.object(&FIELDS, |json, field| {
            let process = &mut self.init;
            match field {
                "terminal" => set(&mut process.terminal, json.boolean()?),
                "consoleSize" => process.console_size = console_size(json)?,
                "user" => user(json, &mut process.user)?,
                "args" => process.args = strings(json)?,
                "env" => process.env = strings(json)?,
                "cwd" => set(&mut process.cwd, json.string()?),
                "capabilities" => return self.capabilities(json),
                "apparmorProfile" => set(&mut process.apparmor_profile, json.string()?),
                "selinuxLabel" => set(&mut process.selinux_label, json.string()?),
                "noNewPrivileges" => set(&mut process.no_new_privileges, json.boolean()?),
                "oomScoreAdj" => self.oom_score_adj = json.number()?.or(self.oom_score_adj),
                _ => process.rlimits = list(json, rlimit)?,
            }
            Ok(())
        })
    }

    /// A list before version 1.0.0-rc5 of the spec, since then an object of sets of which the
    /// bounding one says what the process can ever have.
    fn capabilities(&mut self, json: &mut Reader<'_>) -> Read {
        self.capability_list = json.is_array()?;
        if self.capability_list {
            self.init.capabilities = strings(json)?;
            return Ok(());
        }
        json.object(&["bounding"], |json, _| {
            self.init.capabilities = strings(json)?;
            Ok(())
        })
    }
}

/// Something of another type than it should be, or null, changes nothing.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn list<T>(json: &mut Reader<'_>, item: impl Fn(&mut Reader<'_>) -> Read<T>) -> Read<Vec<T>> {
    let mut items = Vec::new();
    json.array(|json| {
        if items.len() < MAX_ITEMS {
            items.push(item(json)?);
            Ok(())
        } else {
            json.skip()
        }
    })?;
    Ok(items)
}

fn strings(json: &mut Reader<'_>) -> Read<Vec<String>> {
    list(json, |json| Ok(json.string()?.unwrap_or_default()))
}

fn user(json: &mut Reader<'_>, user: &mut User) -> Read {
    json.object(&["uid", "gid", "additionalGids"], |json, field| {
        match field {
            "uid" => set(&mut user.uid, json.number()?),
            "gid" => set(&mut user.gid, json.number()?),
            _ => user.additional_gids = list(json, |json| Ok(json.number()?.unwrap_or_default()))?,
        }
        Ok(())
    })
}

fn rlimit(json: &mut Reader<'_>) -> Read<Rlimit> {
    let mut limit = Rlimit { kind: String::new(), soft: 0, hard: 0 };
    json.object(&["type", "soft", "hard"], |json, field| {
        match field {
            "type" => set(&mut limit.kind, json.string()?),
            "soft" => set(&mut limit.soft, json.number()?),
            _ => set(&mut limit.hard, json.number()?),
        }
        Ok(())
    })?;
    Ok(limit)
}

/// Whether it is a pid namespace, and a new one.
fn own_pid_namespace(json: &mut Reader<'_>) -> Read<bool> {
    let (mut kind, mut path) = (String::new(), String::new());
    json.object(&["type", "path"], |json, field| {
        match field {
            "type" => set(&mut kind, json.string()?),
            _ => set(&mut path, json.string()?),
        }
        Ok(())
    })?;
    Ok(kind == "pid" && path.is_empty())
}

fn console_size(json: &mut Reader<'_>) -> Read<Option<ConsoleSize>> {
    let mut size = ConsoleSize { width: 0, height: 0 };
    json.object(&["width", "height"], |json, field| {
        match field {
            "width" => set(&mut size.width, json.number()?),
            _ => set(&mut size.height, json.number()?),
        }
        Ok(())
    })?;
    Ok((size.width > 0 && size.height > 0).then_some(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Config {
        Config::read(config.as_bytes(), Stdio::default(), Dialect::Go)
    }

    #[test]
    fn reads_both_shapes_of_capabilities() {
        let new = read(r#"{"process":{"capabilities":{"bounding":["CAP_KILL"],"ambient":[]}}}"#);
        let old = read(r#"{"process":{"capabilities":["CAP_KILL"]}}"#);
        assert_eq!(new.init.capabilities, ["CAP_KILL"]);
        assert_eq!(old.init.capabilities, ["CAP_KILL"]);
        assert!(old.capability_list && !new.capability_list);
    }

    #[test]
    fn anything_at_all_is_read() {
        for odd in ["", "{", "[]", "null", "{\"process\":7}", "{\"process\":{\"args\":{\"a\":1}}}"]
        {
            assert_eq!(read(odd).init.args, Vec::<String>::new(), "{odd}");
        }
        let full = read(
            r#"{"process":{"terminal":true,"consoleSize":{"height":3,"width":4},"args":["a","b"],
                "user":{"uid":1,"gid":2,"additionalGids":[3]},"cwd":"/x",
                "rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":18446744073709551615}]},
               "linux":{"cgroupsPath":"/docker/x"}}"#,
        );
        assert_eq!(full.cgroups_path.as_deref(), Some("/docker/x"));
        assert_eq!(full.init.console_size, Some(ConsoleSize { width: 4, height: 3 }));
        assert_eq!(full.init.user, User { uid: 1, gid: 2, additional_gids: vec![3] });
        assert_eq!(full.init.rlimits[0].hard, u64::MAX);
        assert_eq!(full.init.args, ["a", "b"]);
        assert_eq!(full.init.cwd, "/x");
        assert!(full.init.terminal);
        assert_eq!(full.oom_score_adj, None);
        for shape in
            [r#"{"process":{"oomScoreAdj":-7}}"#, r#"{"linux":{"resources":{"oomScoreAdj":-7}}}"#]
        {
            assert_eq!(read(shape).oom_score_adj, Some(-7), "{shape}");
        }
        assert_eq!(read(r#"{"process":{"oomScoreAdj":null}}"#).oom_score_adj, None);
    }

    /// As runc 1.1.5 and crun 1.8.1 were seen to do.
    #[test]
    fn what_runtimes_read_differently() {
        let terminal = |config: &str, dialect| {
            Config::read(config.as_bytes(), Stdio::default(), dialect).init.terminal
        };
        let twice = r#"{"process":{"terminal":true,"terminal":false}}"#;
        assert!(!terminal(twice, Dialect::Go) && terminal(twice, Dialect::Yajl));
        let upper = r#"{"process":{"Terminal":true}}"#;
        assert!(terminal(upper, Dialect::Go));
        assert!(!terminal(upper, Dialect::Yajl) && !terminal(upper, Dialect::Serde));
        let apart = r#"{"process":{"cwd":"/x"},"process":{"terminal":true}}"#;
        assert!(terminal(apart, Dialect::Go) && !terminal(apart, Dialect::Yajl));
        let null = r#"{"process":{"terminal":true,"terminal":null}}"#;
        assert!(terminal(null, Dialect::Go) && terminal(null, Dialect::Yajl));
    }

    #[test]
    fn an_endless_list_is_read_to_a_bound() {
        let mut config = r#"{"process":{"args":["#.to_owned();
        config.push_str(&r#""","#.repeat(MAX_ITEMS + 5));
        config.push_str(r#"""],"cwd":"/x"}}"#);
        let config = read(&config);
        assert_eq!(config.init.args.len(), MAX_ITEMS);
        assert_eq!(config.init.cwd, "/x");
    }
}
