//! What a server's log says of how it loaded.

/// What a server said in its log, while it started, of its memory and of the loading: each figure only where it said it.
/// Memory is that of the devices, all of them together; where the server uses none, the host's.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct LoadFigures {
    /// The model's weights, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_bytes: Option<u64>,
    /// What is kept for the KV cache, bytes: its capacity, not its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache_bytes: Option<u64>,
    /// Tokens that the KV cache holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache_tokens: Option<u64>,
    /// CUDA graphs and buffers to compute in, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_bytes: Option<u64>,
    /// How long the weights took to load by the server's own clock, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
    /// Devices (or ranks of a server that spreads over several) whose weights are in `weights_bytes`.
    #[serde(default)]
    pub devices: u32,
    /// Whether memory is the host's: the server said nothing of a device.
    #[serde(default)]
    pub on_host: bool,
}
