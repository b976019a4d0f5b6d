//! What a shell offers, from the script of `gantry completion`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on must say so, and this one is about a process"
)]

use std::process::Command;

const GANTRY: &str = env!("CARGO_BIN_EXE_gantry");

/// Calls the completion for the last of this script's arguments, where `gantry ps` knows two containers, and one in
/// namespace moby.
const CALL: &str = r#"
    gantry() {
        case "$*" in
            "ps -q") printf '%s\n' web db ;;
            "ps -q --namespace moby") echo box ;;
            *) exit 1 ;;
        esac
    }
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _gantry_with_ids gantry "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\n' "${COMPREPLY[@]}"
"#;

/// What bash offers for the last of some words.
fn offered(words: &[&str]) -> Vec<String> {
    let script = Command::new(GANTRY).args(["completion", "bash"]).output().unwrap().stdout;
    let script = String::from_utf8(script).unwrap() + CALL;
    let bash = Command::new("bash").args(["-c", &script, "bash", "gantry"]).args(words).output();
    let bash = bash.unwrap();
    assert!(bash.status.success() && bash.stderr.is_empty(), "{bash:?}");
    let offered = String::from_utf8(bash.stdout).unwrap();
    offered.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_ids() {
    assert_eq!(offered(&["to"]), ["top"]);
    assert_eq!(offered(&["top", "--js"]), ["--json"]);
    assert_eq!(offered(&["top", ""]), ["web", "db"]);
    assert_eq!(offered(&["rm", "-f", "web", "d"]), ["db"]);
    // As bash takes --namespace=moby apart.
    assert_eq!(offered(&["top", "--namespace", "=", "moby", ""]), ["box"]);
}

#[test]
fn bash_offers_no_id_where_none_is_wanted() {
    for words in [&["top", "web", "d"][..], &["kill", "--signal", "we"], &["images", "we"]] {
        assert_eq!(offered(words), [""; 0], "{words:?}");
    }
}
