//! `gantry pull` and `gantry push`

use std::process::ExitCode;

use clap::Args;
use gantry_api::containerd::{
    to_any,
    types::transfer::{ImageStore, Progress},
};
use gantry_client::Client;

use super::images::short;
use crate::{
    containerd::NamespaceOption,
    failure::{Failure, Outcome},
    images::{Images, manifest::Platform, reference},
    output,
    snapshots::Snapshots,
    transfers::{
        self,
        bars::Bars,
        registry::{RegistryOptions, answer, auth_stream},
    },
};

/// Fetch an image from a registry, and unpack it
///
/// The name in full, which the image gets, is printed. What was fetched stays if it is interrupted, and is not fetched
/// again if that is soon.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    registry: RegistryOptions,
    /// Platform to fetch and unpack [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Fetch all platforms; unpack the one
    #[arg(long)]
    all_platforms: bool,
    /// Do not unpack the image now; `gantry run` does it when it needs it
    #[arg(long)]
    no_unpack: bool,
    /// Where the image is unpacked to [default: the namespace's, or overlayfs]
    #[arg(long, value_name = "NAME", conflicts_with = "no_unpack")]
    snapshotter: Option<String>,
    /// Image: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`
    reference: String,
}

/// Send an image to a registry
#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    namespace: NamespaceOption,
    #[command(flatten)]
    registry: RegistryOptions,
    /// Platform to send [default: all]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Name of the image
    name: String,
    /// What it is called there [default: its name]
    reference: Option<String>,
}

impl Pull {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let namespace = &self.namespace.namespace;
        let credentials = self.registry.credentials()?;
        let name = reference::full(&self.reference);
        let platform = self.platform.clone().unwrap_or_else(Platform::here);
        let snapshotter = match (&self.snapshotter, self.no_unpack) {
            (_, true) => None,
            (Some(name), _) => Some(name.clone()),
            (None, _) => {
                let default = Snapshots::by_default(client, namespace).await?;
                Some(default.snapshotter().to_owned())
            }
        };
        let platforms = match self.all_platforms {
            true => Vec::new(),
            false => vec![transfers::message(&platform)],
        };
        let unpack = snapshotter.map(|snapshotter| (&platform, snapshotter));
        let to = ImageStore { name: name.clone(), platforms, ..transfers::store(unpack) };
        let auth = auth_stream(client, namespace, credentials.as_ref()).await?;
        let from = self.registry.registry(&name, auth.as_ref());
        let mut bars = Bars::new();
        let what = format!("pull {name}");
        let pair = (to_any(&from), to_any(&to));
        let pulling = transfers::transfer(client, namespace, &what, pair, |told| {
            show(&mut bars, &told);
        });
        let pulled = tokio::try_join!(pulling, answer(auth, credentials, &name));
        bars.finish();
        pulled?;
        output::line(name)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Push {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let namespace = &self.namespace.namespace;
        let credentials = self.registry.credentials()?;
        let image = Images::of(client, namespace).find(&self.name).await?.name;
        let name = reference::full(self.reference.as_deref().unwrap_or(&image));
        let platforms = self.platform.iter().map(transfers::message).collect();
        let from = ImageStore { name: image, platforms, ..ImageStore::default() };
        let auth = auth_stream(client, namespace, credentials.as_ref()).await?;
        let to = self.registry.registry(&name, auth.as_ref());
        let mut bars = Bars::new();
        let what = format!("push {name}");
        let pair = (to_any(&from), to_any(&to));
        let pushing = transfers::transfer(client, namespace, &what, pair, |told| {
            show(&mut bars, &told);
        });
        let pushed: Result<_, Failure> =
            async { tokio::try_join!(pushing, answer(auth, credentials, &name)) }.await;
        bars.finish();
        pushed?;
        output::line(name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows how far a part of an image is; what is told of the whole says nothing more.
fn show(bars: &mut Bars, told: &Progress) {
    let Some((kind, digest)) = told.name.split_once("-sha256:") else { return };
    let number = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let name = format!("{kind} {}", short(digest));
    let total = Some(number(told.total)).filter(|total| *total > 0);
    match told.event.as_str() {
        // It has not begun.
        "waiting" => {}
        // Nobody counts how much of it is unpacked.
        "extracting" => bars.set(&name, &told.event, 0, None),
        event => bars.set(&name, event, number(told.progress), total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_short_names() {
        let mut bars = Bars::new();
        let name = format!("layer-sha256:{}", "0a".repeat(32));
        show(&mut bars, &Progress { name, event: "complete".to_owned(), ..Progress::default() });
        show(&mut bars, &Progress { event: "Completed pull".to_owned(), ..Progress::default() });
        assert_eq!(bars.names(), ["layer 0a0a0a0a0a0a"]);
    }
}
