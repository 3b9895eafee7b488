//! Versions as packages, drivers, compilers and compute capabilities write them, and ranges of them.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer, de::Error as _};

/// `0.5.6.post2`, `570.86.10`, `12.0`, `0.16.0rc2`. What stands behind a `+` is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    numbers: Vec<u32>,
    /// Below 0 for what comes before the release, above for what comes after it.
    stage: i64,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().split('+').next()?;
        let mut numbers = Vec::new();
        let mut stage = 0;
        for part in text.split('.') {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(digits);
            if !number.is_empty() {
                numbers.push(number.parse().ok()?);
            }
            let count = || {
                let count = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
                count.parse::<i64>().unwrap_or(0)
            };
            match rest.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "" => {}
                "post" => stage = 1 + count(),
                "rc" | "a" | "b" | "dev" => {
                    stage = count() - 1_000_000;
                    break;
                }
                _ => return None,
            }
        }
        (!numbers.is_empty()).then_some(Self { numbers, stage })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let at = |version: &Self, n: usize| version.numbers.get(n).copied().unwrap_or(0);
        (0..length)
            .map(|n| at(self, n).cmp(&at(other, n)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| self.stage.cmp(&other.stage))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `>=0.5.6, <=0.5.6.post2`: all of it holds. A bare version is that version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    text: String,
    parts: Vec<(Bound, Version)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    AtLeast,
    Above,
    AtMost,
    Below,
    Is,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        const SIGNS: [(&str, Bound); 4] = [
            (">=", Bound::AtLeast),
            ("<=", Bound::AtMost),
            (">", Bound::Above),
            ("<", Bound::Below),
        ];
        let parts = text
            .split(',')
            .map(|part| {
                let part = part.trim();
                let signed = SIGNS
                    .iter()
                    .find_map(|(sign, bound)| Some((*bound, part.strip_prefix(sign)?)));
                let (bound, version) = signed.unwrap_or((Bound::Is, part));
                Some((bound, Version::parse(version)?))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// Whether a version lies in it. One that can't be read lies in none.
    pub(crate) fn holds(&self, version: &str) -> bool {
        Version::parse(version).is_some_and(|version| {
            self.parts.iter().all(|(bound, limit)| match bound {
                Bound::AtLeast => version >= *limit,
                Bound::Above => version > *limit,
                Bound::AtMost => version <= *limit,
                Bound::Below => version < *limit,
                Bound::Is => version == *limit,
            })
        })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no range of versions")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_their_makers_mean_them() {
        let all = [
            "0.5.5",
            "0.5.6rc1",
            "0.5.6",
            "0.5.6.post1",
            "0.5.6.post2",
            "0.5.10",
            "0.16.0rc2",
            "0.16",
        ];
        for pair in all.windows(2) {
            let [a, b] = [0, 1].map(|n| Version::parse(pair[n]).unwrap());
            assert!(a < b, "{pair:?}");
        }
        assert_eq!(Version::parse("0.15.1+cu130"), Version::parse("0.15.1"));
        assert!(Version::parse("12.8") > Version::parse("12.1"));
        assert_eq!(Version::parse("main"), None);
    }

    #[test]
    fn a_range_holds_where_all_its_parts_do() {
        let range = |text| Range::parse(text).unwrap();
        assert!(range(">=0.5.6, <=0.5.6.post2").holds("0.5.6.post2"));
        assert!(!range(">=0.5.6, <=0.5.6.post2").holds("0.5.7"));
        assert!(range("12.0").holds("12.0") && !range("12.0").holds("12.1"));
        assert!(range(">=8.0, <9.0").holds("8.9") && !range(">=8.0, <9.0").holds("9.0"));
        assert!(!range(">=570.26").holds("560.35.05") && range(">=570.26").holds("570.86.10"));
        assert_eq!(Range::parse("new"), None);
    }
}
