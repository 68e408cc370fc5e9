//! A page of an account's orders. RFC 8555 section 7.1.2.1.

use super::{Members, Resource};

/// An orders list object.
pub(crate) struct OrderList {
    pub orders: Vec<String>,
}

impl Resource for OrderList {
    fn read(members: &Members<'_>) -> Option<OrderList> {
        Some(OrderList { orders: members.texts("orders") })
    }
}
