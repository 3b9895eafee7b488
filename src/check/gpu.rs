//! The GPU: what it is, how well it is, who is on it, and whether the models fit.

use super::{
    attached,
    finding::{Area, Finding, size},
};
use benchd_core::record::{GpuDevice, GpuHost, GpuProcess, ThrottleReason};
use benchd_frameworks::Demand;
use benchd_host::gpu::{DeviceHealth, Gpu, GpuError, check_expectations};
use benchd_plan::{GpuSelection, Host, Plan};

/// An idle GPU above this is not cooled as it should be, degrees Celsius.
const HOT_WHEN_IDLE_C: u32 = 75;

/// Use of an idle GPU above this is somebody's work, percent.
const BUSY_PCT: u32 = 10;

/// Memory in use on an idle GPU above this is somebody's, bytes: driver and desktop take less.
const MEMORY_OF_NOBODY_BYTES: u64 = 2 << 30;

/// What a server takes beside weights and KV cache: CUDA's own, activations, graphs. Seen: 1 to 3 GiB for models of 8 to
/// 20 billion parameters.
const RUNTIME_BYTES: u64 = 2 << 30;

/// Opens NVML for the devices that the plan chose.
///
/// # Errors
/// A finding that stops the run: no library, no driver, no such device.
pub(crate) async fn open(selection: &GpuSelection) -> Result<Gpu, Finding> {
    let selection = selection.clone();
    let opened = tokio::task::spawn_blocking(move || Gpu::open(&selection, None)).await;
    let error = match opened {
        Ok(Ok(gpu)) => return Ok(gpu),
        Ok(Err(error)) => error,
        Err(error) => {
            return Err(Finding::stop(
                Area::Gpu,
                format!("NVML's thread is gone: {error}"),
                "try again",
            ));
        }
    };
    let hint = error
        .hint()
        .map_or_else(|| "what does nvidia-smi say?".to_owned(), |hint| hint.to_string());
    Err(Finding::stop(Area::Gpu, error.to_string(), hint))
}

/// The devices against what the plan expects, and how well they are.
pub(crate) fn fit(expected: &Host, found: &GpuHost, health: &[DeviceHealth]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = check_expectations(expected, found)
        .into_iter()
        .map(|mismatch| Finding::stop(Area::Gpu, mismatch.text, mismatch.hint))
        .collect();
    if findings.is_empty() {
        let cuda = found
            .cuda
            .as_deref()
            .map(|v| format!(", CUDA {v}"))
            .unwrap_or_default();
        findings.extend(found.devices.iter().map(|device| {
            Finding::ok(
                Area::Gpu,
                format!(
                    "GPU {}: {}, {}, driver {}{cuda}",
                    device.index,
                    device.name,
                    size(device.memory_total_bytes),
                    found.driver
                ),
            )
        }));
    }
    for device in &found.devices {
        findings.extend(identity(device));
        if let Some(health) = health.iter().find(|health| health.index == device.index) {
            findings.extend(state(health));
        }
    }
    findings
}

/// What is wrong with a device whatever it does.
fn identity(device: &GpuDevice) -> Vec<Finding> {
    let index = device.index;
    let mut findings = Vec::new();
    if device.mig == Some(true) && !device.uuid.starts_with("MIG-") {
        findings.push(Finding::lose(
            Area::Gpu,
            format!("GPU {index} is in MIG mode: a server sees one instance of it, not the whole"),
            format!(
                "name an instance in `host.gpu` (`nvidia-smi -L` lists their UUIDs), or turn MIG off: nvidia-smi -i {index} -mig 0"
            ),
        ));
    }
    if let Some(errors) = device.ecc_uncorrected.filter(|&errors| errors > 0) {
        findings.push(Finding::warn(
            Area::Gpu,
            format!("GPU {index} has had {errors} uncorrected memory errors since the driver was loaded"),
            format!("reset it (nvidia-smi -i {index} -r, or a reboot); if they come back, it is the card"),
        ));
    }
    findings
}

