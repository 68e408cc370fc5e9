//! The log: lines go to a callback of the host.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Once, PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};
use safer_ffi::derive_ReprC;

use super::convert::c_text;
use super::guard::catch;

/// Levels of the log.
#[derive_ReprC]
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum acme_log_level_t {
    /// Something is wrong that nothing else reports.
    ACME_LOG_ERROR = 1,
    /// Something went wrong and was mended.
    ACME_LOG_WARN = 2,
    /// Something worth knowing happened.
    ACME_LOG_INFO = 3,
    /// Each request and each retry.
    ACME_LOG_DEBUG = 4,
    /// Transcripts: whatever operations ask for and are answered, without secrets, a JSON object a
    /// line. Names, contacts, URLs and certificates stand in them. See docs/testing.md.
    ACME_LOG_TRACE = 5,
}

use acme_log_level_t::*;

/// Receives log lines on whichever thread called the library, or a driver's own. Must not call the
/// library, must return normally. The text is valid for the call. No line has a key, a token or a key
/// authorization in it.
pub type acme_log_fn =
    Option<unsafe extern "C" fn(level: c_int, message: *const c_char, user: *mut c_void)>;

/// Sends log lines up to level (ACME_LOG_*; other values are brought into that range) to log,
/// process-wide; NULL turns logging off, which is the default.
/// @param log Called for each line, on any thread, also on several at once; NULL: nobody is.
/// @param user Handed to log; has to stay valid until another callback is set and those under way
///   have returned.
/// @param level The most detailed ACME_LOG_* level that is wanted.
#[unsafe(no_mangle)]
pub extern "C" fn acme_set_log_callback(log: acme_log_fn, user: *mut c_void, level: c_int) {
    static INSTALL: Once = Once::new();
    let _ = catch(|| {
        INSTALL.call_once(|| {
            let _ = log::set_logger(&CALLBACK);
        });
        *CALLBACK.0.write().unwrap_or_else(PoisonError::into_inner) = Target { log, user };
        let enough = |of: acme_log_level_t| level <= of as c_int;
        log::set_max_level(match log {
            None => LevelFilter::Off,
            Some(_) if enough(ACME_LOG_ERROR) => LevelFilter::Error,
            Some(_) if enough(ACME_LOG_WARN) => LevelFilter::Warn,
            Some(_) if enough(ACME_LOG_INFO) => LevelFilter::Info,
            Some(_) if enough(ACME_LOG_DEBUG) => LevelFilter::Debug,
            Some(_) => LevelFilter::Trace,
        });
        Ok(())
    });
}

struct Target {
    log: acme_log_fn,
    user: *mut c_void,
}

// SAFETY: the library only hands the pointer back; the header says that the callback comes on any
// thread.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

struct Callback(RwLock<Target>);

static CALLBACK: Callback = Callback(RwLock::new(Target { log: None, user: std::ptr::null_mut() }));

impl Log for Callback {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The HTTP client's own lines may hold whole requests; they go nowhere.
        if !record.target().starts_with("acme_micro") || record.level() > log::max_level() {
            return;
        }
        let (log, user) = {
            let target = self.0.read().unwrap_or_else(PoisonError::into_inner);
            (target.log, target.user)
        };
        if let Some(log) = log {
            let message = c_text(record.args().to_string());
            // SAFETY: the host's own function with the host's own pointer; the text outlives the
            // call, and no lock is held during it.
            unsafe { log(record.level() as c_int, message.as_ptr(), user) }
        }
    }

    fn flush(&self) {}
}
