//! What a runtime wrote: JSON lines of its log, or text on its stderr.

use serde_json::Value;

/// Longest message that is passed on, in bytes: it travels in an HTTP/2 header.
const MAX_MESSAGE: usize = 4096;

/// Phrases that daemons look for in an error, and what other runtimes say instead.
const PHRASES: [(&str, &[&str]); 4] = [
    ("executable file not found", &["not found in $PATH", "executable file `"]),
    ("no such file or directory", &["No such file or directory"]),
    ("permission denied", &["Permission denied"]),
    ("not a directory", &["Not a directory"]),
];

/// The last error in a log, or the last line if nothing is marked as one.
pub(super) fn last_error(output: &str) -> Option<String> {
    let errors = output.lines().rev().filter_map(|line| {
        let entry: Value = serde_json::from_str(line).ok()?;
        let level = entry["level"].as_str()?;
        ["error", "fatal", "panic"].contains(&level).then(|| entry["msg"].as_str().map(clean))?
    });
    let mut lines = output.lines().rev().filter(|line| !line.trim().is_empty()).map(clean);
    errors.into_iter().next().or_else(|| lines.next())
}

/// Makes the phrases findable whatever the runtime's spelling, and leaves its words as they are.
pub(super) fn with_common_phrases(mut message: String) -> String {
    for (phrase, others) in PHRASES {
        if !message.contains(phrase) && others.iter().any(|other| message.contains(other)) {
            message = format!("{message} ({phrase})");
        }
    }
    message
}

/// Whether the message has one of the phrases, or says that a file of the caller's is malformed.
pub(super) fn has_common_phrase(message: &str) -> bool {
    let malformed = ["config.json", "json:", "invalid character", "cannot parse", "parse error"];
    PHRASES.iter().any(|(phrase, _)| message.contains(phrase))
        || malformed.iter().any(|words| message.contains(words))
}

fn clean(message: &str) -> String {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_the_runtime_means() {
        let log = concat!(
            r#"{"level":"warning","msg":"old","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"first","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"last\nof all","time":"t"}"#,
            "\n",
            r#"{"level":"info","msg":"bye","time":"t"}"#,
            "\n"
        );
        assert_eq!(last_error(log).unwrap(), "last of all");
        assert_eq!(last_error("one\ntwo\n\n").unwrap(), "two");
        assert_eq!(last_error("\n"), None);
        assert_eq!(last_error(&"ä".repeat(4000)).unwrap().len(), MAX_MESSAGE);
    }

    #[test]
    fn phrases_are_added_only_where_they_are_missing() {
        assert_eq!(
            with_common_phrases("exec: \"x\": executable file not found in $PATH".to_owned()),
            "exec: \"x\": executable file not found in $PATH"
        );
        assert_eq!(
            with_common_phrases(
                "executable file `x` not found in $PATH: No such file or directory".to_owned()
            ),
            "executable file `x` not found in $PATH: No such file or directory \
             (executable file not found) (no such file or directory)"
        );
    }
}
