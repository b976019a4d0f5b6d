//! Where the streams of a process go, as clients of containerd give it.

use std::path::PathBuf;

use gantry_domain::Stdio;

use crate::{rpc::BadField, services::path};

/// What may stand before `://`, in containerd's order.
pub(in crate::services::containerd) const SCHEMES: [&str; 4] =
    ["fifo", "binary", "binary-v2", "file"];

/// Empty strings are no streams. A stderr beside a terminal is kept, although nothing is written to it: Get returns
/// what the client gave.
pub(super) fn parse(stdin: &str, stdout: &str, stderr: &str) -> Result<Stdio, BadField> {
    Ok(Stdio {
        stdin: path::stream("stdin", stdin)?,
        stdout: output("stdout", stdout)?,
        stderr: output("stderr", stderr)?,
    })
}

/// An absolute path, or a URI as `file:///path` and `binary:///path?key=value`.
fn output(field: &'static str, target: &str) -> Result<Option<PathBuf>, BadField> {
    if target == Stdio::HELD {
        return path::stream(field, target);
    }
    let Some((scheme, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return path::optional(field, target);
    };
    if !SCHEMES.contains(&scheme) {
        let problem = format!(
            "must be an absolute path, or a URI that begins with {}://; is {target:?}",
            SCHEMES.join(":// or ")
        );
        return Err(BadField::new(field, problem));
    }
    let file = rest.split_once('?').map_or(rest, |(file, _)| file);
    path::absolute(field, file)?;
    if rest.contains('\0') {
        return Err(BadField::new(field, "must not contain a NUL"));
    }
    Ok(Some(target.into()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn streams_are_paths_or_for_output_uris() {
        let stdio = parse("/in", "/out", "").unwrap();
        assert_eq!(stdio.stdin.as_deref(), Some(Path::new("/in")));
        assert_eq!((stdio.stdout.as_deref(), stdio.stderr), (Some(Path::new("/out")), None));
        for uri in [
            "file:///var/log/x",
            "binary:///usr/bin/logger?id=a&b=%2F",
            "binary-v2:///l",
            "fifo:///f",
        ] {
            let stdio = parse("", uri, uri).unwrap();
            assert_eq!(stdio.stdout.as_deref(), Some(Path::new(uri)));
            assert_eq!(stdio.stdout, stdio.stderr);
        }
    }

    #[test]
    fn what_is_neither_is_named() {
        for bad in
            ["out", "./out", "/a/../b", "/a\0", "file://relative", "binary://", "http:///x", "://x"]
        {
            for (stdout, stderr, field) in [(bad, "", "stdout"), ("", bad, "stderr")] {
                let text = parse("", stdout, stderr).unwrap_err().to_string();
                assert!(text.starts_with(&format!("{field}: ")), "{text}");
            }
        }
        for bad in ["in", "file:///in", "fifo:///in"] {
            let text = parse(bad, "", "").unwrap_err().to_string();
            assert!(text.starts_with("stdin: "), "{text}");
        }
    }
}
