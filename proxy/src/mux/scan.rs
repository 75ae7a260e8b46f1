//! How far a client's bytes may go together: the longest run of whole requests that any connection may carry, and what stands behind it.
//! `[pure]`

use crate::metrics::RequestClass;
use crate::redis::class::{Class, Transaction};
use crate::redis::frame::{RequestError, RequestKind, RequestScanner};
use crate::redis::head::Head;
use crate::redis::table::classify;

/// What a client's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// So many bytes are whole shared requests.
    pub(super) run: usize,
    /// So many of them.
    pub(super) requests: usize,
    /// Whether a transaction is among them.
    pub(super) class: RequestClass,
    /// Behind the run: a whole request that cannot be shared, its length and class.
    pub(super) front: Option<(usize, Class)>,
    /// Behind the run: no protocol.
    pub(super) broken: Option<RequestError>,
    /// Bytes that the scanner has seen, from the beginning.
    pub(super) scanned: usize,
}

/// Scans `bytes`, of which `scanner` has seen the first `scanned` already: the beginning of one request. `shares`: false where every request
/// goes over the client's own connection.
pub(super) fn scan(scanner: &mut RequestScanner, bytes: &[u8], scanned: usize, shares: bool) -> Scan {
    let mut found = Scan { run: 0, requests: 0, class: RequestClass::Shared, front: None, broken: None, scanned };
    while let Some(rest) = bytes.get(found.scanned..).filter(|rest| !rest.is_empty()) {
        let request = match scanner.next(rest) {
            Ok(Some(request)) => request,
            Ok(None) => {
                found.scanned = bytes.len();
                break;
            }
            Err(error) => {
                found.broken = Some(error);
                break;
            }
        };
        let end = found.scanned + request.end;
        found.scanned = end;
        if request.kind == RequestKind::Nothing {
            // Means nothing anywhere, and is nothing to be answered: it goes with the others.
            found.run = end;
            continue;
        }
        let frame = bytes.get(found.run..end).unwrap_or_default();
        let class = classify(frame).unwrap_or(Class::Unknown);
        match class {
            // EXEC, DISCARD and UNWATCH of a client that has begun nothing change nothing.
            Class::Read | Class::Write | Class::Transaction(Transaction::Exec | Transaction::Discard | Transaction::Unwatch) if shares => {
                (found.run, found.requests) = (end, found.requests + 1);
            }
            Class::Transaction(Transaction::Multi) if shares && is_alone(frame) => {
                match whole_transaction(bytes.get(end..).unwrap_or_default()) {
                    Some((length, requests)) => {
                        found.scanned = end + length;
                        (found.run, found.requests) = (found.scanned, found.requests + 1 + requests);
                        found.class = RequestClass::Transaction;
                    }
                    None => {
                        found.front = Some((end - found.run, class));
                        break;
                    }
                }
            }
            _ => {
                found.front = Some((end - found.run, class));
                break;
            }
        }
    }
    found
}

/// The rest of a transaction whose MULTI stands before `bytes`: its length and how many requests it is, if all of it is here up to EXEC and every
/// command in it could be shared by itself: the server may refuse the MULTI (an ACL, say), and then they are carried out one by one. EXEC
/// ends a transaction even where it is refused; DISCARD does not, and so is not trusted.
fn whole_transaction(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut scanner = RequestScanner::new();
    let (mut at, mut requests) = (0, 0);
    loop {
        let request = scanner.next(bytes.get(at..).filter(|rest| !rest.is_empty())?).ok()??;
        let frame = bytes.get(at..at + request.end)?;
        at += request.end;
        if request.kind == RequestKind::Nothing {
            continue;
        }
        requests += 1;
        match classify(frame)? {
            Class::Transaction(Transaction::Exec) if is_alone(frame) => return Some((at, requests)),
            Class::Read | Class::Write => {}
            _ => return None,
        }
    }
}

/// A command without arguments. With some, MULTI and EXEC are errors that begin and end nothing.
pub(super) fn is_alone(frame: &[u8]) -> bool {
    let mut head = Head::new(frame);
    matches!((head.next(), head.next()), (Some(Ok(_)), None))
}
