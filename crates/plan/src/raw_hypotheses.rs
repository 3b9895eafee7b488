//! `hypotheses:` as written: a list of names, or a mapping with thresholds, roles and hypotheses of one's own.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::{
    Figure, HypothesisId, Rule,
    raw::{MAX_CONCURRENCY, MAX_TOKENS},
    shapes::OneOrMany,
    values::ShareText,
};

/// `hypotheses:` as written.
#[derive(Debug, Clone)]
pub(crate) enum RawHypotheses {
    /// `[H1, H2]`: with the default thresholds.
    List(Vec<HypothesisId>),
    /// A mapping.
    Map(Box<RawHypothesisMap>),
}

impl<'de> Deserialize<'de> for RawHypotheses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawHypotheses;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of H1 to H5, or a mapping of them")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<RawHypotheses, A::Error> {
                let mut list = Vec::new();
                while let Some(id) = items.next_element()? {
                    list.push(id);
                }
                Ok(RawHypotheses::List(list))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawHypotheses, A::Error> {
                RawHypothesisMap::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|map| RawHypotheses::Map(Box::new(map)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for RawHypotheses {
    fn schema_name() -> Cow<'static, str> {
        "Hypotheses".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let id = generator.subschema_for::<HypothesisId>();
        json_schema!({
            "title": "a list of H1 to H5, or a mapping of them",
            "anyOf": [
                { "type": "array", "uniqueItems": true, "items": id },
                generator.subschema_for::<RawHypothesisMap>(),
            ],
        })
    }
}

/// Hypotheses with thresholds; `{}` takes the defaults.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(crate) struct RawHypothesisMap {
    /// Which frameworks of the plan stand for those that the hypotheses speak of. Default: the first of each kind.
    pub(crate) roles: Option<RawRoles>,
    /// SGLang gives more output tokens per second than vLLM on a shared prefix.
    #[serde(rename = "H1")]
    pub(crate) h1: Option<RawSharedPrefix>,
    /// SGLang and vLLM give overwhelmingly more output tokens per second than Ollama under concurrency.
    #[serde(rename = "H2")]
    pub(crate) h2: Option<RawConcurrency>,
    /// Ollama's single-request latency is not above the better of SGLang's and vLLM's by more than a margin.
    #[serde(rename = "H3")]
    pub(crate) h3: Option<RawSingleRequest>,
    /// Frameworks differ in how they degrade as concurrency rises.
    #[serde(rename = "H4")]
    pub(crate) h4: Option<RawDegradation>,
    /// Frameworks differ in what Korean costs against English.
    #[serde(rename = "H5")]
    pub(crate) h5: Option<RawKorean>,
    /// Hypotheses of your own, by a name of your choice.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 256))]
    pub(crate) own: Option<IndexMap<String, RawOwn>>,
}

/// Which frameworks of the plan stand for those that the hypotheses speak of, by their names in the plan.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(crate) struct RawRoles {
    /// Default: the first framework of kind sglang.
    pub(crate) sglang: Option<String>,
    /// Default: the first framework of kind vllm with a prefix cache.
    pub(crate) vllm: Option<String>,
    /// Default: the first framework of kind ollama.
    pub(crate) ollama: Option<String>,
    /// vLLM without its prefix cache, the control of H1. Default: the first framework of kind vllm with
    /// `--no-enable-prefix-caching`.
    pub(crate) control: Option<String>,
}

/// Thresholds of H1: ratios of SGLang over vLLM in `prefix_cache`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSharedPrefix {
    /// Output tokens per second, at least; decides. Default: 1.05.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub(crate) throughput: Option<f64>,
    /// TTFT of the later requests, at most; told beside it. Default: 0.95.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub(crate) ttft: Option<f64>,
    /// Later over first TTFT, at most; told beside it. Default: 0.95.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub(crate) cache_gain: Option<f64>,
}

/// Thresholds of H2.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConcurrency {
    /// Output tokens per second of SGLang and of vLLM over Ollama's, at least. Default: 3.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub(crate) overwhelming: Option<f64>,
    /// Streams from which on a level of `concurrent` decides; where there are fewer, the highest level. Default: 16.
    #[schemars(range(min = 2, max = 16_384))]
    pub(crate) from_concurrency: Option<u32>,
}

/// Threshold of H3.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSingleRequest {
    /// How much longer Ollama may take than the better of SGLang and vLLM. Default: 10%.
    pub(crate) margin: Option<ShareText>,
}

/// Threshold of H4.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDegradation {
    /// Difference of two frameworks' scaling efficiencies from which on they differ. Default: 10%.
    pub(crate) difference: Option<ShareText>,
}

/// Threshold of H5.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKorean {
    /// Difference of two frameworks' Korean/English ratios from which on they differ. Default: 10%.
    pub(crate) difference: Option<ShareText>,
}

/// A hypothesis of your own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOwn {
    /// The claim in words.
    #[schemars(required)]
    pub(crate) claim: Option<String>,
    /// `all`: the claim says that every test holds. `any`: that at least one does (the level is corrected for their
    /// number). Default: all.
    pub(crate) rule: Option<Rule>,
    /// Its tests.
    #[schemars(required, extend("minItems" = 1, "maxItems" = 64))]
    pub(crate) tests: Option<Vec<RawOwnTest>>,
}

/// One test: a figure of one framework over the same of another, in every cell that fits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOwnTest {
    /// What is compared.
    #[schemars(required)]
    pub(crate) figure: Option<Figure>,
    /// The framework that the claim is about.
    #[schemars(required)]
    pub(crate) of: Option<String>,
    /// The framework that it is compared with.
    #[schemars(required)]
    pub(crate) against: Option<String>,
    /// The scenario.
    #[schemars(required)]
    pub(crate) scenario: Option<String>,
    /// Only cells with so many streams, one number or a list. Default: all.
    pub(crate) concurrency: Option<OneOrMany<MAX_CONCURRENCY>>,
    /// Only cells with prompts of this length, one number or a list. Default: all.
    pub(crate) input_tokens: Option<OneOrMany<MAX_TOKENS>>,
    /// The ratio is at least this.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1_000_000))]
    pub(crate) at_least: Option<f64>,
    /// The ratio is at most this.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1_000_000))]
    pub(crate) at_most: Option<f64>,
    /// The figures differ by more than this, either way: `10%`.
    pub(crate) differs_by: Option<ShareText>,
    /// The figures differ by less than this, either way: `10%`.
    pub(crate) within: Option<ShareText>,
}
