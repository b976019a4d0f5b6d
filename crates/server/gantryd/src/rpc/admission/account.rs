//! Bounds the memory of requests under way and of answers that nobody has read yet, for each connection and
//! for the whole server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gantry_kernel::load_has_fallen;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Of one connection. A daemon has one for everything it does, so this is 64 MiB of ordinary
/// requests and what is made of them.
const OF_A_CONNECTION: usize = 256 << 20;

/// Of all connections together.
const OF_THE_SERVER: usize = 384 << 20;

/// Bytes that no request is charged for, so that small ones (to end a flood, ask about it, or check the
/// server's health) are answered also while memory is short. A stream alone costs as much.
const FREE: usize = 4096;

/// Memory that is charged to requests.
#[derive(Debug)]
struct Pool {
    used: AtomicUsize,
    limit: usize,
}

impl Pool {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory of the whole server.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Pool>);

impl Default for Budget {
    fn default() -> Self {
        Self(Pool::new(OF_THE_SERVER))
    }
}

impl Budget {
    /// Bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Opens an account for a connection.
    pub(crate) fn account(&self) -> Account {
        Account { server: Arc::clone(&self.0), connection: Pool::new(OF_A_CONNECTION) }
    }
}

/// The memory of one connection, which is also the server's.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    server: Arc<Pool>,
    connection: Arc<Pool>,
}

impl Account {
    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        if !self.connection.take(bytes) {
            return Err(Exhausted::Connection);
        }
        if !self.server.take(bytes) {
            self.connection.give(bytes);
            return Err(Exhausted::Server);
        }
        Ok(())
    }
}

/// Whose memory is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Connection,
    Server,
}

impl From<Exhausted> for Status {
    fn from(exhausted: Exhausted) -> Self {
        let whose = match exhausted {
            Exhausted::Connection => "this connection",
            Exhausted::Server => "all connections",
        };
        let message =
            format!("the requests and answers of {whose} have all the memory there is for them");
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(100)));
        Self::with_error_details(Code::ResourceExhausted, message, details)
    }
}

/// The memory of one request and its answer, given back when the last holder is gone.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Account,
    /// For the request, then for the answer.
    taken: AtomicUsize,
    /// For what was read on the request's behalf.
    added: AtomicUsize,
}

impl Charge {
    pub(super) fn new(account: Account) -> Arc<Self> {
        Arc::new(Self { account, taken: AtomicUsize::new(0), added: AtomicUsize::new(0) })
    }

    /// Of the same connection.
    pub(super) fn another(&self) -> Arc<Self> {
        Self::new(self.account.clone())
    }

    /// Nothing was taken.
    pub(super) fn is_zero(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0 && self.added.load(Ordering::Relaxed) == 0
    }

    /// Takes memory beside that of the message itself.
    pub(crate) fn add(&self, cost: usize) -> Result<(), Exhausted> {
        let wanted = cost.saturating_sub(FREE);
        self.account.take(wanted)?;
        self.added.fetch_add(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Takes what is missing for a message of this cost.
    pub(super) fn raise_to(&self, cost: usize) -> Result<(), Exhausted> {
        let wanted = cost.saturating_sub(FREE);
        let missing = wanted.saturating_sub(self.taken.load(Ordering::Relaxed));
        self.account.take(missing)?;
        self.taken.fetch_add(missing, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let taken = *self.taken.get_mut() + *self.added.get_mut();
        self.account.connection.give(taken);
        self.account.server.give(taken);
        if taken > 0 {
            load_has_fallen();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_connection_holds_its_share_and_leaves_some_to_others() {
        let budget = Budget::default();
        let (one, other) = (budget.account(), budget.account());
        let hog = Charge::new(one.clone());
        hog.raise_to(OF_A_CONNECTION).unwrap();
        assert_eq!(Charge::new(one.clone()).raise_to(MIB), Err(Exhausted::Connection));
        let most = Charge::new(other.clone());
        most.raise_to(OF_THE_SERVER - OF_A_CONNECTION).unwrap();
        assert_eq!(most.raise_to(OF_A_CONNECTION), Err(Exhausted::Server));
        // A small request is admitted all the same.
        Charge::new(other).raise_to(FREE).unwrap();
        drop(hog);
        most.raise_to(OF_A_CONNECTION).unwrap();
        Charge::new(one).raise_to(MIB).unwrap();
    }

    #[test]
    fn all_is_given_back() {
        let budget = Budget::default();
        let account = budget.account();
        let charge = Charge::new(account.clone());
        charge.raise_to(3 * MIB).unwrap();
        charge.raise_to(2 * MIB).unwrap();
        assert_eq!(charge.raise_to(OF_A_CONNECTION + 2 * FREE), Err(Exhausted::Connection));
        assert_eq!(account.connection.used.load(Ordering::Relaxed), 3 * MIB - FREE);
        charge.add(MIB).unwrap();
        assert_eq!(charge.add(OF_A_CONNECTION), Err(Exhausted::Connection));
        drop(charge);
        assert_eq!(account.connection.used.load(Ordering::Relaxed), 0);
        assert_eq!(account.server.used.load(Ordering::Relaxed), 0);
    }
}