/// What is wrong with what a device does now, before any server runs.
fn state(health: &DeviceHealth) -> Vec<Finding> {
    let index = health.index;
    let mut findings = Vec::new();
    let slow: Vec<&ThrottleReason> = health
        .throttle
        .iter()
        .flatten()
        .filter(|reason| reason.slows())
        .collect();
    if !slow.is_empty() {
        let names: Vec<String> = slow
            .iter()
            .map(|reason| throttle_name(**reason).to_owned())
            .collect();
        findings.push(Finding::warn(
            Area::Gpu,
            format!("GPU {index} is slowed down now: {}", names.join(", ")),
            format!("nvidia-smi -q -i {index} -d PERFORMANCE,POWER,TEMPERATURE tells more: cooling, power supply, a power limit?"),
        ));
    }
    if let Some(celsius) = health.temperature_c.filter(|&c| c >= HOT_WHEN_IDLE_C) {
        findings.push(Finding::warn(
            Area::Gpu,
            format!("GPU {index} has {celsius} °C before any server runs"),
            "let it cool, and look at the machine's air",
        ));
    }
    if health.persistence == Some(false) {
        findings.push(Finding::warn(
            Area::Gpu,
            format!("GPU {index}: persistence mode is off: between servers the driver may unload, which lengthens each start"),
            format!("sudo nvidia-smi -i {index} -pm 1"),
        ));
    }
    if health.retirement_pending == Some(true) {
        findings.push(Finding::warn(
            Area::Gpu,
            format!("GPU {index} has memory pages that wait to be retired"),
            format!("reset it before the run: nvidia-smi -i {index} -r, or a reboot"),
        ));
    }
    findings
}

fn throttle_name(reason: ThrottleReason) -> &'static str {
    match reason {
        ThrottleReason::GpuIdle => "idle",
        ThrottleReason::ApplicationsClocksSetting => "clocks set by an application",
        ThrottleReason::SwPowerCap => "power limit",
        ThrottleReason::HwSlowdown => "hardware slowdown",
        ThrottleReason::SyncBoost => "sync boost group",
        ThrottleReason::SwThermalSlowdown => "too warm (software)",
        ThrottleReason::HwThermalSlowdown => "too warm (hardware)",
        ThrottleReason::HwPowerBrakeSlowdown => "power brake",
        ThrottleReason::DisplayClockSetting => "clocks set for a display",
        ThrottleReason::Unknown => "a reason that this benchd does not know",
    }
}

/// Who is on the devices already and may stay, servers behind the plan's URLs among them; or the finding that stops the
/// run.
pub(crate) fn alone(
    seen: Result<Vec<GpuProcess>, GpuError>,
    plan: &Plan,
) -> Result<Vec<GpuProcess>, Finding> {
    let exclusive = plan.host.exclusive;
    let (others, unseen) = attached::others(plan, seen.as_deref().unwrap_or_default());
    match seen {
        Err(error) if exclusive => Err(Finding::stop(
            Area::Gpu,
            format!("whether the GPU is idle can't be told: {error}"),
            "`host.exclusive: false` starts all the same",
        )),
        Err(_) => Ok(Vec::new()),
        Ok(_) if exclusive && !others.is_empty() => {
            let named = name_processes(&others);
            let maybe = match &unseen[..] {
                [] => String::new(),
                urls => format!(
                    "; the processes of {} can't be seen, and may be among them",
                    urls.join(", ")
                ),
            };
            Err(Finding::stop(
                Area::Gpu,
                format!("the GPU is not idle: {named}{maybe}"),
                "end these processes, or set `host.exclusive: false` in the plan",
            ))
        }
        Ok(found) => Ok(found),
    }
}

