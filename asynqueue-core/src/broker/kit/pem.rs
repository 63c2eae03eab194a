//! PEM files that options name.

use std::path::Path;

/// The content of a PEM file.
///
/// # Errors
///
/// When it cannot be read, or is in another format. The text does not name the file.
pub fn read_pem(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    match bytes.windows(11).any(|part| part == b"-----BEGIN ") {
        true => Ok(bytes),
        false => Err("expected a PEM file, with a line `-----BEGIN …`".to_owned()),
    }
}
