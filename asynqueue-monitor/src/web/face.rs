//! How an installation is recognized: its name, its title and its color.

use std::{fmt, str::FromStr};

use axum::{
    extract::Path,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};

use super::{Monitor, links::encoded, request::Failed};
use crate::ServeError;

/// The title of a monitor without another one.
const TITLE: &str = "asynqueue";

/// The color of the icon of an installation without a color.
const ICON: Color = Color([0x0b, 0x57, 0xb8]);

/// Colors by name. Each has a contrast of at least 4.5 to white text.
const NAMED: [(&str, Color); 8] = [
    ("red", Color([0xb3, 0x26, 0x1e])),
    ("orange", Color([0xa8, 0x4a, 0x00])),
    ("brown", Color([0x7a, 0x4d, 0x2b])),
    ("green", Color([0x17, 0x65, 0x3a])),
    ("teal", Color([0x00, 0x60, 0x6b])),
    ("blue", ICON),
    ("purple", Color([0x6b, 0x2f, 0xa0])),
    ("gray", Color([0x5a, 0x62, 0x70])),
];

/// The name, title and color of an installation.
#[derive(Clone, Debug, Default)]
pub(super) struct Face {
    pub(super) name: Option<String>,
    title: Option<String>,
    pub(super) color: Option<Color>,
}

/// An opaque color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Color([u8; 3]);

impl Monitor {
    /// Sets the name of this installation, such as `production`. Pages show it in their titles and in a strip at the
    /// top, so that installations are not confused. Default: none.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.face.name = some(name);
        self
    }

    /// Sets the title of the monitor, which pages show in place of `asynqueue`.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        self.face.title = some(title);
        self
    }

    /// Sets the color of the strip and of the icon: `#b3261e`, `#b21`, or one of `red`, `orange`, `brown`, `green`,
    /// `teal`, `blue`, `purple` and `gray`. Text on it is black or white, whichever has more contrast.
    ///
    /// # Errors
    ///
    /// [`ServeError::Color`] if the color is none of these.
    pub fn color(mut self, color: &str) -> Result<Self, ServeError> {
        let parsed = color.parse();
        self.face.color = Some(parsed.map_err(|()| ServeError::Color(color.to_owned()))?);
        Ok(self)
    }
}

/// Text that is not empty.
fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl Face {
    pub(super) fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(TITLE)
    }

    /// The icon as a data URL: a square in the color, with the first letter of the name.
    pub(super) fn icon(&self) -> String {
        let color = self.color.unwrap_or(ICON);
        let name = self.name.as_deref().unwrap_or_else(|| self.title());
        let letter = name.chars().find(|c| c.is_alphanumeric()).unwrap_or('a');
        let (letter, text) = (letter.to_uppercase(), color.text());
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='3' fill='{color}'/>\
             <text x='8' y='12' font-family='sans-serif' font-size='11' font-weight='700' text-anchor='middle' fill='{text}'>{letter}</text></svg>"
        );
        format!("data:image/svg+xml,{}", encoded(&svg))
    }

    /// The path of the style sheet of the color, below the path of the monitor. The content security policy allows no
    /// styles in pages.
    pub(super) fn style_sheet(&self) -> Option<String> {
        let hex = self.color?.to_string();
        Some(format!("assets/face/{}.css", hex.trim_start_matches('#')))
    }
}

/// Serves the style sheet of a color. Its path determines its content.
pub(super) async fn style_sheet(Path(name): Path<String>) -> Result<impl IntoResponse, Failed> {
    let hex = name.strip_suffix(".css").filter(|hex| hex.len() == 6);
    let color = hex.and_then(|hex| format!("#{hex}").parse::<Color>().ok());
    let color = color.ok_or_else(|| Failed::NotFound("This file does not exist.".into()))?;
    let css = format!(
        ":root {{ --face: {color}; --on-face: {}; }}\n",
        color.text()
    );
    let cache = "max-age=31536000, immutable";
    Ok(([(CONTENT_TYPE, "text/css"), (CACHE_CONTROL, cache)], css))
}

impl Color {
    /// Black or white, whichever has more contrast to this color. The contrast is at least 4.5.
    fn text(self) -> &'static str {
        // Both have the same contrast to a luminance of 0.179.
        match self.luminance() > 0.179 {
            true => "#000000",
            false => "#ffffff",
        }
    }

    /// The relative luminance that WCAG defines.
    fn luminance(self) -> f64 {
        let linear = self.0.map(|part| match f64::from(part) / 255.0 {
            part if part <= 0.040_45 => part / 12.92,
            part => ((part + 0.055) / 1.055).powf(2.4),
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
}

impl FromStr for Color {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim().to_ascii_lowercase();
        if let Some((_, color)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*color);
        }
        let hex = text.strip_prefix('#').ok_or(())?;
        let digits: Option<Vec<_>> = hex.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.ok_or(())?;
        let parts = match *digits.as_slice() {
            [r, g, b] => [17 * r, 17 * g, 17 * b],
            [a, b, c, d, e, f] => [16 * a + b, 16 * c + d, 16 * e + f],
            _ => return Err(()),
        };
        // Each part is at most 255.
        Ok(Self(parts.map(|part| part as u8)))
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_names_or_hexadecimal_numbers() {
        let text = |color: &str| color.parse::<Color>().map(|color| color.to_string());
        assert_eq!(text("#B3261e").as_deref(), Ok("#b3261e"));
        assert_eq!(text("#0f8").as_deref(), Ok("#00ff88"));
        assert_eq!(text(" Red ").as_deref(), Ok("#b3261e"));
        for invalid in [
            "", "#", "b3261e", "#b3261", "#gggggg", "redish", "#é12", "#1234567",
        ] {
            assert_eq!(text(invalid), Err(()), "{invalid}");
        }
    }

    #[test]
    fn text_is_readable_on_every_color() {
        for color in 0..4096_u32 {
            let color: Color = format!("#{color:03x}").parse().expect("a color");
            let text: Color = color.text().parse().expect("a color");
            let (a, b) = (color.luminance() + 0.05, text.luminance() + 0.05);
            assert!(a.max(b) / a.min(b) >= 4.5, "{text} on {color}");
        }
    }

    #[test]
    fn the_icon_contains_a_letter_of_the_name_and_no_markup_of_it() {
        let face = |name: &str| Face {
            name: some(name),
            ..Face::default()
        };
        assert!(face("production").icon().contains("%3EP%3C"));
        assert!(face("<<x").icon().contains("%3EX%3C"));
        assert!(face("").icon().contains("%3EA%3C"));
    }
}
