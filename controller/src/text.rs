//! What others say, made fit for our own words.

use crate::limits;

/// Bounded by [`limits::REASON_BYTES`], at a character's border.
#[must_use]
pub fn shortened(mut text: String) -> String {
    if text.len() > limits::REASON_BYTES {
        let end = (0..=limits::REASON_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