/// What of an idle device is in use although nobody is seen on it.
pub(super) fn unseen(used_bytes: &[(u32, u64)], health: &[DeviceHealth]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, used) in used_bytes
        .iter()
        .filter(|(_, used)| *used > MEMORY_OF_NOBODY_BYTES)
    {
        findings.push(Finding::warn(
            Area::Gpu,
            format!("{} of GPU {index} are in use, and no process is listed that could hold them", size(*used)),
            "a container's process, or a dead one's memory? nvidia-smi on the host tells; a reset gives it back",
        ));
    }
    for device in health {
        if let Some(percent) = device.util_gpu_pct.filter(|&pct| pct > BUSY_PCT) {
            findings.push(Finding::warn(
                Area::Gpu,
                format!("GPU {} is {percent} % busy before any server runs", device.index),
                "somebody's work that is not listed here? nvidia-smi on the host tells",
            ));
        }
    }
    findings
}

/// `pid 12 (python3, 1024 MiB on GPU 0)`, and so on.
pub(crate) fn name_processes(processes: &[GpuProcess]) -> String {
    let texts: Vec<String> = processes.iter().map(name_process).collect();
    texts.join(", ")
}

/// `pid 12 (python3, 1024 MiB on GPU 0)`.
pub(crate) fn name_process(process: &GpuProcess) -> String {
    let name = process.name.as_deref().unwrap_or("not visible here");
    let GpuProcess { pid, device, .. } = process;
    match process.used_bytes {
        Some(bytes) => format!("pid {pid} ({name}, {} MiB on GPU {device})", bytes >> 20),
        None => format!("pid {pid} ({name} on GPU {device}, its memory is not told)"),
    }
}

/// One server's needs on the GPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    /// Framework and model, for people.
    pub(super) lane: &'a str,
    pub(super) model: &'a str,
    pub(super) kind: &'a str,
    /// Its longest request, tokens.
    pub(super) longest_tokens: u32,
    /// Streams of its heaviest cell, and the tokens of each.
    pub(super) heaviest: (u32, u32),
}

