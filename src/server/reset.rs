//! Emptying a server's prefix cache, and the proof that it is empty.
//!
//! A reset that answers 200 proves nothing (vLLM 0.15's always does). So a prompt is sent until it is answered
//! from the cache, the cache is reset, and the prompt is sent again: if nothing of it comes from the cache
//! then, the reset worked.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{control::Control, settings::ProbeAnswer};
use benchd_core::record::{CacheReset, ResetOutcome, ResetProof, Step};

/// Limit of reading the metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

/// A prompt of some hundred tokens that nothing else sends, with one token of output.
pub trait ResetProbe: Send + Sync {
    /// Sends it: the same text each time for one reset.
    fn send(&self) -> BoxFuture<'_, Result<ProbeAnswer, String>>;
}

/// Resets the cache. No request may be under way.
pub async fn reset_cache(control: &Control, reset: &CacheReset, probe: &dyn ResetProbe) -> ResetOutcome {
    match reset {
        CacheReset::NotPossible { why } => ResetOutcome::NotPossible { why: why.clone() },
        CacheReset::Reload { unload, load } => {
            for step in unload.iter().chain(load) {
                if let Err(error) = control.run(step).await {
                    return ResetOutcome::Failed {
                        why: error.to_string(),
                    };
                }
            }
            // The steps end only when the model was seen to be gone and to be back.
            ResetOutcome::Proven
        }
        CacheReset::Http { steps, proof } => http(control, steps, proof, probe).await,
    }
}

async fn http(control: &Control, steps: &[Step], proof: &ResetProof, probe: &dyn ResetProbe) -> ResetOutcome {
    let unproven = |why: String| ResetOutcome::Unproven { why };
    // The first one fills the cache, the second one shows that it would be answered from it.
    let before = match hits(control, proof, probe).await {
        Ok(_) => hits(control, proof, probe).await,
        Err(why) => Err(why),
    };
    for step in steps {
        if let Err(error) = control.run(step).await {
            return ResetOutcome::Failed {
                why: error.to_string(),
            };
        }
    }
    match before {
        Ok(cached) if cached > 0 => {}
        Ok(_) => return unproven("the server answers nothing from a cache, reset or not".into()),
        Err(why) => return unproven(why),
    }
    match hits(control, proof, probe).await {
        Ok(0) => ResetOutcome::Proven,
        Ok(cached) => ResetOutcome::Failed {
            why: format!("{cached} tokens of a prompt came from the cache after its reset"),
        },
        Err(why) => unproven(why),
    }
}

/// Sends the prompt; how many of its tokens came from the cache.
async fn hits(control: &Control, proof: &ResetProof, probe: &dyn ResetProbe) -> Result<u64, String> {
    let send = async || probe.send().await.map_err(|e| format!("the probe failed: {e}"));
    match proof {
        ResetProof::CachedTokens => {
            // Servers leave the field out at 0; that they send it at all shows in the probe before the reset.
            Ok(send().await?.cached_tokens.unwrap_or(0))
        }
        ResetProof::HitCounter {
            metrics_path,
            counter,
        } => {
            let read = async || {
                let metrics = control
                    .metrics(metrics_path, METRICS_TIMEOUT)
                    .await
                    .map_err(|e| format!("`{metrics_path}` can't be read: {e}"))?;
                // A counter that was never counted up may be absent.
                Ok::<f64, String>(metrics.get(counter).copied().unwrap_or(0.0))
            };
            let before = read().await?;
            send().await?;
            let after = read().await?;
            Ok((after - before).round().max(0.0) as u64)
        }
    }
}
