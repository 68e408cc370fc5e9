//! Faults on the way to the CA and back, and in the machines in front of it. The seed decides which
//! fault happens at which request.

use serde_json::{Value, json};

use super::ca::{BASE, Response, httpdate};
use super::rng::Rng;

/// A fault at one request.
#[derive(Debug)]
pub enum Fault {
    /// The request does not reach the CA.
    Refused,
    /// The CA does the work; the response is lost, at once or after half a minute.
    Lost { after: i64 },
    /// The CA does the work; the response is late.
    Late { by: i64 },
    /// The CA gets the request twice; the second response arrives.
    Twice,
    /// The CA does not get the request; this response arrives.
    Instead(Response),
    /// The CA does the work; this response arrives.
    Replaced(Response),
    /// The CA does the work; a header field of its response is wrong.
    Header(&'static str, String),
    /// The CA does the work; the nonce of its response is not valid.
    BadNonce,
    /// The CA does the work; its response has no nonce.
    NoNonce,
    /// The CA does the work; the JSON or the certificate in its response is falsified.
    Falsified(u64),
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Fault {
    pub fn any(rng: &mut Rng, now: i64) -> Fault {
        let response = |rng: &mut Rng| {
            let problem = |status, name| Response::problem(status, name);
            match rng.below(12) {
                0 => problem(429, "rateLimited"),
                // A third of these exceed MAX_RETRY_AFTER (60 s) of src/engine/limits.rs.
                1 => problem(429, "rateLimited").with("Retry-After", rng.below(90)),
                2 => problem(503, "rateLimited").with("Retry-After", httpdate(now + 30_000)),
                3 => Response::new(503, "").with("Retry-After", rng.below(5_000)),
                4 => Response::new(503, "<html>busy</html>"),
                5 => Response::new(502, "<html>bad gateway</html>"),
                6 => problem(500, "serverInternal"),
                7 => problem(400, "badNonce"),
                8 => Response::new(504, ""),
                9 => Response::new(408, ""),
                10 => Response::new(
                    200,
                    *rng.pick(&["", "<html>sign in</html>", "[]", "{\"a\":", "null"]),
                ),
                _ => Response::new(500, *rng.pick(&["", "{}", "{\"type\":7}"])),
            }
        };
        match rng.below(16) {
            0 | 1 => Fault::Refused,
            2 | 3 => Fault::Lost { after: 0 },
            4 => Fault::Lost { after: 30_000 },
            5 => Fault::Late { by: 1 + rng.below(29_000) as i64 },
            6 => Fault::Twice,
            7 | 8 => Fault::Instead(response(rng)),
            9 | 10 => Fault::Replaced(response(rng)),
            11 => {
                let junk =
                    ["-1", "99999999999999999999", "soon", "0", "0x10", "4000000", " 5 ", "5, 6"];
                Fault::Header("Retry-After", (*rng.pick(&junk)).to_owned())
            }
            12 => Fault::BadNonce,
            13 => Fault::NoNonce,
            14 => Fault::Falsified(rng.next()),
            _ => match rng.below(4) {
                0 => Fault::Instead(Response::problem(403, "unauthorized")),
                1 => Fault::Instead(Response::new(404, "")),
                2 => Fault::Instead(Response::new(302, "").with("Location", format!("{BASE}/x"))),
                _ => Fault::Header("Location", "http://other.example/".to_owned()),
            },
        }
    }

    /// Whether a client may believe something false about an order after this fault.
    pub fn is_false_witness(&self, url: &str) -> bool {
        match self {
            Fault::Instead(response) | Fault::Replaced(response) if response.status == 200 => {
                url.contains("/cert/")
            }
            Fault::Falsified(_) => true,
            Fault::Header(name, _) => *name == "Location",
            Fault::Instead(response) => matches!(response.status, 302 | 403 | 404),
            _ => false,
        }
    }
}

/// Falsifies a response.
pub fn falsify(response: &mut Response, choice: u64) {
    let rng = &mut Rng(choice);
    match response.json() {
        Some(mut json) => {
            falsify_json(&mut json, rng);
            response.body = json.to_string().into_bytes();
        }
        // The body is not JSON: most likely a certificate.
        None => match rng.below(5) {
            0 => response.body.truncate(response.body.len() / 2),
            1 => response
                .body
                .extend(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            2 => response.body = response.body.repeat(2),
            3 => {
                if let Some(byte) = response.body.get_mut(200) {
                    *byte ^= 1;
                }
            }
            _ => response.body.clear(),
        },
    }
}

fn falsify_json(json: &mut Value, rng: &mut Rng) {
    const STATES: [&str; 7] =
        ["pending", "ready", "processing", "valid", "invalid", "expired", "later"];
    let Some(members) = json.as_object_mut() else { return };
    let names: Vec<String> = members.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    if members.contains_key("status") && rng.chance(1, 2) {
        members.insert("status".to_owned(), json!(rng.pick(&STATES)));
        return;
    }
    let name = rng.pick(&names).clone();
    match rng.below(6) {
        0 => {
            members.remove(&name);
        }
        1 => {
            members.insert(name, Value::Null);
        }
        2 => {
            members.insert(name, json!(["x", 1, {"y": []}]));
        }
        3 => {
            members.insert(name, json!("https://other.example/x"));
        }
        4 => {
            members.insert(name, json!("http://ca.example/x"));
        }
        _ => match &mut members[&name] {
            Value::Array(list) if !list.is_empty() => {
                match list.first_mut().filter(|first| first.is_object()) {
                    Some(first) => falsify_json(first, rng),
                    None => list.truncate(1),
                }
            }
            inner @ Value::Object(_) => falsify_json(inner, rng),
            inner => *inner = json!("../../etc/passwd"),
        },
    }
}
