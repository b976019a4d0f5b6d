//! Fields that are JSON of the OCI runtime specification.

use std::{borrow::Cow, collections::BTreeMap};

use gantry_store::AnyValue;
use prost_types::Any;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::rpc::BadField;

/// A container's specification, which becomes its config.json unchanged. As in containerd, its type is ignored.
pub(super) fn spec(spec: Option<AnyValue>) -> Result<Vec<u8>, BadField> {
    let spec = spec.ok_or_else(|| BadField::new("container.spec", "must be given"))?;
    Ok(spec.value)
}

/// Whether a specification's process has a terminal. One that cannot be read has none: the runtime reports why.
pub(super) fn has_terminal(spec: Option<&AnyValue>) -> bool {
    #[derive(Deserialize)]
    struct Spec {
        process: Option<Process>,
    }
    #[derive(Deserialize)]
    struct Process {
        terminal: Option<bool>,
    }
    let spec = spec.and_then(|spec| serde_json::from_slice::<Spec>(&spec.value).ok());
    spec.and_then(|spec| spec.process?.terminal).unwrap_or(false)
}

/// The process that is to be added to a task: whether it has a terminal is up to the request, whatever
/// the object says.
pub(super) fn process(spec: Option<&Any>, terminal: bool) -> Result<String, BadField> {
    const FIELD: &str = "spec";
    let mut process: Object<'_, &RawValue> = object(FIELD, spec)?;
    // For Go, the language of runc, the case of a name does not matter.
    process.retain(|name, _| !name.eq_ignore_ascii_case("terminal"));
    let unreadable = |error: serde_json::Error| BadField::new(FIELD, error.to_string());
    let terminal = serde_json::value::to_raw_value(&terminal).map_err(unreadable)?;
    process.insert("terminal".into(), &terminal);
    serde_json::to_string(&process).map_err(unreadable)
}

/// Limits that are to change, as a runtime reads them.
pub(super) fn resources(resources: Option<&Any>) -> Result<String, BadField> {
    const FIELD: &str = "resources";
    let _: Object<'_, IgnoredAny> = object(FIELD, resources)?;
    let value = resources.map(|any| any.value.clone()).unwrap_or_default();
    String::from_utf8(value).map_err(|error| BadField::new(FIELD, error.to_string()))
}

/// The members of an object, whose values are not parsed: they take no more memory than they have bytes.
type Object<'a, T> = BTreeMap<Cow<'a, str>, T>;

/// The value of an Any. As in containerd, its type is ignored.
fn object<'a, T: Deserialize<'a>>(
    field: &'static str,
    any: Option<&'a Any>,
) -> Result<Object<'a, T>, BadField> {
    let value = any.map(|any| any.value.as_slice()).unwrap_or_default();
    if value.is_empty() {
        return Err(BadField::new(field, "must be given"));
    }
    serde_json::from_slice(value)
        .map_err(|error| BadField::new(field, format!("is not an object of JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use gantry_api::containerd::type_url;

    use super::*;

    fn any(type_url: &str, value: &str) -> Any {
        Any { type_url: type_url.to_owned(), value: value.as_bytes().to_vec() }
    }

    #[test]
    fn a_specification_is_passed_on_byte_for_byte() {
        let given = |type_url: &str| {
            let value = b"{ not looked at".to_vec();
            spec(Some(AnyValue { type_url: type_url.to_owned(), value }))
        };
        for kind in [type_url::SPEC, "other/Spec", "", "a/b"] {
            assert_eq!(given(kind).unwrap(), b"{ not looked at");
        }
        assert_eq!(spec(None).unwrap_err().to_string(), "container.spec: must be given");
    }

    #[test]
    fn a_process_has_the_terminal_of_its_request() {
        let given = r#"{"args":["a"],"Terminal":true,"terminal":true,"rlimits":[{"hard":18446744073709551615}]}"#;
        let process = process(Some(&any("a/b", given)), false).unwrap();
        let expected =
            r#"{"args":["a"],"rlimits":[{"hard":18446744073709551615}],"terminal":false}"#;
        assert_eq!(process, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "null", "[]", "1", "{", "{} x", "\u{1}"] {
            let any = any(type_url::PROCESS, bad);
            assert!(process(Some(&any), true).unwrap_err().to_string().starts_with("spec: "));
            assert!(resources(Some(&any)).unwrap_err().to_string().starts_with("resources: "));
        }
        assert!(process(None, true).is_err() && resources(None).is_err());
        let deep = "[".repeat(100_000);
        assert!(process(Some(&any("", &format!("{{\"a\":{deep}"))), true).is_err());
    }

    #[test]
    fn limits_are_passed_on_as_they_are() {
        let given = r#"{ "memory": {"limit": 0},  "unified": {"a.b": "1"} }"#;
        assert_eq!(resources(Some(&any("a/b", given))).unwrap(), given);
    }
}
