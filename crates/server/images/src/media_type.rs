//! Media types of what images consist of.

/// An index of the OCI image specification.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest of the OCI image specification.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A configuration of the OCI image specification.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Docker's configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Docker's layer, of whatever compression.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Docker's layer with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Docker's other layers.
const DOCKER_LAYERS: [&str; 5] = [
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// A checkpoint of a task, as containerd makes it: CRIU's images in a tar archive.
pub const CHECKPOINT: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";

/// The container's specification, beside its checkpoint: a `google.protobuf.Any`.
pub const CHECKPOINT_CONFIG: &str =
    "application/vnd.containerd.container.checkpoint.config.v1+proto";

/// Whether it is a manifest.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    [MANIFEST, DOCKER_MANIFEST].contains(&media_type)
}

/// Whether it lists manifests.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    [INDEX, DOCKER_INDEX].contains(&media_type)
}

/// Whether it is an image's configuration.
#[must_use]
pub fn is_config(media_type: &str) -> bool {
    [CONFIG, DOCKER_CONFIG].contains(&media_type)
}

/// Whether it is a layer.
#[must_use]
pub fn is_layer(media_type: &str) -> bool {
    let base = media_type.split('+').next().unwrap_or_default();
    media_type.starts_with("application/vnd.oci.image.layer.")
        || DOCKER_LAYERS.contains(&base)
        || base == "application/vnd.erofs.layer.v1"
}

/// Whether it is a layer that must not be given to others.
#[must_use]
pub fn is_non_distributable(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// The label by which the blob of a parent refers to that of a child, without the number at its end: containerd's.
pub(crate) fn reference_label(media_type: &str) -> &'static str {
    if is_config(media_type) || [CHECKPOINT, CHECKPOINT_CONFIG].contains(&media_type) {
        "containerd.io/gc.ref.content.config"
    } else if is_manifest(media_type) {
        "containerd.io/gc.ref.content.m."
    } else if is_layer(media_type) {
        "containerd.io/gc.ref.content.l."
    } else {
        "containerd.io/gc.ref.content."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_those_of_both_worlds() {
        for layer in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted",
        ] {
            assert!(is_layer(layer), "{layer}");
        }
        for other in ["", CONFIG, DOCKER_MANIFEST, "application/vnd.in-toto+json"] {
            assert!(!is_layer(other), "{other}");
        }
        for layer in DOCKER_LAYERS {
            let packing = gantry_diff::Packing::of_media_type(layer);
            assert!(packing.is_some(), "{layer} can be unpacked");
        }
        assert!(is_non_distributable("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
        assert!(!is_non_distributable(DOCKER_LAYER));
    }
}
