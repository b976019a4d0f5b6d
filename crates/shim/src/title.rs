//! What the process list shows of a shim.
//!
//! A shim that waits for its process has another name, so that whoever counts shims by name counts
//! one for each process. Its arguments are overwritten in place: the server has started it with an argument
//! that is long enough for those that are known later.

use std::ffi::CString;
use std::path::Path;

use crate::sys::{self, MemoryMap};

/// The memory in which the kernel finds the arguments.
pub(crate) struct Title(Option<(MemoryMap, &'static mut [u8])>);

impl Title {
    /// Clears the arguments, all but the name. To be called once, when nobody reads the
    /// arguments any more.
    pub(crate) fn take() -> Self {
        let name = std::env::args_os().next().unwrap_or_default();
        let map = MemoryMap::read();
        let mut title = Self(map.and_then(|map| sys::take_arguments(&map).map(|area| (map, area))));
        title.set(&[name.to_string_lossy().into_owned()]);
        title
    }

    /// Sets a name, and arguments. What does not fit is cut. Without room for them, or if the server sends none, they
    /// stay as they are.
    pub(crate) fn set(&mut self, words: &[String]) {
        let Some(name) = words.first() else { return };
        set_name(name);
        let Some((map, area)) = &mut self.0 else { return };
        let length = write(area, words);
        // Where this is not possible, empty arguments are shown after them.
        let _ = map.end_arguments_at(length);
    }
}

/// Writes words that each end with a NUL, and nothing else; returns their length.
fn write(area: &mut [u8], words: &[String]) -> usize {
    area.fill(0);
    // The last byte stays NUL, or else the kernel takes what follows for a part of the arguments.
    let Some((_, room)) = area.split_last_mut() else { return 0 };
    let mut text = words.join("\0").into_bytes();
    text.truncate(room.len());
    room[..text.len()].copy_from_slice(&text);
    text.len() + 1
}

/// The kernel has named the process after its executable.
fn set_name(name: &str) {
    let name = Path::new(name).file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_encoded_bytes()) {
        // Cut to 15 bytes by the kernel. A name is not worth failing for.
        let _ = rustix::thread::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_with_a_nul_and_are_cut_to_their_place() {
        let words = ["shim", "id"].map(str::to_owned);
        let mut area = *b"something else\0";
        assert_eq!(write(&mut area, &words), 8);
        assert_eq!(&area, b"shim\0id\0\0\0\0\0\0\0\0");
        let mut area = *b"short\0";
        assert_eq!(write(&mut area, &words), 6);
        assert_eq!(&area, b"shim\0\0");
        assert_eq!(write(&mut [], &words), 0);
    }
}
