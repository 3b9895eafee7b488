//! Reading Prometheus text, as far as the frameworks' counters need it.

use std::collections::BTreeMap;

/// One sample of a Prometheus text.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let close = open + closing_brace(&line[open..])?;
            (&line[..open], &line[open + 1..close], &line[close + 1..])
        }
        None => {
            let end = line.find(char::is_whitespace)?;
            (&line[..end], "", &line[end..])
        }
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// Position of the brace that closes the labels; a brace inside a quoted value does not.
fn closing_brace(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The samples of the given names, summed over their labels.
pub(super) fn sums(text: &str, names: &[&str]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for sample in text.lines().filter_map(sample) {
        if names.contains(&sample.name) && sample.value.is_finite() {
            *sums.entry(sample.name.to_owned()).or_insert(0.0) += sample.value;
        }
    }
    sums
}

/// The labels of the first sample of this name (an `…_info` gauge carries its facts there).
pub(super) fn labels(text: &str, name: &str) -> BTreeMap<String, String> {
    let Some(found) = text.lines().filter_map(sample).find(|s| s.name == name) else {
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    let mut rest = found.labels;
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, other)) => value.push(other),
                    None => break,
                },
                other => value.push(other),
            }
        }
        labels.insert(key.trim_start_matches([',', ' ']).to_owned(), value);
        rest = &after[end..];
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a}b"} 1204.0
vllm:prompt_tokens_total{engine="1",model_name="a}b"} 6
vllm:odd{engine="0"} NaN
plain_total 7 1700000000000
vllm:cache_config_info{block_size="16",name="say \"hi\", {x}",num_gpu_blocks="100"} 1.0
"#;

    #[test]
    fn counters_are_summed_over_labels() {
        let sums = sums(
            TEXT,
            &["vllm:prompt_tokens_total", "plain_total", "vllm:odd", "absent"],
        );
        assert_eq!(sums.get("vllm:prompt_tokens_total"), Some(&1210.0));
        assert_eq!(sums.get("plain_total"), Some(&7.0));
        assert_eq!(sums.len(), 2, "{sums:?}");
    }

    #[test]
    fn labels_may_hold_quotes_commas_and_braces() {
        let labels = labels(TEXT, "vllm:cache_config_info");
        assert_eq!(labels.get("block_size").map(String::as_str), Some("16"));
        assert_eq!(labels.get("name").map(String::as_str), Some("say \"hi\", {x}"));
        assert_eq!(labels.get("num_gpu_blocks").map(String::as_str), Some("100"));
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert!(sums("a{b=\"c\" 1\nname_only\nx{} y\n", &["a", "x", "name_only"]).is_empty());
    }
}
