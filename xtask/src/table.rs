//! A plain table: columns of numbers are aligned right, the others left.

/// Lays rows out below a heading, one line each.
pub fn layout<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let begins_with_digit = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit());
    let numeric: Vec<bool> =
        (0..COLUMNS).map(|column| rows.iter().map(|row| &row[column]).all(begins_with_digit)).collect();
    let line = |cells: &[String; COLUMNS]| {
        let cells = cells.iter().zip(widths).zip(&numeric).map(|((cell, width), numeric)| {
            if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&heading.map(str::to_owned))];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["connect4".to_owned(), "812".to_owned()], ["own".to_owned(), "7".to_owned()]];
        assert_eq!(layout(["program", "n"], &rows), "program     n\nconnect4  812\nown         7");
    }
}
