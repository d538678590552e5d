//! The table of routing on paper.
#![expect(clippy::print_stdout, reason = "the table is the output of this program")]

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::{Held, Outcome, RULES};
use crate::spread::number;

/// Everything for people.
pub(super) fn table(outcome: &Outcome) {
    println!(
        "Instructions for one request to find its rule, by the number of rules on one Service port (callgrind, release build)."
    );
    println!(
        "x: among {} rules / among {}; at most {} is the target.",
        RULES[RULES.len() - 1],
        RULES[0],
        outcome.target
    );
    println!();
    let mut table = Table::new();
    table.load_style(NOTHING);
    let numbers = RULES.iter().map(ToString::to_string);
    table.set_header(std::iter::once(String::new()).chain(numbers).chain(["x".to_owned(), String::new()]));
    for row in &outcome.rows {
        let mut cells = vec![row.kind.to_owned()];
        cells.extend(row.instructions.iter().map(|count| format!("{count:.0}")));
        cells.push(number(row.ratio));
        cells.push(if row.met { "met" } else { "NOT MET" }.to_owned());
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\n");
    let Held { rules, index_milliseconds, index_bytes, rule_bytes } = outcome.held;
    println!(
        "{rules} rules: an index of them takes {} ms to make, and {index_bytes} bytes for each beside the {rule_bytes} \
         of the rule itself (RSS).\n",
        number(index_milliseconds)
    );
}
