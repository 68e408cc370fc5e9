//! The result of an operation, of any kind.

use crate::engine::{Issued, Kept, RenewalInfo};

/// The result of an operation that ended well.
pub(super) enum Outcome {
    /// No result beyond the success.
    Done,
    Certificate(Issued),
    /// A certificate of a store.
    Kept(Box<Kept>),
    RenewalInfo(RenewalInfo),
    /// URLs of authorizations, or of orders.
    Urls(Vec<String>),
}
