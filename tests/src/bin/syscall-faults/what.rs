//! Names for what a call is about, the same in every run.

use std::{
    fs,
    io::IoSliceMut,
    path::{Path, PathBuf},
};

use nix::{
    libc,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use crate::calls::Object;

/// Longer paths are cut.
const LONGEST: usize = 512;

/// A string is read page by page, as the next one may not be there.
const PAGE: usize = 4096;

/// Makes names, of a test whose directory is `work`.
pub(crate) struct Names {
    work: String,
    /// The last part of its path, which cgroups are called after.
    name: String,
}

impl Names {
    pub(crate) fn new(work: &Path) -> Self {
        let name = work.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { work: work.to_string_lossy().into_owned(), name }
    }

    /// The name of what a call of this thread is about.
    pub(crate) fn name(&self, thread: Pid, object: Object) -> String {
        let path = match object {
            Object::Nothing => return "-".to_owned(),
            Object::Path(address) => self.plain(&string(thread, address)),
            Object::PathAt(directory, address) => self.below(thread, directory, address),
            Object::Descriptor(descriptor) => self.plain(&link(thread, descriptor)),
            Object::Program(address) => {
                let path = string(thread, address);
                path.rsplit('/').next().unwrap_or_default().to_owned()
            }
        };
        if path.is_empty() { "-".to_owned() } else { path }
    }

    fn below(&self, thread: Pid, directory: u64, address: u64) -> String {
        let path = string(thread, address);
        let here = u32::try_from(directory & 0xffff_ffff)
            .is_ok_and(|d| d == libc::AT_FDCWD.cast_unsigned());
        if path.starts_with('/') || here {
            return self.plain(&path);
        }
        self.plain(Path::new(&link(thread, directory)).join(path).to_string_lossy().as_ref())
    }

    /// Without what differs from run to run: the test's directory, and numbers.
    fn plain(&self, path: &str) -> String {
        let path = path.replace(&self.work, "{work}").replace(&self.name, "{test}");
        let path = path
            .trim_end_matches(" (deleted)")
            .trim_end_matches('/')
            .replace(char::is_whitespace, "_");
        let mut plain = String::new();
        for character in path.chars() {
            match character {
                '0'..='9' if plain.ends_with('#') => {}
                '0'..='9' => plain.push('#'),
                other => plain.push(other),
            }
        }
        plain
    }
}

fn link(thread: Pid, descriptor: u64) -> String {
    let link = fs::read_link(format!("/proc/{thread}/fd/{}", descriptor & 0xffff_ffff));
    link.unwrap_or_else(|_| PathBuf::from("?")).to_string_lossy().into_owned()
}

fn string(thread: Pid, address: u64) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST {
        let Ok(base) = usize::try_from(address) else { break };
        let base = base + bytes.len();
        let mut page = [0; PAGE];
        let room = PAGE - base % PAGE;
        let remote = [RemoteIoVec { base, len: room.min(LONGEST) }];
        let local = &mut [IoSliceMut::new(&mut page[..room.min(LONGEST)])];
        let Ok(length) = process_vm_readv(thread, local, &remote) else { break };
        if let Some(end) = page[..length].iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&page[..end]);
            break;
        }
        bytes.extend_from_slice(&page[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
