//! What a request does to the store, in the gateway's order: who is it, what is there, may they.

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;

use super::signature::{self, decoded, encoded, value};
use super::store::{Bucket, Reply, Store};
use super::{Faults, Grant, take};

/// In one list.
const PAGE: usize = 1000;

struct Call<'a> {
    method: &'a Method,
    bucket: &'a str,
    object: &'a str,
    query: &'a [(String, String)],
    body: &'a Bytes,
    is_conditional: bool,
    has_checksum: bool,
}

pub(super) fn perform(store: &mut Store, head: &Parts, body: &Bytes) -> Reply {
    let query = signature::query(head);
    let path = decoded(head.uri.path());
    let (bucket, object) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_else(|| (path.trim_start_matches('/'), ""));
    let call = Call {
        method: &head.method,
        bucket,
        object,
        query: &query,
        body,
        is_conditional: head.headers.contains_key("if-none-match"),
        has_checksum: head.headers.contains_key("content-md5"),
    };
    let reply = permitted(store, head, &call).map(|owner| call.perform(store, &owner)).unwrap_or_else(|refusal| refusal);
    // The answer to a HEAD has no body.
    if head.method == Method::HEAD { Reply::new(reply.status, "") } else { reply }
}

/// Whose key it is, if it may do that.
fn permitted(store: &mut Store, head: &Parts, call: &Call<'_>) -> Result<String, Reply> {
    let unknown = || Reply::error(403, "InvalidAccessKeyId");
    let access = signature::access_key(call.query).ok_or_else(|| Reply::error(403, "AccessDenied"))?;
    let key = store.keys.get_mut(access).ok_or_else(unknown)?;
    if take(&mut key.unknown_for) && !(store.faults.flapping && key.unknown_for % 2 == 1) {
        return Err(unknown());
    }
    if !signature::holds(head, call.query, &key.secret) {
        return Err(Reply::error(403, "SignatureDoesNotMatch"));
    }
    let (owner, grant) = (key.owner.clone(), key.grant.clone());
    store.requests.push(format!("{} {}/{}", call.method, call.bucket, call.object));
    let is_on_bucket = call.object.is_empty();
    let is_creation = is_on_bucket && *call.method == Method::PUT && !call.asks("lifecycle") && !call.asks("versioning");
    if is_creation && !is_name(call.bucket) {
        return Err(Reply::error(400, "InvalidBucketName"));
    }
    if is_creation && take(&mut store.faults.aborted) {
        return Err(Reply::error(409, "OperationAborted"));
    }
    let may = match &grant {
        Grant::Full => true,
        Grant::ReadWrite(bucket) => {
            bucket == call.bucket && !call.asks("lifecycle") && !(is_on_bucket && matches!(*call.method, Method::PUT | Method::DELETE))
        }
        Grant::Read(bucket) => bucket == call.bucket && !call.asks("lifecycle") && matches!(*call.method, Method::GET | Method::HEAD),
    };
    let is_unseen = !is_creation && store.buckets.get_mut(call.bucket).is_some_and(|bucket| take(&mut bucket.unseen_for));
    match store.buckets.get(call.bucket) {
        Some(_) if is_unseen => Err(Reply::error(404, "NoSuchBucket")),
        None if !is_creation => Err(Reply::error(404, "NoSuchBucket")),
        Some(bucket) if is_creation && bucket.owner != owner => Err(Reply::error(409, "BucketAlreadyExists")),
        Some(bucket) if bucket.owner != owner => Err(Reply::error(403, "AccessDenied")),
        _ if may => Ok(owner),
        _ => Err(Reply::error(403, "AccessDenied")),
    }
}

