//! Handles: C holds a pointer to a slot that starts with a mark of its kind. A handle of the wrong
//! kind, or a freed one, is therefore an error instead of undefined behaviour.

use std::sync::atomic::{AtomicU64, Ordering};

use super::guard::catch;
use crate::error::{Error, ErrorKind, Result};

/// The mark of a slot that has been freed.
const FREED: u64 = 0x6163_6d65_6465_6164;

/// A type that C sees as an opaque struct.
pub(super) trait Handle {
    /// The type of the value in its slot.
    type Value;
    /// The mark of its kind.
    const MARK: u64;
}

#[repr(C)]
struct Slot<T> {
    mark: AtomicU64,
    value: T,
}

/// Makes an opaque type of C the handle of a Rust type.
macro_rules! handle {
    ($handle:ident, $value:ty, $mark:literal) => {
        impl crate::ffi::handle::Handle for $handle {
            type Value = $value;
            const MARK: u64 = u64::from_be_bytes(*$mark);
        }
    };
}
pub(super) use handle;

/// Gives a value to C, as a handle.
pub(super) fn give<H: Handle>(value: H::Value) -> *mut H {
    Box::into_raw(Box::new(Slot { mark: AtomicU64::new(H::MARK), value })).cast()
}

/// Why a pointer is not a handle of the expected kind.
enum Wrong {
    Null,
    NotOurs,
    Freed,
    OtherKind,
}

fn find<'a, H: Handle>(handle: *const H) -> std::result::Result<&'a H::Value, Wrong> {
    if handle.is_null() {
        return Err(Wrong::Null);
    }
    let slot = handle.cast::<Slot<H::Value>>();
    if !slot.is_aligned() {
        return Err(Wrong::NotOurs);
    }
    // SAFETY: every handle of this library points to at least a mark. A pointer from elsewhere is
    // the caller's mistake; no check can distinguish it from a handle.
    match unsafe { &*handle.cast::<AtomicU64>() }.load(Ordering::Acquire) {
        // SAFETY: the mark says that it is one of ours of this kind, made by `give`; the caller
        // frees it after the call (rule 2 of the header). Only shared references are ever made.
        mark if mark == H::MARK => Ok(unsafe { &(*slot).value }),
        FREED => Err(Wrong::Freed),
        _ => Err(Wrong::OtherKind),
    }
}

/// Returns the value of a handle, for the duration of a call.
pub(super) fn borrow<'a, H: Handle>(handle: *const H, name: &str) -> Result<&'a H::Value> {
    find(handle).map_err(|wrong| refusal(&wrong, name))
}

#[inline(never)]
fn refusal(wrong: &Wrong, name: &str) -> Error {
    let (kind, why) = match wrong {
        Wrong::Null => (ErrorKind::InvalidArgument, "is NULL"),
        Wrong::NotOurs => (ErrorKind::InvalidArgument, "is not a handle of this library"),
        Wrong::Freed => (ErrorKind::Misuse, "has been freed"),
        Wrong::OtherKind => (ErrorKind::Misuse, "is a handle of another kind"),
    };
    Error::new(kind, format!("{name} {why}"))
}

/// Returns the value of a handle for a getter: `None` for NULL and for wrong handles. Allocates
/// nothing.
pub(super) fn peek<'a, H: Handle>(handle: *const H) -> Option<&'a H::Value> {
    find(handle).ok()
}

/// Takes a handle back and drops its value. Ignores NULL and wrong handles.
pub(super) fn release<H: Handle>(handle: *mut H) {
    if peek(handle.cast_const()).is_none() {
        return;
    }
    let slot = handle.cast::<Slot<H::Value>>();
    // SAFETY: `peek` has seen our mark, so the handle is from `give`. The mark is changed first, so
    // that a second free does not find it.
    let value = unsafe {
        (*slot).mark.store(FREED, Ordering::Release);
        Box::from_raw(slot)
    };
    let _ = catch(|| {
        drop(value);
        Ok(())
    });
}
