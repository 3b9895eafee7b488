//! In which numbers a framework serves a model: by its settings and the model's files, and by what the running server
//! says, which counts before them.

use super::{Facts, args::flag_value, config::ModelConfig};
use benchd_core::record::{Flag, FlagKind, Format, Precision, Reading};

/// What loads no weights but makes them up, by vLLM, SGLang and LMDeploy.
const LOAD_FORMAT: &str = "--load-format";

/// Whether the server makes its weights up, by an argument that kinds of servers share.
pub(crate) fn random_weights(args: &[String]) -> Reading<bool> {
    Reading::maybe(
        flag_value(args, LOAD_FORMAT).map(|format| format == "dummy"),
        LOAD_FORMAT,
    )
}

/// The format that an argument sets, where it sets one.
pub(crate) fn set_by(args: &[String], flag: &str) -> Reading<Format> {
    let set = flag_value(args, flag).filter(|value| !matches!(*value, "auto" | "none"));
    Reading::maybe(set.map(Format::new), flag)
}

/// The weights of a server of models in the hub's form: what they are quantised to, else what they are computed in.
pub(crate) fn hub_weights(args: &[String], config: &ModelConfig) -> Reading<Format> {
    let quantised = Reading::maybe(config.quantised.clone(), "config.json");
    refined(set_by(args, "--quantization"), quantised)
        .or(set_by(args, "--dtype"))
        .or(hub_dtype(config))
}

/// The format in which weights that are not quantised are served. Not told by a configuration of 32 bits: vLLM and SGLang
/// serve such weights in 16 unless `--dtype` says otherwise, and which of the two their log says.
pub(crate) fn hub_dtype(config: &ModelConfig) -> Reading<Format> {
    let dtype = config.dtype.clone().filter(|dtype| dtype.bits() == Some(16));
    Reading::maybe(dtype, "config.json")
}

/// What the running server says, in more detail where its settings say the same in more: `awq` and `awq_int4`.
pub(crate) fn refined(seen: Reading<Format>, settings: Reading<Format>) -> Reading<Format> {
    match (seen.value(), settings.value()) {
        (Some(seen), Some(set)) => {
            // vLLM names the kernel: `awq_marlin`.
            let method = seen.as_str().trim_end_matches("_marlin");
            if set.as_str().starts_with(method) {
                return settings;
            }
        }
        (None, _) => return settings,
        (Some(_), None) => {}
    }
    seen
}

/// Puts together what the running server says (its answers, then `log`) and what its settings say, and flags what the plan
/// does not expect.
pub(crate) fn settle(facts: &mut Facts, log: Precision, settings: Precision, expected: Option<&str>) {
    let seen = log.or(std::mem::take(&mut facts.precision));
    facts.precision = Precision {
        weights: refined(seen.weights, settings.weights),
        kv_cache: refined(seen.kv_cache, settings.kv_cache),
        random_weights: seen.random_weights.or(settings.random_weights),
        file_bytes: seen.file_bytes.or(settings.file_bytes),
    };
    let Some(expected) = expected else { return };
    let seen = match facts.precision.weights.value() {
        Some(served) if *served == Format::new(expected) => return,
        Some(served) => format!("served in {served}; the plan expects {}", Format::new(expected)),
        None => format!(
            "nothing says what the weights are served in; the plan expects {}",
            Format::new(expected)
        ),
    };
    facts.flags.push(Flag::new(FlagKind::Precision, seen));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(weights: &str) -> Precision {
        Precision {
            weights: Reading::read(Format::new(weights), "log"),
            ..Precision::default()
        }
    }

    fn settled(seen: Precision, settings: Precision, expected: Option<&str>) -> Facts {
        let mut facts = Facts::default();
        settle(&mut facts, seen, settings, expected);
        facts
    }

    #[test]
    fn the_running_server_counts_before_its_settings() {
        let served = settled(log("fp8"), log("bf16"), None).precision;
        assert_eq!(served.weights.value(), Some(&Format::new("fp8")));
        let detailed = settled(log("awq_marlin"), log("awq_int4"), None).precision;
        assert_eq!(detailed.weights.value(), Some(&Format::new("awq_int4")));
        let silent = settled(Precision::default(), log("bf16"), None).precision;
        assert_eq!(silent.weights.value(), Some(&Format::new("bf16")));
    }

    #[test]
    fn what_the_plan_does_not_expect_is_flagged_and_so_is_what_nobody_can_tell() {
        let flags = |seen, expected| settled(seen, Precision::default(), Some(expected)).flags;
        assert_eq!(flags(log("q4_1"), "Q4_1"), []);
        let other = flags(log("q4_0"), "bf16");
        assert_eq!(other[0].kind, FlagKind::Precision);
        assert_eq!(other[0].seen, "served in Q4_0; the plan expects bf16");
        assert!(
            flags(Precision::default(), "bf16")[0]
                .seen
                .starts_with("nothing says")
        );
    }
}
