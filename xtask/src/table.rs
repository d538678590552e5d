//! A plain table: the first column is aligned left, the others right.

/// Lays rows out below a heading, one line each.
pub fn layout<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = vec![line(&widths, &heading.map(str::to_owned))];
    lines.extend(rows.iter().map(|row| line(&widths, row)));
    lines.join("\n")
}

fn line(widths: &[usize], cells: &[String]) -> String {
    let mut parts = Vec::new();
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        parts.push(if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
    }
    parts.join("  ")
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
