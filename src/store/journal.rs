//! The order in progress, as the record of a certificate has it: by it a program goes on with the order after
//! it was killed.
//!
//! It is plain text without secrets:
//!
//! ```text
//! acme-order 1
//! directory URL           the purpose of the order: CA, account, key and names
//! account THUMBPRINT
//! key THUMBPRINT
//! name NAME               one line for each name
//! runs 1                  number of runs in a row that began with this order and were killed
//! order URL
//! published TOKEN TYPE NAME [DNS-NAME]
//! ```

use super::unusable;
use crate::error::Result;
use crate::resource::challenge::is_token;

const KIND: &str = "acme-order ";
const FIRST_LINE: &str = "acme-order 1\n";

/// The CA, account, key and names of an order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Purpose {
    pub directory_url: String,
    /// Thumbprints of the account's key and of the certificate's.
    pub account: String,
    pub key: String,
    pub names: Vec<String>,
}

/// A challenge that may still be published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PublishedChallenge {
    pub token: String,
    /// `"http-01"`, ...
    pub kind: String,
    pub identifier: String,
    pub dns_name: Option<String>,
}

/// An order in progress.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Journal {
    pub purpose: Purpose,
    pub runs: u32,
    pub order_url: Option<String>,
    pub published: Vec<PublishedChallenge>,
}

/// Whether a text is a journal, of any version.
pub(crate) fn is_journal(text: &str) -> bool {
    text.starts_with(KIND)
}

impl Purpose {
    fn text(&self) -> String {
        let (directory, account, key) = (&self.directory_url, &self.account, &self.key);
        let mut text = format!("directory {directory}\naccount {account}\nkey {key}\n");
        for name in &self.names {
            text.extend(["name ", name, "\n"]);
        }
        text
    }
}

impl Journal {
    /// The journal of a first run, without an order.
    pub(crate) fn new(purpose: Purpose) -> Journal {
        Journal { purpose, runs: 1, order_url: None, published: Vec::new() }
    }

    /// Reads the journal of the record `record`. If it has another purpose, the result has only its
    /// published challenges; a text that is no journal counts as none.
    pub(crate) fn parse(record: &str, text: &str, purpose: Purpose) -> Result<Journal> {
        let mut journal = Journal { runs: 0, ..Journal::new(purpose) };
        let Some(rest) = text.strip_prefix(FIRST_LINE) else {
            if is_journal(text) {
                return Err(unusable(record, "a newer version of this library wrote its order"));
            }
            return Ok(journal);
        };
        let of_purpose = rest.strip_prefix(&journal.purpose.text());
        let is_ours =
            of_purpose.is_some_and(|rest| rest.starts_with("runs ")) && text.ends_with('\n');
        if !is_ours {
            log::warn!("{record}: another account, key or names: its order is not resumed");
        }
        for line in rest.lines() {
            match line.split_once(' ') {
                Some(("published", values)) => journal.published.extend(published(values)),
                Some(("order", url)) if is_ours && journal.order_url.is_none() => {
                    journal.order_url = Some(url.to_owned());
                }
                Some(("runs", number)) if is_ours => journal.runs = number.parse().unwrap_or(0),
                _ => {}
            }
        }
        Ok(journal)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{FIRST_LINE}{}runs {}\n", self.purpose.text(), self.runs);
        if let Some(url) = &self.order_url {
            text.extend(["order ", url, "\n"]);
        }
        for one in &self.published {
            text.extend(["published ", &one.token, " ", &one.kind, " ", &one.identifier]);
            text.extend(one.dns_name.iter().flat_map(|name| [" ", name]));
            text.push('\n');
        }
        text
    }

    /// Adds a challenge, unless it is there already.
    pub(crate) fn add(&mut self, challenge: PublishedChallenge) {
        self.published.retain(|known| !known.is_same(&challenge));
        self.published.push(challenge);
    }
}

impl PublishedChallenge {
    /// Whether two publish the same. Older programs note only the token of http-01.
    pub(crate) fn is_same(&self, other: &PublishedChallenge) -> bool {
        self.kind == other.kind
            && self.token == other.token
            && (self.kind == "http-01" || self.identifier == other.identifier)
    }
}

fn published(values: &str) -> Option<PublishedChallenge> {
    let mut values = values.split(' ');
    Some(PublishedChallenge {
        // Programs remove the file of this name.
        token: values.next().filter(|token| is_token(token))?.to_owned(),
        kind: values.next().unwrap_or("http-01").to_owned(),
        identifier: values.next().unwrap_or_default().to_owned(),
        dns_name: values.next().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose() -> Purpose {
        let names = vec!["example.org".to_owned(), "www.example.org".to_owned()];
        let text = |text: &str| text.to_owned();
        Purpose {
            directory_url: text("https://ca.example/directory"),
            account: text("A"),
            key: text("K"),
            names,
        }
    }

    const TEXT: &str = "acme-order 1\ndirectory https://ca.example/directory\naccount A\nkey K\n\
        name example.org\nname www.example.org\nruns 2\norder https://ca.example/order/1\n\
        published aaaaaaaaaaaaaaaaaaaaaa http-01 example.org\npublished bbbbbbbbbbbbbbbbbbbbbb dns-01 example.org _acme-challenge.example.org\n";

    #[test]
    fn it_is_the_text_of_the_other_languages() {
        let journal = Journal::parse("record", TEXT, purpose()).unwrap();
        assert_eq!((journal.runs, journal.published.len()), (2, 2));
        assert_eq!(journal.order_url.as_deref(), Some("https://ca.example/order/1"));
        assert_eq!(journal.text(), TEXT);
    }

    #[test]
    fn of_another_order_only_the_challenges_count() {
        let other = Purpose { key: "other".to_owned(), ..purpose() };
        for (text, purpose) in [(TEXT, other), (TEXT.trim_end(), purpose())] {
            let journal = Journal::parse("record", text, purpose).unwrap();
            assert_eq!((journal.runs, journal.order_url, journal.published.len()), (0, None, 2));
        }
        let with_path = TEXT.replace("published a", "published ../../a");
        assert_eq!(Journal::parse("record", &with_path, purpose()).unwrap().published.len(), 1);
        assert!(Journal::parse("record", "#!/bin/sh\n", purpose()).unwrap().published.is_empty());
        assert!(Journal::parse("record", "acme-order 2\n", purpose()).is_err());
    }
}
