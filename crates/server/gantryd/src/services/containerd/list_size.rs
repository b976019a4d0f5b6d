//! How large a list may be that is one message.

use std::sync::Arc;

use tonic::{Request, Status};

use crate::rpc::Charge;

/// Clients take no larger answer.
const MAX_ANSWER: usize = 16 << 20;

/// The size of a list that is being read page by page.
pub(super) struct ListSize {
    bytes: usize,
    charge: Option<Arc<Charge>>,
    /// What can be done about a list that is too large.
    advice: &'static str,
}

impl ListSize {
    /// Nothing yet of the answer to this request.
    pub(super) fn of<T>(request: &Request<T>, advice: &'static str) -> Self {
        let charge = request.extensions().get().map(Arc::<Charge>::clone);
        Self { bytes: 0, charge, advice }
    }

    /// Adds a page. RESOURCE_EXHAUSTED if the list is too large then.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        if self.bytes > MAX_ANSWER {
            let message = format!("the list has more than {MAX_ANSWER} bytes; {}", self.advice);
            return Err(Status::resource_exhausted(message));
        }
        if let Some(charge) = &self.charge {
            charge.add(bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_list_that_clients_cannot_take_is_refused() {
        let mut size = ListSize::of(&Request::new(()), "ask for less");
        size.add(0).unwrap();
        size.add(16 << 20).unwrap();
        let error = size.add(1).unwrap_err();
        let words = "the list has more than 16777216 bytes; ask for less";
        assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, words));
    }
}
