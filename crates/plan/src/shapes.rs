//! Values of a plan that have several shapes: one number or a list, the GPU, arrivals.
//!
//! serde's `untagged` would lose the place and the reason of an error, so each has a visitor and a schema by hand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::values::RateText;

/// Most numbers in one list.
const MAX_ITEMS: usize = 256;

/// One number or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OneOrMany<const MAX: u32>(pub(crate) Vec<u32>);

impl<'de, const MAX: u32> Deserialize<'de> for OneOrMany<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const MAX: u32>;
        impl<'de, const MAX: u32> de::Visitor<'de> for Visitor<MAX> {
            type Value = OneOrMany<MAX>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer or a list of integers")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Self::Value, E> {
                u32::try_from(n).map(|n| OneOrMany(vec![n])).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(n) = items.next_element()? {
                    list.push(n);
                }
                Ok(OneOrMany(list))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<const MAX: u32> JsonSchema for OneOrMany<MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "an integer or a list of integers",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": MAX },
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_ITEMS,
                    "uniqueItems": true,
                    "items": { "type": "integer", "minimum": 1, "maximum": MAX },
                },
            ],
        })
    }
}

/// One device as written: its NVML index or its UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawDevice {
    /// NVML index.
    Index(u32),
    /// UUID, or (alone) `none`.
    Word(String),
}

impl<'de> Deserialize<'de> for RawDevice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RawDevice;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a GPU's index or UUID")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<RawDevice, E> {
                u32::try_from(n).map(RawDevice::Index).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawDevice, E> {
                Ok(RawDevice::Word(word.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `gpu:` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawGpu(pub(crate) Vec<RawDevice>);

impl<'de> Deserialize<'de> for RawGpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawGpu;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a GPU's index, its UUID, a list of them, or `none`")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<RawGpu, E> {
                u32::try_from(n)
                    .map(|n| RawGpu(vec![RawDevice::Index(n)]))
                    .map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawGpu, E> {
                Ok(RawGpu(vec![RawDevice::Word(word.to_owned())]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<RawGpu, A::Error> {
                let mut list = Vec::new();
                while let Some(device) = items.next_element()? {
                    list.push(device);
                }
                Ok(RawGpu(list))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The highest NVML index that a plan may name.
const HIGHEST_GPU_INDEX: u32 = 1023;

impl JsonSchema for RawGpu {
    fn schema_name() -> Cow<'static, str> {
        "Gpu".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let index = json_schema!({ "type": "integer", "minimum": 0, "maximum": HIGHEST_GPU_INDEX });
        let uuid = json_schema!({ "type": "string", "pattern": "^(GPU|MIG)-[0-9A-Za-z/-]+$" });
        json_schema!({
            "title": "a GPU's NVML index, its UUID, a list of them, or `none`",
            "description": "A GPU's NVML index or UUID, a list of them (tensor parallel), or `none`.",
            "anyOf": [
                index,
                { "type": "string", "pattern": "^(none|(GPU|MIG)-[0-9A-Za-z/-]+)$" },
                {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": true,
                    "items": { "title": "a GPU's NVML index or UUID", "anyOf": [index, uuid] },
                },
            ],
            "examples": [0, "GPU-5a1b…", [0, 1], "none"],
        })
    }
}

/// `arrival:` as written: `closed`, or a mapping of one key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawArrival {
    /// `closed`.
    Closed,
    /// Open loop.
    Open(RawOpenArrival),
}

/// An open loop as written; exactly one of the keys.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct RawOpenArrival {
    /// Equal gaps, at this rate.
    pub(crate) constant: Option<RateText>,
    /// Exponential gaps, at this mean rate.
    pub(crate) poisson: Option<RateText>,
    /// Gamma-distributed gaps.
    pub(crate) gamma: Option<RawGamma>,
}

/// Gamma-distributed gaps as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGamma {
    /// Mean rate.
    #[schemars(required)]
    pub(crate) rate: Option<RateText>,
    /// Shape of the distribution: 1 is Poisson, below 1 comes in bursts, above 1 is steadier.
    #[schemars(required, extend("exclusiveMinimum" = 0, "maximum" = 1000))]
    pub(crate) burstiness: Option<f64>,
}

impl<'de> Deserialize<'de> for RawArrival {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawArrival;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`closed`, or one of constant, poisson, gamma")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawArrival, E> {
                match word {
                    "closed" => Ok(RawArrival::Closed),
                    other => Err(E::unknown_variant(other, &["closed"])),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawArrival, A::Error> {
                RawOpenArrival::deserialize(de::value::MapAccessDeserializer::new(map)).map(RawArrival::Open)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for RawArrival {
    fn schema_name() -> Cow<'static, str> {
        "Arrival".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "`closed`, `{ poisson: 4/s }`, `{ constant: 4/s }` or `{ gamma: { rate: 4/s, burstiness: 0.5 } }`",
            "anyOf": [{ "const": "closed", "type": "string" }, generator.subschema_for::<RawOpenArrival>()],
        })
    }
}
