//! What the CA says: the resources of RFC 8555 section 7.1, read tolerantly.
//!
//! Members that are unknown, null or of the wrong type are as good as absent, so that what a CA adds
//! tomorrow breaks nothing today. What a flow cannot do without, it asks for by name.

pub(crate) mod account;
pub(crate) mod authorization;
pub(crate) mod challenge;
pub(crate) mod directory;
pub(crate) mod identifier;
pub(crate) mod order;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::problem::{Problem, printable};

/// Reads a body as the resource `what`.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(json).map_err(|error| {
        let shown = printable(&String::from_utf8_lossy(json), 80);
        Error::protocol(format!("the answer is not {what} ({error}); it starts: {shown:?}"))
    })
}

/// A member that may be missing, null or nonsense.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(d)?).ok())
}

/// A list of which the elements that make sense are kept.
fn lenient_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Vec<T>, D::Error> {
    let elements = match Value::deserialize(d)? {
        Value::Array(elements) => elements,
        _ => Vec::new(),
    };
    Ok(elements.into_iter().filter_map(|element| serde_json::from_value(element).ok()).collect())
}

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Problem, D::Error> {
        let value = Value::deserialize(d)?;
        Problem::from_json(&value).ok_or_else(|| serde::de::Error::custom("no problem document"))
    }
}

/// Makes the enum of a resource's states (RFC 8555 section 7.1.6).
macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(from = "serde_json::Value")]
        pub(crate) enum $name {
            $($variant,)+
            /// Missing, or none of RFC 8555.
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

        impl From<serde_json::Value> for $name {
            fn from(value: serde_json::Value) -> $name {
                match value.as_str() {
                    $(Some($text) => $name::$variant,)+
                    _ => $name::Unknown,
                }
            }
        }
    };
}
use states;
