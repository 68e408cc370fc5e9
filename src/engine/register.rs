//! Registering the account, or finding it. RFC 8555 sections 7.3, 7.3.1, 7.3.3 and 7.3.4.

use std::sync::Arc;

use super::exchange::{Call, Identity, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::pki::Key;
use crate::request::{self, NewAccount};
use crate::resource::account::{Account, AccountStatus};
use crate::resource::directory::Directory;
use crate::text::printable;

/// An account that the CA knows.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The account's URL: store it beside the key.
    pub url: String,
    pub(crate) account: Account,
}

impl Session {
    /// The account's URL; the account is registered if need be.
    pub(crate) async fn account_url(&self) -> Result<String> {
        match self.client.account_url() {
            Some(url) => Ok(url),
            None => Ok(self.register().await?.url),
        }
    }

    /// newAccount. It may be repeated: the CA answers with the existing account for a known key.
    pub(crate) async fn register(&self) -> Result<Registered> {
        self.by_directory(|directory| self.register_at(directory)).await
    }

    async fn register_at(&self, directory: Arc<Directory>) -> Result<Registered> {
        let options = self.client.options();
        let terms = directory.terms_of_service();
        let agreed =
            options.terms_agreed || terms.is_some() && terms == options.agreed_terms.as_deref();
        let lacks_terms = terms.is_some() && !agreed;
        let lacks_eab = directory.external_account_required() && options.external_account.is_none();

        let key = self.client.account_key();
        let binding = options.external_account.as_ref();
        let payload = NewAccount {
            contact: &options.contacts,
            terms_of_service_agreed: agreed,
            // Without what a new account takes, one that exists can still be found.
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
                    lacks_agreement(terms.unwrap_or_default(), options.agreed_terms.as_deref())
                } else if lacks_eab {
                    let why = "a new account at this CA needs an external account binding: a key \
                               id and an HMAC key, which the CA's web site gives out";
                    Error::new(ErrorKind::EabRequired, why)
                } else {
                    return Err(error);
                };
                Err(lacking.doing(doing).at(&at))
            }
            // Some CAs take a binding once: by an earlier try, whose answer was lost, the account may
            // be there.
            Err(error)
                if binding.is_some()
                    && (error.is_problem("unauthorized") || error.is_problem("malformed")) =>
            {
                self.find_account().await.map_err(|_| error)
            }
            outcome => outcome,
        }
    }

    /// The account of the client's key, if the CA knows one; none is made (RFC 8555 section 7.3.1).
    pub(crate) async fn find_account(&self) -> Result<Registered> {
        self.find_account_of(&self.client.account_key()).await
    }

    async fn find_account_of(&self, key: &Key) -> Result<Registered> {
        self.by_directory(|directory| async move {
            self.new_account(&directory, "finding the account", key, &NewAccount::find()).await
        })
        .await
    }

    /// The URL of the account that this key is of, if it is of one.
    pub(super) async fn account_of(&self, key: &Key) -> Result<Option<String>> {
        match self.find_account_of(key).await {
            Ok(found) => Ok(Some(found.url)),
            Err(error) if error.is_problem("accountDoesNotExist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// newAccount with this key, which is the client's unless it is another one's account that is
    /// looked for.
    async fn new_account(
        &self,
        directory: &Directory,
        doing: &'static str,
        key: &Key,
        payload: &NewAccount<'_>,
    ) -> Result<Registered> {
        self.io.enter("account");
        let call = Call { doing, url: directory.new_account()?, repeatable: true };
        let is_bound = payload.external_account_binding.is_some();
        let payload = request::json(payload)?;
        let answer =
            self.submit::<Account>(&call, Identity::Key(key), &payload, "an account").await;
        let refused = |error: &Error| {
            error.is_problem("unauthorized") && error.url() == Some(call.url) && !is_bound
        };
        let answer = answer.map_err(|error| match refused(&error) {
            // It is this key's account that is not: it has been deactivated.
            true => error.with_kind(ErrorKind::Account),
            false => error,
        })?;
        let url = answer.created_at(self, &call)?;
        match answer.value.status {
            None | Some(AccountStatus::Valid) => {}
            Some(status) => {
                let why = format!("the account is {}", status.as_str());
                return Err(Error::new(ErrorKind::Account, why).doing(call.doing).at(&url));
            }
        }
        if key.thumbprint() == self.client.account_key().thumbprint() {
            self.client.set_account_url(Some(&url));
        }
        Ok(Registered { url, account: answer.value })
    }
}

fn lacks_agreement(terms: &str, earlier: Option<&str>) -> Error {
    let shown = printable(terms, 500);
    let why = match earlier {
        None => format!(
            "a new account needs agreement to the terms of service, {shown}; set terms_agreed"
        ),
        Some(earlier) => format!(
            "the terms of service are {shown} now; those agreed to are {}",
            printable(earlier, 500)
        ),
    };
    Error::new(ErrorKind::Terms, why).with_help(terms)
}
