//! Safe names: plan, model, framework and scenario names become folders and parts of cell names.

/// The longest name, in characters. Run, framework and model names are joined into file names, which most file
/// systems limit to 255 bytes.
pub const MAX_NAME_CHARS: usize = 64;

/// Why a name is not safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The name is longer than [`MAX_NAME_CHARS`].
    #[error("a name has at most {MAX_NAME_CHARS} characters; this one has {0}")]
    TooLong(usize),
    /// It starts with `-` (looks like an option) or `.` (hidden, or `.` and `..`).
    #[error("a name starts with a letter, a digit or `_`, not with `{0}`")]
    Start(char),
    /// It holds a character that is not allowed.
    #[error("a name holds only letters, digits, `-`, `_` and `.`, not {}", shown(*.0))]
    Character(char),
}

impl NameError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters"
    }
}

fn shown(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        c if c.is_control() => format!("U+{:04X}", u32::from(c)),
        c => format!("`{c}`"),
    }
}

/// Checks that a name can stand as one folder name and can't leave its folder.
///
/// # Errors
/// Says what is wrong with the name.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let Some(first) = name.chars().next() else {
        return Err(NameError::Empty);
    };
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS {
        return Err(NameError::TooLong(chars));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        return Err(NameError::Character(bad));
    }
    if matches!(first, '-' | '.') {
        return Err(NameError::Start(first));
    }
    Ok(())
}

/// The candidate most like `given`, if one is like enough to be what was meant.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace(['-', ' ', '.'], "_");
    let wanted = plain(given);
    // A third of the letters may differ, at least one; of two letters none, or everything would be like them.
    let allowed = match wanted.chars().count() {
        0..=2 => 0,
        n => (n / 3).clamp(1, 4),
    };
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&wanted, &plain(c)), c))
        .filter(|(distance, c)| {
            let close = *distance <= allowed;
            close || (wanted.len() >= 4 && plain(c).starts_with(&wanted))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_names_pass() {
        for name in [
            "a",
            "a100",
            "gpt-oss-20b",
            "llama-3.1-8b",
            "_x",
            "0",
            "vllm_0.15.1",
            &"n".repeat(64),
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_or_look_like_options_are_refused() {
        for (name, error) in [
            ("", NameError::Empty),
            (".", NameError::Start('.')),
            ("..", NameError::Start('.')),
            (".git", NameError::Start('.')),
            ("-rf", NameError::Start('-')),
            ("a/b", NameError::Character('/')),
            ("../a", NameError::Character('/')),
            ("a\\b", NameError::Character('\\')),
            ("a b", NameError::Character(' ')),
            ("a\0", NameError::Character('\0')),
            ("모델", NameError::Character('모')),
            ("gpt-oss:20b", NameError::Character(':')),
            (&"n".repeat(65), NameError::TooLong(65)),
        ] {
            assert_eq!(check_name(name), Err(error), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_good_name_is_exactly_one_ordinary_path_part(name in ".{0,70}") {
            if check_name(&name).is_ok() {
                let parts: Vec<_> = std::path::Path::new(&name).components().collect();
                prop_assert_eq!(parts.len(), 1);
                prop_assert!(matches!(parts[0], std::path::Component::Normal(part) if part == name.as_str()));
            }
        }
    }

    #[test]
    fn nearest_finds_slips_and_leaves_strangers_alone() {
        let keys = [
            "input_tokens",
            "output_tokens",
            "repeats",
            "requests",
            "slo",
            "gpu",
        ];
        assert_eq!(nearest("repeat", keys), Some("repeats"));
        assert_eq!(nearest("input-tokens", keys), Some("input_tokens"));
        assert_eq!(nearest("Output_Token", keys), Some("output_tokens"));
        assert_eq!(nearest("sol", keys), Some("slo"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", keys), None);
        assert_eq!(nearest("h9", ["H1", "H2"]), None);
        assert_eq!(nearest("h1", ["H1", "H2"]), Some("H1"));
    }
}
