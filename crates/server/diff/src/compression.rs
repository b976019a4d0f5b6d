//! How layers are compressed.

use std::io::{self, BufRead, Read, Write};

use flate2::{bufread::MultiGzDecoder, write::GzEncoder};

/// How a layer is compressed that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As RFC 1952 has it, at level 6.
    Gzip,
    /// As RFC 8878 has it, at level 3.
    Zstd,
}

/// What a layer's media type says of its compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is a tar archive.
    Plain,
    /// Its first bytes tell: clients give layers types of other compressions, or of none.
    Detect,
}

const OCI: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
];

const DOCKER: [&str; 5] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

impl Packing {
    /// `None` of a media type that is not a layer's, or is of an encrypted one.
    #[must_use]
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let mut parts = media_type.split('+');
        let base = parts.next().unwrap_or_default();
        let extensions: Vec<&str> = parts.collect();
        if extensions.contains(&"encrypted") {
            return None;
        }
        match (OCI.contains(&base), DOCKER.contains(&base), extensions.last()) {
            (true, _, Some(&("gzip" | "zstd"))) | (_, true, None) => Some(Self::Detect),
            (true, ..) | (_, true, Some(_)) => Some(Self::Plain),
            _ => None,
        }
    }

    /// The bytes without compression.
    pub(crate) fn open<'a, R: BufRead + Send + 'a>(
        self,
        mut layer: R,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        if self == Self::Plain {
            return Ok(Box::new(layer));
        }
        Ok(match detect(layer.fill_buf()?) {
            Compression::None => Box::new(layer),
            Compression::Gzip => Box::new(MultiGzDecoder::new(layer)),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(layer)?),
        })
    }
}

/// A file is read in pieces that are longer than any magic number.
fn detect(begin: &[u8]) -> Compression {
    match begin {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        // A frame, or one that is to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Something that compresses what is written to it.
pub(crate) enum Encoder<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(compression: Compression, output: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(output),
            Compression::Gzip => Self::Gzip(GzEncoder::new(output, flate2::Compression::new(6))),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(output, 3)?),
        })
    }

    pub(crate) fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::None(output) => output.write_all(data),
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        let mut output = match self {
            Self::None(output) => output,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_those_of_layers() {
        use Packing::{Detect, Plain};
        for (media_type, packing) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(Plain)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Detect)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Detect)),
            ("application/vnd.oci.image.layer.v1.tar+other", Some(Plain)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Detect)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Detect)),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Some(Detect)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Detect)),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
            ("application/x", None),
            ("", None),
        ] {
            assert_eq!(Packing::of_media_type(media_type), packing, "{media_type}");
        }
    }
}
