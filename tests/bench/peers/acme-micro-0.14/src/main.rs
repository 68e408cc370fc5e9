//! Obtains one or many certificates with acme-micro 0.14.0: see ../../libraries.py.
//!
//! The CA accepts every challenge, so none is published.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acme_micro::{create_p256_key, Account, Directory, DirectoryUrl, Error};

/// Delay between two polls. The first poll always comes at once.
const PACE: Duration = Duration::from_millis(250);
/// Number of threads, each with one order at a time.
const THREADS: usize = 16;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, _, file, what, rest @ ..] = &words[..] else {
        panic!("usage: see libraries.py");
    };
    let account = account(directory, file)?;
    match (*what, rest) {
        ("issue", names) => issue(&account, names),
        ("many", [count, how, prefix]) => {
            let threads = if *how == "at-once" { THREADS } else { 1 };
            many(&account, count.parse().expect("a number"), threads, prefix);
            Ok(())
        }
        _ => panic!("usage: see libraries.py"),
    }
}

fn account(directory: &str, file: &str) -> Result<Account, Error> {
    let directory = Directory::from_url(DirectoryUrl::Other(directory))?;
    let contact = vec!["mailto:bench@example.org".to_owned()];
    if file != "-" && Path::new(file).exists() {
        return directory.load_account(&std::fs::read_to_string(file)?, contact);
    }
    let account = directory.register_account(contact)?;
    if file != "-" {
        std::fs::write(file, account.acme_private_key_pem()?)?;
    }
    Ok(account)
}

fn issue(account: &Account, names: &[&str]) -> Result<(), Error> {
    let mut order = account.new_order(names[0], &names[1..])?;
    let mut looks = 0;
    let order = loop {
        if let Some(order) = order.confirm_validations() {
            break order;
        }
        // A limit, because a bug of 0.14.0 can leave the order pending.
        looks += 1;
        if looks == 10 {
            return Err(Error::msg("the order is still pending"));
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

/// About one in 15 fails because of a leading zero byte in a signature, and is repeated.
fn many(account: &Account, count: usize, threads: usize, prefix: &str) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    break;
                }
                let try_again = |again: u32| {
                    let name = format!("{prefix}{i}.{again}.test");
                    issue(account, &[&name]).is_ok()
                };
                assert!((0..10).any(try_again), "no certificate for {prefix}{i}");
            });
        }
    });
}
