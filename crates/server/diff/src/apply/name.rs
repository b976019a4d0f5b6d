//! Names in archives.

use crate::DiffError;

/// Components of a name, without `.`, and without `..` and what that goes back from. None are the root itself.
pub(crate) fn components(name: &[u8]) -> Result<Vec<&[u8]>, DiffError> {
    let mut components = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() {
                    return Err(DiffError::entry(name, "leads out of the layer by \"..\""));
                }
            }
            component => components.push(component),
        }
    }
    if name.starts_with(b"/") && !components.is_empty() {
        return Err(DiffError::entry(name, "has an absolute name, which leads out of the layer"));
    }
    Ok(components)
}

/// Where a hard link leads. An absolute one begins at the root of the layer: some builders write those.
pub(crate) fn linked<'a>(name: &[u8], link: &'a [u8]) -> Result<Vec<&'a [u8]>, DiffError> {
    let relative = link.iter().position(|byte| *byte != b'/').map_or(&b""[..], |at| &link[at..]);
    components(relative).map_err(|_| {
        let link = crate::error::shown(link);
        DiffError::entry(name, format!("is a hard link that leads out of the layer, to {link:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_layer() {
        let joined = |name: &str| {
            components(name.as_bytes()).map(|parts| String::from_utf8(parts.join(&b'/')).unwrap())
        };
        for (name, is) in
            [("a/b", "a/b"), ("./a//b/", "a/b"), ("a/../b", "b"), (".", ""), ("/", ""), ("", "")]
        {
            assert_eq!(joined(name).unwrap(), is, "{name}");
        }
        for bad in ["..", "../a", "a/../../b", "/a", "//a", "/../a"] {
            let error = joined(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
        assert_eq!(linked(b"n", b"/a/b").unwrap().len(), 2);
        let error = linked(b"name", b"../../etc/x").unwrap_err().to_string();
        assert!(error.contains("\"name\"") && error.contains("../../etc/x"), "{error}");
    }
}
