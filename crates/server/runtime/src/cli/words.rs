//! A runtime's messages when it refuses, and what they mean to the caller.
//!
//! A refusal is classified once, here, and by its structure: which sub-command was asked for, which
//! entry of the log is the runtime's last word, how the runtime itself begins and ends its
//! sentences. The output of a program of the container's (a hook, say) stands in the middle of
//! such a sentence and decides nothing.

use serde_json::Value;

use super::Verb;

/// Longest message that is passed on, in bytes: it travels in an HTTP/2 header.
const MAX_MESSAGE: usize = 4096;

/// How many of these bytes are the end of a longer message, which says what went wrong.
const KEPT_END: usize = 1024;

/// Phrases that daemons look for in an error, and what other runtimes say instead.
const PHRASES: [(&str, &[&str]); 4] = [
    ("executable file not found", &["not found in $PATH", "executable file `"]),
    ("no such file or directory", &["No such file or directory"]),
    ("permission denied", &["Permission denied", "open executable: Operation not permitted"]),
    ("not a directory", &["Not a directory"]),
];

/// Ends of sentences about something that config.json or the process names and that cannot be
/// used (errno texts in lower case; runc's os/exec).
const UNUSABLE: [&str; 5] = [
    "no such file or directory",
    "permission denied",
    "not a directory",
    "executable file not found in $path",
    "open executable: operation not permitted",
];

/// Beginnings of sentences about a config.json that cannot be read: Go's encoding/json, and crun.
const MALFORMED: [&str; 7] = [
    "json: ",
    "invalid character ",
    "EOF",
    "unexpected EOF",
    "JSON specification file",
    "load `config.json`",
    "cannot parse ",
];

/// Ends of sentences about an exhausted resource of the host: texts of ENOSPC, EDQUOT, EAGAIN,
/// ENOMEM, EMFILE and ENFILE in lower case.
const EXHAUSTED: [&str; 6] = [
    "no space left on device",
    "disk quota exceeded",
    "resource temporarily unavailable",
    "cannot allocate memory",
    "too many open files",
    "too many open files in system",
];

/// Beginnings of the first line of a crash: Go's runtime, and its threads in C.
const CRASHES: [&str; 6] =
    ["panic: ", "fatal error: ", "runtime: ", "runtime/cgo: ", "unexpected fault ", "SIG"];

/// Parts of a crash's first line that mean that the host has no more memory or threads.
const EXHAUSTED_CRASHES: [&str; 5] = [
    "out of memory",
    "cannot allocate memory",
    "failed to reserve page summary memory",
    "failed to create new OS thread",
    "newosproc",
];

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The runtime has a container of this id already.
    Taken,
    /// It has none.
    Unknown,
    /// config.json, or the process, cannot be run as asked.
    Request,
    /// The host has no more room, memory, descriptors or processes.
    Exhausted,
    Other,
}

/// A runtime's last word: the last error in its log that is not empty; else how a crash begins;
/// else the last line.
pub(super) fn last_word(output: &str) -> Option<String> {
    let entries = output.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    let mut error = None;
    let mut other = None;
    for entry in entries {
        let entry: Value = entry;
        let Some(message) = message(&entry) else { continue };
        match entry["level"].as_str() {
            Some("error" | "fatal" | "panic") => {
                error = Some(message);
                break;
            }
            _ => other = other.or(Some(message)),
        }
    }
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let crash = || lines().find(|line| CRASHES.iter().any(|begin| line.starts_with(begin)));
    // A line of JSON that is no entry of a log, and one whose beginning was not kept, are text.
    let text = || lines().rfind(|line| !line.starts_with('{') || other.is_none());
    error.or_else(|| Some(crash().or_else(text)?.to_owned())).or(other)
}

/// The last word of the output of a runtime without a log, and what that means. Only a crash is recognized: the
/// container's own program may have written to the same stream.
pub(super) fn printed(verb: Verb, output: &str) -> Option<(Reason, String)> {
    let said = last_word(output)?;
    let crashed = CRASHES.iter().any(|begin| said.starts_with(begin));
    let reason = if crashed { reason(verb, &said) } else { Reason::Other };
    Some((reason, clean(&said)))
}

/// The message of a log's entry. crun's process in the container writes entries of its own, which
/// arrive inside those of the first.
fn message(entry: &Value) -> Option<String> {
    let said = entry.get("msg")?.as_str()?.trim();
    let inner = said.starts_with('{').then(|| serde_json::from_str(said).ok()).flatten();
    let inner = inner.and_then(|inner: Value| message(&inner));
    inner.or_else(|| Some(said.to_owned())).filter(|said| !said.is_empty())
}

