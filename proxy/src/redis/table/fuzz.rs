//! A body for a fuzzer: a class is known early and for good, whatever follows. The unit tests run it too, with random bytes. `[pure]`

use super::{classify, classify_slowly};
use crate::redis::class::Class;
use crate::redis::frame::{Request, RequestKind, RequestScanner};
use crate::redis::head::Head;

/// Classifies every beginning of every request in `stream`.
///
/// # Panics
/// When a class changes as more arrives, or a complete request has none.
pub fn fuzz_head(mut stream: &[u8]) {
    let mut scanner = RequestScanner::new();
    loop {
        match scanner.next(stream) {
            Ok(Some(Request { end, kind })) => {
                let Some((frame, rest)) = stream.split_at_checked(end) else { return };
                assert_eq!(classify(frame).is_some(), kind != RequestKind::Nothing, "a complete request, and nothing else, has a class");
                beginnings(frame);
                stream = rest;
            }
            Ok(None) => return beginnings(stream),
            // No request: of that is only asked that it does no harm.
            Err(_) => break,
        }
    }
    for at in 0..=stream.len() {
        let _ = classify(stream.get(at..).unwrap_or_default());
    }
}

fn beginnings(frame: &[u8]) {
    let mut known = None;
    // So long a head decides everything; the rest of a large frame would only take time.
    for end in 0..=frame.len().min(400) {
        let beginning = frame.get(..end).unwrap_or_default();
        let class = classify(beginning);
        assert_eq!(class, classify_slowly(beginning), "both ways come to the same");
        assert!(Head::new(beginning).flatten().count() <= end, "each argument takes a byte at least");
        let narrowed = known == Some(Class::Blocking) && matches!(class, Some(Class::Read | Class::Write));
        assert!(known.is_none() || class == known || narrowed, "{known:?} became {class:?} with more of the request");
        known = class;
    }
}
