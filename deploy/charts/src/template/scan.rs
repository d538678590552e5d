//! A template's text, cut into what stands between actions and the actions, and an action into its words.

use super::TemplateError;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// Without its braces and dashes.
    Action(&'a str),
}

/// Dashes take the white space beside them away; comments are left out.
pub fn pieces(template: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut rest, mut trims) = (template, false);
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        let Some((action, after)) = action["{{".len()..].split_once("}}") else {
            return Err(TemplateError::Open(action.chars().take(40).collect()));
        };
        let (left, right) = (action.starts_with("- "), action.ends_with(" -"));
        let before = if trims { before.trim_start() } else { before };
        pieces.push(Piece::Text(if left { before.trim_end() } else { before }));
        let action = action.strip_prefix("- ").unwrap_or(action);
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action));
        }
        (rest, trims) = (after, right);
    }
    pieces.push(Piece::Text(if trims { rest.trim_start() } else { rest }));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

/// The words of an action; a text in quotes is one, quotes included, and so is each `|`.
pub fn words(action: &str) -> Result<Vec<String>, TemplateError> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while !rest.is_empty() {
        let end = if let Some(text) = rest.strip_prefix('"') {
            text.find('"').map(|end| end + 2).ok_or_else(|| TemplateError::Open(rest.to_owned()))?
        } else if rest.starts_with('|') {
            1
        } else {
            rest.find([' ', '|', '"']).unwrap_or(rest.len())
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_take_white_space_away() {
        let found = pieces("a \n{{- b }}\n c {{ d -}} \n e{{- /* no */}}").unwrap();
        let expected =
            [Piece::Text("a"), Piece::Action("b"), Piece::Text("\n c "), Piece::Action("d"), Piece::Text("e")];
        assert_eq!(found, expected);
        assert!(pieces("{{ a").is_err());
    }

    #[test]
    fn words_are_parted_by_space_and_pipes() {
        assert_eq!(words(r#"include "a b" . | nindent 4"#).unwrap(), ["include", "\"a b\"", ".", "|", "nindent", "4"]);
        assert!(words("\"a").is_err());
    }
}
