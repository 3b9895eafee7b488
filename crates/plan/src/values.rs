//! Texts of a plan that have a notation of their own: durations, rates, and texts that may hold `${VAR}`.
//!
//! Deserialising only takes the notation in; what it means is checked later, so that all problems of a plan are
//! reported together.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// The longest duration that a plan may state. Beyond it, it is a slip.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// The highest rate that a plan may state, requests per second.
const HIGHEST_RATE_PER_S: f64 = 1e6;

/// The largest share that a plan may state, per cent.
const HIGHEST_SHARE_PERCENT: f64 = 1000.0;

/// A duration as written: `300s`, `5m`, `500ms`, `1h30m`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct DurationText(pub(crate) String);

impl DurationText {
    /// What it means.
    ///
    /// # Errors
    /// Says what is wrong with the notation.
    pub(crate) fn parse(&self) -> Result<Duration, String> {
        let text = self.0.as_str();
        let mut rest = text;
        let mut nanos: u128 = 0;
        let mut last_unit = u128::MAX;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                .unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let unit_nanos: u128 = match unit {
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                "" if tail.is_empty() && !number.is_empty() => return Err(format!("`{text}` has no unit")),
                _ => return Err(format!("`{text}` is not a duration")),
            };
            if unit_nanos >= last_unit {
                return Err(format!("`{text}` is not a duration: units go from long to short"));
            }
            last_unit = unit_nanos;
            nanos = decimal(number, unit_nanos)
                .and_then(|n| nanos.checked_add(n))
                .ok_or_else(|| format!("`{text}` is not a duration"))?;
            rest = tail;
        }
        if text.is_empty() {
            return Err("the duration is empty".to_owned());
        }
        u64::try_from(nanos)
            .ok()
            .map(Duration::from_nanos)
            .filter(|d| *d <= LONGEST)
            .ok_or_else(|| format!("`{text}` is longer than seven days"))
    }
}

/// `1.5` of a unit, exactly.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u64>().ok()?.into()
    };
    Some(whole.checked_mul(unit)? + fraction * unit / scale)
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a duration",
            "description": "A duration: a number and its unit, `ms`, `s`, `m` or `h`; several from long to short.",
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?$",
            "minLength": 2,
            "examples": ["300s", "5m", "500ms"],
        })
    }
}

/// A share as written: `10%`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct ShareText(pub(crate) String);

impl ShareText {
    /// What it means: 10 % is 0.1.
    ///
    /// # Errors
    /// Says what is wrong with the notation.
    pub(crate) fn parse(&self) -> Result<f64, String> {
        let text = self.0.as_str();
        let number = text
            .strip_suffix('%')
            .map(str::trim_end)
            .ok_or_else(|| format!("`{text}` is not a share"))?;
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match number.parse::<f64>() {
            Ok(percent) if plain && percent > 0.0 && percent <= HIGHEST_SHARE_PERCENT => Ok(percent / 100.0),
            Ok(_) if plain => Err(format!(
                "`{text}` is not between 0 % (excluded) and {HIGHEST_SHARE_PERCENT} %"
            )),
            _ => Err(format!("`{text}` is not a share")),
        }
    }
}

impl JsonSchema for ShareText {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a share in per cent",
            "description": "A share in per cent.",
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? ?%$",
            "examples": ["10%", "2.5%"],
        })
    }
}

/// A rate as written: `4/s`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct RateText(pub(crate) String);

impl RateText {
    /// What it means, per second.
    ///
    /// # Errors
    /// Says what is wrong with the notation.
    pub(crate) fn parse(&self) -> Result<f64, String> {
        let text = self.0.as_str();
        let number = text
            .strip_suffix("/s")
            .ok_or_else(|| format!("`{text}` is not a rate"))?;
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match number.parse::<f64>() {
            Ok(rate) if plain && rate > 0.0 && rate <= HIGHEST_RATE_PER_S => Ok(rate),
            Ok(_) if plain => Err(format!(
                "`{text}` is not between 0 (excluded) and {HIGHEST_RATE_PER_S} a second"
            )),
            _ => Err(format!("`{text}` is not a rate")),
        }
    }
}

impl JsonSchema for RateText {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a rate",
            "description": "Requests per second.",
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)?/s$",
            "examples": ["4/s", "0.5/s"],
        })
    }
}

