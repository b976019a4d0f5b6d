//! `gantry import`

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use gantry_api::containerd::{
    to_any,
    types::transfer::{ImageImportStream, ImageReference, ImageStore},
};
use gantry_client::Client;
use tokio::{
    fs::File,
    io::{AsyncRead, stdin},
};

use crate::{
    containerd::NamespaceOption,
    failure::{Failure, Outcome},
    images::manifest::Platform,
    output,
    snapshots::Snapshots,
    transfers::{self, Stream, bars::Bars},
};

/// Read images from an archive
///
/// The archive is one that `docker save`, `gantry export`, `ctr images export` or `skopeo copy` with oci-archive: or docker-archive: has written; it
/// may be compressed by gzip or zstd. The names of the images are printed. A name that an image has already becomes
/// that of the new one.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    namespace: NamespaceOption,
    /// Give images that have no name in the archive, and the archive's index, this name with their digest
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Do not unpack images now; `gantry run` does it when it needs them
    #[arg(long)]
    no_unpack: bool,
    /// Platform to take of images that have several, and to unpack [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Take all platforms, which have to be in the archive; unpack the one
    #[arg(long)]
    all_platforms: bool,
    /// Where images are unpacked to [default: the namespace's, or overlayfs]
    #[arg(long, value_name = "NAME", conflicts_with = "no_unpack")]
    snapshotter: Option<String>,
    /// The archive; - is standard input
    file: PathBuf,
}

impl Import {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let namespace = &self.namespace.namespace;
        let shown = self.file.display();
        let (file, size) = self.open().await?;
        let store = self.store(client).await?;
        let stream = Stream::open(client, namespace).await?;
        let from = ImageImportStream { stream: stream.id().to_owned(), ..Default::default() };
        let mut bars = Bars::new();
        let mut names = Vec::new();
        let what = format!("import {shown}");
        let pair = (to_any(&from), to_any(&store));
        let importing = transfers::transfer(client, namespace, &what, pair, |progress| {
            if progress.event == "saved" {
                names.push(progress.name);
            }
        });
        let sending = async {
            let show = |done| bars.set("archive", "importing", done, size);
            transfers::send(stream, file, show).await.map_err(|e| Failure::io(&shown, &e))
        };
        let imported = tokio::try_join!(importing, sending);
        bars.finish();
        imported?;
        if names.is_empty() {
            let problem = format!("import {shown}: no image in it has a name: --name gives one");
            return Err(Failure::new(problem));
        }
        names.iter().try_for_each(output::line)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The archive, and its size if that is known.
    async fn open(&self) -> Result<(Box<dyn AsyncRead + Unpin>, Option<u64>), Failure> {
        if self.file.as_os_str() == "-" {
            return Ok((Box::new(stdin()), None));
        }
        let failed = |e| Failure::io(self.file.display(), &e);
        let file = File::open(&self.file).await.map_err(failed)?;
        let meta = file.metadata().await.map_err(failed)?;
        if meta.is_dir() {
            return Err(Failure::new(format!("{}: Is a directory", self.file.display())));
        }
        Ok((Box::new(file), meta.is_file().then_some(meta.len())))
    }

    async fn store(&self, client: &Client) -> Result<ImageStore, Failure> {
        let platform = self.platform.clone().unwrap_or_else(Platform::here);
        let snapshotter = match (&self.snapshotter, self.no_unpack) {
            (_, true) => None,
            (Some(name), _) => Some(name.clone()),
            (None, _) => {
                let default = Snapshots::by_default(client, &self.namespace.namespace).await?;
                Some(default.snapshotter().to_owned())
            }
        };
        let unpack = snapshotter.map(|snapshotter| (&platform, snapshotter));
        // Those with a name in the archive get that one.
        let reference = ImageReference {
            name: self.name.clone().unwrap_or_else(|| "import".to_owned()),
            is_prefix: true,
            allow_overwrite: true,
            add_digest: self.name.is_some(),
            skip_named_digest: true,
        };
        let platforms = match self.all_platforms {
            true => Vec::new(),
            false => vec![transfers::message(&platform)],
        };
        let extra_references = vec![reference];
        Ok(ImageStore { extra_references, platforms, ..transfers::store(unpack) })
    }
}
