//! Registering the account, or finding it. RFC 8555 sections 7.3, 7.3.1, 7.3.3 and 7.3.4.

use std::sync::Arc;

use super::exchange::{Call, Identity, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::request::{self, NewAccount};
use crate::resource::account::{Account, AccountStatus};
use crate::resource::directory::Directory;
use crate::text::printable;

/// A registered account.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The account's URL: store it beside the key.
    pub url: String,
    pub(crate) account: Account,
}

impl Session {
    /// Returns the account's URL. Registers the account if its URL is not known.
    pub(crate) async fn account_url(&self) -> Result<String> {
        Box::pin(self.load_account()).await?;
        match self.client.account_url() {
            Some(url) => Ok(url),
            None => Ok(self.register().await?.url),
        }
    }

    /// Sends newAccount. It may be repeated: for a known key the CA returns the existing account.
    pub(crate) async fn register(&self) -> Result<Registered> {
        Box::pin(self.load_account()).await?;
        let registered = self.with_directory(|directory| self.register_at(directory)).await;
        if let Err(error) = &registered {
            Box::pin(self.set_refused_key_aside(error)).await;
        }
        registered
    }

    async fn register_at(&self, directory: Arc<Directory>) -> Result<Registered> {
        let options = self.client.options();
        let terms = directory.terms_of_service();
        let agreed =
            options.terms_agreed || terms.is_some() && terms == options.agreed_terms_url.as_deref();
        let lacks_terms = terms.is_some() && !agreed;
        let lacks_eab = directory.external_account_required() && options.external_account.is_none();

        let key = self.client.account_key();
        let binding = options.external_account.as_ref();
        let payload = NewAccount {
            contact: &options.contacts,
            terms_of_service_agreed: agreed,
            // Without the terms or the binding of a new account, an existing one can still be found.
            only_return_existing: lacks_terms || lacks_eab,
            external_account_binding: binding
                .map(|eab| eab.bind(&key, directory.new_account()?))
                .transpose()?,
        };
        let doing = "registering the account";
        match self.new_account(&directory, doing, &key, &payload).await {
            Err(error) if error.is_problem("accountDoesNotExist") => {
                let at = error.url().unwrap_or_default().to_owned();
                let lacking = if lacks_terms {
                    lacks_agreement(terms.unwrap_or_default(), options.agreed_terms_url.as_deref())
                } else if lacks_eab {
                    let why = "a new account at this CA needs an external account binding: a key \
                               id and an HMAC key, which the CA's web site gives out";
                    Error::new(ErrorKind::EabRequired, why)
                } else {
                    return Err(error);
                };
                Err(lacking.doing(doing).at(&at))
            }
            // CA quirk (Google): it accepts a binding once. An earlier try whose response was lost may
            // have created the account.
            Err(error)
                if binding.is_some()
                    && (error.is_problem("unauthorized") || error.is_problem("malformed")) =>
            {
                self.find_account().await.map_err(|_| error)
            }
            outcome => outcome,
        }
    }

    /// Finds the account of the client's key, and creates none (RFC 8555 section 7.3.1).
    pub(crate) async fn find_account(&self) -> Result<Registered> {
        Box::pin(self.load_account()).await?;
        self.find_account_of(&self.client.account_key()).await
    }

    async fn find_account_of(&self, key: &Key) -> Result<Registered> {
        self.with_directory(|directory| async move {
            self.new_account(&directory, "finding the account", key, &NewAccount::find()).await
        })
        .await
    }

    /// Returns the URL of this key's account; `None`: the CA knows no account of the key.
    pub(super) async fn account_of(&self, key: &Key) -> Result<Option<String>> {
        match self.find_account_of(key).await {
            Ok(found) => Ok(Some(found.url)),
            Err(error) if error.is_problem("accountDoesNotExist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends newAccount, signed by this key: the client's, or another key whose account is searched.
    async fn new_account(
        &self,
        directory: &Directory,
        doing: &'static str,
        key: &Key,
        payload: &NewAccount<'_>,
    ) -> Result<Registered> {
        self.io.set_state("account");
        let call = Call { doing, url: directory.new_account()?, repeatable: true };
        let is_bound = payload.external_account_binding.is_some();
        let payload = request::json(payload)?;
        let fetched =
            self.submit::<Account>(&call, Identity::Key(key), &payload, "an account").await;
        let refused = |error: &Error| {
            error.is_problem("unauthorized") && error.url() == Some(call.url) && !is_bound
        };
        let fetched = fetched.map_err(|error| match refused(&error) {
            // The account of this key has been deactivated.
            true => error.with_kind(ErrorKind::Account),
            false => error,
        })?;
        let url = fetched.created_at(self, &call)?;
        match fetched.value.status {
            None | Some(AccountStatus::Valid) => {}
            Some(status) => {
                let why = format!("the account is {}", status.as_str());
                return Err(Error::new(ErrorKind::Account, why).doing(call.doing).at(&url));
            }
        }
        if key.thumbprint() == self.client.account_key().thumbprint() {
            self.client.set_account_url(Some(&url));
            Box::pin(self.keep_account()).await;
        }
        Ok(Registered { url, account: fetched.value })
    }
}

fn lacks_agreement(terms: &str, earlier: Option<&str>) -> Error {
    let text = printable(terms, 500);
    let why = match earlier {
        None => format!(
            "a new account needs agreement to the terms of service, {text}; set terms_agreed"
        ),
        Some(earlier) => format!(
            "the terms of service are {text} now; those agreed to are {}",
            printable(earlier, 500)
        ),
    };
    Error::new(ErrorKind::Terms, why).with_help(terms)
}
