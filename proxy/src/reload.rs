//! Values made from files, made again when the content of a file changes.
//!
//! Contents are compared, not modification times or inodes: Kubernetes swaps a `..data` symlink, editors replace the file, `cp` rewrites it in
//! place, and all three must be noticed while a touch must not. A bad new file keeps the old value.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// The hash of what all files hold; `None`: one of them could not be read.
type Content = Option<[u8; SHA256_OUTPUT_LEN]>;

/// A value made from files.
pub struct Reloaded<T> {
    current: ArcSwap<T>,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    /// Held during a look: a second one at the same time would find the same and report it again.
    seen: Mutex<Seen>,
}

struct Seen {
    /// What the value in use was made of. A refusal leaves it alone: what failed may have failed for a moment only (no descriptor was free),
    /// so every look tries again, and a content that comes back unchanged is no change.
    in_use: Content,
    /// Reported already, so that one bad file is reported once and not at every look.
    refused: Option<Content>,
}

/// What a look at the files found.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// What is in use, or what was refused already.
    None,
    /// New bytes, now in use.
    Taken,
    /// New bytes that cannot be used, or none that can be read, and why; the old value stays.
    Refused(String),
}

impl<T> Reloaded<T> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(files: Vec<PathBuf>, make: impl Fn() -> Result<T, String> + Send + Sync + 'static) -> Result<Self, String> {
        // Read before `make` does: a change between the two is then seen as a change at the next look, not missed.
        let seen = Seen { in_use: fingerprint(&files).ok(), refused: None };
        Ok(Self { current: ArcSwap::from_pointee(make()?), files, make: Box::new(make), seen: Mutex::new(seen) })
    }

    /// The value in use.
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Looks at the files and takes a changed content.
    pub fn look(&self) -> Change {
        if self.files.is_empty() {
            return Change::None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = fingerprint(&self.files);
        let content = read.as_ref().ok().copied();
        if content == seen.in_use {
            seen.refused = None;
            return Change::None;
        }
        match read.and_then(|_| (self.make)()) {
            Ok(value) => {
                self.current.store(Arc::new(value));
                *seen = Seen { in_use: content, refused: None };
                Change::Taken
            }
            Err(_) if seen.refused == Some(content) => Change::None,
            Err(why) => {
                seen.refused = Some(content);
                Change::Refused(why)
            }
        }
    }
}

fn fingerprint(files: &[PathBuf]) -> Result<[u8; SHA256_OUTPUT_LEN], String> {
    let mut hash = Context::new(&SHA256);
    for file in files {
        let bytes = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        hash.update(&bytes.len().to_be_bytes());
        hash.update(&bytes);
    }
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(hash.finish().as_ref());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn number(path: PathBuf) -> Reloaded<u32> {
        let file = path.clone();
        Reloaded::new(vec![path], move || {
            fs::read_to_string(&file).map_err(|e| e.to_string())?.trim().parse().map_err(|_| "not a number".to_owned())
        })
        .unwrap()
    }

    #[test]
    fn takes_new_content_and_refuses_bad_content_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        fs::write(&path, "1").unwrap();
        let value = number(path.clone());
        assert_eq!(value.look(), Change::None);

        fs::write(&path, "2").unwrap();
        assert_eq!(value.look(), Change::Taken);
        assert_eq!(*value.current(), 2);

        fs::write(&path, "two").unwrap();
        assert_eq!(value.look(), Change::Refused("not a number".to_owned()));
        assert_eq!(value.look(), Change::None, "a bad file is reported once");
        assert_eq!(*value.current(), 2, "and changes nothing");

        fs::remove_file(&path).unwrap();
        assert!(matches!(value.look(), Change::Refused(_)));
        fs::write(&path, "3").unwrap();
        assert_eq!(value.look(), Change::Taken);
        assert_eq!(*value.current(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_told_once_and_is_no_change_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        fs::write(&path, "1").unwrap();
        let value = number(path.clone());
        for _ in 0..2 {
            fs::remove_file(&path).unwrap();
            assert!(matches!(value.look(), Change::Refused(why) if why.contains("cannot read")));
            assert_eq!(value.look(), Change::None);
            fs::write(&path, "1").unwrap();
            assert_eq!(value.look(), Change::None, "the content in use is back");
        }
    }

    #[test]
    fn a_failure_of_the_moment_does_not_condemn_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        fs::write(&path, "1").unwrap();
        let fails = Arc::new(AtomicBool::new(false));
        let (file, failing) = (path.clone(), Arc::clone(&fails));
        let make = move || {
            if failing.load(Ordering::Relaxed) {
                Err("too many open files".to_owned())
            } else {
                fs::read_to_string(&file).map_err(|e| e.to_string())
            }
        };
        let value = Reloaded::new(vec![path.clone()], make).unwrap();
        fs::write(&path, "2").unwrap();
        fails.store(true, Ordering::Relaxed);
        assert!(matches!(value.look(), Change::Refused(_)));
        assert_eq!(value.look(), Change::None);
        fails.store(false, Ordering::Relaxed);
        assert_eq!(value.look(), Change::Taken);
        assert_eq!(*value.current(), "2");
    }

    #[test]
    fn a_symlink_swap_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("a", "1"), ("b", "2")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let link = dir.path().join("data");
        std::os::unix::fs::symlink(dir.path().join("a"), &link).unwrap();
        let value = number(link.clone());
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("b"), &link).unwrap();
        assert_eq!(value.look(), Change::Taken);
        assert_eq!(*value.current(), 2);
    }
}
