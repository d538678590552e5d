//! Cuts a YAML file into its documents by lines, so that a broken one leaves its neighbours readable.
//!
//! `---` and `...` at the beginning of a line are document markers wherever they stand (YAML 1.2.2, 9.1.2).

/// One document and the line (from 1) on which its text begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    pub first_line: u64,
    pub text: String,
}

impl Document {
    /// Only blank lines and comments.
    fn is_empty(&self) -> bool {
        self.text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        })
    }
}

/// Documents with content, in order.
#[must_use]
pub fn split(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut current = Document { first_line: 1, text: String::new() };
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if let Some(rest) = marker(line) {
            documents.push(current);
            current = Document { first_line: index as u64 + 1, text: format!("   {rest}\n") };
        } else {
            current.text.push_str(line);
            current.text.push('\n');
        }
    }
    documents.push(current);
    documents.retain(|document| !document.is_empty());
    documents
}

/// What follows a document marker on its line.
fn marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."))?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u64, &str)]) {
        let found: Vec<(u64, String)> =
            split(text).into_iter().map(|document| (document.first_line, document.text.trim().to_owned())).collect();
        let expected: Vec<(u64, String)> = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn documents_keep_their_lines() {
        check("a: 1\n", &[(1, "a: 1")]);
        check("---\na: 1\n---\nb: 2\n", &[(1, "a: 1"), (3, "b: 2")]);
        check("# only a comment\n---\n\n---\na: 1\n", &[(4, "a: 1")]);
        check("a: 1\n...\n---\nb: 2", &[(1, "a: 1"), (3, "b: 2")]);
        check("--- {a: 1}\n", &[(1, "{a: 1}")]);
    }

    #[test]
    fn dashes_inside_a_document_do_not_cut_it() {
        check("a: |\n  ---\n  b\n", &[(1, "a: |\n  ---\n  b")]);
        check("----\n", &[(1, "----")]);
        check("---a: 1\n", &[(1, "---a: 1")]);
    }
}
