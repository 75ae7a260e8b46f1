//! What is inside of a database cluster: users, databases, firewall, policy, settings.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::client::encoded;
use super::super::{Client, Result, make};
use super::{CacheConfig, Database, DatabaseUser, Engine, FirewallRule, MaintenanceWindow, found};

impl Client {
    /// `GET /v2/databases/{id}/users/{name}`.
    ///
    /// # Errors
    /// As every call.
    pub async fn database_user(&self, id: &str, name: &str) -> Result<Option<DatabaseUser>> {
        let answer = self.get::<UserAnswer>(&format!("/v2/databases/{id}/users/{}", encoded(name))).await;
        Ok(found(answer)?.map(|answer| answer.user))
    }

    /// `POST /v2/databases/{id}/users`; a lost answer and "exists already" end in a look at it. One at a time for each cluster.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_database_user(&self, id: &str, name: &str) -> Result<DatabaseUser> {
        make::make(
            self,
            async || {
                let path = format!("/v2/databases/{id}/users");
                let user = self.post::<_, UserAnswer>(&path, &Named { name }).await?.user;
                make::is_it(user.name == name, user, &path)
            },
            async || self.database_user(id, name).await,
        )
        .await
    }

    /// `POST /v2/databases/{id}/users/{name}/reset_auth`: a new password; the old one is worth nothing at once. Not on Valkey. After a lost
    /// answer it is asked for once more: the password of the last answer is the one that counts, and [`Self::database_user`] tells it again.
    ///
    /// # Errors
    /// As every call.
    pub async fn reset_database_user(&self, id: &str, name: &str) -> Result<DatabaseUser> {
        let path = format!("/v2/databases/{id}/users/{}/reset_auth", encoded(name));
        let answer: UserAnswer = self.post_again(&path, &serde_json::json!({})).await?;
        Ok(answer.user)
    }

    /// `DELETE /v2/databases/{id}/users/{name}`; gone is no error.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_database_user(&self, id: &str, name: &str) -> Result<()> {
        self.delete(&format!("/v2/databases/{id}/users/{}", encoded(name))).await
    }

    /// `GET /v2/databases/{id}/dbs`.
    ///
    /// # Errors
    /// As every call.
    pub async fn dbs(&self, id: &str) -> Result<Vec<Database>> {
        self.list(&format!("/v2/databases/{id}/dbs"), "dbs").await
    }

    /// `POST /v2/databases/{id}/dbs`; a lost answer and "exists already" end in a look at it.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_db(&self, id: &str, name: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            db: Database,
        }
        make::make(
            self,
            async || {
                let path = format!("/v2/databases/{id}/dbs");
                let db = self.post::<_, Answer>(&path, &Named { name }).await?.db;
                make::is_it(db.name == name, (), &path)
            },
            async || Ok(self.dbs(id).await?.iter().any(|db| db.name == name).then_some(())),
        )
        .await
    }

    /// `GET /v2/databases/{id}/firewall`. None means: open to everybody.
    ///
    /// # Errors
    /// As every call.
    pub async fn firewall(&self, id: &str) -> Result<Vec<FirewallRule>> {
        self.list(&format!("/v2/databases/{id}/firewall"), "rules").await
    }

    /// `PUT /v2/databases/{id}/firewall`: these rules and no others.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_firewall(&self, id: &str, rules: &[FirewallRule]) -> Result<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            rules: &'a [FirewallRule],
        }
        self.put(&format!("/v2/databases/{id}/firewall"), &Body { rules }).await
    }

    /// `GET /v2/databases/{id}/eviction_policy`: `noeviction`, `allkeys_lru` … Valkey and Redis only.
    ///
    /// # Errors
    /// As every call.
    pub async fn eviction_policy(&self, id: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            eviction_policy: String,
        }
        Ok(self.get::<Answer>(&format!("/v2/databases/{id}/eviction_policy")).await?.eviction_policy)
    }

    /// `PUT /v2/databases/{id}/eviction_policy`.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_eviction_policy(&self, id: &str, policy: &str) -> Result<()> {
        self.put(&format!("/v2/databases/{id}/eviction_policy"), &serde_json::json!({ "eviction_policy": policy })).await
    }

    /// `PUT /v2/databases/{id}/maintenance`.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_maintenance(&self, id: &str, window: &MaintenanceWindow) -> Result<()> {
        self.put(&format!("/v2/databases/{id}/maintenance"), window).await
    }

    /// `GET /v2/databases/{id}/users`.
    ///
    /// # Errors
    /// As every call.
    pub async fn database_users(&self, id: &str) -> Result<Vec<DatabaseUser>> {
        self.list(&format!("/v2/databases/{id}/users"), "users").await
    }

    /// `GET /v2/databases/{id}/config` of a Valkey or Redis; their settings have their engine's name in front.
    ///
    /// # Errors
    /// As every call.
    pub async fn cache_config(&self, id: &str, engine: Engine) -> Result<CacheConfig> {
        #[derive(Deserialize)]
        struct Answer {
            config: Map<String, Value>,
        }
        let config = self.get::<Answer>(&format!("/v2/databases/{id}/config")).await?.config;
        let setting = |name: &str| config.get(&format!("{}_{name}", engine.word()));
        let number = |name: &str| setting(name).and_then(Value::as_u64).and_then(|number| number.try_into().ok());
        Ok(CacheConfig {
            ssl: setting("ssl").and_then(Value::as_bool),
            timeout: number("timeout"),
            databases: number("number_of_databases"),
        })
    }

    /// `PATCH /v2/databases/{id}/config`: sets what is `Some`.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_cache_config(&self, id: &str, engine: Engine, config: &CacheConfig) -> Result<()> {
        let settings = [
            ("ssl", config.ssl.map(Value::from)),
            ("timeout", config.timeout.map(Value::from)),
            ("number_of_databases", config.databases.map(Value::from)),
        ];
        let settings = settings.into_iter().filter_map(|(name, value)| Some((format!("{}_{name}", engine.word()), value?)));
        let body = serde_json::json!({ "config": settings.collect::<Map<_, _>>() });
        self.patch(&format!("/v2/databases/{id}/config"), &body).await
    }
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
struct UserAnswer {
    user: DatabaseUser,
}
