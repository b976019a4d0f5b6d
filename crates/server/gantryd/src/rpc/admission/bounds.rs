//! How much of each field a request may have.

/// The bounds of one field, over the whole of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How often it may be there.
    pub(super) items: u64,
    /// Bytes of one string.
    pub(super) each: u64,
    /// Bytes of all its strings together.
    pub(super) all: u64,
}

/// Bounds of fields that are not named below, those of later versions of the contract among them: PATH_MAX
/// of limits.h for a string, and more items than any of them needs.
pub(super) const DEFAULT: Bounds = Bounds { items: 1024, each: 4096, all: 256 << 10 };

/// Strings that end in execve(2). It takes 128 KiB each (MAX_ARG_STRLEN) and 2 MiB together on the
/// common stack limit, a pointer and a NUL for each included: these are more than it ever takes.
const ARGUMENTS: Bounds = Bounds { items: 256 << 10, each: 128 << 10, all: 2 << 20 };

/// How much one of containerd's requests may have in all: its clients send no more.
const MESSAGE: u64 = 16 << 20;

/// How to find the bounds of a field of a request, by its path, in a package of protobuf.
pub(super) fn of_package(package: &str) -> fn(&str) -> Bounds {
    if package.starts_with("containerd.") { of_containerd } else { of }
}

/// Bounds of a field, which is named as in errors: `user.additionalGids`.
pub(super) fn of(path: &str) -> Bounds {
    match path {
        "args" | "env" | "runtimeArgs" => ARGUMENTS,
        // They are in each State answer.
        "labels" => Bounds { items: 16 << 10, each: 128 << 10, all: 256 << 10 },
        // NGROUPS_MAX of limits.h.
        "user.additionalGids" => Bounds { items: 64 << 10, ..DEFAULT },
        // Every second processor of 8192, which is all the kernel knows.
        "resources.cpusetCpus" | "resources.cpusetMems" => Bounds { each: 64 << 10, ..DEFAULT },
        // A piece of a process's input, in a message of its own.
        "stdin_data" => Bounds { each: 64 << 10, all: 64 << 10, ..DEFAULT },
        _ => DEFAULT,
    }
}

/// Bounds of a field of containerd's requests, which is named as in errors: `container.spec.value`.
fn of_containerd(path: &str) -> Bounds {
    let (message, field) = path.rsplit_once('.').unwrap_or(("", path));
    let message = message.rsplit('.').next().unwrap_or(message);
    match (message, field) {
        // The service checks each label. The bound of all is that of the message.
        (_, "labels" | "annotations" | "paths") | ("labels" | "annotations", "key" | "value") => {
            Bounds { items: 64 << 10, each: 64 << 10, all: MESSAGE }
        }
        // The value of an Any, which is JSON or a message that only clients know; and a piece of content.
        (_, "value" | "data") => Bounds { items: DEFAULT.items, each: MESSAGE, all: MESSAGE },
        // Of a mount: the directories of an overlay's layers, more than mount(2) takes.
        (_, "options") => Bounds { items: 16 << 10, each: 64 << 10, all: 1 << 20 },
        // As the filters themselves are bounded.
        (_, "filter" | "filters") => Bounds { each: 64 << 10, all: 64 << 10, ..DEFAULT },
        _ => DEFAULT,
    }
}
