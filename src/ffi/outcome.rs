//! The result of an operation, of any kind.

use crate::engine::{Issued, Kept, RenewalInfo, Tried};

/// The result of an operation that ended well.
pub(super) enum Outcome {
    /// No result beyond the success.
    Done,
    Certificate(Issued),
    /// A certificate of a store.
    Kept(Box<Kept>),
    /// An attempt of a manager.
    Tried(Box<Tried>),
    RenewalInfo(RenewalInfo),
    /// URLs of authorizations, or of orders.
    Urls(Vec<String>),
}
