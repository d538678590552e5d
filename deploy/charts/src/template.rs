//! The part of Go's text/template and of Helm's functions that the charts use; everything else is refused when parsed.
//!
//! Actions: a pipeline, `if`, `else`, `with`, `range` over lists, `define`, `end`, comments. Functions: `include`,
//! `toYaml`, `nindent`, `quote`, `default`. Absent: variables, comparisons, numbers in text.

mod evaluate;
mod parse;
mod scan;

use std::collections::BTreeMap;

use serde_json::Value;

/// Named parts, by name.
pub type Definitions = BTreeMap<String, Vec<Node>>;

#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<Node>,
    pub definitions: Definitions,
}

#[derive(Debug, Clone)]
pub enum Node {
    Text(String),
    Print(Expression),
    /// With its body, and what stands after `else`.
    Block(Block, Expression, Vec<Self>, Vec<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    If,
    With,
    Range,
}

#[derive(Debug, Clone)]
pub enum Expression {
    /// Names below the dot; none is the dot itself.
    Path(Vec<String>),
    Literal(Value),
    Call(Function, Vec<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Include,
    ToYaml,
    NewlineIndent,
    Quote,
    Default,
}

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("an action has no end: {0}")]
    Open(String),
    #[error("{0:?} is not of the part of Go's templates that Weft's charts keep to")]
    Unknown(String),
    #[error("there is no {0}")]
    Missing(String),
    #[error("{0} cannot be used like this")]
    Misused(&'static str),
}
