//! The Prometheus text format, as far as counters and gauges need it.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::BTreeMap;

/// Each metric's value, summed over its labels. Parts of a distribution (`le`, `quantile`) are left out, since
/// their sum means nothing; `_sum` and `_count` stay. Lines that are no samples are passed over.
pub fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, value)) = sample(line.trim()) {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

fn sample(line: &str) -> Option<(&str, f64)> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() || name.starts_with('#') {
        return None;
    }
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None => rest,
    };
    // A timestamp may follow the value.
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, value))
}

/// What follows the closing brace; `None` for a part of a distribution, or where it never closes.
fn after_labels(labels: &str) -> Option<&str> {
    let mut rest = labels;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (label, value) = rest.split_once('=')?;
        if matches!(label.trim(), "le" | "quantile") {
            return None;
        }
        rest = after_quoted(value.trim_start())?;
    }
}

/// What follows a quoted value, in which `\"` and `\\` are escapes.
fn after_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    let inner = text.strip_prefix('"')?;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&inner[at + 1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_are_summed_over_labels_and_distributions_left_out() {
        let text = r#"
# HELP vllm:prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
# TYPE vllm:prefix_cache_hits_total counter
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
        }

        #[test]
        fn any_label_value_is_passed_over(value in "[^\n]*", n in 0u32..1000) {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"");
            let seen = parse_metrics(&format!("name{{l=\"{escaped}\"}} {n}"));
            prop_assert_eq!(seen.get("name").copied(), Some(f64::from(n)));
        }
    }
}
