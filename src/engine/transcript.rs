//! The transcript of an operation: each step for the host and each reply of the host, one JSON object per
//! line, so that the run can be repeated without the CA (docs/testing.md).
//!
//! It goes to the log, at the level "trace" and with the target `acme_micro::transcript`. It contains no
//! secrets and nothing that another party could use: no key, no token, no key authorization, no
//! external account binding, no signature.

use log::{Level, Metadata, Record};
use serde_json::Value;

use super::challenge::Challenge;
use super::response::Response;
use super::step::{Method, Request, Step};
use crate::base64url::{decode_pasted, is_base64url};
use crate::error::{Error, Result};
use crate::resource::challenge::is_token;
use crate::time::Time;

const TARGET: &str = "acme_micro::transcript";
/// Replacement of secrets. It has the form of a token, so that a repeated run accepts it.
const REDACTED: &str = "redacted-redacted-redacted";

/// Maximum number of tokens that are searched in each line: one for each name of an order.
const MAX_TOKENS: usize = 1000;

/// The transcript of one operation.
pub(super) struct Transcript {
    operation: String,
    thumbprint: String,
    /// Tokens in the CA's responses so far. It may quote one in any later response.
    tokens: Vec<String>,
    /// Lines for the log. They are written later: the log is not called while the effects are locked.
    lines: Vec<String>,
}

impl Transcript {
    /// Whether the log accepts transcripts.
    pub(super) fn is_wanted() -> bool {
        let metadata = Metadata::builder().level(Level::Trace).target(TARGET).build();
        Level::Trace <= log::max_level() && log::logger().enabled(&metadata)
    }

    /// Begins a transcript; `None`: the log does not accept it.
    pub(super) fn begin(seed: u64, thumbprint: &str) -> Option<Box<Transcript>> {
        Transcript::is_wanted().then(|| {
            Box::new(Transcript {
                operation: format!("{seed:016x}"),
                thumbprint: thumbprint.to_owned(),
                tokens: Vec::new(),
                lines: Vec::new(),
            })
        })
    }

    /// Adds a line, with the operation's name.
    pub(super) fn add(&mut self, line: Line) {
        let mut line = line.text("operation", Some(&self.operation)).end();
        for token in self.tokens.iter().filter(|token| *token != REDACTED) {
            if line.contains(token.as_str()) {
                line = line.replace(token.as_str(), REDACTED);
            }
        }
        self.lines.push(without(line, &self.thumbprint));
    }

    pub(super) fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Adds the step that a poll at this time returned.
    pub(super) fn step(&mut self, now: Time, step: &Result<Step>) {
        let line = Line::default();
        let step = match step {
            Ok(Step::Request(request)) => line.raw("request", &request_line(request)),
            Ok(Step::Sign(to_sign)) => line.number("sign", Some(to_sign.id as i64)),
            Ok(Step::Wait(delay)) => {
                let millis = delay.and_then(|delay| i64::try_from(delay.as_millis()).ok());
                line.number("wait_ms", millis.or(Some(-1)))
            }
            Ok(Step::Publish(challenges)) => line.texts("publish", &challenge_names(challenges)),
            Ok(Step::Unpublish(challenges)) => {
                line.texts("unpublish", &challenge_names(challenges))
            }
            Ok(Step::Store(_)) => line.flag("store", true),
            Ok(Step::Done) => line.flag("done", true),
            Err(error) => line.raw("failed", &failure(error)),
        };
        self.add(Line::default().number("poll", Some(now.as_millis())).raw("step", &step.end()));
    }

    pub(super) fn response(&mut self, id: u64, response: &Result<Response>) {
        let line = Line::default().number("answer", Some(id as i64));
        let line = match response {
            Ok(response) => {
                let headers: Vec<String> = response
                    .headers
                    .kept()
                    .map(|(name, value)| format!("{name}: {value}"))
                    .collect();
                let line =
                    line.number("status", Some(response.status.into())).texts("headers", &headers);
                match concealed_and_noted(&response.body, &mut self.tokens) {
                    Some(json) => line.raw("json", &json),
                    None => line.text("text", Some(&String::from_utf8_lossy(&response.body))),
                }
            }
            Err(error) => line.raw("failed", &failure(error)),
        };
        self.add(line);
    }
}

