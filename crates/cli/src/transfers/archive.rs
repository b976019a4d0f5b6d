//! The bytes of an archive on a stream. Who receives says how many may be sent, and says so first.

use std::io;

use gantry_api::containerd::{
    from_any, to_any,
    types::transfer::{Data, WindowUpdate},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::Stream;

/// Bytes in one message.
const PIECE: usize = 32 << 10;

/// Bytes that the server may be ahead.
const WINDOW: i32 = 64 << 10;

/// Sends all of a file, as far as the server takes it; `sent` hears how many bytes there were so far. Its end may come early: the
/// answer of the transfer tells why.
pub(crate) async fn send(
    mut stream: Stream,
    mut file: impl AsyncRead + Unpin,
    mut sent: impl FnMut(u64),
) -> io::Result<()> {
    let (mut window, mut total) = (0, 0);
    let mut buffer = vec![0; PIECE];
    loop {
        while window == 0 {
            let Some(message) = stream.next().await else { return Ok(()) };
            if let Ok(Some(WindowUpdate { update })) = from_any(&message) {
                window += usize::try_from(update).unwrap_or(0);
            }
        }
        let most = window.min(PIECE);
        let count = file.read(&mut buffer[..most]).await?;
        if count == 0 {
            break;
        }
        let data = buffer[..count].to_vec();
        if !stream.send(to_any(&Data { data })).await {
            return Ok(());
        }
        window -= count;
        total += count as u64;
        sent(total);
    }
    stream.close();
    while stream.next().await.is_some() {}
    Ok(())
}

/// Writes all that the server sends to a file; `received` hears how many bytes there were so far. Whether that is all, the answer
/// of the transfer tells.
pub(crate) async fn receive(
    mut stream: Stream,
    mut file: impl AsyncWrite + Unpin,
    mut received: impl FnMut(u64),
) -> io::Result<()> {
    let (mut window, mut total) = (0, 0);
    loop {
        if window < i64::from(WINDOW) && stream.send(to_any(&WindowUpdate { update: WINDOW })).await
        {
            window += i64::from(WINDOW);
        }
        let Some(message) = stream.next().await else { return file.flush().await };
        let Ok(Some(Data { data })) = from_any(&message) else { continue };
        file.write_all(&data).await?;
        window -= i64::try_from(data.len()).unwrap_or(i64::MAX);
        total += data.len() as u64;
        received(total);
    }
}
