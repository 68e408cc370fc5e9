//! Threads that receive no signals: signals are for the host's own threads.
#![cfg(all(feature = "http", unix))]

use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::thread::JoinHandle;

use crate::driver::{Body, spawn};

/// Signals of a thread's own faults; the host may have a handler that reports them.
const OWN_FAULTS: [i32; 4] = [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV];

/// Starts a thread that receives no other signals.
pub(super) fn spawn_without_signals(body: Body) -> io::Result<JoinHandle<()>> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset() makes the set that it is given; sigdelset() and pthread_sigmask()
    // read it then, and the latter writes the other. A new thread has its creator's mask.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for fault in OWN_FAULTS {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let thread = spawn(body);
    // SAFETY: the call above has written the set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut()) };
    thread
}
