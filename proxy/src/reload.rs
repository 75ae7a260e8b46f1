//! Values made from files, made again when the content of a file changes.
//!
//! Contents are compared, not modification times or inodes: Kubernetes swaps a `..data` symlink, editors replace the file, `cp` rewrites it in
//! place, and all three must be noticed while a touch must not. A bad new file keeps the old value.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

type Fingerprint = [u8; SHA256_OUTPUT_LEN];

/// A value made from files.
pub struct Reloaded<T> {
    current: ArcSwap<T>,
    generation: AtomicU64,
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    /// Of the last attempt, good or bad, so that one bad file is reported once and not at every look.
    seen: Mutex<Fingerprint>,
}

/// What a look at the files found.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// The same bytes as at the last look.
    None,
    /// New bytes, now in use.
    Taken,
    /// New bytes that cannot be used, and why; the old value stays.
    Refused(String),
}

impl<T> Reloaded<T> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(files: Vec<PathBuf>, make: impl Fn() -> Result<T, String> + Send + Sync + 'static) -> Result<Self, String> {
        // Read before `make` does: a change between the two is then seen as a change at the next look, not missed.
        let seen = fingerprint(&files);
        let first = make()?;
        Ok(Self {
            current: ArcSwap::from_pointee(first),
            generation: AtomicU64::new(0),
            files,
            make: Box::new(make),
            seen: Mutex::new(seen),
        })
    }

    /// The value in use.
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Grows by one each time a new value is taken.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks at the files and takes a changed content.
    pub fn look(&self) -> Change {
        if self.files.is_empty() {
            return Change::None;
        }
        let now = fingerprint(&self.files);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return Change::None;
            }
            *seen = now;
        }
        match (self.make)() {
            Ok(value) => {
                self.current.store(Arc::new(value));
                self.generation.fetch_add(1, Ordering::Release);
                Change::Taken
            }
            Err(why) => Change::Refused(why),
        }
    }
}

/// A file that cannot be read counts as a content of its own: it is a change, and `make` will say what is wrong.
fn fingerprint(files: &[PathBuf]) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    for file in files {
        match fs::read(file) {
            Ok(bytes) => {
                hash.update(&bytes.len().to_be_bytes());
                hash.update(&bytes);
            }
            Err(error) => hash.update(error.to_string().as_bytes()),
        }
    }
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
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
        assert_eq!((*value.current(), value.generation()), (2, 1));

        fs::write(&path, "two").unwrap();
        assert_eq!(value.look(), Change::Refused("not a number".to_owned()));
        assert_eq!(value.look(), Change::None, "a bad file is reported once");
        assert_eq!((*value.current(), value.generation()), (2, 1), "and changes nothing");

        fs::remove_file(&path).unwrap();
        assert!(matches!(value.look(), Change::Refused(_)));
        fs::write(&path, "3").unwrap();
        assert_eq!(value.look(), Change::Taken);
        assert_eq!(*value.current(), 3);
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
