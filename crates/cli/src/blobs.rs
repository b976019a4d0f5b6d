//! Blobs of a server's content, in containerd's API.

use gantry_api::containerd::content::{
    AbortRequest, DeleteContentRequest, Info, ListContentRequest, ReadContentRequest,
    UpdateRequest, content_client::ContentClient,
};
use gantry_client::Client;
use prost_types::FieldMask;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tonic::{Code, Status, transport::Channel};

use crate::{
    containerd::{LARGEST_MESSAGE, about, failed, namespaces},
    failure::Failure,
};

/// More than a manifest or a configuration has.
const LARGEST_SMALL: usize = 8 << 20;

/// The content of a server.
pub(crate) struct Blobs {
    channel: Channel,
}

/// What was found out about a blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is what its digest says, so many bytes.
    Whole(u64),
    /// It is something else.
    Damaged(String),
    /// The server has found that itself, and no namespace has the blob any more.
    Dropped(String),
    /// It could not be read to its end, which says nothing about it.
    Unreadable(String),
    /// It was deleted meanwhile.
    Gone,
}

impl Blobs {
    pub(crate) fn of(client: &Client) -> Blobs {
        Blobs { channel: client.channel() }
    }

    fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    /// The names of all namespaces.
    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, Failure> {
        namespaces(&self.channel).await
    }

    /// A namespace's blobs.
    pub(crate) async fn list(&self, namespace: &str) -> Result<Vec<Info>, Failure> {
        let what = format!("list the content of {namespace}");
        let failed = |status: Status| failed(&what, &status);
        let request = about(namespace, ListContentRequest::default())?;
        let mut stream = self.content().list(request).await.map_err(failed)?.into_inner();
        let mut found = Vec::new();
        while let Some(message) = stream.message().await.map_err(failed)? {
            found.extend(message.info);
        }
        Ok(found)
    }

