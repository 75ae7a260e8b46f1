//! Objects of a selection, kept up to date by a watch: one list, and then only what changes. No polling, however many there are.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::{Cluster, problem};

/// Below what proxies and load balancers allow a silent connection.
const WATCH_SECONDS: u32 = 240;
/// Before the API server is asked again that has just failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A server that restarts is back within that.
const MOST_FAILURES: u32 = 30;

/// A selection. The first [`Followed::changed`] lists it.
pub(super) struct Followed<K> {
    cluster: Cluster,
    api: Api<K>,
    labels: Option<String>,
    fields: Option<String>,
    /// What it is, for errors: `the pods of the proxy`.
    what: &'static str,
    /// By name.
    pub(super) objects: BTreeMap<String, K>,
    stream: Option<BoxStream<'static, kube::Result<WatchEvent<K>>>>,
    version: String,
    failures: u32,
}

impl<K> Followed<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    pub(super) fn labelled(cluster: &Cluster, labels: &str, what: &'static str) -> Self {
        Self::new(cluster, Some(labels.to_owned()), None, what)
    }

    pub(super) fn named(cluster: &Cluster, name: &str, what: &'static str) -> Self {
        Self::new(cluster, None, Some(format!("metadata.name={name}")), what)
    }

    fn new(cluster: &Cluster, labels: Option<String>, fields: Option<String>, what: &'static str) -> Self {
        let (api, cluster) = (cluster.api(), cluster.clone());
        Self { cluster, api, labels, fields, what, objects: BTreeMap::new(), stream: None, version: String::new(), failures: 0 }
    }

    /// Returns when something has changed, or might have. Cancel-safe.
    ///
    /// # Errors
    /// When the API server refuses, or has not answered for half a minute.
    pub(super) async fn changed(&mut self) -> Result<()> {
        loop {
            match self.advance().await {
                Ok(true) => {
                    self.failures = 0;
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) => {
                    (self.stream, self.version) = (None, String::new());
                    self.failures += 1;
                    if problem::status(&error).is_some_and(|status| status.code < 500 && status.code != 410 && status.code != 429)
                        || self.failures > MOST_FAILURES
                    {
                        return Err(self.cluster.told(&format!("watch {}", self.what))(error));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// One event; whether it changed something.
    async fn advance(&mut self) -> kube::Result<bool> {
        if self.version.is_empty() {
            let list = ListParams { label_selector: self.labels.clone(), field_selector: self.fields.clone(), ..ListParams::default() };
            let list = self.api.list(&list).await?;
            self.version = list.metadata.resource_version.unwrap_or_default();
            self.objects = list.items.into_iter().map(|object| (object.name_any(), object)).collect();
            return Ok(true);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let watch =
                    WatchParams { label_selector: self.labels.clone(), field_selector: self.fields.clone(), ..WatchParams::default() };
                let watch = watch.timeout(WATCH_SECONDS);
                self.stream.insert(self.api.watch(&watch, &self.version).await?.boxed())
            }
        };
        let Some(event) = stream.next().await else {
            // It has lasted as long as it may.
            self.stream = None;
            return Ok(false);
        };
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.version = object.resource_version().unwrap_or_default();
                self.objects.insert(object.name_any(), object);
                Ok(true)
            }
            WatchEvent::Deleted(object) => {
                self.version = object.resource_version().unwrap_or_default();
                self.objects.remove(&object.name_any());
                Ok(true)
            }
            WatchEvent::Bookmark(mark) => {
                self.version = mark.metadata.resource_version;
                Ok(false)
            }
            WatchEvent::Error(status) => Err(kube::Error::Api(status)),
        }
    }
}