/// What a runtime's last word means after a sub-command.
pub(super) fn reason(verb: Verb, said: &str) -> Reason {
    let own = without_preamble(said.trim());
    if is_exhausted(own) {
        Reason::Exhausted
    } else if verb.creates() && is_taken(own) {
        Reason::Taken
    } else if is_unknown(own) {
        Reason::Unknown
    } else if verb.runs_a_program() && blames_the_request(own) {
        Reason::Request
    } else {
        Reason::Other
    }
}

/// The sentence itself, without what runc puts before it: what has failed, and where.
fn without_preamble(said: &str) -> &str {
    let mut own = said;
    for verb in ["run", "create", "restore", "exec", "start"] {
        own = own.strip_prefix("runc ").unwrap_or(own);
        if let Some(rest) = own.strip_prefix(verb).and_then(|rest| rest.strip_prefix(" failed: ")) {
            own = rest;
            break;
        }
    }
    for step in ["unable to start container process: ", "error during container init: "] {
        own = own.strip_prefix(step).unwrap_or(own);
    }
    own
}

fn is_exhausted(own: &str) -> bool {
    let crashed = CRASHES.iter().any(|begin| own.starts_with(begin));
    ends_with(own, &EXHAUSTED)
        || crashed && EXHAUSTED_CRASHES.iter().any(|words| own.contains(words))
}

fn is_taken(own: &str) -> bool {
    let quoted =
        own.strip_prefix("container `").and_then(|rest| rest.strip_suffix("` already exists"));
    // runc since 1.1, runc before, crun, youki.
    own == "container with given ID already exists"
        || own.strip_prefix("container with id exists: ").is_some_and(|id| !id.contains(' '))
        || quoted.is_some_and(|id| !id.contains('`'))
        || own == "container already exists"
        || own == "failed to create container: container already exists"
}

fn is_unknown(own: &str) -> bool {
    let file = own
        .strip_prefix("error opening file `")
        .or_else(|| own.strip_prefix("cannot open directory '"));
    let state = file.and_then(|rest| rest.strip_suffix(": No such file or directory"));
    own == "container does not exist"
        || state.is_some_and(|path| path.ends_with("/status`") || path.ends_with('\''))
}

/// Whether the sentence is about what the caller has asked for, and not about the runtime's own
/// files: CRIU's, cgroups, its state.
fn blames_the_request(own: &str) -> bool {
    let lower = own.to_ascii_lowercase();
    let affairs = ["criu ", "exec: \"criu\"", "could not load `libcriu", "unable to get cgroup "];
    let host =
        affairs.iter().any(|begin| lower.starts_with(begin)) || own.contains(" /sys/fs/cgroup/");
    let malformed = MALFORMED.iter().any(|begin| own.starts_with(begin));
    !host && (malformed || ends_with(own, &UNUSABLE))
}

/// Whether the sentence ends in one of these texts, which are in lower case, and they are the
/// runtime's own. Only runc quotes a hook, after its own message.
fn ends_with(own: &str, texts: &[&str]) -> bool {
    let quotes_a_hook = own.starts_with("error running ") && own.contains(", stderr: ");
    let lower = own.to_ascii_lowercase();
    let ended = |text: &str| {
        // The text of an errno stands alone, or after a colon or a quoted name.
        lower.strip_suffix(text).is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
    };
    !quotes_a_hook && texts.iter().any(|text| ended(text))
}

/// The message as it is passed on: of bounded length, in one line, and with the phrases that daemons look for,
/// whatever the runtime's spelling.
pub(super) fn passed_on(said: &str) -> String {
    let mut message = clean(said);
    for (phrase, others) in PHRASES {
        if !message.contains(phrase) && others.iter().any(|other| message.contains(other)) {
            message = format!("{message} ({phrase})");
        }
    }
    message
}

fn clean(said: &str) -> String {
    let one_line = |text: &str| -> String {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    if said.len() <= MAX_MESSAGE {
        return one_line(said);
    }
    let boundary = |at: usize| (0..=at).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0);
    let (begin, end) = (boundary(MAX_MESSAGE - KEPT_END), boundary(said.len() - KEPT_END));
    format!("{} ... {}", one_line(&said[..begin]), one_line(&said[end..]))
}

#[cfg(test)]
mod tests;
