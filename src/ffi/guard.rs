//! The guard around every exported function: panics and errors become a status, errno stays as it
//! is.

use std::any::Any;
use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::error::{acme_error_t, set_last_error};
use super::status::acme_status_t;
use crate::error::{Error, ErrorKind, Result};

/// Runs the body of a fallible function: catches panics, and sets or clears the thread's last
/// error.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> acme_status_t {
    keep(catch(body))
}

/// Sets the thread's last error. Not generic, to avoid a copy for each exported function.
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

/// Sets the thread's last error, and returns its status.
pub(super) fn fail(error: Error) -> acme_status_t {
    let status = acme_status_t::from(error.kind());
    set_last_error(Some(Box::new(acme_error_t::new(error))));
    status
}

/// Runs the body of a function that returns no status: catches panics.
pub(super) fn catch<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let _errno = Errno::keep();
    silence();
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(bug(payload)))
}

/// The host's errno, restored when this is dropped.
struct Errno(c_int);

impl Errno {
    fn keep() -> Errno {
        // SAFETY: each thread's errno exists for as long as the thread.
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

/// A stand-in: other systems have no errno to restore.
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

/// Silences panics: without this hook even a caught panic prints to the host's stderr. std is
/// private to the shared object, so the hook affects no other Rust code of the process.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::engine::{Client, ClientOptions, Operation, Step};
    use crate::ffi::error::last_error;
    use crate::pki::{Key, KeyType};
    use crate::time::Time;

    const BUG: &str = "a bug that this test makes up";

    /// A payload that would end the host if it were dropped outside of a guard.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("{BUG}");
        }
    }

    fn operation(client: &Client) -> Operation<()> {
        client.register().map(|_| panic!("{BUG}"))
    }

    /// Responds to every request, up to the operation's end.
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

    /// Runs in a process of its own: output of the library there would go to the host's terminal.
    #[test]
    fn f15_a_panic_is_a_status_and_prints_nothing() {
        const CHILD: &str = "ACME_TEST_PANICS";
        if std::env::var_os(CHILD).is_none() {
            let name = "ffi::guard::tests::f15_a_panic_is_a_status_and_prints_nothing";
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
