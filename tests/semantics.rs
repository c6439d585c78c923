//! SEMANTICS.md: every statement names tests that exist.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// A statement: its label, and the tests it names as `file::function`.
struct Statement {
    label: String,
    tests: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The list items of the document.
fn statements(text: &str) -> Vec<Statement> {
    let items = text.split("\n- **").skip(1);
    items
        .map(|item| {
            let item = item.split("\n\n").next().unwrap_or_default().trim();
            let (label, rest) = item.split_once("** ").expect("a label ends in **");
            let (_, tests) = rest
                .rsplit_once('[')
                .unwrap_or_else(|| panic!("{label} names no test"));
            let tests = tests.strip_suffix(']');
            let tests = tests.unwrap_or_else(|| panic!("{label} does not end with its tests"));
            let tests = tests.split(',').map(|test| {
                let test = test
                    .trim()
                    .strip_prefix('`')
                    .and_then(|t| t.strip_suffix('`'));
                test.unwrap_or_else(|| panic!("{label}: each test stands in backticks"))
                    .to_owned()
            });
            Statement {
                label: label.to_owned(),
                tests: tests.collect(),
            }
        })
        .collect()
}

/// Whether `source` has a test of this name: a function with `#[test]`, or one of those that tests/tools makes two tests of.
fn has_test(source: &str, name: &str) -> bool {
    let twice = format!("    fn {name}(user) {{");
    let once = format!("fn {name}() {{");
    let mut attributes = Vec::new();
    for line in source.lines() {
        if line == twice {
            return true;
        }
        match line.trim() {
            attribute if attribute.starts_with("#[") => attributes.push(attribute),
            function if function == once => return attributes.contains(&"#[test]"),
            comment if comment.starts_with("//") => {}
            _ => attributes.clear(),
        }
    }
    false
}

#[test]
fn every_statement_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("tests/SEMANTICS.md")).unwrap();
    let statements = statements(&text);
    let items = text.lines().filter(|line| line.starts_with("- "));
    assert_eq!(statements.len(), items.count(), "an item without a label");
    let labels: HashSet<_> = statements.iter().map(|s| &s.label).collect();
    assert_eq!(labels.len(), statements.len(), "a label occurs twice");
    assert!(statements.len() > 60);
    let mut missing = Vec::new();
    for Statement { label, tests } in &statements {
        assert!(!tests.is_empty(), "{label} names no test");
        for test in tests {
            let (file, name) = test.split_once("::").expect("file::function");
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !has_test(&source, name) {
                missing.push(format!("{label}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn labels_count_up() {
    let text = fs::read_to_string(root().join("tests/SEMANTICS.md")).unwrap();
    let mut last = (String::new(), 0);
    for Statement { label, .. } in statements(&text) {
        let (letter, number) = label.split_at(1);
        let number: u32 = number.parse().expect("a letter and a number");
        let expected = if letter == last.0 { last.1 + 1 } else { 1 };
        assert_eq!(number, expected, "{label}");
        last = (letter.to_owned(), number);
    }
}

#[test]
fn the_readme_leads_to_it() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("(tests/SEMANTICS.md)"));
}
