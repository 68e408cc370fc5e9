//! The blocking calls: they do an operation's steps with the built-in HTTP client and the caller's
//! callbacks.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::Arc;

use super::begin::begin_order;
use super::client::{ClientState, acme_client_t};
use super::convert::{Out, read_options};
use super::guard::guard;
use super::handle::{borrow, give, release};
use super::op::OpState;
use super::status::acme_status_t;
use super::types::{
    acme_cert_t, acme_challenge_fn, acme_op_t, acme_order_options_t, acme_run_options_t,
};
use crate::blocking::{Host, run};
use crate::engine::{Challenge, Reply, Request, ToSign};
use crate::error::{Error, ErrorKind, Result};

/// Maximum size of a signature: RSA with 4096 bits has the longest.
const MAX_SIGNATURE: usize = 512;

/// Sends a request (acme_op_request()) with the built-in HTTPS client and passes the response to
/// the operation. Blocks for at most request_timeout_s. For programs without an HTTP client: call
/// it on a worker thread, and poll when it returns.
/// @param op The operation. Another thread may poll it meanwhile.
/// @param request_id The id of the request to send.
/// @return ACME_OK: the operation has the response, or the reason why none came; ACME_ERR_MISUSE:
///   no such request waits for a response; ACME_ERR_UNSUPPORTED: the library has no HTTP client.
#[unsafe(no_mangle)]
pub extern "C" fn acme_op_send(op: *mut acme_op_t, request_id: u64) -> acme_status_t {
    guard(|| {
        let op: &OpState = borrow(op, "op")?;
        let request = op.operation.request(request_id).ok_or_else(|| {
            let why = format!("request {request_id} is not waiting for a response");
            Error::new(ErrorKind::Misuse, why)
        })?;
        op.http.send(&request, &op.operation.reply(request_id))
    })
}

/// Polls an operation to its end, with the built-in HTTPS client and the caller's callbacks.
/// Blocking.
/// @param op The operation, which may have been polled before; free it afterwards.
/// @param options The callbacks, read during the call only; NULL: no callbacks.
/// @return ACME_OK: the result is ready to take. Else the status of acme_op_error(), which has the
///   details.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_op_run(
    op: *mut acme_op_t,
    options: *const acme_run_options_t,
) -> acme_status_t {
    guard(|| run_to_end(op, borrow(op, "op")?, &run_options(options, "options")?))
}

/// Obtains a certificate: acme_begin_order(), acme_op_run() and acme_op_take_cert() in one.
/// Blocking. *cert is NULL with ACME_OK if only_if_due is set, the renewal is not due and the client
/// has no store. To resume an order after a failure without a store, call these three functions
/// instead: acme_op_order_url() then returns its URL.
/// @param client The client.
/// @param order Options of the order, as for acme_begin_order(); read during the call only.
/// @param run The callbacks, read during the call only; NULL: no callbacks, for names that the CA
///   has validated already.
/// @param cert Out: the certificate with its chain and key, to free with acme_cert_free().
/// @return ACME_OK, or any ACME_ERR_* value; acme_last_error() has the details.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn acme_obtain(
    client: *const acme_client_t,
    order: *const acme_order_options_t,
    run: *const acme_run_options_t,
    cert: *mut *mut acme_cert_t,
) -> acme_status_t {
    guard(|| {
        let out = Out::handle(cert, "cert")?;
        let client: &ClientState = borrow(client, "client")?;
        let run = run_options(run, "run")?;
        let op: *mut acme_op_t = give(begin_order(client, &read_options(order, "order")?)?);
        let outcome = borrow(op, "op").and_then(|state: &OpState| {
            run_to_end(op, state, &run)?;
            Ok(state.take_cert())
        });
        release(op);
        out.set(outcome?.map_or(null_mut(), give));
        Ok(())
    })
}

fn run_options(options: *const acme_run_options_t, name: &str) -> Result<acme_run_options_t> {
    if options.is_null() {
        let (publish, unpublish, send, sign) = (None, None, None, None);
        let user = null_mut();
        return Ok(acme_run_options_t { size: 0, publish, unpublish, user, send, sign });
    }
    read_options(options, name)
}

fn run_to_end(handle: *mut acme_op_t, op: &OpState, options: &acme_run_options_t) -> Result<()> {
    let _running = Running::start(op)?;
    let mut host = Callbacks { handle, op, options };
    op.store_outcome(run(&op.operation, &mut host))
}

/// Marks an operation as running, until it is dropped.
struct Running<'a>(&'a OpState);

impl Running<'_> {
    fn start(op: &OpState) -> Result<Running<'_>> {
        op.acquire()?;
        Ok(Running(op))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Does the steps with the caller's callbacks. No lock is held while a callback runs.
struct Callbacks<'a> {
    handle: *mut acme_op_t,
    op: &'a OpState,
    options: &'a acme_run_options_t,
}

impl Callbacks<'_> {
    fn call(&self, callback: acme_challenge_fn, index: usize) -> c_int {
        let challenge = self.op.challenge(index);
        // SAFETY: the host's own function with the host's own pointer; the challenge is valid
        // until the next step.
        callback.map_or(0, |callback| unsafe { callback(challenge, self.options.user) })
    }
}

impl Host for Callbacks<'_> {
    fn send(&mut self, request: &Arc<Request>, reply: &Reply<'_>) {
        let sent = match self.options.send {
            None => self.op.http.send(request, reply),
            Some(send) => {
                let request = self.op.set_request(request);
                // SAFETY: the host's own function; op is the handle it gave us, the request is
                // valid until the next one.
                match unsafe { send(self.handle, request, self.options.user) } {
                    0 => Ok(()),
                    code => Err(Error::new(
                        ErrorKind::Host,
                        format!("the host's send callback gave {code}"),
                    )),
                }
            }
        };
        // An incomplete response counts as a lost one, whatever the reason.
        let why = sent.err().map(|error| error.to_string());
        let _ =
            reply.failed(why.as_deref().unwrap_or("the send callback passed no complete response"));
    }

    fn sign(&mut self, to_sign: &Arc<ToSign>) -> Result<Vec<u8>, String> {
        let Some(sign) = self.options.sign else {
            return Err("there is no sign callback in the run options".to_owned());
        };
        let request = self.op.set_sign_request(to_sign);
        let mut signature = [0u8; MAX_SIGNATURE];
        let mut size = signature.len();
        // SAFETY: the host's own function with the host's own pointer; it may write `size` bytes
        // at `signature`, as the header says.
        let code =
            unsafe { sign(request, signature.as_mut_ptr(), &raw mut size, self.options.user) };
        match (code, signature.get(..size)) {
            (0, Some(signature)) => Ok(signature.to_vec()),
            (0, None) => Err(format!("the sign callback gave a signature of {size} bytes")),
            (code, _) => Err(format!("the sign callback gave {code}")),
        }
    }

    fn publish(&mut self, challenges: &[Challenge]) -> Result<(), String> {
        self.op.set_challenges(challenges);
        if self.options.publish.is_none() {
            return Err("there is no publish callback in the run options".to_owned());
        }
        for (index, challenge) in challenges.iter().enumerate() {
            match self.call(self.options.publish, index) {
                0 => {}
                code => return Err(format!("the publish callback gave {code} for {challenge:?}")),
            }
        }
        Ok(())
    }

    fn unpublish(&mut self, challenges: &[Challenge]) {
        self.op.set_challenges(challenges);
        for (index, challenge) in challenges.iter().enumerate() {
            match self.call(self.options.unpublish, index) {
                0 => {}
                code => log::warn!("the unpublish callback gave {code} for {challenge:?}"),
            }
        }
    }
}
