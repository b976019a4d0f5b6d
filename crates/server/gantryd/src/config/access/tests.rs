//! What the tables become.

use std::fs;

use super::*;
use crate::config::tests::parse;

fn with(text: &str, flags: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    parse(&format!("gantryd --config {}{flags}", file.path().display()))
}

fn paths(config: &Config, passed: &[&str]) -> Vec<PathBuf> {
    let passed: Vec<&Path> = passed.iter().map(Path::new).collect();
    config.sockets(&passed).into_iter().map(|socket| socket.path).collect()
}

const LISTENERS: &str = "[[listener]]\npath = \"/a\"\nmode = \"666\"\nrole = \"observer\"\n\
                         [[listener]]\npath = \"unix:///b\"\ngroup = \"root\"\n";

#[test]
fn a_listener_has_a_mode_a_group_and_a_role() {
    let config = with(LISTENERS, "").unwrap();
    let a = Socket { mode: 0o666, ..Socket::at(Path::new("/a")) };
    let b = Socket { group: Some(0), ..Socket::at(Path::new("/b")) };
    assert_eq!(config.sockets(&[]), [a, b]);
    assert_eq!(config.access.listeners, [(PathBuf::from("/a"), Role::Observer)]);
}

#[test]
fn listeners_are_beside_what_is_listened_on() {
    let both = format!("listen = [\"/l\", \"/b\"]\n{LISTENERS}");
    let config = with(&both, "").unwrap();
    assert_eq!(paths(&config, &[]), [Path::new("/l"), Path::new("/a"), Path::new("/b")]);
    assert_eq!(config.sockets(&[])[2].group, Some(0), "a listener is made as its table says");
    let flag = with(&both, " -l /f").unwrap();
    assert_eq!(paths(&flag, &[]), [Path::new("/f"), Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths(&with(LISTENERS, "").unwrap(), &[]), [Path::new("/a"), Path::new("/b")]);
}

/// What a service manager passes stands for `listen`, and for a listener in the same place.
#[test]
fn passed_sockets_are_not_made() {
    let config = with(&format!("listen = \"/l\"\n{LISTENERS}"), "").unwrap();
    assert_eq!(paths(&config, &["/run/passed"]), [Path::new("/a"), Path::new("/b")]);
    assert_eq!(paths(&config, &["/l", "/a"]), [Path::new("/b")]);
    assert_eq!(config.access.listeners.len(), 1, "it has its role all the same");
}

#[test]
fn rules_are_of_users_and_groups() {
    let text = "[[access]]\nuser = \"root\"\nrole = \"admin\"\n\
                [[access]]\nuser = 1234\ngroup = 5\nrole = \"operator\"\n\
                [[access]]\nrole = \"observer\"\n";
    let rule = |user, group, role| access::Rule { user, group, role };
    let expected = [
        rule(Some(0), None, Role::Admin),
        rule(Some(1234), Some(5), Role::Operator),
        rule(None, None, Role::Observer),
    ];
    assert_eq!(with(text, "").unwrap().access.rules, expected);
    assert_eq!(parse("gantryd").unwrap().access, Policy::default());
}

#[test]
fn mistakes_are_named() {
    let listener = |more: &str| format!("[[listener]]\npath = \"/a\"\n{more}");
    for (text, words) in [
        (
            "[[access]]\nuser = \"no-such-user\"\nrole = \"admin\"",
            "access.user: there is no user \"no-such-user\"",
        ),
        (
            "[[access]]\ngroup = \"no-such-group\"\nrole = \"admin\"",
            "access.group: there is no group \"no-such-group\"",
        ),
        ("[[access]]\nuser = \"root\"", "missing field `role`"),
        ("[[access]]\nuser = -1\nrole = \"admin\"", "expected a name or a number"),
        (
            "[[access]]\nrole = \"king\"",
            "unknown variant `king`, expected one of `observer`, `operator`, `admin`",
        ),
        ("[[access]]\nuid = 1\nrole = \"admin\"", "unknown field `uid`"),
        ("[[listener]]\nrole = \"admin\"", "missing field `path`"),
        (&listener("mode = \"0888\""), "listener.mode: \"0888\" is no mode"),
        (&listener("mode = \"01777\""), "listener.mode: \"01777\" is no mode"),
        (&listener("mode = \"+66\""), "listener.mode: \"+66\" is no mode"),
        (&listener("mode = 660"), "expected a string"),
        (&listener("group = \"no-such-group\""), "listener.group: there is no group"),
        (&listener("[[listener]]\npath = \"unix:///a\""), "listener.path: /a is there twice"),
        ("[[listener]]\npath = \"tcp://127.0.0.1:1\"", "listener.path: only unix sockets"),
    ] {
        let error = with(text, "").unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

/// A file of containerd's may have the tables, too: a rule that is ignored would open the socket to more people.
#[test]
fn a_file_of_containerds_may_have_rules() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("version = 2\n{LISTENERS}[[access]]\nuser = 0\nrole = \"admin\"\n");
    fs::write(file.path(), text).unwrap();
    let config = parse(&format!("containerd -c {}", file.path().display())).unwrap();
    assert_eq!((config.access.rules.len(), config.access.listeners.len()), (1, 1));
    assert_eq!(config.ignored_keys, [""; 0]);
    assert_eq!(paths(&config, &[]), [Path::new("/a"), Path::new("/b")]);
}
