//! Archive to archive: a client gets back what it sends, byte for byte, whatever that is. Clients test their streams so.

use tonic::Status;

use super::{Call, export, import};

pub(super) async fn run(
    call: &Call,
    from: import::Archive,
    to: export::Archive,
) -> Result<(), Status> {
    call.unless_gone(async {
        let (mut from, mut to) = (from.into_bytes(), to.into_bytes());
        while let Some(piece) = from.next().await? {
            to.write(&piece).await?;
        }
        to.finish().await;
        Ok(())
    })
    .await
}
