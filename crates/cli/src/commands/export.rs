//! `gantry export`

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use gantry_api::containerd::{
    to_any,
    types::transfer::{ImageExportStream, ImageStore},
};
use gantry_client::Client;
use tokio::{
    fs::{self, File},
    io::{AsyncWrite, stdout},
};

use crate::{
    containerd::NamespaceOption,
    failure::{Failure, Outcome},
    images::{Images, manifest::Platform},
    new_file::NewFile,
    transfers::{self, Stream, bars::Bars},
};

/// Write images to an archive
///
/// `docker load`, `gantry import`, `ctr images import` and `skopeo copy` read it. Of an image of several platforms only what is for this
/// machine is in it, unless options say otherwise.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    namespace: NamespaceOption,
    /// File to write, which appears whole or not at all; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Platform to write; may be repeated
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Vec<Platform>,
    /// Write all platforms
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Names of images
    #[arg(required = true)]
    names: Vec<String>,
}

/// Where the archive is written to.
struct Target {
    file: Box<dyn AsyncWrite + Unpin>,
    /// The name that the file gets when it is whole.
    name: Option<NewFile>,
}

impl Export {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let namespace = &self.namespace.namespace;
        let images = Images::of(client, namespace);
        let mut references = Vec::new();
        for name in &self.names {
            references.push(transfers::name(&images.find(name).await?.name));
        }
        let Target { file, name } = self.target().await?;
        self.export(client, references, file).await?;
        name.map_or(Ok(()), NewFile::finish)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn export(
        &self,
        client: &Client,
        extra_references: Vec<gantry_api::containerd::types::transfer::ImageReference>,
        file: Box<dyn AsyncWrite + Unpin>,
    ) -> Result<(), Failure> {
        let namespace = &self.namespace.namespace;
        let here = [Platform::here()];
        let platforms = match (self.all_platforms, self.platform.as_slice()) {
            (true, _) => &[],
            (false, []) => &here[..],
            (false, platforms) => platforms,
        };
        let stream = Stream::open(client, namespace).await?;
        let from = ImageStore { extra_references, ..ImageStore::default() };
        let to = ImageExportStream {
            stream: stream.id().to_owned(),
            platforms: platforms.iter().map(transfers::message).collect(),
            all_platforms: self.all_platforms,
            ..ImageExportStream::default()
        };
        let mut bars = Bars::new();
        let pair = (to_any(&from), to_any(&to));
        let exporting = transfers::transfer(client, namespace, "export", pair, |_| {});
        let receiving = async {
            let show = |done| bars.set("archive", "exporting", done, None);
            let received = transfers::receive(stream, file, show).await;
            received.map_err(|e| match self.output.as_os_str() == "-" {
                true => Failure::output(&e),
                false => Failure::io(self.output.display(), &e),
            })
        };
        let exported = tokio::try_join!(exporting, receiving);
        bars.finish();
        exported.map(drop)
    }

    async fn target(&self) -> Result<Target, Failure> {
        let path = &self.output;
        if path.as_os_str() == "-" {
            if io::stdout().is_terminal() {
                let problem = "an archive is nothing for a terminal: name a file with -o";
                return Err(Failure::new(problem));
            }
            return Ok(Target { file: Box::new(stdout()), name: None });
        }
        let failed = |e| Failure::io(path.display(), &e);
        // What is there and is no file, such as a device or a pipe, stays what it is.
        if fs::metadata(path).await.is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(path).await.map_err(failed)?;
            return Ok(Target { file: Box::new(file), name: None });
        }
        let name = NewFile::create(path)?;
        Ok(Target { file: Box::new(File::from_std(name.writer()?)), name: Some(name) })
    }
}
