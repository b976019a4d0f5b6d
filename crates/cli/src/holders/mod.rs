//! What a namespace has, and what holds it: the objects of containerd's API, and their references as the server's garbage
//! collection follows them (docs/containerd.md, "Garbage collection").

mod graph;
mod labels;
mod survey;

pub(crate) use graph::{Graph, Node};
pub(crate) use labels::EXPIRES;
pub(crate) use survey::Survey;
