//! Compiles files of the package's `proto/` into Rust and descriptor sets, for the crates that name
//! this file as their build script. protox parses the files, so no protoc has to be installed.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use tonic_prost_build::Config;

/// The files of the feature `containerd`, below `proto/containerd`: the files of the services, and of
/// messages that travel in an `Any`, which no service imports.
const CONTAINERD: &[&str] = &[
    "services/containers/v1/containers.proto",
    "services/content/v1/content.proto",
    "services/diff/v1/diff.proto",
    "services/events/v1/events.proto",
    "services/images/v1/images.proto",
    "services/introspection/v1/introspection.proto",
    "services/leases/v1/leases.proto",
    "services/namespaces/v1/namespace.proto",
    "services/snapshots/v1/snapshots.proto",
    "services/streaming/v1/streaming.proto",
    "services/tasks/v1/tasks.proto",
    "services/transfer/v1/transfer.proto",
    "services/version/v1/version.proto",
    "events/container.proto",
    "events/content.proto",
    "events/image.proto",
    "events/namespace.proto",
    "events/snapshot.proto",
    "events/task.proto",
    "github.com/containerd/cgroups/cgroup1/stats/metrics.proto",
    "github.com/containerd/cgroups/cgroup2/stats/metrics.proto",
    "types/introspection.proto",
    "types/runc/options/oci.proto",
    "types/transfer/imagestore.proto",
    "types/transfer/importexport.proto",
    "types/transfer/progress.proto",
    "types/transfer/registry.proto",
    "types/transfer/streaming.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    match env::var("CARGO_PKG_NAME")?.as_str() {
        "gantry-api" => {
            compile(&proto, &["types/api.proto"], "descriptors.bin", Config::new())?;
            let files = ["gantry/v1/containers.proto", "gantry/v1/server.proto"];
            compile(&proto, &files, "gantry.bin", Config::new())?;
            if env::var_os("CARGO_FEATURE_CONTAINERD").is_some() {
                let mut config = Config::new();
                // The code of a package refers to others by the tree of modules that this file makes.
                config.include_file("containerd.rs");
                // Ordered maps: the same message is encoded to the same bytes every time.
                config.btree_map(["."]);
                // For `Any`.
                config.enable_type_names();
                compile(&proto.join("containerd"), CONTAINERD, "containerd.bin", config)?;
            }
        }
        "gantry-daemon" => {
            compile(&proto, &["gantry/daemon/v1/daemon.proto"], "descriptors.bin", Config::new())?;
        }
        other => return Err(format!("no file of proto/ is known to be {other}'s").into()),
    }
    Ok(())
}

/// Compiles `files` of the directory `root`, and writes their descriptors to the file `set`.
fn compile(root: &Path, files: &[&str], set: &str, config: Config) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(files, [root])?;
    for file in &descriptors.file {
        let path = root.join(file.name());
        // The files of google.protobuf are part of protox.
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut served = descriptors.clone();
    if set == "containerd.bin" {
        // The comments, which are most of the set, and which no client needs from reflection.
        served.file.iter_mut().for_each(|file| file.source_code_info = None);
    }
    fs::write(out.join(set), prost::Message::encode_to_vec(&served))?;
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
