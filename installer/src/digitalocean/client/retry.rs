//! What is tried again, and when. Only what may be done twice, or was certainly not done.

use std::time::Duration;

use reqwest::StatusCode;

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For one answer, from the first byte sent to the last one read.
    pub answer: Duration,
    /// After the first failure; doubles with each.
    pub first: Duration,
    /// Between two tries, whatever the number of failures.
    pub longest: Duration,
    /// For a rate limit to be free again.
    pub limit: Duration,
    /// All in all.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { answer: seconds(30), first: seconds(1), longest: seconds(20), limit: seconds(90), tries: 6 }
    }
}

impl Patience {
    /// After so many failures: between half and all of what doubling comes to, so that two runs do not stay in step.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Whether a call may be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safety {
    /// The second time changes nothing.
    Again,
    /// The second time would make a second thing.
    Once,
}

/// What an attempt came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// There was no connection, so nothing was done.
    Unreachable(String),
    /// It was sent, and the answer did not come, or not whole.
    Lost(String),
    /// Yes or no.
    Answer {
        status: StatusCode,
        request_id: Option<String>,
        /// With 429: when it is free again.
        free_in: Option<Duration>,
        body: Vec<u8>,
    },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again after this.
    Wait(Duration),
    /// That was it.
    Done,
}

/// The server is in trouble: another time may be better.
pub(super) fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// After `tries` attempts, of which this is the outcome of the last.
pub(super) fn decide(safety: Safety, outcome: &Outcome, tries: u32, patience: &Patience) -> Verdict {
    if tries >= patience.tries {
        return Verdict::Done;
    }
    let backoff = patience.backoff(tries);
    match outcome {
        // 429 is said before anything is done, so it holds for creates, too.
        Outcome::Answer { status: StatusCode::TOO_MANY_REQUESTS, free_in, .. } => match free_in {
            Some(wait) if *wait > patience.limit => Verdict::Done,
            // A little more: the second is rounded, and others wait for the same moment.
            Some(wait) => Verdict::Wait(*wait + backoff.min(Duration::from_secs(1))),
            None => Verdict::Wait(backoff),
        },
        Outcome::Unreachable(_) => Verdict::Wait(backoff),
        Outcome::Lost(_) if safety == Safety::Again => Verdict::Wait(backoff),
        Outcome::Answer { status, .. } if safety == Safety::Again && is_trouble(*status) => Verdict::Wait(backoff),
        _ => Verdict::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, free_in: Option<u64>) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        Outcome::Answer { status, request_id: None, free_in: free_in.map(Duration::from_secs), body: Vec::new() }
    }

    fn waits(safety: Safety, outcome: &Outcome) -> bool {
        decide(safety, outcome, 1, &Patience::default()) != Verdict::Done
    }

    #[test]
    fn a_create_is_sent_again_only_when_it_was_certainly_not_done() {
        let lost = || Outcome::Lost("cut".to_owned());
        for (outcome, again, once) in [
            (answer(200, None), false, false),
            (answer(400, None), false, false),
            (answer(404, None), false, false),
            (answer(422, None), false, false),
            (answer(429, Some(3)), true, true),
            (answer(429, None), true, true),
            (answer(429, Some(91)), false, false),
            (answer(500, None), true, false),
            (answer(501, None), false, false),
            (answer(503, None), true, false),
            (lost(), true, false),
            (Outcome::Unreachable("refused".to_owned()), true, true),
        ] {
            assert_eq!(waits(Safety::Again, &outcome), again, "{outcome:?}");
            assert_eq!(waits(Safety::Once, &outcome), once, "{outcome:?}");
            let patience = Patience::default();
            assert_eq!(decide(Safety::Again, &outcome, patience.tries, &patience), Verdict::Done, "{outcome:?}");
        }
    }

    #[test]
    fn a_limit_is_waited_for_at_least_as_long_as_was_said() {
        let Verdict::Wait(wait) = decide(Safety::Once, &answer(429, Some(7)), 1, &Patience::default()) else { panic!() };
        assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_secs(8), "{wait:?}");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let patience = Patience::default();
        for failures in [1, 2, 5, 40, u32::MAX] {
            let full = patience.first.saturating_mul(2_u32.saturating_pow(failures - 1)).min(patience.longest);
            let pause = patience.backoff(failures);
            assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
        }
    }
}
