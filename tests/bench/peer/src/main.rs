//! What ../issue.c does for a new account, by acme-micro 0.14.0.
//!
//!     peer DIRECTORY NAME...
//!
//! The CA believes every challenge without looking, so none is published.

use std::time::Duration;

use acme_micro::{create_p256_key, Directory, DirectoryUrl, Error};

/// Between two looks. The first look comes at once, whatever this is.
const PACE: Duration = Duration::from_millis(250);

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, name, others @ ..] = &arguments[..] else {
        panic!("usage: peer DIRECTORY NAME...");
    };
    let others: Vec<&str> = others.iter().map(String::as_str).collect();

    let directory = Directory::from_url(DirectoryUrl::Other(directory))?;
    let account = directory.register_account(vec!["mailto:bench@example.org".to_owned()])?;
    let mut order = account.new_order(name, &others)?;
    let order = loop {
        if let Some(order) = order.confirm_validations() {
            break order;
        }
        for authorization in order.authorizations()? {
            let challenge = authorization.http_challenge().expect("the CA offers http-01");
            challenge.http_proof()?;
            challenge.validate(PACE)?;
        }
        order.refresh()?;
    };
    let key = create_p256_key()?;
    let certificate = order.finalize_pkey(key, PACE)?.download_cert()?;
    assert!(certificate.certificate().contains("-----BEGIN CERTIFICATE-----"));
    Ok(())
}
