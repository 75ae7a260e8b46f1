//! Regions and networks.

use serde::Deserialize;

use super::client::encoded;
use super::databases::found;
use super::{Client, Result};

/// Where there are data centres. Which of them have databases is told by [`Client::database_options`]; which have Spaces, by nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Region {
    /// `nyc3`.
    pub slug: String,
    /// For people.
    pub name: String,
    /// Whether something new can be made there.
    pub available: bool,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Vpc {
    /// UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Slug: a network is in one region.
    pub region: String,
    /// `10.108.0.0/20`.
    pub ip_range: Option<String>,
}

impl Client {
    /// `GET /v2/regions`, all pages. Scope `regions:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn regions(&self) -> Result<Vec<Region>> {
        self.pages("/v2/regions", "", "regions").await
    }

    /// `GET /v2/vpcs/{id}`. Scope `vpc:read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn vpc(&self, id: &str) -> Result<Option<Vpc>> {
        #[derive(Deserialize)]
        struct Answer {
            vpc: Vpc,
        }
        Ok(found(self.get::<Answer>(&format!("/v2/vpcs/{}", encoded(id))).await)?.map(|answer| answer.vpc))
    }
}
