//! Input from the host program, its operator and its proxy.

use super::parsers::check_error;
use crate::engine::{Client, ClientOptions, http01_answer};
use crate::error::Error;
use crate::jose::eab::{ExternalAccount, MacAlgorithm};
use crate::pki::{Key, KeyType};

/// Options and arguments, one per line.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (id, mac, path) = (line(), line(), line());
    let account = match ExternalAccount::new(&id, &mac) {
        Ok(account) => Some(account),
        Err(error) => {
            check_error(&error);
            check_secret(mac.trim(), &error);
            None
        }
    };
    let _ = MacAlgorithm::from_name(&id);
    let thumbprint = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    if let Some(answer) = http01_answer(thumbprint, &path) {
        let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap();
        assert_eq!(answer, format!("{token}.{thumbprint}"));
        assert!(!token.contains(['/', '.', '%', '\r']));
    }
    thread_local! {
        static KEY: Key = Key::generate(KeyType::P256).unwrap();
    }
    let mut options = ClientOptions::new(line(), KEY.with(Key::clone));
    options.external_account = account;
    options.account_url = Some(line()).filter(|line| !line.is_empty());
    options.user_agent = Some(line()).filter(|line| !line.is_empty());
    options.accept_language = Some(line()).filter(|line| !line.is_empty());
    options.allow_http_loopback = true;
    options.contacts = lines.take(10).collect();
    options.seed = Some(1);
    match Client::new(options) {
        Ok(client) => drop(client.register()),
        Err(error) => check_error(&error),
    }
}

/// Checks that a message does not show a secret. A secret may be a part of a message by chance: then messages
/// about other secrets have that part, too.
fn check_secret(secret: &str, error: &Error) {
    let by_chance = ["*", "AAAA"].into_iter().any(|other| {
        ExternalAccount::new("id", other).is_err_and(|error| error.to_string().contains(secret))
    });
    let shown = secret.len() >= 8 && error.to_string().contains(secret);
    assert!(!shown || by_chance, "a secret is shown");
}

/// A proxy's URL in the first line, then the proxy's responses.
#[cfg(feature = "http")]
pub fn proxy(data: &[u8]) {
    use std::io::{Cursor, Read, Write};

    use crate::transport::connect::tunnel;
    use crate::transport::proxy::{Target, parse};

    struct Peer<'a>(Cursor<&'a [u8]>, Vec<u8>);
    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (url, says) = data.split_at(end);
    let Ok(proxy) = parse(&String::from_utf8_lossy(url)) else { return };
    for host in ["ca.example", "192.0.2.1", "2001:db8::1"] {
        let mut peer = Peer(Cursor::new(says.get(1..).unwrap_or_default()), Vec::new());
        let connected = tunnel(&mut peer, &proxy, &Target { host, port: 443 });
        assert!(peer.0.position() <= 16 * 1024 && peer.1.len() < 32 * 1024);
        if let Err(error) = connected {
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
    }
}
