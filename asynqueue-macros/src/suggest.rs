//! "Did you mean …?"

/// The middle of the message `unknown …`: a question, or a colon if no known name is similar.
pub(crate) fn did_you_mean(closest: Option<&str>) -> String {
    closest.map_or_else(
        || ":".to_owned(),
        |name| format!(", did you mean `{name}`?"),
    )
}

/// The known name closest to `typed`.
pub(crate) fn closest<'n>(typed: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Two typos, or three in a long name such as `max_retries`; beyond that it is a different name.
    let limit = (typed.len() / 3).max(2).min(typed.len().saturating_sub(1));
    known
        .map(|name| (edit_distance(&typed.to_lowercase(), name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The number of characters to insert, delete or replace to turn `a` into `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    // Row i holds the distances from the first i characters of `a` to each prefix of `b`.
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = ["event", "queue", "max_retry", "timeout", "ttl", "until"];

    #[test]
    fn a_typo_gets_a_suggestion() {
        for (typed, meant) in [
            ("evnt", "event"),
            ("Queue", "queue"),
            ("queu", "queue"),
            ("max_retries", "max_retry"),
            ("time_out", "timeout"),
            ("tll", "ttl"),
            ("util", "until"),
        ] {
            assert_eq!(closest(typed, KNOWN.into_iter()), Some(meant), "{typed}");
        }
    }

    #[test]
    fn an_unrelated_name_gets_no_suggestion() {
        for typed in ["name", "schedule", "x", "retention"] {
            assert_eq!(closest(typed, KNOWN.into_iter()), None, "{typed}");
        }
    }

    #[test]
    fn the_edit_distance_counts_characters_and_not_bytes() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("größe", "grosse"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
