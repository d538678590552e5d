//! What the suite prints of its tests.

use std::fmt;

use owo_colors::{OwoColorize, Stream};

/// How many tests for meshes the suite has: fewer have run where one is forgotten.
const MESH_TESTS: usize = 23;

/// All their names begin so; the suite skips its tests of gateways.
const OF_MESHES: &str = "Mesh";

/// The one test that asks for nothing but a network.
const WITHOUT_MESH: &str = "MeshBasic";

/// The line of a test, without the tests that it is made of.
const ENDED: &str = "    --- ";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    Skipped,
}

/// A test that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    name: String,
    end: End,
    /// As Go prints it: `1.23s`.
    time: String,
}

/// Of one run.
#[derive(Debug, Default)]
pub struct Results(Vec<Ended>);

impl Results {
    /// Reads a line; a test for meshes that has ended with it.
    pub fn hear(&mut self, line: &str) -> Option<&Ended> {
        let ended = Ended::of_line(line)?;
        self.0.push(ended);
        self.0.last()
    }

    pub fn any_failed(&self) -> bool {
        self.count(End::Failed) > 0
    }

    pub fn summary(&self) -> String {
        let [passed, failed, skipped] = [End::Passed, End::Failed, End::Skipped].map(|end| self.count(end));
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    /// Why not every test has passed.
    pub fn objection(&self) -> Option<String> {
        if self.0.len() == MESH_TESTS {
            return self.objection_to_some();
        }
        Some(format!("{} tests for meshes ended, and the suite has {MESH_TESTS}", self.0.len()))
    }

    /// The same, where not all were asked for.
    pub fn objection_to_some(&self) -> Option<String> {
        let bad: Vec<&str> = self.0.iter().filter(|one| one.end != End::Passed).map(|one| one.name.as_str()).collect();
        if self.0.is_empty() {
            return Some("no test ran".to_owned());
        }
        (!bad.is_empty()).then(|| format!("not passed: {}", bad.join(", ")))
    }

    /// Why these are not what a cluster without a mesh gives.
    pub fn objection_without_mesh(&self) -> Option<String> {
        let odd = |one: &&Ended| (one.end == End::Passed) != (one.name == WITHOUT_MESH) || one.end == End::Skipped;
        let odd: Vec<&str> = self.0.iter().filter(odd).map(|one| one.name.as_str()).collect();
        if self.0.len() != MESH_TESTS {
            return self.objection();
        }
        (!odd.is_empty())
            .then(|| format!("without a mesh {WITHOUT_MESH} alone should pass; otherwise ended: {}", odd.join(", ")))
    }

    fn count(&self, end: End) -> usize {
        self.0.iter().filter(|one| one.end == end).count()
    }
}

impl Ended {
    /// `    --- PASS: TestMesh/MeshBasic (0.34s)`
    fn of_line(line: &str) -> Option<Self> {
        let (end, rest) = line.strip_prefix(ENDED)?.split_once(": ")?;
        let (path, time) = rest.split_once(" (")?;
        let (_, name) = path.split_once('/')?;
        let end = match end {
            "PASS" => End::Passed,
            "FAIL" => End::Failed,
            "SKIP" => End::Skipped,
            _ => return None,
        };
        let time = time.trim_end_matches(')').to_owned();
        name.starts_with(OF_MESHES).then(|| Self { name: name.to_owned(), end, time })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Passed => write!(formatter, "{}", "passed ".if_supports_color(Stream::Stdout, |text| text.green()))?,
            End::Failed => write!(formatter, "{}", "FAILED ".if_supports_color(Stream::Stdout, |text| text.red()))?,
            End::Skipped => write!(formatter, "{}", "skipped".if_supports_color(Stream::Stdout, |text| text.yellow()))?,
        }
        write!(formatter, " {:>8}  {}", self.time, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which all tests end as the first ones say, and the others pass.
    fn run(first: &[(&str, &str)]) -> Results {
        let mut results = Results::default();
        for (name, end) in first {
            results.hear(&format!("    --- {end}: TestMesh/{name} (1.20s)"));
        }
        for number in first.len()..MESH_TESTS {
            results.hear(&format!("    --- PASS: TestMesh/Mesh{number} (0.10s)"));
        }
        results
    }

    #[test]
    fn tests_for_meshes_are_heard_and_nothing_else() {
        let mut results = Results::default();
        for line in [
            "=== RUN   TestMesh/MeshBasic",
            "        --- PASS: TestMesh/MeshBasic/0_request_to_echo (0.10s)",
            "    --- SKIP: TestMesh/GatewayInvalidRouteKind (0.00s)",
            "--- PASS: TestMesh (12.00s)",
        ] {
            assert_eq!(results.hear(line), None, "{line}");
        }
        let ended = Ended { name: "MeshBasic".to_owned(), end: End::Passed, time: "0.34s".to_owned() };
        assert_eq!(results.hear("    --- PASS: TestMesh/MeshBasic (0.34s)"), Some(&ended));
    }

    #[test]
    fn a_run_is_good_when_every_test_has_passed() {
        let check = |results: &Results, expected: Option<&str>| {
            let objection = results.objection();
            assert!(objection.is_some() == expected.is_some(), "{objection:?}");
            assert!(objection.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        check(&run(&[]), None);
        check(&run(&[("MeshPorts", "FAIL")]), Some("MeshPorts"));
        check(&run(&[("MeshPorts", "SKIP")]), Some("MeshPorts"));
        let mut few = run(&[]);
        few.0.pop();
        check(&few, Some("22 tests"));
        check(&Results::default(), Some("0 tests"));
    }

    #[test]
    fn without_a_mesh_the_first_test_alone_passes() {
        let names: Vec<String> = (1..MESH_TESTS).map(|number| format!("MeshOther{number}")).collect();
        let all = |basic: &'static str, others: &'static str| {
            let others = names.iter().map(|name| (name.as_str(), others));
            run(&std::iter::once(("MeshBasic", basic)).chain(others).collect::<Vec<_>>())
        };
        assert_eq!(all("PASS", "FAIL").objection_without_mesh(), None);
        for odd in [all("FAIL", "FAIL"), all("PASS", "PASS"), all("PASS", "SKIP")] {
            assert!(odd.objection_without_mesh().is_some());
        }
    }
}
