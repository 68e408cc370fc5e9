//! The resources of a CA (RFC 8555 section 7.1), read tolerantly.
//!
//! Members that are unknown, null or of the wrong type count as absent, so that a later addition by a CA
//! breaks nothing. A flow that needs a member checks for it.

// Some members are only read by the API of 0.14.
#![cfg_attr(not(feature = "http"), allow(dead_code))]

pub(crate) mod account;
pub(crate) mod authorization;
pub(crate) mod challenge;
pub(crate) mod challenge_type;
pub(crate) mod directory;
pub(crate) mod identifier;
mod idna;
pub(crate) mod order;
pub(crate) mod order_list;
pub(crate) mod renewal_info;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::text::printable;

/// Maximum number of characters of a profile's description.
const MAX_DESCRIPTION: usize = 1024;

/// A JSON object of a CA.
pub(crate) trait Resource: Sized {
    /// Reads the object; `None`: it lacks a member without which it makes no sense.
    fn read(members: &Members<'_>) -> Option<Self>;

    /// Whether its status, if it has one, is defined by RFC 8555.
    fn has_known_status(&self) -> bool {
        true
    }
}

/// Reads a body as the resource `what`.
pub(crate) fn parse<T: Resource>(what: &str, body: &[u8]) -> Result<T> {
    let object = object(what, body)?;
    T::read(&Members(&object)).ok_or_else(|| not_one(what, body, "members lack"))
}

/// Whether a body is a JSON object.
pub(crate) fn is_object(body: &[u8]) -> bool {
    matches!(json(body), Ok(Value::Object(_)))
}

fn object(what: &str, body: &[u8]) -> Result<Map<String, Value>> {
    match json(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(not_one(what, body, "members lack")),
        Err(error) => Err(not_one(what, body, &error.to_string())),
    }
}

fn not_one(what: &str, body: &[u8], why: &str) -> Error {
    let shown = printable(&String::from_utf8_lossy(body), 80);
    Error::protocol(format!("the response is not {what} ({why}); it starts: {shown:?}"))
}

fn json(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
}

/// The members of a JSON object. Members of the wrong type count as absent.
pub(crate) struct Members<'a>(&'a Map<String, Value>);

impl Members<'_> {
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<String> {
        Some(self.value(name)?.as_str()?.to_owned())
    }

    /// All members, as JSON.
    fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.value(name)?.as_bool()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.value(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The members of an object whose values are texts.
    fn named_texts(&self, name: &str) -> Vec<(String, String)> {
        let members = self.value(name).and_then(Value::as_object).into_iter().flatten();
        let text = |value: &Value| printable(value.as_str().unwrap_or_default(), MAX_DESCRIPTION);
        members.map(|(name, value)| (name.clone(), text(value))).collect()
    }

    fn resource<T: Resource>(&self, name: &str) -> Option<T> {
        T::read(&Members(self.value(name)?.as_object()?))
    }

    fn resources<T: Resource>(&self, name: &str) -> Vec<T> {
        self.list(name).iter().filter_map(|json| T::read(&Members(json.as_object()?))).collect()
    }
}

/// Makes the enum of a resource's statuses (RFC 8555 section 7.1.6).
macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) enum $name {
            $($variant,)+
            /// Missing, or not defined by RFC 8555.
            #[default]
            Unknown,
        }

        impl $name {
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                    $name::Unknown => "unknown",
                }
            }
        }

        impl From<Option<&serde_json::Value>> for $name {
            fn from(value: Option<&serde_json::Value>) -> $name {
                match value.and_then(serde_json::Value::as_str) {
                    $(Some($text) => $name::$variant,)+
                    _ => $name::Unknown,
                }
            }
        }
    };
}
use states;
