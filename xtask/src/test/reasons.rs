//! Why tests failed, said again at the end: between the test and the end of the output are all logs of a mesh.

/// Of one test: what it says before its logs fits.
const LINES: usize = 12;
const CHARACTERS: usize = 300;
/// Where more have failed, their causes are hardly so many.
const TESTS: usize = 10;

/// Read out of what a test program prints.
#[derive(Debug, Default)]
pub struct Reasons {
    tests: Vec<Vec<String>>,
    inside: bool,
}

impl Reasons {
    pub fn read(&mut self, line: &str) {
        let heading = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" ----"));
        if let Some(name) = heading {
            self.inside = self.tests.len() < TESTS;
            if self.inside {
                self.tests.push(vec![name.trim_end_matches(" stdout").to_owned()]);
            }
        } else if line.starts_with("==> ") || line.starts_with("test result: ") || line == "failures:" {
            self.inside = false;
        } else if self.inside
            && !line.trim().is_empty()
            && let Some(test) = self.tests.last_mut().filter(|test| test.len() <= LINES)
        {
            test.push(format!("  {}", line.chars().take(CHARACTERS).collect::<String>().trim_end()));
        }
    }

    pub fn into_lines(self) -> impl Iterator<Item = String> {
        self.tests.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mut reasons = Reasons::default();
        text.lines().for_each(|line| reasons.read(line));
        reasons.into_lines().collect()
    }

    #[test]
    fn what_a_test_says_before_its_logs_is_its_reason() {
        let harness = "test a ... FAILED\n\nfailures:\n\n---- a ----\na note\nit hung\n==> agent.log <==\nlong\n\n\
                       ---- b stdout ----\n\nthread 'b' panicked at src/b.rs:1:2:\nno\n\nfailures:\n    a\n    b\n\n\
                       test result: FAILED. 1 passed; 2 failed\n";
        let expected = ["a", "  a note", "  it hung", "b", "  thread 'b' panicked at src/b.rs:1:2:", "  no"];
        assert_eq!(read(harness), expected);
    }

    #[test]
    fn a_test_that_says_much_is_cut_and_so_are_many() {
        let one = format!("---- a ----\n{}", format!("{}\n", "x".repeat(1000)).repeat(100));
        let lines = read(&one.repeat(20));
        assert_eq!(lines.len(), TESTS * (1 + LINES));
        assert!(lines.iter().all(|line| line.len() <= CHARACTERS + 2));
    }
}
