//! The response to a request: complete, and while it comes in.

use super::limits::MAX_BODY;
use crate::error::{Error, Result};
use crate::header::Headers;

/// A complete response.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A response that is coming in.
#[derive(Debug, Default)]
pub(super) struct PartialResponse {
    headers: Headers,
    body: Vec<u8>,
}

impl PartialResponse {
    pub(super) fn header(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        self.headers
            .add(name, value)
            .map_err(|_| Error::protocol("the header of the CA's response is too large"))
    }

    pub(super) fn body(&mut self, data: &[u8]) -> Result<()> {
        let too_large = || Error::protocol("the CA's response is larger than 1 MiB");
        if data.len() > MAX_BODY.saturating_sub(self.body.len()) {
            return Err(too_large());
        }
        // The size is the server's choice: running out of memory must be an error here.
        self.body.try_reserve(data.len()).map_err(|_| too_large())?;
        self.body.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn end(self, status: u16) -> Response {
        Response { status, headers: self.headers, body: self.body }
    }
}
