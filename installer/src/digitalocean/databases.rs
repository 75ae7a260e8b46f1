//! Managed databases: PostgreSQL, Valkey, and Redis of before. Here the clusters as wholes; `inside` has what is in them, `model` the words.

mod inside;
mod model;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{Client, Error, Result, make};

pub use model::{
    Availability, CacheConfig, Connection, Database, DatabaseCluster, DatabaseStatus, DatabaseUser, Engine, EngineOptions, FirewallRule,
    Layout, MaintenanceWindow, NewDatabase, Options,
};

impl Client {
    /// `GET /v2/databases/options`. Scope `database:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn database_options(&self) -> Result<Options> {
        self.get("/v2/databases/options").await
    }

    /// `GET /v2/databases`: all of the account. Scope `database:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn databases(&self) -> Result<Vec<DatabaseCluster>> {
        self.list("/v2/databases", "databases").await
    }

    /// `GET /v2/databases/{id}`; `None` where there is none, which can be so for minutes after it was made.
    ///
    /// # Errors
    /// As every call.
    pub async fn database(&self, id: &str) -> Result<Option<DatabaseCluster>> {
        #[derive(Deserialize)]
        struct Answer {
            database: DatabaseCluster,
        }
        found(self.get::<Answer>(&format!("/v2/databases/{id}")).await).map(|answer| answer.map(|answer| answer.database))
    }

    /// `POST /v2/databases`. A name exists once in an account: after a lost answer, and after "name is not available", the cluster of that
    /// name and engine is looked for and given back. Scope `database:create`.
    ///
    /// # Errors
    /// As every call; [`Error::is_name_taken`] when the name belongs to something that cannot be seen (it is being destroyed).
    pub async fn create_database(&self, new: &NewDatabase) -> Result<DatabaseCluster> {
        #[derive(Deserialize)]
        struct Answer {
            database: DatabaseCluster,
        }
        let is_it = |other: &DatabaseCluster| other.name == new.name && other.engine == new.engine && !other.id.is_empty();
        make::make(
            self,
            async || {
                let made = self.post::<_, Answer>("/v2/databases", new).await?.database;
                make::is_it(is_it(&made), made, "/v2/databases")
            },
            async || Ok(self.databases().await?.into_iter().find(is_it)),
        )
        .await
    }

    /// `DELETE /v2/databases/{id}`: at once in words; its name is free when [`Self::database`] finds it no more. Gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_database(&self, id: &str) -> Result<()> {
        self.delete(&format!("/v2/databases/{id}")).await
    }

    /// `GET /v2/databases/{id}/ca`: the authority of its certificate, PEM (the API wraps that in another base64).
    ///
    /// # Errors
    /// As every call; also when it is no text.
    pub async fn ca(&self, id: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Ca {
            certificate: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            ca: Ca,
        }
        let call = format!("/v2/databases/{id}/ca");
        let answer: Answer = self.get(&call).await?;
        let pem = BASE64_STANDARD.decode(answer.ca.certificate.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        pem.ok_or_else(|| Error::malformed(format!("GET {call}"), "the certificate is no base64 of PEM".to_owned()))
    }
}

/// That it is not there is an answer, too.
pub(super) fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
