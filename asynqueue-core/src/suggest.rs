//! Suggests the known name that was most likely meant.
//!
//! A copy of the module in the macro crate, because a procedural macro crate cannot export it.

/// The known name closest to `typed`, ignoring case.
pub(crate) fn closest<'n>(
    typed: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    // Two typos, or more in a long name; beyond that it is a different name.
    let letters = typed.chars().count();
    let limit = (letters / 5).max(2).min(letters.saturating_sub(1));
    closest_within(typed, known, limit)
}

/// The known name at most `limit` typos away from `typed`, ignoring case.
pub(crate) fn closest_within<'n>(
    typed: &str,
    known: impl IntoIterator<Item = &'n str>,
    limit: usize,
) -> Option<&'n str> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|name| (distance(&typed, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The number of characters to insert, delete or replace to turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // The distances from the part of `a` read so far to each prefix of `b`.
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for from in a.chars() {
        let mut diagonal = row[0];
        row[0] += 1;
        for (column, to) in b.chars().enumerate() {
            let kept_or_replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = kept_or_replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONES: [&str; 4] = ["Europe/Berlin", "Europe/Dublin", "America/Havana", "UTC"];

    #[test]
    fn a_typo_gets_a_suggestion() {
        for (typed, meant) in [
            ("Europe/Berln", "Europe/Berlin"),
            ("europe/dublin", "Europe/Dublin"),
            ("Amerika/Havanna", "America/Havana"),
            ("utx", "UTC"),
        ] {
            assert_eq!(closest(typed, ZONES), Some(meant), "{typed}");
        }
    }

    #[test]
    fn an_unrelated_name_gets_no_suggestion() {
        for typed in ["", "x", "Mars/Olympus", "Europe"] {
            assert_eq!(closest(typed, ZONES), None, "{typed}");
        }
    }

    #[test]
    fn the_distance_counts_characters_and_not_bytes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("größe", "grosse"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
