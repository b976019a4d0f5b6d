//! The containerd services have the wire format that clients of containerd know.

use std::{collections::BTreeSet, error::Error};

use gantry_api::containerd::{
    FILE_DESCRIPTOR_SET, containers::Container, event_types::TaskOom, from_any, runc::Options,
    to_any,
};
use prost::Message;
use prost_types::{
    Any, DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

#[test]
fn contract_is_the_table_of_containerd_txt() -> Result<(), Box<dyn Error>> {
    let wanted = table(include_str!("containerd.txt"))?;
    let mut compiled = BTreeSet::new();
    for file in FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?.file {
        // The well-known types are protobuf's own.
        if file.package() != "google.protobuf" {
            describe_file(&file, &mut compiled)?;
        }
    }
    let missing: Vec<_> = wanted.difference(&compiled).collect();
    let surplus: Vec<_> = compiled.difference(&wanted).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
    Ok(())
}

/// The facts of the table, in the words of the functions `describe_*`.
fn table(text: &str) -> Result<BTreeSet<String>, String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("  "), lines.last_mut()) {
            (Some(more), Some(last)) => *last = format!("{last} {more}"),
            _ => lines.push(line.to_owned()),
        }
    }
    let mut facts = BTreeSet::new();
    let mut package = "";
    for line in &lines {
        if let Some(file) = line.strip_prefix("file ") {
            package = file.rsplit_once(' ').ok_or_else(|| format!("no package: {line}"))?.1;
            facts.insert(line.clone());
            continue;
        }
        let (head, members) = line.split_once(':').ok_or_else(|| format!("no colon: {line}"))?;
        let (kind, name) = head.split_once(' ').unwrap_or(("message", head));
        let owner = format!("{kind} {package}.{name}");
        facts.insert(owner.clone());
        for member in members.split("; ").map(str::trim).filter(|member| !member.is_empty()) {
            let new = facts.insert(format!("{owner}: {}", with_full_names(member, kind, package)));
            if !new {
                return Err(format!("{owner} has {member} twice"));
            }
        }
    }
    Ok(facts)
}

/// A field or call of the table, with the package before each type that has none.
fn with_full_names(member: &str, kind: &str, package: &str) -> String {
    let full = |name: &str| match name.chars().next() {
        Some(first) if first.is_uppercase() => format!("{package}.{name}"),
        _ => name.to_owned(),
    };
    match (
        kind,
        member.split_once('(').and_then(|(name, rest)| Some((name, rest.split_once(')')?))),
    ) {
        ("service", Some((name, (input, output)))) => {
            let full = |kind: &str| match kind.trim().strip_prefix("stream ") {
                Some(kind) => format!("stream {}", full(kind)),
                None => full(kind.trim()),
            };
            format!("{name}({}) {}", full(input), full(output))
        }
        ("message", _) => match member.rsplit_once(' ') {
            Some((start, kind)) => format!("{start} {}", full(kind)),
            None => member.to_owned(),
        },
        _ => member.to_owned(),
    }
}

fn describe_file(
    file: &FileDescriptorProto,
    facts: &mut BTreeSet<String>,
) -> Result<(), Box<dyn Error>> {
    let package = file.package();
    assert_eq!(file.syntax(), "proto3", "{}", file.name());
    assert!(file.extension.is_empty(), "{}", file.name());
    facts.insert(format!("file {} {package}", file.name()));
    for message in &file.message_type {
        describe_message(message, package, facts)?;
    }
    for one in &file.enum_type {
        describe_enum(one, package, facts);
    }
    for service in &file.service {
        describe_service(service, package, facts);
    }
    Ok(())
}