    /// What is in a blob that has to be small, such as a manifest; none if the namespace does not have it.
    pub(crate) async fn small(
        &self,
        namespace: &str,
        digest: &str,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let what = format!("read {digest}");
        let request = ReadContentRequest { digest: digest.to_owned(), ..Default::default() };
        let mut stream = match self.content().read(about(namespace, request)?).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(failed(&what, &status)),
        };
        let mut data = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => data.extend(message.data),
                Ok(None) => return Ok(Some(data)),
                Err(status) if status.code() == Code::NotFound => return Ok(None),
                Err(status) => return Err(failed(&what, &status)),
            }
            if data.len() > LARGEST_SMALL {
                let problem =
                    format!("{digest} has more than {LARGEST_SMALL} bytes: no manifest does");
                return Err(Failure::new(problem));
            }
        }
    }

    /// Adds a label to a blob, or changes it.
    pub(crate) async fn label(
        &self,
        namespace: &str,
        digest: &str,
        label: (String, String),
    ) -> Result<(), Failure> {
        let update_mask = Some(FieldMask { paths: vec![format!("labels.{}", label.0)] });
        let labels = [label].into();
        let info = Some(Info { digest: digest.to_owned(), labels, ..Info::default() });
        let request = about(namespace, UpdateRequest { info, update_mask })?;
        let updated = self.content().update(request).await;
        updated.map(drop).map_err(|status| failed(&format!("label {digest}"), &status))
    }

    /// Gives up a write, whoever has begun it; one that is not there any more is no error.
    pub(crate) async fn abort(&self, namespace: &str, reference: &str) -> Result<(), Failure> {
        let request = about(namespace, AbortRequest { r#ref: reference.to_owned() })?;
        match self.content().abort(request).await {
            Err(status) if status.code() != Code::NotFound => {
                Err(failed(&format!("abort write {reference}"), &status))
            }
            _ => Ok(()),
        }
    }

    /// Reads a blob as the first of these namespaces that still has it.
    pub(crate) async fn verify(
        &self,
        digest: &str,
        namespaces: &[String],
    ) -> Result<Verdict, Failure> {
        for namespace in namespaces {
            match self.read(namespace, digest).await? {
                Verdict::Gone => {}
                verdict => return Ok(verdict),
            }
        }
        Ok(Verdict::Gone)
    }

    async fn read(&self, namespace: &str, digest: &str) -> Result<Verdict, Failure> {
        let Some(mut hasher) = Hasher::of(digest) else {
            return Err(Failure::new(format!("{digest}: the algorithm is not known")));
        };
        let request = ReadContentRequest { digest: digest.to_owned(), ..Default::default() };
        let answer = self.content().read(about(namespace, request)?).await;
        let mut stream = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return without_data(digest, &status),
        };
        let mut size = 0;
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    hasher.update(&message.data);
                    size += message.data.len() as u64;
                }
                Ok(None) => break,
                Err(status) => return without_data(digest, &status),
            }
        }
        let found = hasher.hex();
        let is_whole = digest.split_once(':').is_some_and(|(_, hex)| hex == found);
        Ok(match is_whole {
            true => Verdict::Whole(size),
            false => Verdict::Damaged(format!("its {size} bytes have the digest {found}")),
        })
    }

    /// Deletes a blob; one that a namespace does not have any more is no error.
    pub(crate) async fn delete(&self, digest: &str, namespaces: &[String]) -> Result<(), Failure> {
        for namespace in namespaces {
            let request = DeleteContentRequest { digest: digest.to_owned() };
            match self.content().delete(about(namespace, request)?).await {
                Err(status) if status.code() != Code::NotFound => {
                    return Err(failed(&format!("delete {digest} from {namespace}"), &status));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What it means that a blob is not read to its end. Only the server knows whether the blob is at fault: a stream may be
/// reset, and the server may have no file descriptor left.
fn without_data(digest: &str, status: &Status) -> Result<Verdict, Failure> {
    let gone = format!("content digest {digest}: not found");
    let problem = || status.message().to_owned();
    match status.code() {
        Code::NotFound if status.message() == gone => Ok(Verdict::Gone),
        Code::NotFound => Ok(Verdict::Dropped(problem())),
        Code::Internal | Code::DataLoss => Ok(Verdict::Unreadable(problem())),
        _ => Err(failed(&format!("read {digest}"), status)),
    }
}

/// What a digest is made of.
enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// That of a digest's algorithm.
    fn of(digest: &str) -> Option<Hasher> {
        match digest.split_once(':')?.0 {
            "sha256" => Some(Hasher::Sha256(Sha256::new())),
            "sha384" => Some(Hasher::Sha384(Sha384::new())),
            "sha512" => Some(Hasher::Sha512(Sha512::new())),
            _ => None,
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(data),
            Hasher::Sha384(hasher) => hasher.update(data),
            Hasher::Sha512(hasher) => hasher.update(data),
        }
    }

    fn hex(self) -> String {
        match self {
            Hasher::Sha256(hasher) => format!("{:x}", hasher.finalize()),
            Hasher::Sha384(hasher) => format!("{:x}", hasher.finalize()),
            Hasher::Sha512(hasher) => format!("{:x}", hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_of_known_algorithms() {
        // Parts of what sha256sum(1), sha384sum(1) and sha512sum(1) print of `abc`.
        for (algorithm, part) in [
            ("sha256:", "7816bf8f01cfea41"),
            ("sha384:", "cb00753f45a35e8b"),
            ("sha512:", "ddaf35a193617aba"),
        ] {
            let mut hasher = Hasher::of(algorithm).unwrap();
            hasher.update(b"a");
            hasher.update(b"bc");
            assert!(hasher.hex().contains(part), "{algorithm}");
        }
        assert!(Hasher::of("md5:0a").is_none() && Hasher::of("sha256").is_none());
    }

    #[test]
    fn what_was_deleted_is_not_damaged() {
        let verdict = |status: Status| without_data("sha256:0a", &status).ok();
        let gone = Status::not_found("content digest sha256:0a: not found");
        assert_eq!(verdict(gone), Some(Verdict::Gone));
        let dropped = "content digest sha256:0a: its file was damaged, and is removed: not found";
        let found = verdict(Status::not_found(dropped));
        assert_eq!(found, Some(Verdict::Dropped(dropped.to_owned())));
        assert_eq!(verdict(Status::unavailable("no connection")), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_damaged() {
        let problem = "cannot open /f: Too many open files (os error 24)";
        for status in [Status::internal(problem), Status::data_loss(problem)] {
            let found = without_data("sha256:0a", &status).unwrap();
            assert_eq!(found, Verdict::Unreadable(problem.to_owned()));
        }
    }
}
