//! Obtains one or many certificates with instant-acme: see ../../libraries.py.
//!
//! The CA accepts every challenge, so none is published.

use std::path::Path;

use futures::future::try_join_all;
use instant_acme::{
    Account, AccountCredentials, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One thread, because the library mostly waits.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, ca_file, file, what, rest @ ..] = &words[..] else {
        panic!("usage: see libraries.py");
    };
    let account = account(directory, ca_file, file).await?;
    match (*what, rest) {
        ("issue", names) => issue(&account, names).await,
        ("many", [count, how, prefix]) => {
            let names: Vec<String> =
                (0..count.parse()?).map(|i: usize| format!("{prefix}{i}.test")).collect();
            if *how == "at-once" {
                let all = names.iter().map(|name| async { issue(&account, &[name]).await });
                try_join_all(all).await?;
            } else {
                for name in &names {
                    issue(&account, &[name]).await?;
                }
            }
            Ok(())
        }
        _ => panic!("usage: see libraries.py"),
    }
}

async fn account(directory: &str, ca_file: &str, file: &str) -> Result<Account> {
    let builder = Account::builder_with_root(ca_file)?;
    if file != "-" && Path::new(file).exists() {
        let credentials: AccountCredentials = serde_json::from_slice(&std::fs::read(file)?)?;
        return Ok(builder.from_credentials(credentials).await?);
    }
    let wanted = NewAccount {
        contact: &["mailto:bench@example.org"],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder.create(&wanted, directory.to_owned(), None).await?;
    if file != "-" {
        std::fs::write(file, serde_json::to_vec(&credentials)?)?;
    }
    Ok(account)
}

async fn issue(account: &Account, names: &[&str]) -> Result<()> {
    let names: Vec<Identifier> = names.iter().map(|name| Identifier::Dns((*name).into())).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let challenge = authorization.challenge(ChallengeType::Http01);
        challenge.ok_or("the CA offers no http-01")?.set_ready().await?;
    }
    let pace = RetryPolicy::default();
    let status = order.poll_ready(&pace).await?;
    if status != OrderStatus::Ready {
        return Err(format!("the order is {status:?}").into());
    }
    order.finalize().await?;
    let chain = order.poll_certificate(&pace).await?;
    assert!(chain.contains("-----BEGIN CERTIFICATE-----"));
    Ok(())
}
