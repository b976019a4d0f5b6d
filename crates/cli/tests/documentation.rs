//! Completion and man pages have every command and every option that help has.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on must say so, and this one is about a process"
)]

use std::{collections::BTreeSet, fs, process::Command};

fn gantry(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_gantry")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands of a command, as its help lists them.
fn subcommands(path: &[&str]) -> Vec<String> {
    let help = gantry(&[path, &["--help"]].concat());
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let list = list.split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// The long options of a command, as its help lists them.
fn options(path: &[&str]) -> BTreeSet<String> {
    let help = gantry(&[path, &["--help"]].concat());
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '=', '[']).take(3));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// All commands, with what stands between `gantry` and their options.
fn commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for name in subcommands(&[]).into_iter().filter(|name| name != "help") {
        let below = subcommands(&[&name]).into_iter().filter(|name| name != "help");
        all.extend(below.map(|sub| vec![name.clone(), sub]));
        all.push(vec![name]);
    }
    all
}

#[test]
fn man_pages_have_all_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    gantry(&["man", pages.to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let name = [&["gantry".to_owned()], command.as_slice()].concat().join("-");
        let page = fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        // roff(7): a minus sign that is one.
        let text = page.replace("\\-", "-");
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        for option in options(&words) {
            assert!(text.contains(&option), "{name}.1 has no {option}");
        }
    }
}

#[test]
fn completion_has_all_commands_and_options() {
    let scripts = ["bash", "zsh", "fish"].map(|shell| (shell, gantry(&["completion", shell])));
    for command in commands() {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        for option in options(&words) {
            for (shell, script) in &scripts {
                let long = option.trim_start_matches('-');
                let spelt = if *shell == "fish" { format!("-l {long}") } else { option.clone() };
                assert!(script.contains(&spelt), "{shell}: {command:?} has no {option}");
            }
        }
        for (shell, script) in &scripts {
            let known = command.last().is_none_or(|name| script.contains(name));
            assert!(known, "{shell}: no {command:?}");
        }
    }
}

/// A shell must be able to read them.
#[test]
fn bash_completes_with_it() {
    let script = gantry(&["completion", "bash"]);
    let ask = "COMP_WORDS=(gantry run --sec); COMP_CWORD=2; _gantry gantry --sec run; echo ${COMPREPLY[*]}";
    let output = Command::new("bash").arg("-c").arg(format!("{script}\n{ask}")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("--security-opt"), "{output:?}");
}
