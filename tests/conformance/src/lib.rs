//! What Gateway API's specification says of a mesh and its own suite does not look at, as rows of a table.
//!
//! A row ([`row`]) has routes, requests and what has to come of them, and what the routes' owners have to be told. All rows are
//! in force at once, each with a Service of its own ([`cast`]): the traffic is played by this crate's program on nodes
//! out of network namespaces, the conditions by the control tier on a real API server.

pub mod cast;
pub mod row;

use anyhow::{Context as _, Result, ensure};

use row::Row;

/// By subject: the words before the colon in a row's name.
const SUBJECTS: [(&str, &str); 11] = [
    ("binding", include_str!("../rows/binding.yaml")),
    ("matching", include_str!("../rows/matching.yaml")),
    ("precedence", include_str!("../rows/precedence.yaml")),
    ("backends", include_str!("../rows/backends.yaml")),
    ("headers", include_str!("../rows/headers.yaml")),
    ("redirects", include_str!("../rows/redirects.yaml")),
    ("rewrites", include_str!("../rows/rewrites.yaml")),
    ("resilience", include_str!("../rows/resilience.yaml")),
    ("grpc", include_str!("../rows/grpc.yaml")),
    ("validity", include_str!("../rows/validity.yaml")),
    ("changes", include_str!("../rows/changes.yaml")),
];

/// All rows, in the order of the table.
///
/// # Errors
///
/// A row that cannot be read is named with its file and line.
pub fn rows() -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for (subject, text) in SUBJECTS {
        let rows: Vec<row::Written> =
            serde_saphyr::from_str(text).with_context(|| format!("rows/{subject}.yaml cannot be read"))?;
        for (index, written) in rows.into_iter().enumerate() {
            all.push(Row::new(subject, index, written)?);
        }
    }
    let mut names: Vec<&str> = all.iter().map(|row| row.title.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "two rows are called {:?}", twice.map(|pair| pair[0]));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_read_and_is_about_something() {
        for row in rows().unwrap() {
            let plays = !row.asks.is_empty() || !row.steps.is_empty();
            assert!(plays || !row.routes.is_empty(), "{} promises nothing", row.title);
        }
    }
}
