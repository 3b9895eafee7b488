//! The Prometheus text format, as far as counters and gauges need it.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

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

/// Each metric's value, summed over its labels. Parts of a distribution (`le`, `quantile`) are left out, since
/// their sum means nothing; `_sum` and `_count` stay. Lines that are no samples are passed over.
pub fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for sample in text.lines().filter_map(sample) {
        if sample.value.is_finite() && !is_part_of_distribution(sample.labels) {
            *sums.entry(sample.name.to_owned()).or_insert(0.0) += sample.value;
        }
    }
    sums
}

/// Whether a label says that the sample is one bucket or quantile of several.
fn is_part_of_distribution(labels: &str) -> bool {
    pairs(labels).any(|(name, _)| matches!(name, "le" | "quantile"))
}

/// The metrics of the given names, summed over their labels.
pub(crate) fn sums(text: &str, names: &[&str]) -> BTreeMap<String, f64> {
    let mut sums = parse_metrics(text);
    sums.retain(|name, _| names.contains(&name.as_str()));
    sums
}

/// The labels of the first sample of this name (an `…_info` gauge carries its facts there).
pub(crate) fn labels(text: &str, name: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(sample)
        .find(|sample| sample.name == name)
        .map(|sample| {
            pairs(sample.labels)
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        })
        .unwrap_or_default()
}

/// Names and values of the labels between a sample's braces, as far as they are well formed.
fn pairs(labels: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = labels;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once("=\"")?;
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
        rest = &after[end..];
        Some((name.trim_start_matches([',', ' ']).trim_end(), value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn parts_of_distributions_are_left_out() {
        let text = r#"
vllm:prefix_cache_hits_total{engine="0",model_name="a}\"b\\"} 16.0
vllm:prefix_cache_hits_total{engine="1",model_name="c",} 3e1 1700000000000
vllm:ttft_bucket{le="0.5",model_name="c"} 7
vllm:ttft_count{model_name="c"} 9
rpc_seconds{quantile="0.5"} 4
gone NaN
up 1
broken{x="1
not a sample
"#;
        let expected = [
            ("up", 1.0),
            ("vllm:prefix_cache_hits_total", 46.0),
            ("vllm:ttft_count", 9.0),
        ];
        assert_eq!(
            parse_metrics(text).into_iter().collect::<Vec<_>>(),
            expected.map(|(name, value)| (name.to_owned(), value))
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            parse_metrics(&text);
            labels(&text, "a");
        }

        #[test]
        fn any_label_value_is_passed_over(value in "[^\n]*", n in 0u32..1000) {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
            let seen = parse_metrics(&format!("name{{l=\"{escaped}\"}} {n}"));
            prop_assert_eq!(seen.get("name").copied(), Some(f64::from(n)));
        }
    }
}
