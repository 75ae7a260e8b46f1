//! A body for a fuzzer: what must hold of every text. The unit tests run it too. `[pure]`

use super::{Command, Verdict, loose, read, scan};
use crate::postgres::traces::Traces;

/// Scans `data` alone and in company.
///
/// # Panics
/// When a verdict depends on what cannot matter, or traces get lost.
pub fn fuzz(data: &[u8]) {
    let (verdict, closed) = read(data);
    let with = |before: &[u8], after: &[u8]| scan(&[before, data, after].concat());

    assert_eq!(with(b"/* ' */ -- \"\n", b""), verdict, "a comment in front");
    assert_eq!(with(b";;\n", b""), verdict, "empty statements in front");
    for after in [&b"\n;"[..], b"\n-- LISTEN x", b"\n/* ; LISTEN x */", b"\n \n"] {
        let other = with(b"", after);
        assert!(!closed || other == verdict, "b\"{}\" behind: {other:?}, alone {verdict:?}", after.escape_ascii());
        assert!(covers(&other, &verdict), "b\"{}\" loses something with b\"{}\" behind", data.escape_ascii(), after.escape_ascii());
    }

    let (leaves, ends) = loose::read(data);
    let loosely = Verdict { leaves: leaves | Traces::UNSEEN, ends, resets: false, command: None };
    assert!(covers(&loosely, &verdict), "read loosely {loosely:?}, strictly {verdict:?}");

    let other = with(b"LISTEN x;", b"");
    assert!(other.command.is_none() || verdict == Verdict::default());
    assert!(other.leaves.has(Traces::LISTEN) && covers(&other, &verdict), "a statement in front: {other:?}, alone {verdict:?}");
    let other = with(b"", b"\n;SELECT lastval()");
    assert!(!closed || other.leaves.has(Traces::SEQUENCE), "a statement behind is not seen");

    let within = |tag: &str| data.windows(tag.len()).any(|window| window == tag.as_bytes());
    // Also not its beginning at the end of the text, where the closing one would make it whole too early.
    let tag = (0_u32..).map(|number| format!("$t{number}")).find(|tag| !within(tag));
    let tag = tag.unwrap_or_default() + "$";
    let quoted = [b"SELECT 1, ", tag.as_bytes(), data, tag.as_bytes()].concat();
    assert_eq!(scan(&quoted), Verdict::default(), "a string is a string");
    halves(data);
}

/// Two texts are at least what each is.
fn halves(data: &[u8]) {
    let (one, two) = data.split_at_checked(data.len() / 2).unwrap_or_default();
    let (first, closed) = read(one);
    if closed {
        let both = scan(&[one, b"\n;", two].concat());
        assert!(covers(&both, &first) && covers(&both, &scan(two)), "together {both:?}, the first {first:?}");
    }
}

/// Everything that `less` reports is in `more`; a setting that is followed there may be one that is not here.
fn covers(more: &Verdict, less: &Verdict) -> bool {
    let followed = |verdict: &Verdict| matches!(verdict.command, Some(Command::Set { .. } | Command::ResetAll));
    let setting = more.leaves.has(Traces::SETTING) || more.resets || followed(more) || !(followed(less) || less.resets);
    // What RESET ALL stands behind it takes away.
    let missing = if more.resets { Traces::SETTING } else { Traces::NONE };
    less.leaves.without(more.leaves | missing).is_empty() && (more.ends || !less.ends) && setting
}
