//! Making what has a name, exactly once, though an answer may be lost on its way.

use super::{Client, Error, Result};

/// Tries for one thing; each is several attempts where nothing can have been done.
const TRIES: u32 = 4;

/// Makes it; and where the answer was lost, cannot be read, or says no in a way that "it exists" may stand behind, looks for it before it is
/// tried again. What is found was perhaps made by somebody else: whose it is, is for the caller to see.
pub(super) async fn make<T>(client: &Client, create: impl AsyncFn() -> Result<T>, look: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let (mut tries, mut was_unsure) = (0, false);
    loop {
        tries += 1;
        let error = match create().await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        let unsure = is_unsure(&error);
        if !unsure && !matches!(error.status(), Some(409 | 422)) {
            return Err(error);
        }
        if let Some(found) = look().await? {
            return Ok(found);
        }
        // A name that is taken since our own lost request is most likely ours, and only not to be seen yet.
        let is_worth_it = unsure || (was_unsure && error.is_name_taken());
        if !is_worth_it || tries >= TRIES {
            return Err(error);
        }
        was_unsure |= unsure;
        client.pause(tries).await;
    }
}

/// Whether it may have been done.
pub(super) fn is_unsure(error: &Error) -> bool {
    matches!(error, Error::Lost { .. } | Error::Malformed { .. })
}

/// Made, if the answer speaks of what was asked for.
pub(super) fn is_it<T>(is_it: bool, made: T, path: &str) -> Result<T> {
    if is_it { Ok(made) } else { Err(Error::malformed(format!("POST {path}"), "it speaks of something else".to_owned())) }
}
