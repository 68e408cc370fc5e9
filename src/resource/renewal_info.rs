//! Renewal information. RFC 9773 section 4.2.

use super::{Members, Resource};
use crate::time::Time;

/// The window that the CA suggests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub start: Time,
    pub end: Time,
}

/// A RenewalInfo object. "The end timestamp MUST be after the start": another window counts as absent.
#[derive(Clone, Debug)]
pub(crate) struct RenewalInfo {
    pub window: Window,
    pub explanation_url: Option<String>,
}

impl Resource for RenewalInfo {
    fn read(members: &Members<'_>) -> Option<RenewalInfo> {
        Some(RenewalInfo {
            window: members.resource("suggestedWindow")?,
            explanation_url: members.text("explanationURL"),
        })
    }
}

impl Resource for Window {
    fn read(members: &Members<'_>) -> Option<Window> {
        let start = Time::from_rfc3339(&members.text("start")?)?;
        let end = Time::from_rfc3339(&members.text("end")?)?;
        (start < end).then_some(Window { start, end })
    }
}
