//! See [`crate::untrusted::any`].

use gantry_api::containerd::tasks::CreateTaskRequest;
use gantry_store::{AnyValue, Runtime};
use prost_types::Any;

use super::{checkpoint, json, options};

/// What is read of a message is what it contains, and what is passed on.
pub(crate) fn check(any: &Any) {
    let Any { type_url, value } = any.clone();
    let spec = json::spec(Some(AnyValue { type_url, value }));
    assert!(spec.is_err() || spec.is_ok_and(|spec| spec == any.value), "a changed specification");
    for terminal in [false, true] {
        let Ok(process) = json::process(Some(any), terminal) else { continue };
        let process: serde_json::Value = serde_json::from_str(&process).unwrap_or_default();
        assert_eq!(process["terminal"], terminal, "{process}");
        let others = process.as_object().into_iter().flatten().map(|(name, _)| name);
        let same = others.filter(|name| name.eq_ignore_ascii_case("terminal"));
        assert_eq!(same.count(), 1, "{process}");
    }
    if let Ok(resources) = json::resources(Some(any)) {
        assert_eq!(resources.as_bytes(), any.value, "changed limits");
    }
    let container = Runtime { name: "io.containerd.runc.v2".to_owned(), options: None };
    let request = CreateTaskRequest { options: Some(any.clone()), ..CreateTaskRequest::default() };
    if let Ok(runtime) = options::runtime(&container, &request) {
        let paths = [&runtime.root, &runtime.criu_image, &runtime.criu_work];
        assert!(paths.into_iter().flatten().all(|path| path.is_absolute()), "{runtime:?}");
    }
    if let Ok(wanted) = checkpoint::wanted(Some(any), &container.name) {
        let options = &wanted.options;
        let words = options.empty_namespaces.iter().chain([&options.cgroups_mode]);
        assert!(words.into_iter().all(|word| !word.starts_with('-')), "{wanted:?}");
        assert!(wanted.path.iter().all(|path| path.is_absolute()), "{wanted:?}");
    }
}
