//! Crossing the boundary: panics and errors become a status, pointers become references.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::error::acme_error_t;
use super::status::acme_status_t;
use crate::error::{Error, ErrorKind, Result};

/// No text that comes in has a reason to be longer; what is, lacks its end.
const MAX_TEXT: usize = 64 * 1024;
/// No key, request, chain or piece of an answer does.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// No options struct does; a size above is an uninitialized one.
const MAX_OPTIONS: usize = 4096;

thread_local! {
    static LAST_ERROR: RefCell<Option<Box<acme_error_t>>> = const { RefCell::new(None) };
}

/// Runs the body of a fallible function: clears the thread's last error, catches panics, keeps
/// what went wrong.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> acme_status_t {
    keep(catch(body))
}

/// Not generic: it would stand in the library once for each exported function.
#[inline(never)]
fn keep(outcome: Result<()>) -> acme_status_t {
    match outcome {
        Ok(()) => {
            set_last_error(None);
            acme_status_t::ACME_OK
        }
        Err(error) => fail(error),
    }
}

/// Keeps the error for acme_last_error() and gives its status.
pub(super) fn fail(error: Error) -> acme_status_t {
    let status = acme_status_t::from(error.kind());
    set_last_error(Some(Box::new(acme_error_t::new(error))));
    status
}

/// Runs the body of a function that has no status to return.
pub(super) fn catch<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let _errno = Errno::keep();
    silence();
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(bug(payload)))
}

/// A host's errno is as it was, whatever is called in between.
struct Errno(c_int);

impl Errno {
    fn keep() -> Errno {
        // SAFETY: each thread's errno is there for as long as the thread is.
        Errno(unsafe { *errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *errno_location() = self.0 }
    }
}

#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as errno_location;
#[cfg(target_os = "linux")]
use libc::__errno_location as errno_location;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as errno_location;

/// Elsewhere there is none to keep.
#[cfg(not(any(
    target_os = "linux",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "android",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
unsafe fn errno_location() -> *mut c_int {
    thread_local! {
        static NONE: std::cell::Cell<c_int> = const { std::cell::Cell::new(0) };
    }
    NONE.with(std::cell::Cell::as_ptr)
}

/// Without this a caught panic would still print to the host's stderr. std is private to the shared
/// object, so the hook touches no other Rust code of the process.
fn silence() {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| panic::set_hook(Box::new(|_| {})));
}

#[inline(never)]
fn bug(payload: Box<dyn Any + Send>) -> Error {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    // Dropping the payload could panic again, outside of any guard.
    std::mem::forget(payload);
    Error::new(ErrorKind::Panic, format!("a bug in acme-micro, please report it: {text}"))
}

fn set_last_error(error: Option<Box<acme_error_t>>) {
    // Fails only while the thread ends, when nobody can ask any more.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = error);
}

pub(super) fn last_error() -> *const acme_error_t {
    let last = LAST_ERROR.try_with(|last| last.borrow().as_deref().map(std::ptr::from_ref));
    last.ok().flatten().unwrap_or(std::ptr::null())
}

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

/// Text that may be absent.
pub(super) fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
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
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) };
    let text = std::str::from_utf8(bytes);
    text.map(Some).map_err(|_| Error::invalid_argument(format!("{name} is not UTF-8")))
}

/// Text that must be there.
pub(super) fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    optional_text(pointer, name)?.ok_or_else(|| missing(name))
}

/// `count` texts; NULL is none.
pub(super) fn texts<'a>(
    pointer: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>> {
    let found = optional_texts(pointer, count, name)?.into_iter().enumerate();
    found.map(|(n, text)| text.ok_or_else(|| missing(&format!("{name}[{n}]")))).collect()
}

/// `count` texts, each of which may be absent; NULL is none.
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

/// A number that is a yes or a no.
pub(super) fn flag(value: usize, name: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::invalid_argument(format!("{name} is {value}, neither 0 nor 1"))),
    }
}

/// Bytes; NULL is allowed for none.
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

/// A place that the caller wants something written to.
pub(super) struct Out<T>(*mut T);

impl<T> Out<*mut T> {
    /// For a handle. It is NULL unless it is set: who frees it after a failure frees nothing.
    pub(super) fn handle(pointer: *mut *mut T, name: &str) -> Result<Out<*mut T>> {
        let out = Out::new(pointer, name)?;
        // SAFETY: not NULL and aligned (checked by `new`); the caller owns the place.
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
        // SAFETY: not NULL and aligned (checked by `new`); the caller owns the place.
        unsafe { self.0.write(value) }
    }
}

