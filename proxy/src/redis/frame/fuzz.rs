//! Bodies for a fuzzer: any bytes, cut anywhere, must give the same frames and the same error as in one piece.
//!
//! The unit tests run them too, with random bytes. `[pure]`

use super::{Reply, ReplyError, ReplyKind, ReplyScanner, Request, RequestError, RequestKind, RequestScanner};

/// Frames, each with the offset of its end from the start, and how it ended: at a boundary, inside a frame, or with an error.
pub type Trace<K, E> = (Vec<(usize, K)>, Result<bool, E>);

/// Scans `pieces` as one stream of requests.
pub fn requests<'a>(mut scanner: RequestScanner, pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace<RequestKind, RequestError> {
    let mut frames = Vec::new();
    let mut base = 0;
    for mut piece in pieces {
        loop {
            match scanner.next(piece) {
                Ok(Some(Request { end, kind })) => {
                    base += end;
                    frames.push((base, kind));
                    piece = piece.get(end..).unwrap_or_default();
                }
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        base += piece.len();
    }
    (frames, Ok(scanner.at_boundary()))
}

/// Scans `pieces` as one stream of replies.
pub fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace<ReplyKind, ReplyError> {
    let mut scanner = ReplyScanner::new();
    let mut frames = Vec::new();
    let mut base = 0;
    for mut piece in pieces {
        loop {
            match scanner.next(piece) {
                Ok(Some(Reply { end, kind })) => {
                    base += end;
                    frames.push((base, kind));
                    piece = piece.get(end..).unwrap_or_default();
                }
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        base += piece.len();
    }
    (frames, Ok(scanner.at_boundary()))
}

/// The first two bytes choose a cut, the rest is a stream of requests.
///
/// # Panics
/// When a cut changes the result.
pub fn fuzz_requests(data: &[u8]) {
    let Some((stream, parts)) = cut(data) else { return };
    for scanner in [RequestScanner::new(), RequestScanner::unauthenticated()] {
        let whole = requests(scanner.clone(), [stream]);
        assert_eq!(whole, requests(scanner.clone(), parts), "one cut changes the result");
        assert_eq!(whole, requests(scanner, stream.chunks(1)), "single bytes change the result");
    }
}

/// The same for replies.
///
/// # Panics
/// When a cut changes the result.
pub fn fuzz_replies(data: &[u8]) {
    let Some((stream, parts)) = cut(data) else { return };
    let whole = replies([stream]);
    assert_eq!(whole, replies(parts), "one cut changes the result");
    assert_eq!(whole, replies(stream.chunks(1)), "single bytes change the result");
}

/// The stream, and its two parts.
fn cut(data: &[u8]) -> Option<(&[u8], [&[u8]; 2])> {
    let (head, stream) = data.split_first_chunk::<2>()?;
    let at = usize::from(u16::from_be_bytes(*head)) % (stream.len() + 1);
    let (before, after) = stream.split_at_checked(at)?;
    Some((stream, [before, after]))
}