/// A JSON object that is being built. Members without a value are left out.
#[derive(Default)]
pub(super) struct Line(String);

impl Line {
    /// Adds a member whose value is JSON already.
    pub(super) fn raw(mut self, name: &str, json: &str) -> Line {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.extend(["\"", name, "\":", json]);
        self
    }

    pub(super) fn text(self, name: &str, text: Option<&str>) -> Line {
        match text {
            Some(text) => self.raw(name, &quoted(text)),
            None => self,
        }
    }

    pub(super) fn texts(self, name: &str, texts: &[String]) -> Line {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        self.raw(name, &format!("[{}]", texts.join(",")))
    }

    pub(super) fn number(self, name: &str, number: Option<i64>) -> Line {
        match number {
            Some(number) => self.raw(name, &number.to_string()),
            None => self,
        }
    }

    /// Adds a member if the flag is `true`.
    pub(super) fn flag(self, name: &str, flag: bool) -> Line {
        if flag { self.raw(name, "true") } else { self }
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Writes lines to the log. The caller must hold no lock.
pub(super) fn write(lines: Vec<String>) {
    for line in lines {
        let mut record = Record::builder();
        record.level(Level::Trace).target(TARGET);
        log::logger().log(&record.args(format_args!("{line}")).build());
    }
}

fn failure(error: &Error) -> String {
    Line::default()
        .text("kind", Some(&format!("{:?}", error.kind())))
        .text("text", Some(&error.to_string()))
        .flag("permanent", error.is_permanent())
        .end()
}

/// `"dns-01 example.org"`.
fn challenge_names(challenges: &[Challenge]) -> Vec<String> {
    challenges.iter().map(|one| format!("{} {}", one.kind().as_str(), one.identifier())).collect()
}

fn request_line(request: &Request) -> String {
    let line = Line::default()
        .number("id", Some(request.id as i64))
        .text("method", Some(request.method.as_str()))
        .text("url", Some(request.url()));
    match request.method {
        Method::Get => line,
        Method::Post => line.raw("payload", &payload(&request.body).unwrap_or_default()),
    }
    .end()
}

/// Returns the payload of a JWS as JSON; "" for POST-as-GET.
fn payload(jws: &[u8]) -> Option<String> {
    let jws: Value = serde_json::from_slice(jws).ok()?;
    let payload = decode_pasted(jws.get("payload")?.as_str()?)?;
    Some(concealed(&payload).unwrap_or_else(|| quoted(&String::from_utf8_lossy(&payload))))
}

/// Returns JSON without its secrets.
pub(super) fn concealed(json: &[u8]) -> Option<String> {
    concealed_and_noted(json, &mut Vec::new())
}

/// Returns JSON without its secrets, and adds the tokens among them to `tokens`.
fn concealed_and_noted(json: &[u8], tokens: &mut Vec<String>) -> Option<String> {
    let mut value = serde_json::from_slice(json).ok()?;
    conceal(&mut value, tokens);
    Some(value.to_string())
}

/// Replaces the values of secret members: tokens, and signed objects within others.
fn conceal(value: &mut Value, tokens: &mut Vec<String>) {
    match value {
        Value::Object(members) if members.contains_key("signature") => *value = REDACTED.into(),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "token" && is_token(text) => {
                        let token = std::mem::replace(text, REDACTED.to_owned());
                        if tokens.len() < MAX_TOKENS && !tokens.contains(&token) {
                            tokens.push(token);
                        }
                    }
                    value => conceal(value, tokens),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| conceal(value, tokens)),
        _ => {}
    }
}

/// Removes key authorizations, wherever a CA may quote one: they end in the thumbprint.
fn without(mut line: String, thumbprint: &str) -> String {
    while let Some(at) = line.find(thumbprint) {
        let before = line.get(..at).unwrap_or_default();
        let token = before.strip_suffix('.').and_then(|before| {
            let token =
                before.rsplit(|c: char| !is_base64url(c.encode_utf8(&mut [0; 4]))).next()?;
            Some(token.len() + 1)
        });
        line.replace_range(at - token.unwrap_or(0)..at + thumbprint.len(), "redacted");
    }
    line
}
