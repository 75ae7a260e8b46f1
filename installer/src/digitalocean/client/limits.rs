//! When a rate limit is free again. A burst (250 a minute) is answered with `retry-after`; the limit of the hour (5000) only with
//! `ratelimit-reset`, the moment at which its oldest request is forgotten.

use std::time::Duration;

use reqwest::header::HeaderMap;

/// How long until it is free; `None` when nothing says so.
pub(super) fn free_in(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let seconds = number("retry-after").or_else(|| number("ratelimit-reset").map(|reset| reset.saturating_sub(now)))?;
    Some(Duration::from_secs(seconds))
}

/// What to tell about a limit that is not worth waiting for.
pub(super) fn explain(message: &str, wait: Duration) -> String {
    let time = match wait.as_secs() {
        0..=1 => "a second".to_owned(),
        seconds @ 2..=119 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    };
    format!("{message} It is free again in {time}; run the same command then.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_counts_first_then_the_reset() {
        let wait = |pairs: &[(&'static str, &str)]| free_in(&headers(pairs), 1_000).map(|wait| wait.as_secs());
        assert_eq!(wait(&[("retry-after", "7"), ("ratelimit-reset", "1900")]), Some(7));
        assert_eq!(wait(&[("ratelimit-reset", "1030")]), Some(30));
        assert_eq!(wait(&[("ratelimit-reset", "900")]), Some(0), "a clock that is ahead");
        assert_eq!(wait(&[("retry-after", "soon"), ("ratelimit-reset", "1001")]), Some(1));
        assert_eq!(wait(&[("retry-after", "-3")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn a_long_limit_is_told_in_minutes() {
        let told = explain("API rate limit exceeded.", Duration::from_secs(1_801));
        assert_eq!(told, "API rate limit exceeded. It is free again in 31 minutes; run the same command then.");
    }
}
