//! The known name that someone most likely meant.
//!
//! The same as for the attributes of the derive, whose crate of macros can give nothing else away.

/// The known name that `typed` most likely stands for, whatever its capitals.
pub(crate) fn closest<'n>(
    typed: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    // Two slips, or more in a long name; a name that must be changed all over is another name.
    let letters = typed.chars().count();
    let limit = (letters / 5).max(2).min(letters.saturating_sub(1));
    closest_within(typed, known, limit)
}

/// The known name that is `limit` slips at most from `typed`, whatever its capitals.
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

/// How many characters must be put in, taken out or replaced to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // The distances from the characters of `a` so far to each beginning of `b`.
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
    fn a_slip_of_the_fingers_is_put_right() {
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
    fn a_name_of_another_kind_gets_no_suggestion() {
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
