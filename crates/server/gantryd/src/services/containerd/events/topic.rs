//! What a topic may be: `/` and names, with a `/` between any two.

use gantry_store::check_identifier;
use tonic::Status;

use crate::services::containerd::status::invalid;

/// How long a topic may be, in bytes.
const MAX_LENGTH: usize = 1024;

/// Checks the topic in this field.
pub(super) fn check(field: &'static str, topic: &str) -> Result<(), Status> {
    problem(topic).map_or(Ok(()), |problem| {
        Err(invalid(field, format!("envelope topic {:?}: {problem}", shown(topic))))
    })
}

/// What is wrong with it, in containerd's words.
fn problem(topic: &str) -> Option<String> {
    let Some(names) = topic.strip_prefix('/') else {
        let problem = if topic.is_empty() { "must not be empty" } else { "must start with '/'" };
        return Some(problem.to_owned());
    };
    if names.is_empty() {
        return Some("must have at least one component".to_owned());
    }
    if topic.len() > MAX_LENGTH {
        return Some(format!("must not be longer than {MAX_LENGTH} bytes"));
    }
    names.split('/').find_map(|name| {
        let problem = check_identifier(name).err()?;
        Some(format!("failed validation on component {:?}: {problem}", shown(name)))
    })
}

/// No more of the topic than an error should show.
fn shown(topic: &str) -> &str {
    topic.get(..MAX_LENGTH).unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn topics_are_those_of_containerd() {
        for good in ["/tasks/start", "/a", "/a.b/c-d/e_f", "/snapshot/prepare"] {
            assert!(check("topic", good).is_ok(), "{good}");
        }
        for (bad, problem) in [
            ("", "must not be empty"),
            ("tasks/start", "must start with '/'"),
            ("/", "must have at least one component"),
            ("//", "failed validation on component \"\": identifier must not be empty"),
            ("/a/", "failed validation on component \"\": identifier must not be empty"),
            (
                "/a/b c",
                "failed validation on component \"b c\": identifier \"b c\" must match \
                 ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$",
            ),
        ] {
            let error = check("topic", bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            let message = format!("envelope topic {bad:?}: {problem}: invalid argument");
            assert_eq!(error.message(), message);
        }
        for long in ["/a".repeat(600), "ä".repeat(10_000)] {
            let error = check("topic", &long).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
        }
    }
}
