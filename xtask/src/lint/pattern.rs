//! Rules that no compiler knows: where the environment may be read, that tests wait for conditions
//! instead of sleeping, that names mean something, and that no merge was left half done. clippy.toml holds those that
//! clippy can check.

use anyhow::{Result, bail};

use super::sources::{Source, rust_files, text_files};

/// A piece of code that is not allowed in some places.
struct Rule {
    pattern: &'static str,
    /// Whether the rule speaks of this line of code in this file.
    applies: fn(path: &str, in_tests: bool) -> bool,
    reason: &'static str,
}

const RULES: [Rule; 4] = [
    Rule {
        pattern: "env::var",
        applies: |path, in_tests| is_product(path) && !path.ends_with("/config.rs") && !in_tests,
        reason: "only config.rs reads the environment",
    },
    Rule {
        pattern: "env::args",
        applies: |path, in_tests| is_product(path) && !path.ends_with("/config.rs") && !in_tests,
        reason: "only config.rs reads the command line",
    },
    Rule {
        pattern: "unsafe ",
        applies: |path, _| !UNSAFE.iter().any(|allowed| path.starts_with(allowed)),
        reason: "unsafe code has its places: ebpf/, the agent's bpf/, namespaces, sockets, supervision and allocator, tests",
    },
    Rule {
        pattern: "sleep(",
        applies: |path, in_tests| {
            (in_tests || path.starts_with("tests/")) && !MAY_SLEEP.iter().any(|allowed| path.starts_with(allowed))
        },
        reason: "tests wait for conditions; a fixed time is too long or too short",
    },
];

/// The one place that sleeps between two looks at a condition, and the applications under test, for
/// which a pause is behaviour.
const MAY_SLEEP: [&str; 2] = ["tests/rig/src/wait.rs", "tests/rig/src/bin/"];

/// Where the compiler alone cannot know what is sound.
const UNSAFE: [&str; 7] = [
    "ebpf/",
    "agent/src/bpf/",
    "agent/src/memory.rs",
    "agent/src/node/netns.rs",
    "agent/src/node/socket.rs",
    "agent/src/supervise.rs",
    "tests/",
];

/// Words that say nothing about what a type or module is for.
const EMPTY_WORDS: [&str; 15] = [
    "Manager",
    "Handler",
    "Helper",
    "Util",
    "Utils",
    "Common",
    "Data",
    "Info",
    "Context",
    "Processor",
    "Factory",
    "Wrapper",
    "Base",
    "Misc",
    "Core",
];

/// How lines begin that git writes into a file which it cannot merge. The third one, of equal signs, underlines headings too.
const CONFLICTS: [&str; 3] = ["<<<<<<< ", "||||||| ", ">>>>>>> "];

/// Keywords after which a name follows.
const NAMING: [&str; 5] = ["struct ", "enum ", "trait ", "type ", "mod "];

/// Names every line that breaks a rule.
pub fn check() -> Result<()> {
    let mut found: Vec<String> = rust_files()?.iter().flat_map(objections).collect();
    found.extend(text_files()?.iter().flat_map(conflicts));
    if !found.is_empty() {
        bail!(found.join("\n"));
    }
    Ok(())
}

fn objections(source: &Source) -> Vec<String> {
    // This file spells the patterns out.
    if source.path == "xtask/src/lint/pattern.rs" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut in_tests = false;
    for (position, line) in source.text.lines().enumerate() {
        // Tests are the last thing in a file.
        in_tests |= line.trim() == "#[cfg(test)]";
        let code = line.split("//").next().unwrap_or_default();
        let broken = RULES.iter().filter(|rule| code.contains(rule.pattern));
        let broken = broken.filter(|rule| (rule.applies)(&source.path, in_tests));
        found.extend(
            broken
                .map(|rule| rule.reason.to_owned())
                .chain(empty_name(code))
                .map(|reason| format!("{}:{}: {reason}: {}", source.path, position + 1, line.trim())),
        );
    }
    found
}

fn conflicts(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    let marked = lines.filter(|(_, line)| CONFLICTS.iter().any(|marker| line.starts_with(marker)));
    let told =
        |(position, line): (usize, &str)| format!("{}:{}: a conflict was left: {line}", source.path, position + 1);
    marked.map(told).collect()
}

/// The objection to a definition whose name is or ends in an empty word.
fn empty_name(code: &str) -> Option<String> {
    // The name of an associated type is the trait's choice.
    if code.starts_with("    type ") {
        return None;
    }
    let code = code.trim_start();
    let code = code.strip_prefix("pub(crate) ").or_else(|| code.strip_prefix("pub ")).unwrap_or(code);
    let rest = NAMING.iter().find_map(|keyword| code.strip_prefix(keyword))?;
    let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
    let name = &rest[..end.unwrap_or(rest.len())];
    let word = EMPTY_WORDS.iter().find(|word| {
        let module = word.to_lowercase();
        name.ends_with(**word) || name == module || name.ends_with(&format!("_{module}"))
    })?;
    Some(format!("the name {name} says too little ({word})"))
}

fn is_product(path: &str) -> bool {
    path.starts_with("agent/src/") || path.starts_with("controller/src/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: usize) {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        assert_eq!(objections(&source).len(), expected, "{path}: {text}");
    }

    #[test]
    fn a_conflict_is_merged_to_its_end() {
        let told = |text: &str| {
            let source = Source { path: "README.md".to_owned(), text: text.to_owned() };
            conflicts(&source)
        };
        let found = told("one\n<<<<<<< HEAD\ntwo\n||||||| before\n=======\nthree\n>>>>>>> other\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("README.md:2: ") && found[2].starts_with("README.md:7: "), "{found:?}");
        assert!(told("Heading\n=======\n\n    <<<<<<< quoted\n<<<<<<<<\n").is_empty());
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        check("agent/src/admin.rs", "let home = std::env::var(\"HOME\");", 1);
        check("agent/src/config.rs", "let home = std::env::var(\"HOME\");", 0);
        check("agent/src/admin.rs", "// not std::env::var here", 0);
    }

    #[test]
    fn tests_do_not_sleep() {
        check("tests/netns/src/main.rs", "thread::sleep(SECOND);", 1);
        check("agent/src/relay.rs", "sleep(pause).await;\n#[cfg(test)]\nmod tests {}", 0);
        check("agent/src/relay.rs", "#[cfg(test)]\nmod tests {\nsleep(pause).await;\n}", 1);
        check("tests/rig/src/wait.rs", "thread::sleep(PAUSE);", 0);
    }

    #[test]
    fn unsafe_code_has_its_places() {
        check("agent/src/relay.rs", "unsafe { close(descriptor) };", 1);
        check("agent/src/bpf/system.rs", "unsafe { close(descriptor) };", 0);
    }

    #[test]
    fn names_say_something() {
        check("a.rs", "pub struct ConnectionManager {", 1);
        check("a.rs", "mod util;", 1);
        check("a.rs", "pub struct Database {\nmod database;\nenum Score {\nmod score;", 0);
    }
}
