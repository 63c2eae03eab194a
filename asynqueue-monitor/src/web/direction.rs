//! Characters that change the direction of text. In a payload or an error, they would turn around what follows them.

use std::{borrow::Cow, fmt::Write};

/// Shows these characters as escapes in the text of a page, such as `\u202e`. In the JSON of a payload, this means the
/// same. Attributes are unchanged, because forms send their values back.
pub(super) fn directed(page: String) -> String {
    if !page.contains(turns) {
        return page;
    }
    let mut shown = String::with_capacity(page.len());
    // Text contains no `<` and attributes contain no `>`, because both are escaped.
    for part in page.split_inclusive('>') {
        let (text, tag) = part.split_at(part.find('<').unwrap_or(part.len()));
        shown += &visible(text);
        shown += tag;
    }
    shown
}

/// Text with escapes in place of characters that change its direction.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(turns) {
        return text.into();
    }
    let mut shown = String::new();
    for char in text.chars() {
        if turns(char) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{:04x}", char as u32);
        } else {
            shown.push(char);
        }
    }
    shown.into()
}

/// Whether a character is one of the Unicode property `Bidi_Control`.
const fn turns(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_attributes_are_not() {
        let page = "<p title=\"a\u{202e}b\">c\u{202e}d\u{2066}<b>\u{61c}</b></p>\u{200f}";
        let shown = "<p title=\"a\u{202e}b\">c\\u202ed\\u2066<b>\\u061c</b></p>\\u200f";
        assert_eq!(directed(page.into()), shown);
    }

    #[test]
    fn other_text_is_unchanged() {
        for page in ["", "<p>\u{5e9}\u{5dc}\u{5d5}\u{5dd} &lt; 1</p>", "no tag"] {
            assert_eq!(directed(page.into()), page);
        }
    }
}