/// Copies bytes to a place of the caller's that has room for them; gives how many.
pub(super) fn copy_out(bytes: &[u8], place: *mut c_char) -> Result<usize> {
    check_pointer(place, "body")?;
    // SAFETY: not NULL; the caller says that there is room (and has been checked to say enough), and
    // our bytes are nowhere near.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast::<u8>(), bytes.len()) };
    Ok(bytes.len())
}

/// An options struct: `#[repr(C)]`, `size` first, every member pointer-sized, zero the default.
///
/// # Safety
///
/// All zero bytes must be a valid value.
pub(super) unsafe trait Options: Copy {}

/// Reads an options struct of the size that the caller's header gave it. A shorter one, from an
/// older program, has the defaults in what it lacks; in a longer one, from a newer program, what we
/// do not know must be zero.
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

/// Text of ours for C. NUL cannot be in it; were it there, the text would end before it.
pub(super) fn c_text(text: impl AsRef<str>) -> CString {
    let text = text.as_ref().split('\0').next().unwrap_or_default();
    // One allocation of the right size: a copy left behind could be of a key.
    CString::new(text).unwrap_or_default()
}

/// A borrowed pointer to optional text of ours.
pub(super) fn pointer_to(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::engine::{Client, ClientOptions, Operation, Step};
    use crate::pki::{Key, KeyType};
    use crate::time::Time;

    const BUG: &str = "a bug that this test makes up";

    /// What ends a host when it is dropped once more.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("{BUG}");
        }
    }

    fn operation(client: &Client) -> Operation<()> {
        client.register().map(|_| panic!("{BUG}"))
    }

    /// Answers whatever it asks, up to its end.
    fn run(operation: &Operation<()>) -> Result<()> {
        loop {
            let Step::Request(request) = operation.poll(Time::from_millis(1_000_000))? else {
                panic!("no request")
            };
            let reply = operation.reply(request.id);
            reply.header(b"Replay-Nonce", b"nonce")?;
            let location = b"https://ca.example/account/1";
            let (status, body) = match request.path().as_str() {
                "/directory" => (200, DIRECTORY),
                "/account" => (201, r#"{"status":"valid"}"#),
                _ => (204, ""),
            };
            reply.header(b"Location", location)?;
            reply.body(body.as_bytes())?;
            reply.end(status)?;
        }
    }

    const DIRECTORY: &str = r#"{"newNonce":"https://ca.example/nonce",
        "newAccount":"https://ca.example/account","newOrder":"https://ca.example/order",
        "revokeCert":"https://ca.example/revoke","keyChange":"https://ca.example/key"}"#;

    /// In a process of its own: what the library prints there would go to the host's terminal.
    #[test]
    fn f15_a_panic_is_a_status_and_prints_nothing() {
        const CHILD: &str = "ACME_TEST_PANICS";
        if std::env::var_os(CHILD).is_none() {
            let name = "ffi::boundary::tests::f15_a_panic_is_a_status_and_prints_nothing";
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
            let output = child.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            for stream in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(stream);
                assert!(!text.contains(BUG) && !text.contains("panicked"), "{text}");
            }
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
            return;
        }
        let bugs: [fn() -> Result<()>; 3] = [
            || panic!("{BUG}"),
            || std::panic::panic_any(Bomb),
            || {
                let nothing: &[u8] = &[];
                std::hint::black_box(nothing).iter().next().map(drop).unwrap();
                Ok(())
            },
        ];
        for bug in bugs {
            assert!(guard(bug) == acme_status_t::ACME_ERR_PANIC);
            assert!(!last_error().is_null());
            assert!(guard(|| Ok(())) == acme_status_t::ACME_OK && last_error().is_null());
        }
        let key = Key::generate(KeyType::P256).unwrap();
        let mut options = ClientOptions::new("https://ca.example/directory", key);
        options.terms_agreed = true;
        let client = Client::new(options).unwrap();
        let broken = operation(&client);
        for _ in 0..3 {
            let error = catch(|| run(&broken)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panic, "the operation stays what it is: dead");
        }
        let well = client.register().map(|_| ());
        while let Step::Request(request) =
            catch(|| well.poll(Time::from_millis(1_000_000))).unwrap()
        {
            well.reply(request.id).header(b"Replay-Nonce", b"another").unwrap();
            well.reply(request.id).header(b"Location", b"https://ca.example/account/1").unwrap();
            well.reply(request.id).body(br#"{"status":"valid"}"#).unwrap();
            well.reply(request.id).end(if request.body.is_empty() { 204 } else { 200 }).unwrap();
        }
        assert!(well.take().is_some(), "the client lives");
    }
}
