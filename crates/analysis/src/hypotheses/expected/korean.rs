//! 5.5: Korean against English.

use super::{
    super::{
        decision::{TestCells, outcome},
        effect::Effect,
        evidence::Absent,
        roles::{Role, shown},
    },
    Finding, KOREAN_TOKENS, ModelEvidence, NOT_BELOW, SAME_TOKENS, SIMILAR, of_outcome,
};
use crate::Seen;
use benchd_core::{
    format::{number, with_interval},
    stats::DEFAULT_LEVEL,
};
use benchd_plan::{Bound, Figure};

impl<'a> ModelEvidence<'_, 'a> {
    /// Korean over English of each of the three, where it runs.
    fn ko_over_en(&self, figure: Figure) -> Vec<(&'a str, Result<Effect, Absent>)> {
        let cells = self.korean();
        [Role::Sglang, Role::Vllm, Role::Ollama]
            .into_iter()
            .filter_map(|role| self.roles.get(role))
            .map(|framework| {
                let effect = self.evidence.korean(self.model, figure, framework, None, &cells);
                (framework, effect)
            })
            .collect()
    }

    fn korean_ids(&self) -> Vec<String> {
        self.korean().into_iter().map(|c| c.id).collect()
    }

    pub(super) fn korean_tokens(&self) -> Finding {
        let (least, most) = KOREAN_TOKENS;
        let parts = self
            .ko_over_en(Figure::KoOverEnPromptTokens)
            .into_iter()
            .map(|(framework, effect)| {
                let effect = match effect {
                    Ok(effect) => effect,
                    Err(absent) => return Finding::not_measured(absent.why),
                };
                let interval = effect.interval(DEFAULT_LEVEL).filter(|_| effect.is_trusted());
                let outcome = interval.map_or(Seen::Unclear, |i| {
                    if i.low >= least && i.high <= most {
                        Seen::AsExpected
                    } else if i.high < least || i.low > most {
                        Seen::Otherwise
                    } else {
                        Seen::Unclear
                    }
                });
                Finding {
                    outcome,
                    seen: format!(
                        "{} counted {} times the tokens",
                        shown(framework),
                        with_interval(effect.estimate, interval.as_ref())
                    ),
                    cells: self.korean_ids(),
                }
            })
            .collect();
        Finding::all(parts)
    }

    pub(super) fn korean_information(&self) -> Finding {
        let tokens = self.ko_over_en(Figure::KoOverEnPromptTokens);
        let parts = self
            .ko_over_en(Figure::KoOverEnTokensPerS)
            .into_iter()
            .zip(tokens)
            .map(|((framework, rate), (_, tokens))| {
                let (rate, tokens) = match (rate, tokens) {
                    (Ok(rate), Ok(tokens)) => (rate, tokens),
                    (Err(absent), _) | (_, Err(absent)) => return Finding::not_measured(absent.why),
                };
                let interval = rate.interval(DEFAULT_LEVEL).filter(|_| rate.is_trusted());
                let alike = interval.map_or(Seen::Unclear, |i| of_outcome(outcome(Bound::Within(SIMILAR), &i)));
                let meaning = rate.estimate / tokens.estimate;
                let outcome = match alike {
                    Seen::AsExpected if meaning >= NOT_BELOW => Seen::Otherwise,
                    alike => alike,
                };
                Finding {
                    outcome,
                    seen: format!(
                        "{} generated {} times as many tokens per second in Korean, at {} times the tokens for the same \
                         meaning: {} times the meaning per second",
                        shown(framework),
                        with_interval(rate.estimate, interval.as_ref()),
                        number(tokens.estimate),
                        number(meaning)
                    ),
                    cells: self.korean_ids(),
                }
            })
            .collect();
        Finding::all(parts)
    }

    fn korean_setting(&self) -> Vec<TestCells> {
        let cells = self.korean();
        cells
            .first()
            .map(|c| c.concurrency)
            .map(|concurrency| TestCells::Korean { concurrency, cells })
            .into_iter()
            .collect()
    }

    pub(super) fn ollama_tokenizer(&self) -> Finding {
        let bound = Bound::AtLeast(1.0 + SAME_TOKENS);
        let of = |against| {
            self.against(
                Figure::KoOverEnPromptTokens,
                Role::Ollama,
                against,
                bound,
                self.korean_setting(),
            )
        };
        Finding::all(vec![of(Role::Sglang), of(Role::Vllm)])
    }

    pub(super) fn same_tokenizer(&self) -> Finding {
        self.against(
            Figure::KoOverEnPromptTokens,
            Role::Sglang,
            Role::Vllm,
            Bound::Within(SAME_TOKENS),
            self.korean_setting(),
        )
    }
}
