//! Builds of gantryd and gantry-shim other than the one under test: `tests/variants.sh` makes them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use gantry_tests::skip;

/// A server and the shim that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) server: PathBuf,
    pub(crate) shim: PathBuf,
}

/// The variant of this name, from `$GANTRY_VARIANTS` or the directory `variants` of the target
/// directory. `None`, after saying so, if it was not built.
pub(crate) fn find(name: &str) -> Option<Variant> {
    let directory = match env::var_os("GANTRY_VARIANTS") {
        Some(directory) => PathBuf::from(directory),
        None => {
            // <target>/<profile>/deps/<test>
            let test = env::current_exe().expect("path of the test executable");
            test.ancestors().nth(3).expect("the target directory").join("variants")
        }
    };
    let variant = Variant::in_directory(&directory.join(name));
    if variant.is_none() {
        skip(&format!("no variant {name} in {}, see tests/variants.sh", directory.display()));
    }
    variant
}

impl Variant {
    pub(crate) fn in_directory(directory: &Path) -> Option<Self> {
        let (server, shim) = (directory.join("gantryd"), directory.join("gantry-shim"));
        let there = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        (there(&server) && there(&shim)).then_some(Self { server, shim })
    }
}