/// A text in which `${VAR}` stands for a variable of benchd's environment; `$${` stands for `${` itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct EnvText(pub(crate) String);

impl std::fmt::Debug for EnvText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnvText(<may be secret>)")
    }
}

/// What came of filling in an [`EnvText`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Filled {
    /// The text with its variables filled in.
    pub(crate) text: String,
    /// The values that came from the environment.
    pub(crate) secrets: Vec<String>,
}

impl EnvText {
    /// Fills in the variables.
    ///
    /// # Errors
    /// What is wrong with the notation, and which variables are not set; all of them.
    pub(crate) fn fill(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Filled, Vec<String>> {
        let mut filled = Filled {
            text: String::new(),
            secrets: Vec::new(),
        };
        let mut errors = Vec::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find("${") {
            if at > 0 && rest.as_bytes()[at - 1] == b'$' {
                filled.text.push_str(&rest[..at - 1]);
                filled.text.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            filled.text.push_str(&rest[..at]);
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else {
                errors.push("`${` has no closing `}`".to_owned());
                break;
            };
            let name = &inside[..end];
            rest = &inside[end + 1..];
            if !is_variable_name(name) {
                errors.push(format!("`${{{name}}}` does not name an environment variable"));
                continue;
            }
            match env(name) {
                Some(value) => {
                    filled.text.push_str(&value);
                    filled.secrets.push(value);
                }
                None => errors.push(format!("the environment variable {name} is not set")),
            }
        }
        filled.text.push_str(rest);
        if errors.is_empty() {
            Ok(filled)
        } else {
            Err(errors)
        }
    }
}

impl JsonSchema for EnvText {
    fn schema_name() -> Cow<'static, str> {
        "EnvText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text in which `${VAR}` is taken from benchd's environment; `$${` stands for `${` itself.",
            "type": "string",
            "x-env": true,
        })
    }
}

/// Whether a name can be an environment variable's.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_mean_what_they_say() {
        for (text, millis) in [
            ("300s", 300_000),
            ("5m", 300_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("0s", 0),
            ("168h", 604_800_000),
            ("1m0.5s", 60_500),
        ] {
            assert_eq!(
                DurationText(text.into()).parse(),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_durations_are_refused() {
        for text in [
            "",
            "300",
            "s",
            "-1s",
            "1x",
            "1 s",
            "1.s",
            ".5s",
            "1..5s",
            "1s2m",
            "1s1s",
            "169h",
            "1e3s",
            "１s",
            "99999999999999999999s",
            "1.0000000000s",
            "١s",
        ] {
            assert!(DurationText(text.into()).parse().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_mean_what_they_say() {
        assert_eq!(RateText("4/s".into()).parse(), Ok(4.0));
        assert_eq!(RateText("0.5/s".into()).parse(), Ok(0.5));
        for text in [
            "4",
            "/s",
            "0/s",
            "-1/s",
            "inf/s",
            "NaN/s",
            "1e3/s",
            "4/m",
            "4 /s",
            "9999999/s",
        ] {
            assert!(RateText(text.into()).parse().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_mean_what_they_say() {
        for (text, share) in [("10%", 0.1), ("2.5 %", 0.025), ("150%", 1.5)] {
            assert_eq!(ShareText(text.into()).parse(), Ok(share), "{text}");
        }
        for text in ["10", "%", "0%", "-1%", "1e1%", "NaN%", "1001%", "10%%", "0.1"] {
            assert!(ShareText(text.into()).parse().is_err(), "{text}");
        }
    }

    fn env(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "s3cret${X}".to_owned())
    }

    #[test]
    fn variables_are_filled_in_once_and_escapes_kept() {
        let filled = EnvText("a ${TOKEN} $${TOKEN} $5".into())
            .fill(&env)
            .unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(filled.text, "a s3cret${X} ${TOKEN} $5");
        assert_eq!(filled.secrets, ["s3cret${X}"]);
    }

    #[test]
    fn every_missing_variable_is_named() {
        let errors = EnvText("${ONE} ${TWO} ${not a name} ${open".into())
            .fill(&env)
            .err()
            .unwrap_or_default();
        assert_eq!(errors.len(), 4);
        assert!(
            errors[0].contains("ONE") && errors[1].contains("TWO"),
            "{errors:?}"
        );
    }
}
