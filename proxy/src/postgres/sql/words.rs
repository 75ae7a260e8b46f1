//! `[pure]` The words that matter, found by length and first letter.

/// What a word is to the scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing.
    Other,
    /// `pg_temp`, or such a schema by its number.
    TempSchema,
    /// A function that takes a session's advisory lock.
    Lock,
    /// One that gives it back.
    Unlock,
    /// `currval`, `lastval`.
    Sequence,
    /// `set_config`.
    Config,
    /// `setseed`.
    Seed,
    /// A function that leaves something with the session that nothing takes away again.
    State,
    /// `pg_settings`.
    Settings,
    /// UNLISTEN, CLOSE: nothing but an end.
    Ends,
    /// GLOBAL, LOCAL.
    Scope,
    /// TEMP, TEMPORARY.
    Temp,
    /// FUNCTION, PROCEDURE.
    Function,
    Atomic,
    Begin,
    Commit,
    Create,
    Deallocate,
    Declare,
    Discard,
    Do,
    Drop,
    End,
    Hold,
    Insert,
    Into,
    Listen,
    Load,
    Merge,
    Prepare,
    Replace,
    Reset,
    Set,
    Transaction,
    Update,
    With,
}

impl Word {
    /// Of a keyword or an unquoted name.
    pub(super) fn of(word: &[u8]) -> Self {
        let Some(&first) = word.first() else { return Self::Other };
        if !may_matter(word.len(), first) {
            return Self::Other;
        }
        for (name, meaning) in candidates(word.len(), first | 0x20) {
            if word.eq_ignore_ascii_case(name) {
                return *meaning;
            }
        }
        let numbered = word.get(..8).is_some_and(|head| head.eq_ignore_ascii_case(b"pg_temp_"));
        if numbered { Self::TempSchema } else { Self::Other }
    }

    /// Of a quoted name: no keyword, and case counts.
    pub(super) fn of_name(name: &[u8]) -> Self {
        match Self::of(name) {
            word @ (Self::Lock
            | Self::Unlock
            | Self::Sequence
            | Self::Config
            | Self::Seed
            | Self::State
            | Self::Settings
            | Self::TempSchema)
                if !name.iter().any(u8::is_ascii_uppercase) =>
            {
                word
            }
            _ => Self::Other,
        }
    }
}

/// Whether a word of this length may be one of ours, by its first byte. Most are told by that.
pub(super) fn may_matter(length: usize, first: u8) -> bool {
    let lengths = LENGTHS.get(usize::from(first & 31)).copied().unwrap_or_default();
    lengths >> length.min(63) & 1 == 1
}

/// For the last five bits of a letter: a bit for each length.
#[expect(clippy::indexing_slicing, reason = "while compiling, and within bounds by the loop")]
const LENGTHS: [u64; 32] = {
    let mut lengths = [0; 32];
    let mut letter = b'a';
    while letter <= b'z' {
        let mut length = 1;
        while length < 63 {
            // `pg_temp_` and a number of up to six digits.
            if !candidates(length, letter).is_empty() || letter == b'p' && length > 8 && length < 15 {
                lengths[(letter & 31) as usize] |= 1 << length;
            }
            length += 1;
        }
        letter += 1;
    }
    lengths
};

/// The words of this length that begin with this letter.
const fn candidates(length: usize, first: u8) -> &'static [(&'static [u8], Word)] {
    match (length, first) {
        (2, b'd') => &[(b"do", Word::Do)],
        (3, b'e') => &[(b"end", Word::End)],
        (3, b's') => &[(b"set", Word::Set)],
        (4, b'd') => &[(b"drop", Word::Drop)],
        (4, b'h') => &[(b"hold", Word::Hold)],
        (4, b'i') => &[(b"into", Word::Into)],
        (4, b'l') => &[(b"load", Word::Load)],
        (4, b't') => &[(b"temp", Word::Temp)],
        (4, b'w') => &[(b"with", Word::With)],
        (5, b'b') => &[(b"begin", Word::Begin)],
        (5, b'c') => &[(b"close", Word::Ends)],
        (5, b'l') => &[(b"local", Word::Scope)],
        (5, b'm') => &[(b"merge", Word::Merge)],
        (5, b'r') => &[(b"reset", Word::Reset)],
        (6, b'a') => &[(b"atomic", Word::Atomic)],
        (6, b'c') => &[(b"create", Word::Create), (b"commit", Word::Commit)],
        (6, b'g') => &[(b"global", Word::Scope)],
        (6, b'i') => &[(b"insert", Word::Insert)],
        (6, b'l') => &[(b"listen", Word::Listen)],
        (6, b'u') => &[(b"update", Word::Update)],
        (7, b'c') => &[(b"currval", Word::Sequence)],
        (7, b'd') => &[(b"declare", Word::Declare), (b"discard", Word::Discard)],
        (7, b'l') => &[(b"lastval", Word::Sequence)],
        (7, b'p') => &[(b"prepare", Word::Prepare), (b"pg_temp", Word::TempSchema)],
        (7, b'r') => &[(b"replace", Word::Replace)],
        (7, b's') => &[(b"setseed", Word::Seed)],
        (8, b'f') => &[(b"function", Word::Function)],
        (8, b'u') => &[(b"unlisten", Word::Ends)],
        (9, b'p') => &[(b"procedure", Word::Function)],
        (9, b't') => &[(b"temporary", Word::Temp)],
        (10, b'd') => &[(b"deallocate", Word::Deallocate)],
        (10, b's') => &[(b"set_config", Word::Config)],
        (11, b'p') => &[(b"pg_settings", Word::Settings)],
        (11, b't') => &[(b"transaction", Word::Transaction)],
        (14, b'd') => &[(b"dblink_connect", Word::State)],
        // Until PostgreSQL 14, and since.
        (15, b'p') => &[(b"pg_start_backup", Word::State), (b"pg_backup_start", Word::State)],
        (16, b'd') => &[(b"dblink_connect_u", Word::State)],
        (16, b'p') => &[(b"pg_advisory_lock", Word::Lock)],
        (18, b'p') => &[(b"pg_advisory_unlock", Word::Unlock)],
        (20, b'p') => &[(b"pg_try_advisory_lock", Word::Lock)],
        (22, b'p') => &[(b"pg_advisory_unlock_all", Word::Unlock)],
        (23, b'p') => &[(b"pg_advisory_lock_shared", Word::Lock)],
        (25, b'p') => &[(b"pg_advisory_unlock_shared", Word::Unlock)],
        (27, b'p') => &[(b"pg_try_advisory_lock_shared", Word::Lock)],
        // Slots may be temporary, and then are the session's.
        (32, b'p') => &[(b"pg_copy_logical_replication_slot", Word::State)],
        (33, b'p') => &[(b"pg_copy_physical_replication_slot", Word::State)],
        (34, b'p') => &[(b"pg_create_logical_replication_slot", Word::State)],
        (35, b'p') => &[(b"pg_create_physical_replication_slot", Word::State), (b"pg_replication_origin_session_setup", Word::State)],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_stands_where_it_is_looked_for() {
        let mut count = 0;
        for length in 0..=64 {
            for first in 0..=255 {
                for (name, meaning) in candidates(length, first) {
                    assert_eq!((name.len(), name[0]), (length, first), "{}", name.escape_ascii());
                    assert_eq!(Word::of(&name.to_ascii_uppercase()), *meaning);
                    count += 1;
                }
            }
        }
        assert!(count > 45, "{count}");
    }
}
