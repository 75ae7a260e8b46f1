//! Finding a name: every request of every client comes through here, so the table is laid out by the compiler and a lookup is one multiplication
//! and, nearly always, one comparison. With the way to the name GET and SET take 10 to 20 ns. `[pure]`

use super::containers::CONTAINERS;
use super::data::{GROUPS, STREAMS};
use super::{Class, Group, Meaning};

/// A name of up to so many bytes is compared as two numbers.
const SHORT: usize = 16;
type Key = [u64; 2];

#[derive(Clone, Copy)]
struct Slot {
    key: Key,
    /// 0: empty. A name with a zero byte at its end has the same key as the one without.
    length: usize,
    meaning: Meaning,
}

/// A power of two, about four times as many as there are names.
const COUNT: usize = 1024;
const BITS: u32 = COUNT.ilog2();
static SLOTS: [Slot; COUNT] = build();

/// What the name stands for; in any case.
pub(super) fn find(name: &[u8]) -> Option<Meaning> {
    if name.len() > SHORT { find_long(name) } else { find_in(name, name.len()) }
}

/// What the first `length` bytes stand for, when it is a short name. There should be more bytes than that: then they are fetched at once.
#[inline]
pub(super) fn find_in(bytes: &[u8], length: usize) -> Option<Meaning> {
    if length > SHORT {
        return None;
    }
    let name = match bytes.first_chunk() {
        Some(chunk) => *chunk,
        None => padded(bytes),
    };
    let key = key(name, length);
    let mut at = place(key);
    loop {
        let slot = SLOTS.get(at & (COUNT - 1))?;
        // Ends: three quarters of the slots are empty.
        if slot.length == 0 {
            return None;
        }
        if slot.key == key && slot.length == length {
            return Some(slot.meaning);
        }
        at += 1;
    }
}

#[cold]
fn padded(bytes: &[u8]) -> [u8; SHORT] {
    let mut chunk = [0; SHORT];
    for (to, from) in chunk.iter_mut().zip(bytes) {
        *to = *from;
    }
    chunk
}

/// The few longer ones.
#[cold]
fn find_long(name: &[u8]) -> Option<Meaning> {
    let group =
        GROUPS.iter().copied().flatten().find(|group| group.names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())))?;
    Some(Meaning::Plain(group.class))
}

/// The first `length` bytes in capitals; `length` is at most [`SHORT`].
#[inline]
const fn key(mut bytes: [u8; SHORT], length: usize) -> Key {
    bytes.make_ascii_uppercase();
    #[expect(clippy::cast_possible_truncation, reason = "at most 128")]
    let others = 8 * (SHORT - length) as u32;
    let both = match u128::MAX.checked_shr(others) {
        Some(mask) => u128::from_le_bytes(bytes) & mask,
        None => 0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    [both as u64, (both >> u64::BITS) as u64]
}

/// Where to look first.
#[inline]
const fn place([low, high]: Key) -> usize {
    // An odd number without a pattern: the golden ratio's digits.
    let hash = (low ^ high.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (u64::BITS - BITS)) as usize
}

/// Runs in the compiler. A name that is in the table twice is an error there.
#[expect(clippy::indexing_slicing, reason = "in the compiler a panic is a compile error")]
const fn build() -> [Slot; COUNT] {
    let mut slots = [Slot { key: [0; 2], length: 0, meaning: Meaning::Plain(Class::Unknown) }; COUNT];
    let mut at = 0;
    while at < GROUPS.len() {
        slots = insert_groups(slots, GROUPS[at], false);
        at += 1;
    }
    slots = insert_groups(slots, STREAMS, true);
    at = 0;
    while at < CONTAINERS.len() {
        slots = insert(slots, CONTAINERS[at].name, Meaning::Container(&CONTAINERS[at]));
        at += 1;
    }
    slots
}

#[expect(clippy::indexing_slicing, reason = "in the compiler a panic is a compile error")]
const fn insert_groups(mut slots: [Slot; COUNT], groups: &'static [Group], streams: bool) -> [Slot; COUNT] {
    let mut at = 0;
    while at < groups.len() {
        let Group { class, names, .. } = &groups[at];
        let meaning = if streams { Meaning::Streams(*class) } else { Meaning::Plain(*class) };
        let mut name = 0;
        while name < names.len() {
            slots = insert(slots, names[name], meaning);
            name += 1;
        }
        at += 1;
    }
    slots
}

#[expect(clippy::indexing_slicing, reason = "in the compiler a panic is a compile error")]
const fn insert(mut slots: [Slot; COUNT], name: &str, meaning: Meaning) -> [Slot; COUNT] {
    let name = name.as_bytes();
    if name.len() > SHORT {
        return slots; // `find_long` has it
    }
    let mut bytes = [0; SHORT];
    let mut at = 0;
    while at < name.len() {
        bytes[at] = name[at];
        at += 1;
    }
    let key = key(bytes, name.len());
    at = place(key) & (COUNT - 1);
    while slots[at].length != 0 {
        assert!(slots[at].key[0] != key[0] || slots[at].key[1] != key[1], "a name is in the table twice");
        at = (at + 1) & (COUNT - 1);
    }
    slots[at] = Slot { key, length: name.len(), meaning };
    slots
}
