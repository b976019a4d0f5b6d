//! `gantry images` and `gantry rmi`

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use gantry_api::{Timestamp, containerd::images::Image};
use gantry_client::Client;
use serde::Serialize;

use crate::{
    blobs::Blobs,
    containerd::NamespaceOption,
    failure::{Failure, Outcome},
    images::{
        Images as Names,
        present::{Library, Present},
    },
    output,
};

/// List the images of a namespace
///
/// SIZE is what is there of the image's content, in which layers may be compressed; PLATFORMS are those of which everything
/// is there. Layers that images share count for each of them: `gantry system df` counts them once.
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON, one image a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    #[command(flatten)]
    namespace: NamespaceOption,
    /// Only images that one of these finds, in containerd's filter language: labels."a"==b; may be repeated
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Only images whose names contain one of these
    words: Vec<String>,
}

/// Remove images
///
/// The content and snapshots that nothing else keeps, such as another image or a container, are removed before this
/// returns. Names may be short as for `gantry run`.
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    #[command(flatten)]
    namespace: NamespaceOption,
    /// Names of images
    #[arg(required = true)]
    names: Vec<String>,
}

/// An image as it is printed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    namespace: &'a str,
    digest: &'a str,
    media_type: &'a str,
    size: u64,
    platforms: &'a [String],
    created: String,
    labels: &'a BTreeMap<String, String>,
}

impl Images {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let namespace = &self.namespace.namespace;
        let mut images = Names::of(client, namespace).list(self.filter.clone()).await?;
        images.retain(|image| self.is_wanted(&image.name));
        if self.quiet {
            images.iter().try_for_each(|image| output::line(&image.name))?;
            return Ok(ExitCode::SUCCESS);
        }
        let blobs = Blobs::of(client);
        let library = Library::of(&blobs, namespace).await?;
        let mut table = vec![["NAME", "DIGEST", "SIZE", "PLATFORMS", "AGE"].map(str::to_owned)];
        for image in &images {
            let present = library.present(image).await?;
            match self.json {
                true => output::json(&row(image, namespace, &present))?,
                false => table.push(cells(image, &present)),
            }
        }
        if !self.json {
            output::table(&table)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word))
    }
}

fn row<'a>(image: &'a Image, namespace: &'a str, present: &'a Present) -> Row<'a> {
    Row {
        name: &image.name,
        namespace,
        digest: digest(image),
        media_type: image.target.as_ref().map_or("", |target| &target.media_type),
        size: present.size(),
        platforms: &present.platforms,
        created: image.created_at.unwrap_or_default().to_string(),
        labels: &image.labels,
    }
}

fn cells(image: &Image, present: &Present) -> [String; 5] {
    let platforms = match present.platforms.is_empty() {
        true => "-".to_owned(),
        false => present.platforms.join(","),
    };
    [
        image.name.clone(),
        short(digest(image)).to_owned(),
        output::bytes(present.size()),
        platforms,
        age(image.created_at),
    ]
}

fn digest(image: &Image) -> &str {
    image.target.as_ref().map_or("", |target| &target.digest)
}

/// As much of a digest as tells it from others of a host.
pub(crate) fn short(digest: &str) -> &str {
    const LENGTH: usize = 12;
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..LENGTH).unwrap_or(hex)
}

/// How long ago this was.
pub(crate) fn age(since: Option<Timestamp>) -> String {
    let Some(since) = since.and_then(|since| SystemTime::try_from(since).ok()) else {
        return "-".to_owned();
    };
    // A clock that was set back makes nothing younger than now.
    output::age(SystemTime::now().duration_since(since).unwrap_or(Duration::ZERO))
}

impl Rmi {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let images = Names::of(client, &self.namespace.namespace);
        let mut failures = Vec::new();
        for name in &self.names {
            match remove(&images, name).await {
                Ok(name) => output::line(name)?,
                Err(failure) => failures.push(failure),
            }
        }
        Failure::all(failures)?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn remove(images: &Names, name: &str) -> Result<String, Failure> {
    let image = images.find(name).await?;
    images.delete(&image).await?;
    Ok(image.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_digest_has_no_algorithm() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("sha256:01"), "01");
        assert_eq!(short(""), "");
    }

    #[test]
    fn an_age_is_known_if_the_time_is() {
        assert_eq!(age(None), "-");
        assert_eq!(age(Some(SystemTime::now().into())), "0s");
    }
}
