//! One process step by step, and a fleet whose members come, go, and see late.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the process with address `own` sees.
fn answer(own: u8, peers: &[u8]) -> Option<Answer> {
    let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    Some(Answer::new(peers.iter().map(|last| address(*last)), |one| one == address(own)))
}

/// Sees the same every five seconds, from one second to another; the last ruling.
fn see(quota: &mut Quota, from: u64, to: u64, seen: &Option<Answer>) -> Ruling {
    let mut ruling = Ruling::default();
    for at in (from..=to).step_by(5) {
        ruling = quota.observe(seconds(at), seen.clone());
    }
    ruling
}

#[test]
fn addresses_count_once_and_in_order() {
    let seen = answer(7, &[9, 7, 9, 3]).unwrap();
    assert_eq!((seen.peers.len(), seen.own), (3, Some(1)));
    let mapped = Answer::new(["::ffff:192.0.2.9", "192.0.2.9", "2001:db8::1"].map(|text| text.parse().unwrap()), |_| false);
    assert_eq!((mapped.peers.len(), mapped.has_own()), (2, false));
    assert_eq!(SETTLE, seconds(15));
}

#[test]
fn nothing_before_the_others_must_have_made_room() {
    let mut quota = Quota::new(20);
    assert_eq!(quota.observe(seconds(0), None), Ruling::default());
    // Not listed yet, then listed: that is when the others begin to see it.
    assert_eq!(quota.observe(seconds(5), answer(1, &[2])), Ruling { limit: 0, peers: 2, recall: None });
    assert_eq!(see(&mut quota, 10, 20, &answer(1, &[1, 2])).limit, 0);
    assert_eq!(quota.observe(seconds(24), answer(1, &[1, 2])).limit, 0);
    assert_eq!(quota.observe(seconds(25), answer(1, &[1, 2])).limit, 10);
    // Alone is no exception: another one may have started with it.
    let mut alone = Quota::new(20);
    assert_eq!(see(&mut alone, 0, 10, &answer(1, &[1])).limit, 0);
    assert_eq!(see(&mut alone, 15, 15, &answer(1, &[1])).limit, 20);
    // A failure in between does not keep the others from seeing it, but without an answer nothing grows.
    let mut blind = Quota::new(20);
    see(&mut blind, 0, 10, &answer(1, &[1]));
    assert_eq!(blind.observe(seconds(15), None).limit, 0);
    assert_eq!(blind.observe(seconds(16), answer(1, &[1, 2])).limit, 10);
}

#[test]
fn more_peers_count_at_once_and_fewer_when_it_has_lasted() {
    let mut quota = Quota::new(20);
    see(&mut quota, 0, 15, &answer(1, &[1]));
    let shrunk = quota.observe(seconds(20), answer(1, &[1, 2]));
    assert_eq!(shrunk, Ruling { limit: 10, peers: 2, recall: Some(seconds(22)) });
    // Again before it was time to ask: the earlier moment holds for both.
    assert_eq!(quota.observe(seconds(21), answer(1, &[1, 2, 3])).recall, Some(seconds(22)));
    assert_eq!(quota.observe(seconds(25), answer(1, &[1])).limit, 6);
    assert_eq!(quota.observe(seconds(30), answer(1, &[1, 2])).limit, 6);
    assert_eq!(quota.observe(seconds(39), answer(1, &[1])).limit, 6);
    // Since 25 there were never more than two, and since 40 one.
    assert_eq!(quota.observe(seconds(40), answer(1, &[1])).limit, 10);
    assert_eq!(see(&mut quota, 45, 50, &answer(1, &[1])).limit, 10);
    // A failure: nothing changes, and the wait begins again.
    assert_eq!(quota.observe(seconds(54), None).limit, 10);
    assert_eq!(see(&mut quota, 55, 65, &answer(1, &[1])).limit, 10);
    assert_eq!(see(&mut quota, 70, 70, &answer(1, &[1])), Ruling { limit: 20, peers: 1, recall: Some(seconds(22)) });
}

