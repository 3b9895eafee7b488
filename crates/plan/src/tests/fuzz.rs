//! Whatever the input, the parser answers, and every place that it names lies in the file.

use proptest::prelude::*;

use super::{GOOD, env};
use crate::{PlanError, parse, spanned};

const PLANS: [&str; 4] = [
    GOOD,
    include_str!("../../../../plans/a100.yaml"),
    include_str!("../../../../plans/rtx5090.yaml"),
    include_str!("../../../../plans/selfcheck.yaml"),
];

/// Parses a text and checks what is reported.
fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = parse("p.yaml", text, &env) else {
        return Ok(());
    };
    let shown = error.to_string();
    prop_assert!(shown.starts_with("error: "));
    let PlanError::Invalid(problems) = error else {
        return Err(TestCaseError::fail("not a problem of the text"));
    };
    prop_assert!(!problems.list.is_empty());
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As an editor counts: LF, CRLF and CR end a line.
    let lines: Vec<String> = body
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .split('\n')
        .map(str::to_owned)
        .collect();
    for problem in &problems.list {
        let spot = problem.spot;
        prop_assert!((1..=lines.len()).contains(&spot.line), "{spot:?}");
        let length = lines[spot.line - 1].chars().count();
        prop_assert!((1..=length + 1).contains(&spot.column), "{spot:?}");
        prop_assert!(spot.column + spot.chars <= length + 1, "{spot:?}");
        prop_assert!(!problem.message.is_empty());
    }
    Ok(())
}

/// A change to a text: bytes are cut out and others put in.
#[derive(Debug, Clone)]
struct Change {
    at: prop::sample::Index,
    cut: usize,
    put: String,
}

fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "\n",
            "\r\n",
            "\r",
            "\t",
            " ",
            "  ",
            "- ",
            ": ",
            ":",
            ",",
            "{",
            "}",
            "[",
            "]",
            "#",
            "&a ",
            "*a",
            "!x ",
            "? ",
            "|\n",
            ">\n",
            "\"",
            "'",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "~",
            "null",
            "0",
            "-1",
            "1e400",
            ".nan",
            "99999999999999999999",
            "0x1F",
            "true",
            "no",
            "${X}",
            "${",
            "한국어",
            "\u{feff}",
            "\u{2028}",
            "\0",
            "\u{1b}[31m",
            "<<: ",
            "repeats: 0\n",
            "gpu: ",
            "name",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (any::<prop::sample::Index>(), 0usize..12, pieces()).prop_map(|(at, cut, put)| Change {
        at,
        cut,
        put,
    });
    prop::collection::vec(change, 0..6)
}

fn changed(base: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = base.chars().collect();
    for change in changes {
        let at = change.at.index(chars.len() + 1);
        let end = (at + change.cut).min(chars.len());
        chars.splice(at..end, change.put.chars());
    }
    chars.into_iter().collect()
}

fn mutated() -> impl Strategy<Value = String> {
    (prop::sample::select(PLANS.to_vec()), changes()).prop_map(|(base, changes)| changed(base, &changes))
}

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(pieces(), 0..30).prop_map(|parts| parts.concat())
}

fn bytes() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn anything() -> impl Strategy<Value = String> {
    prop_oneof![4 => mutated(), 2 => soup(), 1 => bytes(), 1 => any::<String>()]
}

/// The tree's value, as serde_yaml would have it.
fn value(node: &spanned::Node) -> serde_yaml::Value {
    use spanned::{Integer, Value};
    match &node.value {
        Value::Null => serde_yaml::Value::Null,
        Value::Bool(b) => (*b).into(),
        Value::Integer(Integer::Unsigned(n)) => (*n).into(),
        Value::Integer(Integer::Negative(n)) => (*n).into(),
        Value::Float(n, _) => (*n).into(),
        Value::Text(text) => text.clone().into(),
        Value::Sequence(items) => serde_yaml::Value::Sequence(items.iter().map(value).collect()),
        Value::Mapping(entries) => serde_yaml::Value::Mapping(
            entries
                .iter()
                .map(|e| (serde_yaml::Value::String(e.key.clone()), value(&e.value)))
                .collect(),
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_parser_answers_whatever_the_input(text in anything()) {
        check(&text)?;
    }

    /// What is read here is what serde_yaml reads: the scalar rules are the same.
    #[test]
    fn scalars_are_read_as_serde_yaml_reads_them(
        word in prop_oneof![
            "[-+.0-9a-zA-Z_]{1,8}",
            "[-+]?[0-9]{1,22}",
            "[-+]?0[xob][0-9a-fA-F]{1,4}",
            "[-+]?[0-9]*\\.[0-9]*(e[-+]?[0-9]{1,3})?",
            prop::sample::select(vec!["yes", "No", "on", "NULL", "~", "True", "FALSE", ".inf", "-.Inf", "0o17", "017", "1_000", "12:30"]).prop_map(str::to_owned),
        ],
        quoted in any::<bool>(),
    ) {
        let text = if quoted { format!("key: '{word}'\n") } else { format!("key: {word}\n") };
        if let (Ok(tree), Ok(theirs)) = (spanned::read(&text), serde_yaml::from_str::<serde_yaml::Value>(&text)) {
            let (ours, theirs) = (value(&tree), theirs);
            prop_assert_eq!(format!("{:?}", ours), format!("{:?}", theirs));
        }
    }
}

#[test]
fn the_shipped_plans_are_read_as_serde_yaml_reads_them() {
    for text in PLANS {
        let tree = spanned::read(text).unwrap();
        assert_eq!(
            value(&tree),
            serde_yaml::from_str::<serde_yaml::Value>(text).unwrap()
        );
    }
}

#[test]
#[ignore = "a long run, by command"]
fn fuzz_plan() {
    benchd_fuzzing::run("plan parser", &anything(), |text| check(&text));
}