impl Call<'_> {
    fn asks(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&str> {
        value(self.query, name)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.body).into_owned()
    }

    fn perform(&self, store: &mut Store, owner: &str) -> Reply {
        if *self.method == Method::POST && self.asks("delete") {
            return self.delete_many(store);
        }
        let (id, faults) = (store.id(self.bucket), store.faults.clone());
        if self.object.is_empty() && *self.method == Method::PUT && !self.asks("lifecycle") && !self.asks("versioning") {
            let fresh = Bucket { owner: owner.to_owned(), unseen_for: faults.slow_buckets, ..Bucket::default() };
            store.buckets.entry(self.bucket.to_owned()).or_insert(fresh);
            return Reply::new(200, "");
        }
        if self.object.is_empty() && *self.method == Method::DELETE && !self.asks("lifecycle") {
            return self.delete_bucket(store);
        }
        let upload = format!("2~{}", store.ids);
        let Some(bucket) = store.buckets.get_mut(self.bucket) else { return Reply::error(404, "NoSuchBucket") };
        if self.object.is_empty() { self.on_bucket(bucket, &faults) } else { self.on_object(bucket, id, &upload, &faults) }
    }

    fn on_bucket(&self, bucket: &mut Bucket, faults: &Faults) -> Reply {
        match *self.method {
            Method::HEAD => Reply::new(200, ""),
            Method::GET if self.asks("lifecycle") => match &bucket.lifecycle {
                Some(document) => Reply::new(200, document.clone()),
                None => Reply::error(404, "NoSuchLifecycleConfiguration"),
            },
            Method::PUT if self.asks("lifecycle") && !self.has_checksum => Reply::error(400, "InvalidRequest"),
            Method::PUT if self.asks("lifecycle") => {
                bucket.lifecycle = Some(self.text());
                Reply::new(200, "")
            }
            Method::PUT => {
                bucket.versioned = self.text().contains("<Status>Enabled</Status>");
                Reply::new(200, "")
            }
            Method::GET if faults.blind => self.listing("ListBucketResult", "", false),
            Method::GET if self.asks("versions") => self.list_versions(bucket),
            Method::GET if self.asks("uploads") => self.list_uploads(bucket),
            Method::GET => self.list(bucket),
            _ => Reply::error(405, "MethodNotAllowed"),
        }
    }

    fn on_object(&self, bucket: &mut Bucket, id: String, upload: &str, faults: &Faults) -> Reply {
        match *self.method {
            Method::POST if self.asks("uploads") => {
                bucket.uploads.insert(upload.to_owned(), self.object.to_owned());
                Reply::xml("InitiateMultipartUploadResult", &format!("<UploadId>{upload}</UploadId>"))
            }
            Method::PUT if self.asks("uploadId") => Reply::new(200, ""),
            Method::DELETE if self.asks("uploadId") => match bucket.uploads.remove(self.value("uploadId").unwrap_or_default()) {
                Some(_) => Reply::new(204, ""),
                None => Reply::error(404, "NoSuchUpload"),
            },
            Method::PUT if self.is_conditional && !faults.unconditional && bucket.current(self.object).is_some() => {
                Reply::error(412, "PreconditionFailed")
            }
            Method::PUT => {
                bucket.push(self.object, id, Some(self.body.clone()));
                Reply::new(200, "")
            }
            Method::DELETE if faults.forgetful => Reply::new(204, ""),
            Method::DELETE if faults.keep.as_ref().is_some_and(|keep| self.object.starts_with(keep)) => Reply::error(403, "AccessDenied"),
            Method::DELETE => {
                bucket.delete(self.object, self.value("versionId"), id);
                Reply::new(204, "")
            }
            Method::GET | Method::HEAD => match bucket.current(self.object) {
                Some(body) => Reply::new(200, body.clone()),
                None => Reply::error(404, "NoSuchKey"),
            },
            _ => Reply::error(405, "MethodNotAllowed"),
        }
    }

    fn delete_bucket(&self, store: &mut Store) -> Reply {
        match store.buckets.get(self.bucket) {
            Some(bucket) if !bucket.objects.is_empty() => Reply::error(409, "BucketNotEmpty"),
            _ => {
                store.buckets.remove(self.bucket);
                Reply::new(204, "")
            }
        }
    }

    fn delete_many(&self, store: &mut Store) -> Reply {
        if !self.has_checksum {
            return Reply::error(400, "InvalidRequest");
        }
        let (text, mut errors) = (self.text(), String::new());
        let (keep, forgetful) = (store.faults.keep.clone(), store.faults.forgetful);
        for object in text.split("<Object>").skip(1) {
            let (name, version) = (between(object, "Key").unwrap_or_default(), between(object, "VersionId"));
            if keep.as_ref().is_some_and(|keep| name.starts_with(keep)) {
                errors += &format!("<Error><Key>{}</Key><Code>AccessDenied</Code><Message></Message></Error>", escaped(&name));
                continue;
            }
            let id = store.id(self.bucket);
            if let Some(bucket) = store.buckets.get_mut(self.bucket).filter(|_| !forgetful) {
                bucket.delete(&name, version.as_deref(), id);
            }
        }
        Reply::xml("DeleteResult", &errors)
    }

    fn list(&self, bucket: &Bucket) -> Reply {
        let (prefix, after) = (self.value("prefix").unwrap_or_default(), self.value("start-after").unwrap_or_default());
        let limit = self.value("max-keys").and_then(|keys| keys.parse().ok()).unwrap_or(PAGE);
        let objects = bucket.objects.keys().filter(|name| name.starts_with(prefix) && name.as_str() > after);
        let objects: Vec<_> = objects.filter_map(|name| Some((name, bucket.current(name)?.len()))).collect();
        let page = objects.iter().take(limit);
        let entries = page.map(|(name, size)| format!("<Contents><Key>{}</Key><Size>{size}</Size></Contents>", self.written(name)));
        self.listing("ListBucketResult", &entries.collect::<String>(), objects.len() > limit)
    }

    fn list_versions(&self, bucket: &Bucket) -> Reply {
        let all = bucket.objects.iter().flat_map(|(name, versions)| versions.iter().rev().map(move |version| (name, version)));
        let all: Vec<_> = all.collect();
        let entries = all.iter().take(PAGE).map(|(name, version)| {
            let kind = if version.body.is_some() { "Version" } else { "DeleteMarker" };
            format!("<{kind}><Key>{}</Key><VersionId>{}</VersionId></{kind}>", self.written(name), version.id)
        });
        self.listing("ListVersionsResult", &entries.collect::<String>(), all.len() > PAGE)
    }

    fn list_uploads(&self, bucket: &Bucket) -> Reply {
        let entry = |(id, name): (&String, &String)| format!("<Upload><Key>{}</Key><UploadId>{id}</UploadId></Upload>", self.written(name));
        let entries: String = bucket.uploads.iter().take(PAGE).map(entry).collect();
        self.listing("ListMultipartUploadsResult", &entries, bucket.uploads.len() > PAGE)
    }

    fn listing(&self, root: &str, entries: &str, is_truncated: bool) -> Reply {
        // In its list of uploads, the gateway encodes and does not say so.
        let encoding = if self.asks("encoding-type") && !self.asks("uploads") { "<EncodingType>url</EncodingType>" } else { "" };
        Reply::xml(root, &format!("<IsTruncated>{is_truncated}</IsTruncated>{encoding}{entries}"))
    }

    fn written(&self, name: &str) -> String {
        if self.asks("encoding-type") { encoded(name) } else { escaped(name) }
    }
}

fn is_name(bucket: &str) -> bool {
    let is_plain = bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (3..=63).contains(&bucket.len()) && is_plain
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text of the first element of this name. For documents of our own client, whose writer is known.
fn between(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = inner.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(plain.replace("&#xD;", "\r").replace("&amp;", "&"))
}
