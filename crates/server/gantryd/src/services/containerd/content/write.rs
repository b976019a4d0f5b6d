//! A write: what each of its requests asks for, and how it is answered.

use gantry_api::containerd::content::{WriteAction, WriteContentRequest, WriteContentResponse};
use gantry_content::{Content, Writer};
use gantry_domain::Namespace;
use gantry_store::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Answers, messages};
use crate::services::containerd::status::{of_content, of_store};

/// What a write is about.
struct Session {
    content: Content,
    namespace: Namespace,
    lease: Option<String>,
    /// As the last request said that had it; else 0.
    total: u64,
    /// As the last request said that had it.
    expected: Option<Digest>,
}

/// Answers requests, until the client has no more. What was begun is done also if the client goes away.
pub(super) fn begin(
    content: Content,
    namespace: Namespace,
    lease: Option<String>,
    requests: Streaming<WriteContentRequest>,
) -> Answers<WriteContentResponse> {
    let (answers, stream) = mpsc::channel(1);
    let session = Session { content, namespace, lease, total: 0, expected: None };
    tokio::spawn(async move {
        if let Err(error) = session.run(requests, &answers).await {
            // The client may have gone.
            let _ = answers.send(Err(error)).await;
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

impl Session {
    async fn run(
        mut self,
        mut requests: Streaming<WriteContentRequest>,
        answers: &mpsc::Sender<Result<WriteContentResponse, Status>>,
    ) -> Result<(), Status> {
        let Some(mut request) = requests.message().await? else { return Ok(()) };
        if request.r#ref.is_empty() {
            return Err(Status::invalid_argument("first message must have a reference"));
        }
        self.total = bytes(request.total);
        self.expected = messages::expected(&request.expected)?;
        let reference = std::mem::take(&mut request.r#ref);
        let (expected, lease) = (self.expected.clone(), self.lease.clone());
        let writer =
            self.content.writer(&self.namespace, reference, self.total, expected, lease).await;
        let mut writer = writer.map_err(of_content)?;
        loop {
            if self.is_there_already(&request).await? {
                let digest = &request.expected;
                // It may have been given up already.
                let _ = writer.abort().await;
                let message = format!("blob with expected digest {digest} exists");
                return Err(Status::already_exists(message));
            }
            if request.total > 0 {
                self.total = bytes(request.total);
            }
            let action = WriteAction::try_from(request.action).unwrap_or(WriteAction::Stat);
            let answer = match action {
                WriteAction::Stat => self.stat(&writer),
                WriteAction::Write => {
                    write(&mut writer, request).await?;
                    written(&writer)
                }
                WriteAction::Commit => {
                    let labels = std::mem::take(&mut request.labels);
                    write(&mut writer, request).await?;
                    let answer = written(&writer);
                    let digest = writer.commit(self.total, self.expected, labels).await;
                    let digest = digest.map_err(of_content)?.to_string();
                    let action = WriteAction::Commit.into();
                    let answer = WriteContentResponse { action, digest, ..answer };
                    let _ = answers.send(Ok(answer)).await;
                    return Ok(());
                }
            };
            if answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
            match requests.message().await? {
                Some(next) => request = next,
                None => return Ok(()),
            }
        }
    }

    /// Notes what is expected; whether the namespace has that by now, so that the lease keeps it.
    async fn is_there_already(&mut self, request: &WriteContentRequest) -> Result<bool, Status> {
        let Some(expected) = messages::expected(&request.expected)? else { return Ok(false) };
        let (store, lease) = (self.content.store(), self.lease.clone());
        let is_there = store.lease_blob(&self.namespace, &expected, lease).await;
        self.expected = Some(expected);
        is_there.map_err(of_store)
    }

    fn stat(&self, writer: &Writer) -> WriteContentResponse {
        WriteContentResponse {
            action: WriteAction::Stat.into(),
            started_at: Some(writer.started_at().into()),
            updated_at: Some(writer.updated_at().into()),
            offset: messages::signed(writer.offset()),
            total: messages::signed(self.total),
            digest: writer.digest().to_string(),
        }
    }
}

/// Writes the data of a request where it says that this belongs.
async fn write(writer: &mut Writer, request: WriteContentRequest) -> Result<(), Status> {
    let (asked, offset) = (request.offset, writer.offset());
    if asked == 0 && offset > 0 {
        writer.truncate().await.map_err(of_content)?;
    } else if asked != messages::signed(offset) {
        let message = format!("write @{asked} must occur at current offset {offset}");
        return Err(Status::out_of_range(message));
    }
    writer.write(request.data).await.map_err(of_content)
}

fn written(writer: &Writer) -> WriteContentResponse {
    WriteContentResponse {
        action: WriteAction::Write.into(),
        offset: messages::signed(writer.offset()),
        digest: writer.digest().to_string(),
        ..WriteContentResponse::default()
    }
}

/// A number of bytes; below 0 there is none.
fn bytes(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
