//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::runtime::write_script;

/// The server.
#[must_use]
pub fn server() -> PathBuf {
    program("GANTRYD", "gantryd")
}

/// Writes a program to start in the server's place, which does what `script` says; `$gantryd` in it is
/// the server.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn wrapped_server(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("gantryd");
    let text = format!("#!/bin/sh\ngantryd='{}'\n{script}\n", server().display());
    write_script(&path, &text);
    path
}

/// The shim, when it is not to be the one that the server finds by itself.
#[must_use]
pub fn shim() -> Option<PathBuf> {
    env::var_os("GANTRY_SHIM").map(PathBuf::from)
}

/// The command-line client.
#[must_use]
pub fn cli() -> PathBuf {
    program("GANTRY", "gantry")
}

/// Whether the server under test is the original containerd 0.2.
#[must_use]
pub fn is_incumbent() -> bool {
    server().file_name().is_some_and(|name| name == "containerd")
}

fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return path.into();
    }
    // <target>/<profile>/deps/<test>
    let test = env::current_exe().expect("path of the test executable");
    let profile = test.ancestors().nth(2).expect("the profile's directory");
    let target = profile.parent().expect("the target directory");
    [profile.to_owned(), target.join("release"), target.join("debug")]
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!("no {name} in {}: build the workspace or set {variable}", target.display())
        })
}
