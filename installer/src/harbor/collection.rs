//! Garbage collection that deletes nothing: the best probe of the job queue and of the log in the database.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::error::Result;
use super::{Call, Harbor, id_in};

/// Between two looks at a run.
const POLL: Duration = Duration::from_secs(1);
/// Of a log, the most that is read.
const LARGEST_LOG: usize = 32 << 20;

/// One run.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// `Pending`, `Scheduled`, `Running`; then `Success`, `Error`, `Stopped`.
    #[serde(default)]
    pub job_status: String,
}

impl Run {
    /// Nothing more happens.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.job_status.as_str(), "Success" | "Error" | "Stopped")
    }
}

impl Harbor {
    /// Starts a run that only says what it would delete. `None`: another run is at work, and Harbor has one at a time.
    ///
    /// # Errors
    /// 403 for everybody but administrators.
    pub async fn start_dry_collection(&self) -> Result<Option<i64>> {
        let path = "/system/gc/schedule";
        let body = json!({
            "schedule": { "type": "Manual" },
            "parameters": { "dry_run": true, "delete_untagged": false, "workers": 1 },
        });
        match self.change(Method::POST, path, Some(body)).await {
            Err(error) if matches!(error.status(), Some(StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED)) => Ok(None),
            answer => id_in(&answer?, &Method::POST, path).map(Some),
        }
    }

    /// One run.
    ///
    /// # Errors
    /// As any call.
    pub async fn collection(&self, id: i64) -> Result<Run> {
        self.get(&format!("/system/gc/{id}"), &[]).await
    }

    /// The newest run, if there ever was one.
    ///
    /// # Errors
    /// As any call.
    pub async fn newest_collection(&self) -> Result<Option<Run>> {
        let query = [("page", "1"), ("page_size", "1"), ("sort", "-creation_time")];
        Ok(self.get::<Option<Vec<Run>>>("/system/gc", &query).await?.unwrap_or_default().into_iter().next())
    }

    /// Waits for the end of a run, or for the deadline; then it is as it was seen last. Safe to cancel.
    ///
    /// # Errors
    /// As any call.
    pub async fn collection_over(&self, id: i64, deadline: tokio::time::Instant, mut saw: impl FnMut(&Run)) -> Result<Run> {
        loop {
            let run = self.collection(id).await?;
            saw(&run);
            if run.is_over() || tokio::time::Instant::now() >= deadline {
                return Ok(run);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the run has written, by the job logger in the database.
    ///
    /// # Errors
    /// 404 where the log is not there: a job logger that keeps it in a file of another pod.
    pub async fn collection_log(&self, id: i64) -> Result<String> {
        let path = format!("/system/gc/{id}/log");
        let call = Call { method: Method::GET, path: &path, query: &[], body: None, largest: LARGEST_LOG };
        Ok(String::from_utf8_lossy(&self.call(&call).await?.body).into_owned())
    }
}
