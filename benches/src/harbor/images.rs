//! Images in memory, in place of docker-registry: just enough of the distribution protocol.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

use super::server::{Asked, Reply};
use super::world::{Artifact, World};

/// Blobs and manifests by repository and digest, and the tokens that were given.
#[derive(Debug, Default)]
pub(super) struct Images {
    blobs: BTreeMap<(String, String), Vec<u8>>,
    manifests: BTreeMap<(String, String), Vec<u8>>,
    tags: BTreeMap<(String, String), String>,
    /// What each token lets one do: `(repository, action)`.
    pub(super) tokens: BTreeMap<String, Vec<(String, String)>>,
    uploads: u64,
}

/// What core demands of those who came with something that is not enough.
pub(super) const BASIC: &str = "Basic realm=\"harbor\"";

/// What is behind `/v2/`.
pub(super) enum Place<'a> {
    /// `/v2/` itself.
    Root,
    Upload(&'a str),
    Blob(&'a str, &'a str),
    Manifest(&'a str, &'a str),
}

impl<'a> Place<'a> {
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix("/v2/")?;
        if path.is_empty() {
            return Some(Self::Root);
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return Some(Self::Manifest(repository, reference));
        }
        let (repository, rest) = path.split_once("/blobs/")?;
        Some(if rest.starts_with("uploads/") { Self::Upload(repository) } else { Self::Blob(repository, rest) })
    }

    const fn repository(&self) -> Option<&'a str> {
        match self {
            Self::Root => None,
            Self::Upload(repository) | Self::Blob(repository, _) | Self::Manifest(repository, _) => Some(repository),
        }
    }
}

pub(super) fn digest_of(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Answers a request for an image from memory.
pub(super) fn serve(world: &mut World, asked: &Asked, url: &str) -> Reply {
    let Some(place) = Place::of(&asked.path) else { return Reply::error(404, "NOT_FOUND", "") };
    let action = match asked.method.as_str() {
        "GET" | "HEAD" => "pull",
        "DELETE" => "delete",
        _ => "push",
    };
    let granted = asked.bearer.as_ref().and_then(|token| world.images.tokens.get(token));
    let allowed = granted.is_some_and(|grants| {
        place.repository().is_none_or(|repository| grants.iter().any(|(name, may)| name == repository && may == action))
    });
    if !allowed {
        return refuse(world, asked, &place, action, url);
    }
    match place {
        Place::Root => Reply::new(200, "{}"),
        Place::Upload(repository) => upload(world, asked, repository, url),
        Place::Blob(repository, digest) => blob(world, asked, repository, digest, url),
        Place::Manifest(repository, reference) => manifest(world, asked, repository, reference),
    }
}

/// As Harbor's core does: whoever came with a login or a token is told nothing of where to get a better one.
fn refuse(world: &World, asked: &Asked, place: &Place<'_>, action: &str, url: &str) -> Reply {
    let refused = Reply::error(401, "UNAUTHORIZED", "unauthorized to access repository");
    if asked.is_logged_in() {
        return refused.header("www-authenticate", BASIC);
    }
    let realm = world.realm.clone().unwrap_or_else(|| format!("{url}/service/token"));
    let scope = place.repository().map_or_else(String::new, |repository| {
        let actions = if action == "push" { "pull,push" } else { action };
        format!(",scope=\"repository:{repository}:{actions}\"")
    });
    refused.header("www-authenticate", &format!("Bearer realm=\"{realm}\",service=\"{}\"{scope}", super::token::SERVICE))
}

fn upload(world: &mut World, asked: &Asked, repository: &str, url: &str) -> Reply {
    if asked.method == "POST" {
        world.images.uploads += 1;
        let front = world.location.as_deref().unwrap_or_default().replace("HOST", url.trim_start_matches("https://"));
        let at = format!("{front}/v2/{repository}/blobs/uploads/{}?_state=a%3Db", world.images.uploads);
        return Reply::new(202, "").header("location", &at);
    }
    let digest = digest_of(&asked.body);
    if asked.query("digest").as_deref() != Some(&digest) || asked.query("_state").as_deref() != Some("a=b") {
        return Reply::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    }
    world.images.blobs.insert((repository.to_owned(), digest.clone()), asked.body.clone());
    Reply::new(201, "").header("docker-content-digest", &digest)
}

fn blob(world: &World, asked: &Asked, repository: &str, digest: &str, url: &str) -> Reply {
    let Some(content) = world.images.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
        return Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    if world.bucket && asked.method == "GET" {
        return Reply::new(307, "").header("location", &format!("{url}/bucket/{repository}/{digest}?X-Amz-Signature=s"));
    }
    Reply::bytes(200, world.spoiled(content)).header("docker-content-digest", digest)
}

/// The bucket that redirects lead to. As S3, it refuses a request that is signed twice.
pub(super) fn bucket(world: &World, asked: &Asked) -> Reply {
    let found = asked.path.strip_prefix("/bucket/").and_then(|path| path.rsplit_once('/'));
    let content = found.and_then(|(repository, digest)| world.images.blobs.get(&(repository.to_owned(), digest.to_owned())));
    match content {
        _ if asked.is_logged_in() => Reply::new(400, "<Error><Code>InvalidArgument</Code></Error>"),
        Some(content) => Reply::bytes(200, world.spoiled(content)),
        None => Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>"),
    }
}

fn manifest(world: &mut World, asked: &Asked, repository: &str, reference: &str) -> Reply {
    let key = |reference: &str| (repository.to_owned(), reference.to_owned());
    let digest = world.images.tags.get(&key(reference)).cloned().unwrap_or_else(|| reference.to_owned());
    match asked.method.as_str() {
        "PUT" => {
            let digest = digest_of(&asked.body);
            world.images.manifests.insert(key(&digest), asked.body.clone());
            world.images.tags.insert(key(reference), digest.clone());
            Reply::new(201, "").header("docker-content-digest", &digest)
        }
        "DELETE" => match world.images.manifests.remove(&key(&digest)) {
            Some(_) => Reply::new(202, ""),
            None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        },
        _ => match world.images.manifests.get(&key(&digest)) {
            Some(content) => Reply::bytes(200, content.clone())
                .header("content-type", "application/vnd.oci.image.manifest.v1+json")
                .header("docker-content-digest", &digest),
            None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        },
    }
}

impl World {
    /// A byte that fell over on its way.
    fn spoiled(&self, content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        if self.corrupt
            && let Some(last) = content.last_mut()
        {
            *last ^= 1;
        }
        content
    }

    /// What Harbor writes into its database when a manifest has come.
    pub(super) fn note_manifest(&mut self, repository: &str, reference: &str, body: &[u8]) {
        let Some((project, name)) = repository.split_once('/') else { return };
        let Some(project) = self.project(project) else { return };
        let tags = if reference.starts_with("sha256:") { Vec::new() } else { vec![reference.to_owned()] };
        project.repositories.entry(name.to_owned()).or_default().push(Artifact { digest: digest_of(body), tags });
    }

    pub(super) fn forget_images(&mut self, repository: &str) {
        self.images.manifests.retain(|(name, _), _| name != repository);
        self.images.tags.retain(|(name, _), _| name != repository);
        self.images.blobs.retain(|(name, _), _| name != repository);
    }
}
