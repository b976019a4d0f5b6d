//! Labels of the content that images consist of, as containerd has them.

/// The digest of a layer without compression, of the blob that has it with compression. It is the layer's diff id.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// Followed by a dot and the name of a registry, without a port: the repositories of that registry which have a blob.
pub const DISTRIBUTION_SOURCE: &str = "containerd.io/distribution.source";
