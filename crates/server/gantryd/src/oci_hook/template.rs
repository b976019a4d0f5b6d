//! The templates of hooks: of Go's language only `{{name}}` and `{{name "argument"}}`, of which those consist that are
//! in use.

/// Why a template says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{template:?}: there is no {action:?}")]
pub(super) struct Unrenderable {
    template: String,
    action: String,
}

/// The text with what its templates name; `value` gives that, by name and argument.
pub(super) fn render(
    template: &str,
    value: impl Fn(&str, Option<&str>) -> Option<String>,
) -> Result<String, Unrenderable> {
    let (mut rendered, mut rest) = (String::new(), template);
    while let Some((before, behind)) = rest.split_once("{{") {
        let failed = |action: &str| Unrenderable {
            template: template.to_owned(),
            action: action.trim().to_owned(),
        };
        let (action, behind) = behind.split_once("}}").ok_or_else(|| failed(behind))?;
        let found = parse(action).and_then(|(name, argument)| value(name, argument));
        rendered.push_str(before);
        rendered.push_str(&found.ok_or_else(|| failed(action))?);
        rest = behind;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

/// A name, and perhaps an argument in double quotes without escapes, or in back quotes.
fn parse(action: &str) -> Option<(&str, Option<&str>)> {
    let action = action.trim();
    let Some((name, argument)) = action.split_once(char::is_whitespace) else {
        return Some((action, None));
    };
    let argument = argument.trim();
    let quoted = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
    let argument =
        quoted('"').filter(|text| !text.contains(['"', '\\'])).or_else(|| quoted('`'))?;
    Some((name, Some(argument)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, argument: Option<&str>) -> Option<String> {
        match (name, argument) {
            ("pid", None) => Some("17".to_owned()),
            ("annotation", Some(key)) => Some(format!("<{key}>")),
            _ => None,
        }
    }

    #[test]
    fn what_is_named_takes_the_place_of_its_name() {
        for (template, expected) in [
            ("", ""),
            ("}} {pid}", "}} {pid}"),
            ("{{pid}}", "17"),
            ("a{{ pid }}b{{pid}}", "a17b17"),
            ("{{annotation \"a b\"}}", "<a b>"),
            ("{{ annotation  `a\\` }}", "<a\\>"),
        ] {
            assert_eq!(render(template, value).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (template, action) in [
            ("{{", ""),
            ("x{{pid", "pid"),
            ("{{}}", ""),
            ("{{.Pid}}", ".Pid"),
            ("{{pid \"x\"}}", "pid \"x\""),
            ("{{annotation}}", "annotation"),
            ("{{annotation \"\\x\"}}", "annotation \"\\x\""),
            ("{{annotation \"a\" \"b\"}}", "annotation \"a\" \"b\""),
            ("{{annotation a}}", "annotation a"),
            ("{{if pid}}", "if pid"),
        ] {
            let error = render(template, value).unwrap_err();
            assert_eq!(error, Unrenderable { template: template.into(), action: action.into() });
        }
    }
}