/// Whether a server with these needs fits. `devices` are the chosen devices' memories, bytes.
pub(super) fn memory(load: Load<'_>, demand: &Demand, devices: &[u64]) -> Finding {
    let Load {
        lane, model, kind, ..
    } = load;
    let used = demand.devices as usize;
    if used > devices.len() {
        return Finding::lose(
            Area::Model,
            format!(
                "{lane}: its arguments ask for {used} GPUs, `host.gpu` gives {}",
                devices.len()
            ),
            "name more devices in `host.gpu`, or lower the parallelism",
        );
    }
    let total: u64 = devices[..used].iter().sum();
    let budget = (total as f64 * demand.share) as u64;
    let share = format!("{} {}", demand.share_flag, demand.share);
    let after_weights = budget.saturating_sub(demand.weights_bytes);
    if demand.weights_bytes >= budget {
        return Finding::lose(
            Area::Model,
            format!(
                "{lane}: the weights take {}, {share} of {} gives {}",
                size(demand.weights_bytes),
                size(total),
                size(budget)
            ),
            "take a smaller or quantised model, more GPUs, or a larger share",
        );
    }
    let Some(per_token) = demand.kv_bytes_per_token.filter(|&bytes| bytes > 0) else {
        return Finding::ok(
            Area::Model,
            format!(
                "{lane}: weights {} of the {} that {share} gives",
                size(demand.weights_bytes),
                size(budget)
            ),
        );
    };
    let room = after_weights.saturating_sub(RUNTIME_BYTES);
    let longest = u64::from(load.longest_tokens);
    let shorten = format!(
        "limit the length: models.{model}.args: {{ {kind}: [{}, \"{}\"] }}",
        demand.length_flag,
        (longest + 1).next_power_of_two()
    );
    if let Some(tokens) = demand.start_tokens {
        let needed = tokens.saturating_mul(per_token);
        let text = format!(
            "{lane}: {kind} wants room for one request of {tokens} tokens before it starts: {} of KV cache; about {} are left beside the weights",
            size(needed),
            size(room)
        );
        if needed > after_weights {
            return Finding::lose(Area::Model, text, shorten);
        }
        if needed > room {
            return Finding::warn(Area::Model, text, shorten);
        }
    }
    if longest.saturating_mul(per_token) > after_weights {
        return Finding::lose(
            Area::Model,
            format!(
                "{lane}: the longest request has {longest} tokens and needs {} of KV cache; about {} are left beside the weights",
                size(longest * per_token),
                size(room)
            ),
            "take shorter prompts, a smaller model, or a larger share",
        );
    }
    let (streams, tokens) = load.heaviest;
    let at_once = room / per_token / u64::from(tokens.max(1));
    if at_once < u64::from(streams) {
        return Finding::warn(
            Area::Model,
            format!(
                "{lane}: room for about {at_once} of {streams} streams of {tokens} tokens at once: the others wait, or are thrown out and computed again"
            ),
            "the figures then tell of memory, not of speed: fewer streams, shorter prompts, a larger share",
        );
    }
    Finding::ok(
        Area::Model,
        format!(
            "{lane}: weights {} of the {} that {share} gives, room for about {} tokens",
            size(demand.weights_bytes),
            size(budget),
            room / per_token
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;
    use benchd_plan::Expect;

    const GIB: u64 = 1 << 30;

    fn device() -> GpuDevice {
        GpuDevice {
            index: 0,
            uuid: "GPU-1".to_owned(),
            name: "NVIDIA A100-SXM4-80GB".to_owned(),
            memory_total_bytes: 80 * GIB,
            memory_used_bytes: 0,
            power_limit_mw: None,
            sm_clock_max_mhz: None,
            pci_bus_id: None,
            mig: Some(false),
            ecc_uncorrected: Some(0),
            compute_capability: Some("8.0".to_owned()),
        }
    }

    fn host(device: GpuDevice) -> GpuHost {
        GpuHost {
            driver: "570.86.10".to_owned(),
            cuda: Some("12.8".to_owned()),
            nvml: None,
            devices: vec![device],
        }
    }

    fn expecting(name: Option<&str>) -> Host {
        Host {
            gpu: GpuSelection::None,
            expect: Expect {
                gpu_name: name.map(str::to_owned),
                ..Expect::default()
            },
            exclusive: true,
            stranger_wait: std::time::Duration::ZERO,
        }
    }

    fn healthy() -> DeviceHealth {
        DeviceHealth {
            index: 0,
            throttle: Some(vec![ThrottleReason::GpuIdle]),
            temperature_c: Some(35),
            persistence: Some(true),
            retirement_pending: Some(false),
            util_gpu_pct: Some(0),
        }
    }

    fn worst(findings: &[Finding]) -> Severity {
        findings.iter().map(|f| f.severity).min().unwrap_or(Severity::Ok)
    }

    #[test]
    fn a_fit_gpu_is_said_to_be_one() {
        let findings = fit(&expecting(Some("a100")), &host(device()), &[healthy()]);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].text,
            "GPU 0: NVIDIA A100-SXM4-80GB, 80.0 GiB, driver 570.86.10, CUDA 12.8"
        );
    }

    #[test]
    fn each_fault_of_a_device_has_a_finding_with_a_remedy() {
        let with = |change: &dyn Fn(&mut GpuDevice, &mut DeviceHealth)| {
            let (mut device, mut health) = (device(), healthy());
            change(&mut device, &mut health);
            let mut findings = fit(&expecting(None), &host(device), &[health]);
            findings.retain(|f| f.severity != Severity::Ok);
            assert_eq!(findings.len(), 1, "{findings:?}");
            let only = findings.remove(0);
            assert!(only.remedy.is_some());
            (only.severity, only.text)
        };
        let (severity, text) = with(&|d, _| d.mig = Some(true));
        assert!(severity == Severity::Lose && text.contains("MIG"), "{text}");
        let (severity, text) = with(&|d, _| d.ecc_uncorrected = Some(3));
        assert!(
            severity == Severity::Warn && text.contains("3 uncorrected"),
            "{text}"
        );
        let (_, text) = with(&|_, h| h.throttle = Some(vec![ThrottleReason::HwThermalSlowdown]));
        assert!(text.contains("too warm"), "{text}");
        let (_, text) = with(&|_, h| h.temperature_c = Some(82));
        assert!(text.contains("82 °C"), "{text}");
        let (_, text) = with(&|_, h| h.persistence = Some(false));
        assert!(text.contains("persistence"), "{text}");
        let (_, text) = with(&|_, h| h.retirement_pending = Some(true));
        assert!(text.contains("retired"), "{text}");
        let other = fit(&expecting(Some("RTX 5090")), &host(device()), &[healthy()]);
        assert_eq!(worst(&other), Severity::Stop);
    }

    #[test]
    fn a_mig_instance_that_the_plan_names_is_what_it_wants() {
        let mut instance = device();
        instance.uuid = "MIG-1".to_owned();
        instance.mig = Some(true);
        assert_eq!(worst(&fit(&expecting(None), &host(instance), &[])), Severity::Ok);
    }

    #[test]
    fn memory_and_work_of_nobody_are_told() {
        assert_eq!(unseen(&[(0, GIB)], &[healthy()]), []);
        let busy = DeviceHealth {
            util_gpu_pct: Some(97),
            ..healthy()
        };
        let findings = unseen(&[(0, 40 * GIB)], &[busy]);
        assert!(
            findings[0].text.contains("40.0 GiB") && findings[1].text.contains("97 %"),
            "{findings:?}"
        );
    }

    fn demand(start_tokens: Option<u64>) -> Demand {
        Demand {
            weights_bytes: 15 * GIB,
            kv_bytes_per_token: Some(128 << 10),
            start_tokens,
            share: 0.85,
            share_flag: "--gpu-memory-utilization",
            length_flag: "--max-model-len",
            devices: 1,
        }
    }

    fn judged(demand: &Demand, device_bytes: u64, streams: u32) -> Finding {
        let load = Load {
            lane: "vllm / llama",
            model: "llama",
            kind: "vllm",
            longest_tokens: 4352,
            heaviest: (streams, 4352),
        };
        memory(load, demand, &[device_bytes])
    }

    #[test]
    fn an_8b_model_fits_80_gib_and_not_8() {
        let fits = judged(&demand(Some(131_072)), 80 * GIB, 64);
        assert_eq!(fits.severity, Severity::Ok, "{fits:?}");
        let small = judged(&demand(None), 8 * GIB, 8);
        assert_eq!(small.severity, Severity::Lose);
        assert!(small.text.contains("the weights take 15.0 GiB"), "{}", small.text);
    }

    #[test]
    fn on_32_gib_vllm_needs_a_shorter_longest_request_and_is_told_which() {
        let refused = judged(&demand(Some(131_072)), 32 * GIB, 8);
        assert_eq!(refused.severity, Severity::Lose, "{refused:?}");
        assert!(
            refused.text.contains("131072 tokens before it starts: 16.0 GiB"),
            "{}",
            refused.text
        );
        let remedy = refused.remedy.unwrap();
        assert!(
            remedy.contains(r#"models.llama.args: { vllm: [--max-model-len, "8192"] }"#),
            "{remedy}"
        );
        assert_eq!(judged(&demand(Some(8192)), 32 * GIB, 8).severity, Severity::Ok);
    }

    #[test]
    fn streams_that_do_not_fit_at_once_are_told() {
        let crowded = judged(&demand(Some(8192)), 32 * GIB, 64);
        assert_eq!(crowded.severity, Severity::Warn);
        assert!(
            crowded.text.contains("about 19 of 64 streams"),
            "{}",
            crowded.text
        );
    }

    #[test]
    fn more_gpus_than_the_plan_gives_are_asked_for() {
        let two = Demand {
            devices: 2,
            ..demand(None)
        };
        assert!(judged(&two, 80 * GIB, 1).text.contains("ask for 2 GPUs"));
    }
}
