//! Closing lines of test programs, and their sum.

use std::ops::AddAssign;

/// How many tests ran, and how they ended.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Counts {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; ...` or `12 passed, 0 failed`; any
    /// other line is not a closing line.
    pub fn of_line(line: &str) -> Option<Self> {
        let line = line.trim();
        let counted = match line.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". ")?.1,
            None => line,
        };
        let mut counts = Self::default();
        for (position, part) in counted.split([';', ',']).enumerate() {
            let mut words = part.split_whitespace();
            let number = words.next()?.parse();
            match (position, number, words.next()?) {
                (0, Ok(number), "passed") => counts.passed = number,
                (1, Ok(number), "failed") => counts.failed = number,
                (2, Ok(number), "ignored") => counts.ignored = number,
                (0 | 1, _, _) => return None,
                (_, _, _) => {}
            }
        }
        counted.contains("failed").then_some(counts)
    }

    /// A single proof that succeeded need not count itself.
    pub fn or_one_passed(self) -> Self {
        if self == Self::default() { Self { passed: 1, ..self } } else { self }
    }

    /// Why these counts are not a success, if they are not.
    pub fn objection(self) -> Option<String> {
        if self.failed > 0 {
            Some(format!("{} failed", self.failed))
        } else if self.ignored > 0 {
            Some(format!("{} ignored: a test either runs or is not there", self.ignored))
        } else if self.passed == 0 {
            Some("no test ran".to_owned())
        } else {
            None
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(u64, u64, u64)>) {
        let expected = expected.map(|(passed, failed, ignored)| Counts { passed, failed, ignored });
        assert_eq!(Counts::of_line(line), expected, "{line}");
    }

    #[test]
    fn reads_both_kinds_of_closing_lines_and_nothing_else() {
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            Some((12, 0, 1)),
        );
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", Some((3, 2, 0)));
        check("7 passed, 1 failed", Some((7, 1, 0)));
        check("7 passed, 1 failed, in 12 s", Some((7, 1, 0)));
        check("7 connections passed, 1 failed", None);
        check("3 passed", None);
        check("running 4 tests", None);
        check("", None);
    }

    #[test]
    fn a_tier_without_tests_and_an_ignored_test_are_failures() {
        assert!(Counts::default().objection().is_some());
        assert!(Counts { passed: 3, failed: 0, ignored: 1 }.objection().is_some());
        assert_eq!(Counts { passed: 3, failed: 0, ignored: 0 }.objection(), None);
    }
}