#[test]
fn the_remainder_goes_to_the_first_once_all_agree() {
    let mut quotas = [1, 2, 3].map(|own| (own, Quota::new(20)));
    let mut limits = [0; 3];
    for ((own, quota), limit) in quotas.iter_mut().zip(&mut limits) {
        *limit = see(quota, 0, 15, &answer(*own, &[1, 2, 3])).limit;
    }
    assert_eq!(limits, [7, 7, 6]);
    // Another list of the same length: who is the first is not agreed on any more.
    assert_eq!(quotas[0].1.observe(seconds(20), answer(1, &[1, 2, 4])).limit, 6);
    // More of them than connections: some have none.
    let mut poor = Quota::new(2);
    assert_eq!(see(&mut poor, 0, 15, &answer(3, &[1, 2, 3])).limit, 0);
}

#[test]
fn who_is_never_listed_counts_itself_in_at_last() {
    let mut quota = Quota::new(20);
    assert_eq!(see(&mut quota, 0, 55, &answer(9, &[1, 2, 3])), Ruling { limit: 0, peers: 4, recall: None });
    assert_eq!(see(&mut quota, 60, 60, &answer(9, &[1, 2, 3])).limit, 5);
}

/// A process of the fleet. Times in tenths of seconds.
struct Member {
    address: u8,
    quota: Quota,
    listed: usize,
    leaves: usize,
    /// It is not listed for so long before it leaves.
    drains: usize,
    looks: usize,
    failed: bool,
    /// What it has, and when it must be through with giving up.
    has: usize,
    limit: usize,
    until: Option<usize>,
}

impl Member {
    /// As greedy as the rules allow: grows at once, and shrinks at the last moment.
    fn ruled(&mut self, limit: usize, now: usize) {
        if limit < self.limit {
            self.until = Some(self.until.unwrap_or_else(|| now + tenths(GIVE_UP)));
        }
        self.limit = limit;
        self.has = self.has.max(limit);
    }

    fn pass(&mut self, now: usize) {
        if self.until.is_some_and(|until| until <= now) {
            (self.has, self.until) = (self.limit, None);
        }
    }
}

fn tenths(time: Duration) -> usize {
    usize::try_from(time.as_millis() / 100).unwrap()
}

/// Twelve minutes of a fleet: at no moment do its members have more than there is. Returns how often the most was reached.
fn fleet(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let (spare, mut members, mut history, mut next, mut full) = (random.usize(1..40), Vec::<Member>::new(), Vec::new(), 0, 0);
    for now in 0..7200 {
        // Restless for eight minutes; the last leaves in the eleventh.
        if now < 4800 && members.len() < 7 && random.usize(0..150) == 0 {
            next += 1;
            let listed = now + random.usize(0..200);
            let leaves = if random.bool() { now + random.usize(100..1500) } else { usize::MAX };
            members.push(Member {
                address: next,
                quota: Quota::new(spare),
                listed,
                leaves,
                drains: random.usize(0..tenths(SETTLE - PROPAGATION)),
                looks: now + random.usize(0..tenths(LOOK)),
                failed: false,
                has: 0,
                limit: 0,
                until: None,
            });
        }
        members.retain(|member| member.leaves > now);
        let listed = members.iter().filter(|member| member.listed <= now && member.leaves - member.drains > now);
        history.push(listed.map(|member| member.address).collect::<BTreeSet<u8>>());
        for member in &mut members {
            member.pass(now);
            if member.looks > now {
                continue;
            }
            // As old as an answer may be; a failure only where the next look is early enough.
            let seen = &history[now - random.usize(0..=tenths(PROPAGATION).min(now))];
            let peers: Vec<u8> = seen.iter().copied().collect();
            member.failed = !member.failed && now < 4800 && random.usize(0..6) == 0;
            let took = if member.failed { None } else { answer(member.address, &peers) };
            member.looks = now + if member.failed { 5 } else { random.usize(20..tenths(LOOK + ANSWER) - 5) };
            let ruling = member.quota.observe(Duration::from_millis(100 * now as u64), took);
            member.ruled(ruling.limit, now);
        }
        let all: usize = members.iter().map(|member| member.has).sum();
        assert!(all <= spare, "seed {seed}: {all} of {spare} at {now}, by {} members", members.len());
        full += usize::from(all == spare);
    }
    if !members.is_empty() && members.iter().all(|member| member.leaves == usize::MAX) {
        assert_eq!(members.iter().map(|member| member.limit).sum::<usize>(), spare, "seed {seed}: at rest nothing is left over");
    }
    full
}

#[test]
fn a_fleet_never_has_more_than_there_is() {
    let full: usize = (0..100).map(fleet).sum();
    assert!(full > 100 * 600, "it uses what there is, too: {full}");
}
