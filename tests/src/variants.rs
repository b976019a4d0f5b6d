//! Builds of gantryd and gantry-shim other than the one under test, which `tests/variants.sh` and
//! `tests/old-version.sh` make.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{programs, skip};

/// A server and the shim that goes with it.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The path of `gantryd`.
    pub server: PathBuf,
    /// The path of `gantry-shim`.
    pub shim: PathBuf,
}

/// The commit of the earlier version, as `tests/old-version.sh` has it, which is its name.
pub const EARLIER: &str = "0446ef4";

/// Whether that program is of the earlier version.
#[must_use]
pub fn is_earlier(program: &Path) -> bool {
    program.iter().any(|part| part == EARLIER)
}

/// The variant of this name, from `$GANTRY_VARIANTS` or the directory `variants` of the target
/// directory. `None`, after saying so, if it was not built.
///
/// # Panics
/// When skipping is forbidden by `GANTRY_TEST_STRICT`.
#[must_use]
pub fn find(name: &str) -> Option<Variant> {
    let directory = match env::var_os("GANTRY_VARIANTS") {
        Some(directory) => PathBuf::from(directory),
        None => {
            // <target>/<profile>/deps/<test>
            let test = env::current_exe().expect("path of the test executable");
            test.ancestors().nth(3).expect("the target directory").join("variants")
        }
    };
    let own = directory.join(name);
    let variant = Variant { server: own.join("gantryd"), shim: own.join("gantry-shim") };
    if variant.is_there() {
        return Some(variant);
    }
    let scripts = "tests/variants.sh and tests/old-version.sh";
    skip(&format!("no variant {name} in {}, see {scripts}", directory.display()));
    None
}

impl Variant {
    /// The build under test.
    #[must_use]
    pub fn under_test() -> Self {
        let server = programs::server();
        let shim = programs::shim().unwrap_or_else(|| server.with_file_name("gantry-shim"));
        Self { server, shim }
    }

    fn is_there(&self) -> bool {
        let is_file = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        is_file(&self.server) && is_file(&self.shim)
    }
}
