//! A program for acme-micro 0.14, written after its documentation, with a dependency on "0.14".

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme_micro::{create_p384_key, Certificate, Directory, DirectoryUrl, Error};

type Proofs = Arc<Mutex<HashMap<String, String>>>;

fn main() -> Result<(), Error> {
    let proofs = serve()?;
    let url = std::env::var("ACME_DIRECTORY")?;
    let certificate = request_cert(DirectoryUrl::Other(&url), "crate.test", &proofs)?;
    assert!(certificate.valid_days_left()? > 1);
    print!("{}", certificate.certificate());
    Ok(())
}

fn request_cert(url: DirectoryUrl, name: &str, proofs: &Proofs) -> Result<Certificate, Error> {
    let directory = Directory::from_url(url)?;
    let account = directory.register_account(vec!["mailto:foo@bar.com".to_string()])?;
    let account = directory.load_account(&account.acme_private_key_pem()?, vec![])?;
    let mut order = account.new_order(name, &[])?;
    let order = loop {
        if let Some(order) = order.confirm_validations() {
            break order;
        }
        let auths = order.authorizations()?;
        let challenge = auths[0].http_challenge().unwrap();
        let path = format!("/.well-known/acme-challenge/{}", challenge.http_token());
        proofs.lock().unwrap().insert(path, challenge.http_proof()?);
        challenge.validate(Duration::from_millis(100))?;
        order.refresh()?;
    };
    order.finalize_pkey(create_p384_key()?, Duration::from_millis(100))?.download_cert()
}

fn serve() -> Result<Proofs, Error> {
    let proofs = Proofs::default();
    let served = proofs.clone();
    let port = std::env::var("PEBBLE_HTTP_PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().flatten();
            let line = lines.next().unwrap_or_default();
            while !lines.next().unwrap_or_default().is_empty() {}
            let path = line.split(' ').nth(1).unwrap_or_default();
            let proof = served.lock().unwrap().get(path).cloned().unwrap_or_default();
            let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{proof}");
        }
    });
    Ok(proofs)
}
