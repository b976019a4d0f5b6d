//! A call of Write: requests, each with its answer.

use gantry_api::containerd::content::{
    WriteAction, WriteContentRequest, WriteContentResponse, content_client::ContentClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

use super::{KEEPER, keep, leased};
use crate::Bed;

/// A call that is under way.
pub(crate) struct Session {
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// Of the first request.
    reference: Option<String>,
}

impl Session {
    /// Under a lease, so that nothing of it is collected.
    pub(crate) async fn begin(bed: &Bed, namespace: &str, reference: &str) -> Self {
        keep(bed, namespace).await;
        let to = |stream| leased(namespace, KEEPER, stream);
        Self::try_begin(bed.content(), to, reference).await.unwrap()
    }

    /// `to` makes a request of the messages.
    pub(crate) async fn try_begin(
        mut client: ContentClient<Channel>,
        to: impl FnOnce(
            ReceiverStream<WriteContentRequest>,
        ) -> Request<ReceiverStream<WriteContentRequest>>,
        reference: &str,
    ) -> Result<Self, Status> {
        let (requests, stream) = mpsc::channel(1);
        let answers = client.write(to(ReceiverStream::new(stream))).await?.into_inner();
        Ok(Self { requests, answers, reference: Some(reference.to_owned()) })
    }

    /// Sends a request, and waits for its answer.
    pub(crate) async fn ask(
        &mut self,
        mut request: WriteContentRequest,
    ) -> Result<WriteContentResponse, Status> {
        if let Some(reference) = self.reference.take() {
            request.r#ref = reference;
        }
        let action = request.action;
        // The call may be over, as its answer says.
        let _ = self.requests.send(request).await;
        match self.answers.message().await? {
            Some(answer) => {
                assert_eq!(answer.action, action);
                Ok(answer)
            }
            None => Err(Status::cancelled("the call has ended")),
        }
    }

    /// Sends no more, and waits until the server has let the write go.
    pub(crate) async fn end(self) {
        let Self { requests, mut answers, .. } = self;
        drop(requests);
        assert_eq!(answers.message().await.unwrap(), None);
    }
}

pub(crate) fn stat(total: i64, expected: &str) -> WriteContentRequest {
    let expected = expected.to_owned();
    WriteContentRequest { action: WriteAction::Stat.into(), total, expected, ..Default::default() }
}

pub(crate) fn write_at(offset: i64, data: &[u8]) -> WriteContentRequest {
    let data = data.to_vec();
    WriteContentRequest { action: WriteAction::Write.into(), offset, data, ..Default::default() }
}

/// With the data at the beginning, and so with all of it; else what was written before.
pub(crate) fn commit(offset: i64, expected: &str, data: &[u8]) -> WriteContentRequest {
    let expected = expected.to_owned();
    let action = WriteAction::Commit.into();
    WriteContentRequest { action, offset, expected, data: data.to_vec(), ..Default::default() }
}
