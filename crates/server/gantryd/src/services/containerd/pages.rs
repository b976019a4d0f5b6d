//! Lists that are streams of messages, and are read from the store page by page.

use std::{collections::VecDeque, pin::Pin};

use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::Status;

/// An answer that is a stream.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Entries of a list in one message, as containerd has it.
const IN_A_MESSAGE: usize = 100;

/// A page of a list: entries, and after which one the next page begins, if there is one.
pub(super) type Page<T> = (Vec<T>, Option<String>);

struct Pages<R, T, M> {
    read: R,
    message: fn(Vec<T>) -> M,
    /// Where the next page begins.
    after: Option<String>,
    is_over: bool,
    ready: VecDeque<M>,
    /// Among the lists of its connection.
    _counted: Option<OwnedSemaphorePermit>,
}

/// Reads a list with `read`, which gives the page that begins after an entry. What fails at once is the answer, and not
/// in the middle of one.
pub(super) async fn pages<R, F, T, M>(
    counted: Option<OwnedSemaphorePermit>,
    read: R,
    message: fn(Vec<T>) -> M,
) -> Result<Answers<M>, Status>
where
    R: Fn(Option<String>) -> F + Send + 'static,
    F: Future<Output = Result<Page<T>, Status>> + Send,
    T: Send + 'static,
    M: Send + 'static,
{
    let (after, is_over, ready) = (None, false, VecDeque::new());
    let mut list = Pages { read, message, after, is_over, ready, _counted: counted };
    list.fill().await?;
    Ok(Box::pin(futures_util::stream::unfold(list, |mut list| async {
        if let Err(error) = list.fill().await {
            list.is_over = true;
            return Some((Err(error), list));
        }
        list.ready.pop_front().map(|message| (Ok(message), list))
    })))
}

impl<R, F, T, M> Pages<R, T, M>
where
    R: Fn(Option<String>) -> F,
    F: Future<Output = Result<Page<T>, Status>>,
{
    /// Reads pages until there is a message, or the list is over.
    async fn fill(&mut self) -> Result<(), Status> {
        while self.ready.is_empty() && !self.is_over {
            let (entries, after) = (self.read)(self.after.take()).await?;
            self.is_over = after.is_none();
            self.after = after;
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let entries = entries.by_ref().take(IN_A_MESSAGE).collect();
                self.ready.push_back((self.message)(entries));
            }
        }
        Ok(())
    }
}
