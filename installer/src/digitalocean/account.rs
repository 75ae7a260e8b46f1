//! Whose token it is.

use serde::Deserialize;

use super::{Client, Result};

/// The token's account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Of its owner.
    pub email: String,
    /// `active`, `warning` or `locked`.
    pub status: String,
    /// Why, for people.
    pub status_message: String,
    /// The team that the token acts in.
    pub team: Option<Team>,
}

/// Who pays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Team {
    /// For people.
    pub name: String,
    /// UUID.
    pub uuid: String,
}

impl Client {
    /// `GET /v2/account`. Scope `account:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn account(&self) -> Result<Account> {
        #[derive(Deserialize)]
        struct Answer {
            account: Account,
        }
        Ok(self.get::<Answer>("/v2/account").await?.account)
    }
}