fn describe_message(
    message: &DescriptorProto,
    scope: &str,
    facts: &mut BTreeSet<String>,
) -> Result<(), Box<dyn Error>> {
    let name = format!("{scope}.{}", message.name());
    facts.insert(format!("message {name}"));
    assert!(message.oneof_decl.is_empty() && message.extension_range.is_empty(), "{name}");
    for field in &message.field {
        let map = message.nested_type.iter().find(|nested| {
            is_map_entry(nested) && field.type_name() == format!(".{name}.{}", nested.name())
        });
        let kind = match map {
            Some(entry) => match &entry.field[..] {
                [key, value] => format!("map<{}, {}>", type_of(key)?, type_of(value)?),
                _ => return Err(format!("{name}: a map of {entry:?}").into()),
            },
            None if field.label() == Label::Repeated => format!("repeated {}", type_of(field)?),
            None => type_of(field)?,
        };
        facts.insert(format!("message {name}: {} {} {kind}", field.number(), field.name()));
    }
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        describe_message(nested, &name, facts)?;
    }
    for nested in &message.enum_type {
        describe_enum(nested, &name, facts);
    }
    Ok(())
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn type_of(field: &FieldDescriptorProto) -> Result<String, Box<dyn Error>> {
    // The encoding of repeated numbers is proto3's own: packed.
    assert!(field.options.as_ref().is_none_or(|options| options.packed.is_none()), "{field:?}");
    Ok(match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => {
            let name = scalar.as_str_name().strip_prefix("TYPE_").ok_or("a type without a name")?;
            name.to_lowercase()
        }
    })
}

fn describe_enum(one: &EnumDescriptorProto, scope: &str, facts: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", one.name());
    facts.insert(format!("enum {name}"));
    for value in &one.value {
        facts.insert(format!("enum {name}: {} {}", value.number(), value.name()));
    }
}

fn describe_service(service: &ServiceDescriptorProto, scope: &str, facts: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", service.name());
    facts.insert(format!("service {name}"));
    let stream = |streams| if streams { "stream " } else { "" };
    for method in &service.method {
        facts.insert(format!(
            "service {name}: {}({}{}) {}{}",
            method.name(),
            stream(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            stream(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        ));
    }
}

#[test]
fn any_has_the_full_name_without_a_slash() {
    let oom = TaskOom { container_id: "c".into() };
    let any = to_any(&oom);
    assert_eq!(any.type_url, "containerd.events.TaskOOM");
    assert_eq!(any.value, b"\x0a\x01c");
    assert_eq!(from_any(&any), Ok(Some(oom)));
}

#[test]
fn any_is_read_with_and_without_a_slash() {
    let options = Options { binary_name: "crun".into(), ..Options::default() };
    for type_url in [
        "containerd.runc.v1.Options",
        "/containerd.runc.v1.Options",
        "a.b/c/containerd.runc.v1.Options",
    ] {
        let any = Any { type_url: type_url.into(), value: options.encode_to_vec() };
        assert_eq!(from_any(&any), Ok(Some(options.clone())), "{type_url}");
    }
}

#[test]
fn any_of_another_type_is_none_and_broken_bytes_are_an_error() {
    let any = |type_url: &str, value: &[u8]| Any { type_url: type_url.into(), value: value.into() };
    for type_url in ["", "/", "Options", "runc.v1.Options", "xcontainerd.runc.v1.Options"] {
        assert_eq!(from_any::<Options>(&any(type_url, b"\xff")), Ok(None), "{type_url:?}");
    }
    assert!(from_any::<Options>(&any("containerd.runc.v1.Options", b"\xff")).is_err());
}

#[test]
fn unknown_any_is_kept_byte_for_byte() -> Result<(), Box<dyn Error>> {
    // No protobuf, no UTF-8, and a type that nobody knows.
    let unknown = Any { type_url: "a//b".into(), value: (0..=255).rev().collect() };
    let container = Container {
        spec: Some(unknown.clone()),
        extensions: [("x/y.z".to_owned(), unknown.clone()), (String::new(), Any::default())].into(),
        ..Container::default()
    };
    let again = Container::decode(container.encode_to_vec().as_slice())?;
    assert_eq!(again.spec, Some(unknown.clone()));
    assert_eq!(again.extensions.get("x/y.z"), Some(&unknown));
    assert_eq!(again.extensions.get(""), Some(&Any::default()));
    Ok(())
}
