//! The one rule that we add to a bucket: uploads that nobody finished are thrown away. A registry leaves many, they are invisible and paid for.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use reqwest::Method;

use super::call::Call;
use super::xml::Element;
use super::{Result, Spaces};

/// Tells our rule from those that an adopted bucket has.
const RULE: &str = "harbor-proxy-abort-uploads";

impl Spaces {
    /// After how many days our rule throws unfinished uploads away; `None`: there is no such rule, or it was switched off.
    ///
    /// # Errors
    /// When the key may not see it (a scoped one may not), and as every call.
    pub async fn uploads_aborted_after(&self, bucket: &str) -> Result<Option<u32>> {
        Ok(self.rules(bucket).await?.iter().find_map(days))
    }

    /// Sees to it that unfinished uploads are thrown away after so many days; true when that was new. Other rules stay as they are.
    ///
    /// S3 knows only all rules at once: a change that somebody else makes in the same moment may be lost.
    ///
    /// # Errors
    /// When the key may not change it (a scoped one may not), and as every call.
    pub async fn abort_uploads_after(&self, bucket: &str, after: u32) -> Result<bool> {
        let mut rules = self.rules(bucket).await?;
        if rules.iter().find_map(days) == Some(after) {
            return Ok(false);
        }
        rules.retain(|rule| rule.text_of("ID") != Some(RULE));
        rules.push(Element::new(
            "Rule",
            vec![
                Element::leaf("ID", RULE),
                Element::new("Filter", vec![Element::leaf("Prefix", "")]),
                Element::leaf("Status", "Enabled"),
                Element::new("AbortIncompleteMultipartUpload", vec![Element::leaf("DaysAfterInitiation", after.to_string())]),
            ],
        ));
        let body = Element::new("LifecycleConfiguration", rules).to_string().into_bytes();
        // The gateway insists on it, whatever the checksum protects.
        let sum = BASE64_STANDARD.encode(Md5::digest(&body));
        let call = Call::new(Method::PUT, bucket).query("lifecycle", "").header("content-md5", sum).body(body);
        self.send(&call).await.map(|_| true)
    }

    async fn rules(&self, bucket: &str) -> Result<Vec<Element>> {
        let call = Call::new(Method::GET, bucket).query("lifecycle", "");
        match self.send(&call).await {
            Ok(answer) => Ok(answer.xml(&call)?.children.into_iter().filter(|child| child.name == "Rule").collect()),
            Err(error) if error.is("NoSuchLifecycleConfiguration") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Of our rule, if this is it.
fn days(rule: &Element) -> Option<u32> {
    let ours = rule.text_of("ID") == Some(RULE) && rule.text_of("Status") == Some("Enabled");
    ours.then(|| rule.child("AbortIncompleteMultipartUpload")?.text_of("DaysAfterInitiation")?.parse().ok()).flatten()
}
