//! Conversions at the boundary: pointers from C to references, and values of the library to C.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;

use crate::error::{Error, ErrorKind, Result};

/// Maximum length of a text from C. A longer one most likely lacks its NUL.
const MAX_TEXT: usize = 64 * 1024;
/// Maximum size of bytes from C: a key, a request, a chain or a part of a response.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Maximum size of an options struct; a larger `size` is an uninitialized one.
const MAX_OPTIONS: usize = 4096;

fn missing(name: &str) -> Error {
    Error::invalid_argument(format!("{name} is NULL"))
}

pub(super) fn check_pointer<T>(pointer: *const T, name: &str) -> Result<()> {
    if pointer.is_null() {
        return Err(missing(name));
    }
    match pointer.is_aligned() {
        true => Ok(()),
        false => Err(Error::invalid_argument(format!("{name} is not aligned"))),
    }
}

/// Returns a text; `None` for NULL.
pub(super) fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    let text = optional_bytes(pointer, name)?.map(std::str::from_utf8).transpose();
    text.map_err(|_| Error::invalid_argument(format!("{name} is not UTF-8")))
}

/// Returns the path of a file or folder, which may have other bytes than UTF-8; NULL is an error.
#[cfg(unix)]
pub(super) fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a std::path::Path> {
    use std::os::unix::ffi::OsStrExt;

    let bytes = optional_bytes(pointer, name)?.ok_or_else(|| missing(name))?;
    Ok(std::path::Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
pub(super) fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a std::path::Path> {
    text(pointer, name).map(std::path::Path::new)
}

fn optional_bytes<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a [u8]>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; the caller passes NUL-terminated text (rule 4 of the header), of which no
    // byte after the NUL and none after MAX_TEXT is read.
    let length = unsafe { libc::strnlen(pointer, MAX_TEXT) };
    if length == MAX_TEXT {
        return Err(Error::invalid_argument(format!("{name} is longer than 64 KiB")));
    }
    // SAFETY: strnlen has just read these bytes; the caller keeps them for the call.
    Ok(Some(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) }))
}

/// Returns a text; NULL is an error.
pub(super) fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    optional_text(pointer, name)?.ok_or_else(|| missing(name))
}

/// Returns `count` texts. NULL is allowed if `count` is 0.
pub(super) fn texts<'a>(
    pointer: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>> {
    let found = optional_texts(pointer, count, name)?.into_iter().enumerate();
    found.map(|(n, text)| text.ok_or_else(|| missing(&format!("{name}[{n}]")))).collect()
}

/// Returns `count` texts, each of which may be NULL. NULL is allowed if `count` is 0.
pub(super) fn optional_texts<'a>(
    pointer: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<Option<&'a str>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    check_pointer(pointer, name)?;
    if count > MAX_TEXT {
        return Err(Error::invalid_argument(format!("{name} has {count} elements, too many")));
    }
    // SAFETY: not NULL and aligned; the caller says that there are `count` elements.
    let pointers = unsafe { std::slice::from_raw_parts(pointer, count) };
    let numbered = pointers.iter().enumerate();
    numbered.map(|(n, pointer)| optional_text(*pointer, &format!("{name}[{n}]"))).collect()
}

/// Returns a number that means yes or no as a bool.
pub(super) fn flag(value: usize, name: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::invalid_argument(format!("{name} is {value}, neither 0 nor 1"))),
    }
}

/// Returns bytes; NULL is allowed if `size` is 0.
pub(super) fn bytes<'a>(pointer: *const c_void, size: usize, name: &str) -> Result<&'a [u8]> {
    if size == 0 {
        return Ok(&[]);
    }
    check_pointer(pointer.cast::<u8>(), name)?;
    if size > MAX_BYTES {
        return Err(Error::invalid_argument(format!("{name} has {size} bytes, too many")));
    }
    // SAFETY: not NULL; the caller says that there are `size` bytes, and keeps them for the call.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), size) })
}

/// A checked pointer to an output of the caller.
pub(super) struct Out<T>(*mut T);

impl<T> Out<*mut T> {
    /// Returns the output for a handle, and sets it to NULL: after a failure, freeing it does
    /// nothing.
    pub(super) fn handle(pointer: *mut *mut T, name: &str) -> Result<Out<*mut T>> {
        let out = Out::new(pointer, name)?;
        // SAFETY: not NULL and aligned (checked by `new`); the caller owns the memory.
        unsafe { out.0.write(std::ptr::null_mut()) };
        Ok(out)
    }
}

impl<T> Out<T> {
    pub(super) fn new(pointer: *mut T, name: &str) -> Result<Out<T>> {
        check_pointer(pointer, name)?;
        Ok(Out(pointer))
    }

    pub(super) fn set(self, value: T) {
        // SAFETY: not NULL and aligned (checked by `new`); the caller owns the memory.
        unsafe { self.0.write(value) }
    }
}

/// Copies bytes to memory of the caller that is large enough; returns their number.
pub(super) fn copy_out(bytes: &[u8], to: *mut c_char) -> Result<usize> {
    check_pointer(to, "body")?;
    // SAFETY: not NULL; the caller says how much space there is, which was checked to be enough,
    // and our bytes do not overlap with it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast::<u8>(), bytes.len()) };
    Ok(bytes.len())
}

/// An options struct: `#[repr(C)]`, `size` first, every member pointer-sized, zero the default.
///
/// # Safety
///
/// All zero bytes must be a valid value.
pub(super) unsafe trait Options: Copy {}

/// Reads an options struct of the size that the caller's header gave it. Members that a shorter
/// struct, of an older program, lacks have their defaults. Members of a longer struct, of a newer
/// program, that this library does not know must be zero.
pub(super) fn read_options<T: Options>(pointer: *const T, name: &str) -> Result<T> {
    check_pointer(pointer, name)?;
    let refuse = |why: &str| Err(Error::invalid_argument(format!("{name}->size {why}")));
    // SAFETY: not NULL, aligned; every options struct starts with its size.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size == 0 {
        return refuse("is 0; initialize the struct with its ACME_..._INIT macro");
    }
    if size < size_of::<usize>() * 2 || size > MAX_OPTIONS || size % size_of::<usize>() != 0 {
        return refuse("is not the size of any version of the struct");
    }
    // SAFETY: the caller's struct has `size` bytes.
    let given = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size) };
    let known = given.len().min(size_of::<T>());
    if given.iter().skip(known).any(|byte| *byte != 0) {
        let why = format!("{name} sets an option that this version of the library does not know");
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both have at least `known` bytes and do not overlap; zero is a valid T (trait), and
    // so is what a caller puts there: raw pointers, integers and nullable function pointers.
    unsafe {
        std::ptr::copy_nonoverlapping(given.as_ptr(), value.as_mut_ptr().cast(), known);
        Ok(value.assume_init())
    }
}

/// Returns a text of the library for C. It contains no NUL; otherwise it would end there.
pub(super) fn c_text(text: impl AsRef<str>) -> CString {
    let text = text.as_ref().split('\0').next().unwrap_or_default();
    // Allocate the right size once: a reallocation could leave a copy of a key in memory.
    CString::new(text).unwrap_or_default()
}

/// Returns a pointer that borrows a text; NULL for `None`.
pub(super) fn pointer_to(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}
