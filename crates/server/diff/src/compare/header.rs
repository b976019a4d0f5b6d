//! Headers of an archive: those of ustar, with PAX records where a value has no room.

use tar::Header;

use crate::archive::XATTR;

/// Blocks that an archive consists of.
pub(super) const BLOCK: usize = 512;

/// What an entry is, by its flag in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    File = b'0' as isize,
    Link = b'1' as isize,
    Symlink = b'2' as isize,
    Character = b'3' as isize,
    Block = b'4' as isize,
    Directory = b'5' as isize,
    Fifo = b'6' as isize,
}

/// What a header says.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) flag: Flag,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    /// Major and minor number.
    pub(super) device: [u32; 2],
    pub(super) link: Vec<u8>,
    /// The value of `security.capability`.
    pub(super) capability: Option<Vec<u8>>,
}

/// The header of an entry, with what has to come before.
pub(super) fn encode(name: &[u8], fields: &Fields) -> Vec<u8> {
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    let raw = header.as_ustar_mut();
    let Some(raw) = raw else { return Vec::new() };
    text(&mut raw.name, name, "path", &mut records);
    text(&mut raw.linkname, &fields.link, "linkpath", &mut records);
    octal(&mut raw.mode, Some(fields.mode.into()));
    number(&mut raw.uid, fields.uid.into(), "uid", &mut records);
    number(&mut raw.gid, fields.gid.into(), "gid", &mut records);
    number(&mut raw.size, fields.size.into(), "size", &mut records);
    number(&mut raw.mtime, fields.mtime.into(), "mtime", &mut records);
    raw.typeflag = [fields.flag as u8];
    octal(&mut raw.dev_major, Some(fields.device[0].into()));
    octal(&mut raw.dev_minor, Some(fields.device[1].into()));
    if let Some(capability) = &fields.capability {
        record(&mut records, &format!("{XATTR}security.capability"), capability);
    }
    header.set_cksum();
    let mut encoded = Vec::new();
    if !records.is_empty() {
        encoded = about(&records);
        pad(&mut encoded);
    }
    encoded.extend_from_slice(header.as_bytes());
    encoded
}

/// Fills up a block.
fn pad(data: &mut Vec<u8>) {
    data.resize(data.len().next_multiple_of(BLOCK), 0);
}

/// The entry that has records for the next one.
fn about(records: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    if let Some(raw) = header.as_ustar_mut() {
        let name = b"PaxHeaders.0";
        raw.name[..name.len()].copy_from_slice(name);
        for field in [&mut raw.uid, &mut raw.gid, &mut raw.dev_major, &mut raw.dev_minor] {
            octal(field, Some(0));
        }
        octal(&mut raw.mode, Some(0o644));
        octal(&mut raw.mtime, Some(0));
        octal(&mut raw.size, Some(records.len() as u64));
        raw.typeflag = [b'x'];
    }
    header.set_cksum();
    [header.as_bytes(), records].concat()
}

fn text(field: &mut [u8], text: &[u8], key: &str, records: &mut Vec<u8>) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if length < text.len() {
        record(records, key, text);
    }
}

fn number(field: &mut [u8], number: i128, key: &str, records: &mut Vec<u8>) {
    let digits = u32::try_from(field.len() - 1).unwrap_or_default();
    let fits = u64::try_from(number).ok().filter(|number| *number < 8_u64.pow(digits));
    octal(field, fits);
    if fits.is_none() {
        record(records, key, number.to_string().as_bytes());
    }
}

/// Octal digits and a NUL; all zero without a number.
fn octal(field: &mut [u8], number: Option<u64>) {
    let width = field.len() - 1;
    let digits = format!("{:0width$o}", number.unwrap_or_default());
    field[..width].copy_from_slice(digits.as_bytes());
    field[width] = 0;
}

/// `LENGTH KEY=VALUE`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_records_count_themselves() {
        for length in 0..1100 {
            let mut records = Vec::new();
            record(&mut records, "k", &vec![b'x'; length]);
            let text = String::from_utf8(records).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), text.len());
        }
    }
}
