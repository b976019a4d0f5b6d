//! Compiles a file of the package's `proto/` into Rust and a descriptor set, for the crates that name
//! this file as their build script. protox parses the files, so no protoc has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let file = match env::var("CARGO_PKG_NAME")?.as_str() {
        "gantry-api" => "types/api.proto",
        "gantry-daemon" => "gantry/daemon/v1/daemon.proto",
        other => return Err(format!("no file of proto/ is known to be {other}'s").into()),
    };
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo:rerun-if-changed={}", proto.join(file).display());

    let descriptors = protox::compile([file], [&proto])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;

    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
