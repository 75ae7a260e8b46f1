//! Guessing what a mistyped word was meant to be.

/// `did you mean `x`?` when a candidate is near, else `prefix` and all of them (`say a, b or c`).
pub(super) fn guess<'a>(text: &str, candidates: impl Iterator<Item = &'a str> + Clone, prefix: &str) -> String {
    match nearest(text, candidates.clone()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("{prefix}{}", any_of(candidates)),
    }
}

/// `a, b or c`.
pub(super) fn any_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let all = words.collect::<Vec<_>>().join(", ");
    all.rsplit_once(", ").map(|(most, last)| format!("{most} or {last}")).unwrap_or(all)
}

/// The candidate that differs in at most a third of its letters.
pub(super) fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 40 {
        return None;
    }
    let typed = text.to_ascii_lowercase().replace('-', "_");
    candidates
        .map(|word| (distance(&typed, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= word.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Letters to change, add or drop (Levenshtein), one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            let changed = diagonal + usize::from(from != to);
            left = changed.min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("listen", "listne", 2), ("a", "a", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn guesses_only_what_is_near() {
        let words = ["listen", "listen_cert", "pool_size"];
        assert_eq!(nearest("pool-size", words.into_iter()), Some("pool_size"));
        assert_eq!(nearest("lisen", words.into_iter()), Some("listen"));
        assert_eq!(nearest("frobnicate", words.into_iter()), None);
        assert_eq!(guess("zzz", ["a", "b"].into_iter(), "say "), "say a or b");
    }
}
