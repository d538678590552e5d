//! Pieces to nodes.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

use super::scan::{Piece, pieces, words};
use super::{Block, Definitions, Expression, Function, Node, Template, TemplateError};

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { pieces: pieces(text)?.into_iter().peekable(), definitions: Definitions::new() };
        let nodes = parser.body()?;
        match parser.pieces.next() {
            Some(Piece::Action(action)) => Err(TemplateError::Unknown(action.to_owned())),
            _ => Ok(Self { nodes, definitions: parser.definitions }),
        }
    }
}

struct Parser<'a> {
    pieces: Peekable<IntoIter<Piece<'a>>>,
    definitions: Definitions,
}

impl Parser<'_> {
    /// Nodes up to an `else` or `end`, which stays.
    fn body(&mut self) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next_if(|piece| !matches!(piece, Piece::Action("else" | "end"))) {
            match piece {
                Piece::Text(text) => nodes.push(Node::Text(text.to_owned())),
                Piece::Action(action) => nodes.extend(self.action(action)?),
            }
        }
        Ok(nodes)
    }

    fn action(&mut self, action: &str) -> Result<Option<Node>, TemplateError> {
        let words = words(action)?;
        let block = match words.first().map(String::as_str) {
            Some("if") => Block::If,
            Some("with") => Block::With,
            Some("range") => Block::Range,
            Some("define") => {
                let [_, name] = words.as_slice() else { return Err(TemplateError::Misused("define")) };
                let body = self.body()?;
                self.end()?;
                self.definitions.insert(name.trim_matches('"').to_owned(), body);
                return Ok(None);
            }
            _ => return expression(&words).map(|expression| Some(Node::Print(expression))),
        };
        let subject = expression(&words[1..])?;
        let body = self.body()?;
        let otherwise =
            if self.pieces.next_if_eq(&Piece::Action("else")).is_some() { self.body()? } else { Vec::new() };
        self.end()?;
        Ok(Some(Node::Block(block, subject, body, otherwise)))
    }

    fn end(&mut self) -> Result<(), TemplateError> {
        match self.pieces.next() {
            Some(Piece::Action("end")) => Ok(()),
            _ => Err(TemplateError::Misused("end")),
        }
    }
}

/// A pipeline: each command gets what the one before it gave as its last argument.
fn expression(words: &[String]) -> Result<Expression, TemplateError> {
    let mut given = None;
    for command in words.split(|word| word == "|") {
        given = Some(one(command, given)?);
    }
    given.ok_or(TemplateError::Misused("|"))
}

fn one(command: &[String], given: Option<Expression>) -> Result<Expression, TemplateError> {
    let Some((first, rest)) = command.split_first() else { return Err(TemplateError::Misused("|")) };
    let Some(function) = function(first) else {
        return if rest.is_empty() && given.is_none() {
            operand(first)
        } else {
            Err(TemplateError::Misused("a value"))
        };
    };
    let arguments = rest.iter().map(|word| operand(word)).chain(given.map(Ok)).collect::<Result<Vec<_>, _>>()?;
    Ok(Expression::Call(function, arguments))
}

fn function(word: &str) -> Option<Function> {
    Some(match word {
        "include" => Function::Include,
        "toYaml" => Function::ToYaml,
        "nindent" => Function::NewlineIndent,
        "quote" => Function::Quote,
        "default" => Function::Default,
        _ => return None,
    })
}

fn operand(word: &str) -> Result<Expression, TemplateError> {
    if let Some(text) = word.strip_prefix('"') {
        return Ok(Expression::Literal(Value::from(text.trim_end_matches('"'))));
    }
    if let Some(path) = word.strip_prefix('.') {
        return Ok(Expression::Path(path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()));
    }
    word.parse::<u64>()
        .map(|number| Expression::Literal(Value::from(number)))
        .map_err(|_| TemplateError::Unknown(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_subset_is_refused() {
        for text in [
            "{{ $a }}",
            "{{ lower .a }}",
            "{{ if .a }}",
            "{{ end }}",
            "{{ .a | .b }}",
            "{{ }}",
            "{{ range .a }}{{ else",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
