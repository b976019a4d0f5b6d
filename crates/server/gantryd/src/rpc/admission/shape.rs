//! What requests look like on the wire, from the contract's descriptors: each field that a request
//! can have, and its bounds. A field that is added to the contract is included automatically.

use std::{collections::HashMap, sync::Arc};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

use super::bounds::{self, Bounds};

/// Deeper than any request is.
const DEEPEST: usize = 16;

/// The slot in which unknown fields are counted.
const UNKNOWN: usize = 0;

/// The fields that name what a request is about, the likeliest first.
const SUBJECTS: [&str; 13] = [
    "container_id",
    "id",
    "container.id",
    "begin.container_id",
    "key",
    "name",
    "image.name",
    "namespace.name",
    "info.name",
    "digest",
    "info.digest",
    "ref",
    "topic",
];

/// Why the shapes of requests cannot be made from the descriptors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShapeError {
    #[error("the contract's descriptors cannot be read: {0}")]
    Descriptors(prost::DecodeError),
    #[error("the contract's descriptors lack the message {0}")]
    Missing(String),
    #[error("{0} is nested too deep to be bounded")]
    Deep(String),
}

/// A request of one method.
#[derive(Debug)]
pub(super) struct Shape {
    /// The answer is a stream of messages.
    pub(super) is_answered_by_stream: bool,
    /// It is a stream of messages itself, each of which is bounded.
    pub(super) is_stream: bool,
    /// Each message within it, itself first.
    messages: Vec<Vec<Field>>,
    pub(super) slots: Vec<Slot>,
    /// Where the field is counted that names what the request is about.
    pub(super) subject: Option<usize>,
}

/// Something that is counted: a field, wherever in the request it is.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its name, after those of the messages that it is in.
    pub(super) path: String,
    pub(super) bounds: Bounds,
}

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// Where it is counted, in [`Shape::slots`].
    pub(super) slot: usize,
}

/// What is in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string or bytes.
    Bytes,
    /// A varint; many may be packed together.
    Varint,
    /// A number of this many bytes; many may be packed together.
    Fixed(u64),
    /// A message, in [`Shape::messages`].
    Message(usize),
}

impl Shape {
    /// The field of this number in a message.
    pub(super) fn field(&self, message: usize, number: u64) -> Field {
        let known = self.messages[message].iter().find(|field| field.number == number);
        known.copied().unwrap_or(Field { number, kind: Kind::Bytes, slot: UNKNOWN })
    }

    #[cfg(test)]
    pub(super) fn fields(&self, message: usize) -> &[Field] {
        &self.messages[message]
    }
}

/// The requests of all methods, by the path with which HTTP names the method.
pub(super) fn all(descriptors: &[u8]) -> Result<HashMap<String, Arc<Shape>>, ShapeError> {
    let descriptors = FileDescriptorSet::decode(descriptors).map_err(ShapeError::Descriptors)?;
    let mut messages = HashMap::new();
    for file in &descriptors.file {
        collect(&format!(".{}", file.package()), &file.message_type, &mut messages);
    }
    let mut shapes = HashMap::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let bounds = bounds::of_package(file.package());
                let slots = vec![unknown()];
                let mut builder =
                    Builder { bounds, descriptors: &messages, messages: vec![], slots };
                builder.message(method.input_type(), "", 0)?;
                let Builder { messages, slots, .. } = builder;
                let subject = SUBJECTS
                    .iter()
                    .find_map(|path| slots.iter().position(|slot| slot.path == *path));
                let shape = Shape {
                    subject,
                    is_answered_by_stream: method.server_streaming(),
                    is_stream: method.client_streaming(),
                    messages,
                    slots,
                };
                shapes.insert(path, Arc::new(shape));
            }
        }
    }
    Ok(shapes)
}

fn unknown() -> Slot {
    Slot { path: "unknown fields".to_owned(), bounds: bounds::DEFAULT }
}

fn collect<'a>(
    scope: &str,
    messages: &'a [DescriptorProto],
    found: &mut HashMap<String, &'a DescriptorProto>,
) {
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        collect(&name, &message.nested_type, found);
        found.insert(name, message);
    }
}

struct Builder<'a> {
    bounds: fn(&str) -> Bounds,
    descriptors: &'a HashMap<String, &'a DescriptorProto>,
    messages: Vec<Vec<Field>>,
    slots: Vec<Slot>,
}

impl Builder<'_> {
    fn message(&mut self, name: &str, path: &str, depth: usize) -> Result<usize, ShapeError> {
        if depth > DEEPEST {
            return Err(ShapeError::Deep(name.to_owned()));
        }
        let descriptor =
            *self.descriptors.get(name).ok_or_else(|| ShapeError::Missing(name.to_owned()))?;
        let index = self.messages.len();
        self.messages.push(Vec::new());
        for field in &descriptor.field {
            let separator = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{separator}{}", field.name());
            let slot = self.slots.len();
            self.slots.push(Slot { path: path.clone(), bounds: (self.bounds)(&path) });
            let kind = match field.r#type() {
                Type::String | Type::Bytes => Kind::Bytes,
                Type::Message | Type::Group => {
                    Kind::Message(self.message(field.type_name(), &path, depth + 1)?)
                }
                Type::Double | Type::Fixed64 | Type::Sfixed64 => Kind::Fixed(8),
                Type::Float | Type::Fixed32 | Type::Sfixed32 => Kind::Fixed(4),
                _ => Kind::Varint,
            };
            let number = u64::try_from(field.number()).unwrap_or_default();
            self.messages[index].push(Field { number, kind, slot });
        }
        Ok(index)
    }
}
