//! Plans from files.

use std::{fs, path::Path};

use super::{GOOD, env};
use crate::{MAX_PLAN_BYTES, PlanError, load};

fn load_bytes(bytes: &[u8]) -> Result<crate::LoadedPlan, PlanError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    fs::write(&path, bytes).unwrap();
    load(&path, &env)
}

#[test]
fn a_good_file_gives_the_plan_its_text_and_its_hash() {
    let loaded = load_bytes(GOOD.as_bytes()).unwrap();
    assert_eq!(loaded.plan.name, "good");
    assert_eq!(loaded.text, GOOD);
    assert_eq!(loaded.sha256.len(), 64);
    // SHA-256 of the empty text is well known; of a plan it only has to follow the bytes.
    let other = load_bytes(GOOD.replace("good", "better").as_bytes()).unwrap();
    assert_ne!(loaded.sha256, other.sha256);
}

#[test]
fn secrets_are_known_by_name_and_by_value() {
    let text = GOOD.replace(
        "bin/ollama }",
        "bin/ollama, env: { KEY: \"${HOOK}\", PLAIN: y } }",
    );
    let loaded = load_bytes(text.as_bytes()).unwrap();
    assert!(
        loaded.text.contains("${HOOK}"),
        "the frozen copy holds the name, not the value"
    );
    assert!(loaded.secrets.is_secret_env("ollama", "KEY"));
    assert!(!loaded.secrets.is_secret_env("ollama", "PLAIN"));
    assert!(!loaded.secrets.is_secret_env("vllm", "KEY"));
    assert_eq!(
        loaded.secrets.redact("KEY=http://127.0.0.1/hook?key=topsecret x"),
        "KEY=<secret> x"
    );
    assert!(!format!("{:?}", loaded.secrets).contains("topsecret"));
}

#[test]
fn a_missing_file_and_a_folder_are_named() {
    let missing = load(Path::new("no/such/plan.yaml"), &env)
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("no/such/plan.yaml") && missing.contains("help:"),
        "{missing}"
    );
    let folder = tempfile::tempdir().unwrap();
    let error = load(folder.path(), &env).unwrap_err().to_string();
    assert!(error.contains("directory") && error.contains("help:"), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_line() {
    let mut bytes = GOOD.as_bytes().to_vec();
    let at = GOOD.find("models").unwrap();
    bytes[at] = 0xff;
    match load_bytes(&bytes).unwrap_err() {
        PlanError::NotUtf8 { at: found, line, .. } => assert_eq!((found, line), (at, 4)),
        other => panic!("{other}"),
    }
}

#[test]
fn an_empty_file_is_a_problem_and_a_huge_one_is_not_read() {
    let error = load_bytes(b"").unwrap_err();
    assert!(error.to_string().contains("plan.yaml:1:1"), "{error}");
    let huge = vec![b'#'; usize::try_from(MAX_PLAN_BYTES).unwrap() + 1];
    assert!(matches!(
        load_bytes(&huge).unwrap_err(),
        PlanError::TooLarge { .. }
    ));
    assert!(matches!(
        load(Path::new("/dev/zero"), &env).unwrap_err(),
        PlanError::TooLarge { .. }
    ));
}

#[test]
fn the_largest_file_is_read() {
    let mut text = GOOD.to_owned();
    text.push_str(&"#".repeat(usize::try_from(MAX_PLAN_BYTES).unwrap() - text.len()));
    assert_eq!(load_bytes(text.as_bytes()).unwrap().plan.name, "good");
}

/// Large files of the shapes that cost the most.
#[test]
fn large_files_of_any_shape_are_answered() {
    const SIZE: usize = 128 * 1024;
    let fill = |head: &str, piece: &dyn Fn(usize) -> String| {
        let mut text = head.to_owned();
        let mut n = 0;
        while text.len() < SIZE {
            text.push_str(&piece(n));
            n += 1;
        }
        text
    };
    let shapes = [
        fill("", &|n| format!("k{n}: 1\n")),
        fill("", &|_| "name: 1\n".to_owned()),
        fill("models:\n", &|n| format!("  m/{n}: {{}}\n")),
        fill("scenarios:\n", &|n| format!("  s{n}: {{ kind: single }}\n")),
        fill("scenarios: {single: {input_tokens: [", &|n| format!("{},", n + 1)) + "1]}}",
        fill("hypotheses: [", &|_| "H1,".to_owned()) + "H2]",
        fill("{", &|n| format!("k{n}: 1,")) + "}",
        fill("", &|_| "[".to_owned()),
        fill("name: ", &|_| "가".to_owned()),
        fill("name: \"", &|_| "${X}".to_owned()) + "\"",
        fill("notify: { webhook: \"", &|_| "${X}".to_owned()) + "\" }",
        fill("frameworks: { vllm: { args: [", &|_| "\"${X}\",".to_owned()) + "x] } }",
        fill("", &|_| "\n".to_owned()),
        fill("", &|_| "? ".to_owned()),
        fill("", &|_| "- ".to_owned()),
    ];
    for text in shapes {
        let error = load_bytes(text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("error: "), "{}", &text[..40]);
        assert!(error.problems().len() <= 5000, "{}", &text[..40]);
    }
}

#[test]
fn a_plan_of_too_many_cells_is_refused() {
    let numbers: Vec<String> = (1..=256).map(|n| n.to_string()).collect();
    let list = numbers.join(", ");
    let text = GOOD
        .replace("input_tokens: 512", &format!("input_tokens: [{list}]"))
        .replace("[1, 8]", &format!("[{list}]"))
        .replace("requests: 100", "repeats: 1");
    let found = super::places(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("131076 cells"), "{found:?}");
}
