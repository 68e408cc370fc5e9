//! The result of an operation, of any kind.

use crate::engine::{Issued, RenewalInfo};

/// The result of an operation that ended well.
pub(super) enum Outcome {
    /// No result beyond the success.
    Done,
    Certificate(Issued),
    RenewalInfo(RenewalInfo),
    /// URLs of authorizations, or of orders.
    Urls(Vec<String>),
}
