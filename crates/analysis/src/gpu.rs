//! GPU samples folded over stretches of time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::distribution::Mean;
use benchd_core::record::{GpuSample, ThrottleReason};
use benchd_journal::{DiskError, gpu_samples};

/// The GPU over a cell's passes. Several devices: memory, power and energy are sums, utilisation and clocks means. Memory
/// is without what strangers are known to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuSummary {
    /// Samples of all devices.
    pub samples: u64,
    /// Largest memory in use at one tick, bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Mean memory in use, bytes.
    pub memory_mean_bytes: Option<f64>,
    /// Mean utilisation, percent: share of time in which a kernel ran.
    pub util_mean_pct: Option<f64>,
    /// Mean power, watts.
    pub power_mean_w: Option<f64>,
    /// Energy over the passes, joules: by the driver's counter, else mean power times duration.
    pub energy_j: Option<f64>,
    /// Energy per output token of a successful request, joules.
    pub energy_j_per_output_token: Option<f64>,
    /// Whether there are samples enough for the energy to be compared: the counter is read at the samples, so what lies
    /// before the first and after the last is only as if the power were the same. From a second and ten samples of each
    /// device on; without a counter from ten seconds on, since NVML's power is the mean of the last second. `None`
    /// without an energy.
    #[serde(default)]
    pub energy_certain: Option<bool>,
    /// Mean SM clock, MHz.
    pub sm_clock_mean_mhz: Option<f64>,
    /// Lowest SM clock, MHz.
    pub sm_clock_min_mhz: Option<u32>,
    /// Mean temperature, degrees Celsius.
    pub temperature_mean_c: Option<f64>,
    /// Highest temperature, degrees Celsius.
    pub temperature_max_c: Option<u32>,
    /// Share of the samples in which a reason slowed the clocks, by reason, 0 to 1.
    pub throttle_shares: BTreeMap<String, f64>,
    /// Share of the samples in which any reason slowed the clocks, 0 to 1.
    pub throttled_share: f64,
    /// How far the SM clock was below the sustained one while a reason slowed it, over
    /// all of the cell: 0.02 is a mean of 2 % less. `None` where clocks or reasons are not known.
    #[serde(default)]
    pub clock_lost_share: Option<f64>,
    /// The SM clock that the GPU holds under load when nothing slows it, MHz: the median over the lane's samples in which
    /// a kernel ran, else the device's largest clock.
    #[serde(default)]
    pub sustained_clock_mhz: Option<f64>,
    /// Longest time without a sample, milliseconds.
    pub longest_gap_ms: f64,
    /// Samples in which a call failed.
    pub samples_with_errors: u64,
}

/// Samples folded over one stretch of time.
#[derive(Debug, Clone, Default)]
pub(super) struct GpuWindow {
    start_us: u64,
    end_us: u64,
    devices: BTreeMap<u32, Device>,
    memory_peak: Option<u64>,
    throttle: BTreeMap<ThrottleReason, u64>,
    throttle_known: u64,
    throttled: u64,
    errors: u64,
    temperature_max: Option<u32>,
    sm_clock_min: Option<u32>,
    processes: BTreeSet<u32>,
}

/// Each device's SM clocks, MHz, in the samples of a lane in which a kernel ran and nothing slowed it: how often each.
#[derive(Debug, Default)]
struct BusyClocks(BTreeMap<u32, BTreeMap<u32, u64>>);

impl BusyClocks {
    fn add(&mut self, sample: &GpuSample) {
        let free = sample
            .throttle
            .as_ref()
            .is_some_and(|reasons| !reasons.iter().any(|r| r.slows()));
        let busy = sample.util_gpu_pct.is_some_and(|pct| pct > 0);
        if let Some(mhz) = sample.sm_clock_mhz.filter(|_| free && busy) {
            let of_device = self.0.entry(sample.device).or_default();
            *of_device.entry(mhz).or_default() += 1;
        }
    }

    /// The median by device, MHz; `largest` of those that were never busy and free.
    fn sustained(&self, largest: &BTreeMap<u32, u32>) -> BTreeMap<u32, f64> {
        let mut sustained: BTreeMap<u32, f64> = largest
            .iter()
            .map(|(device, mhz)| (*device, f64::from(*mhz)))
            .collect();
        for (device, clocks) in &self.0 {
            let half = clocks.values().sum::<u64>().div_ceil(2);
            let mut seen = 0;
            let median = clocks.iter().find(|(_, n)| {
                seen += **n;
                seen >= half
            });
            sustained.extend(median.map(|(mhz, _)| (*device, f64::from(*mhz))));
        }
        sustained
    }
}

#[derive(Debug, Clone, Default)]
struct Device {
    samples: u64,
    memory: Mean,
    memory_last: Option<u64>,
    util: Mean,
    power_mw: Mean,
    sm_clock: Mean,
    /// Samples with a clock and its reasons, and the clocks of those in which a reason slowed it, MHz.
    judged: u64,
    slowed_mhz: Vec<u32>,
    /// MHz.
    sustained_clock: Option<f64>,
    temperature: Mean,
    /// First and last energy counter with their times.
    energy: Option<((u64, u64), (u64, u64))>,
    last_us: Option<u64>,
    longest_gap_us: u64,
}

/// Shortest window whose energy by the counter is compared, seconds.
const ENERGY_S: f64 = 1.0;
/// Fewest samples of each device: at most two of eleven stretches, the first and the last, are not read but assumed.
const ENERGY_SAMPLES: u64 = 10;
/// Shortest window whose energy by power alone is compared, seconds: of NVML's mean over the last second at most a tenth
/// of the window lies before it.
const ENERGY_BY_POWER_S: f64 = 10.0;

/// Folds the samples of a lane in `path` over `windows` (start and end, microseconds since the Unix epoch) in one pass, and
/// shows each to `look`, since the file is long and read once; also the number of lines that could not be read. `None`
/// where there is no such file. What `strangers` are known to hold is not counted; `largest_mhz` are the devices' largest
/// SM clocks.
pub(super) fn gpu_windows(
    path: &Path,
    windows: &[(u64, u64)],
    strangers: &BTreeSet<u32>,
    largest_mhz: &BTreeMap<u32, u32>,
    mut look: impl FnMut(&GpuSample),
) -> Result<Option<(Vec<GpuWindow>, u64)>, DiskError> {
    let Some(mut samples) = gpu_samples(path)? else {
        return Ok(None);
    };
    let mut folded: Vec<GpuWindow> = windows
        .iter()
        .map(|&(start, end)| GpuWindow::new(start, end))
        .collect();
    let mut clocks = BusyClocks::default();
    for sample in samples.by_ref() {
        let sample = sample?;
        look(&sample);
        clocks.add(&sample);
        // A lane has tens of cells: looking at each is cheaper than parsing the line was.
        for window in folded
            .iter_mut()
            .filter(|w| (w.start_us..=w.end_us).contains(&sample.unix_us))
        {
            window.add(&sample, strangers);
        }
    }
    let sustained = clocks.sustained(largest_mhz);
    for (index, device) in folded.iter_mut().flat_map(|w| &mut w.devices) {
        device.sustained_clock = sustained.get(index).copied();
    }
    Ok(Some((folded, samples.unreadable())))
}

impl Device {
    /// How far the clock was below the sustained one while a reason slowed it, over all samples, 0 to 1.
    fn clock_lost(&self) -> Option<f64> {
        let sustained = self.sustained_clock.filter(|mhz| *mhz > 0.0)?;
        let lost = |mhz: &u32| (1.0 - f64::from(*mhz) / sustained).max(0.0);
        (self.judged > 0).then(|| self.slowed_mhz.iter().map(lost).sum::<f64>() / self.judged as f64)
    }
}

impl GpuWindow {
    /// An empty window, microseconds since the Unix epoch.
    fn new(start_us: u64, end_us: u64) -> Self {
        Self {
            start_us,
            end_us,
            ..Self::default()
        }
    }

    /// Folds one sample in. Samples of a device come in the order of time.
    fn add(&mut self, sample: &GpuSample, strangers: &BTreeSet<u32>) {
        let processes = sample.processes.iter().flatten();
        let others: u64 = processes
            .filter(|process| strangers.contains(&process.pid))
            .filter_map(|process| process.used_bytes)
            .sum();
        let memory = sample.memory_used_bytes.map(|used| used.saturating_sub(others));
        let device = self.devices.entry(sample.device).or_default();
        device.samples += 1;
        let since = device.last_us.unwrap_or(self.start_us);
        device.longest_gap_us = device.longest_gap_us.max(sample.unix_us.saturating_sub(since));
        device.last_us = Some(sample.unix_us);
        device.memory.add(memory.map(|b| b as f64));
        device.util.add(sample.util_gpu_pct.map(f64::from));
        device.power_mw.add(sample.power_mw.map(f64::from));
        device.sm_clock.add(sample.sm_clock_mhz.map(f64::from));
        device.temperature.add(sample.temperature_c.map(f64::from));
        if memory.is_some() {
            device.memory_last = memory;
        }
        if let Some(energy) = sample.energy_mj {
            let now = (sample.unix_us, energy);
            device.energy = Some((device.energy.map_or(now, |(first, _)| first), now));
        }
        if let Some(clock) = sample.sm_clock_mhz {
            self.sm_clock_min = Some(self.sm_clock_min.map_or(clock, |m| m.min(clock)));
        }
        self.temperature_max = self.temperature_max.max(sample.temperature_c);
        if let Some(reasons) = &sample.throttle {
            let slowed = reasons.iter().any(|r| r.slows());
            device.judged += u64::from(sample.sm_clock_mhz.is_some());
            device.slowed_mhz.extend(sample.sm_clock_mhz.filter(|_| slowed));
            self.throttle_known += 1;
            self.throttled += u64::from(slowed);
            for reason in reasons.iter().filter(|r| r.slows()) {
                *self.throttle.entry(*reason).or_default() += 1;
            }
        }
        self.errors += u64::from(!sample.errors.is_empty());
        self.processes
            .extend(sample.processes.iter().flatten().map(|p| p.pid));
        // The sum over the devices as each was last seen.
        let now: u64 = self.devices.values().filter_map(|d| d.memory_last).sum();
        if self.devices.values().any(|d| d.memory_last.is_some()) {
            self.memory_peak = self.memory_peak.max(Some(now));
        }
    }

    /// Processes seen on the devices.
    pub(super) fn processes(&self) -> &BTreeSet<u32> {
        &self.processes
    }

    /// The window's length, seconds.
    fn length_s(&self) -> f64 {
        self.end_us.saturating_sub(self.start_us) as f64 / 1e6
    }

    /// The figures; `output_tokens` are those of successful requests.
    pub(super) fn summary(&self, output_tokens: Option<u64>) -> GpuSummary {
        let devices = || self.devices.values();
        let sum = |f: &dyn Fn(&Device) -> Option<f64>| {
            let values: Vec<f64> = devices().filter_map(f).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>())
        };
        let mean = |f: &dyn Fn(&Device) -> Option<f64>| {
            let values: Vec<f64> = devices().filter_map(f).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let length_s = self.length_s();
        let power_mean_w = sum(&|d| d.power_mw.get().map(|mw| mw / 1e3));
        // The counter covers first to last sample; the passes go on a little to both sides.
        let counted = sum(&|d| {
            let ((from_us, from), (to_us, to)) = d.energy?;
            let seconds = to_us.checked_sub(from_us).filter(|us| *us > 0)? as f64 / 1e6;
            Some(to.checked_sub(from)? as f64 / 1e3 / seconds * length_s)
        });
        let energy_j = counted.or_else(|| power_mean_w.map(|w| w * length_s));
        let least_s = if counted.is_some() {
            ENERGY_S
        } else {
            ENERGY_BY_POWER_S
        };
        let sampled = devices().all(|d| d.samples >= ENERGY_SAMPLES);
        let energy_certain = energy_j.map(|_| sampled && length_s >= least_s);
        let tail_gap = devices().map(|d| self.end_us.saturating_sub(d.last_us.unwrap_or(self.start_us)));
        let longest_gap_us = devices().map(|d| d.longest_gap_us).chain(tail_gap).max();
        let share = |n: u64| {
            if self.throttle_known == 0 {
                0.0
            } else {
                n as f64 / self.throttle_known as f64
            }
        };
        let name = |r: ThrottleReason| {
            serde_json::to_value(r)
                .ok()
                .and_then(|v| v.as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        GpuSummary {
            samples: devices().map(|d| d.samples).sum(),
            memory_peak_bytes: self.memory_peak,
            memory_mean_bytes: sum(&|d| d.memory.get()),
            util_mean_pct: mean(&|d| d.util.get()),
            power_mean_w,
            energy_j,
            energy_j_per_output_token: energy_j
                .zip(output_tokens.filter(|t| *t > 0))
                .map(|(j, t)| j / t as f64),
            energy_certain,
            sm_clock_mean_mhz: mean(&|d| d.sm_clock.get()),
            sm_clock_min_mhz: self.sm_clock_min,
            temperature_mean_c: mean(&|d| d.temperature.get()),
            temperature_max_c: self.temperature_max,
            throttle_shares: self.throttle.iter().map(|(r, n)| (name(*r), share(*n))).collect(),
            throttled_share: share(self.throttled),
            clock_lost_share: mean(&Device::clock_lost),
            sustained_clock_mhz: mean(&|d| d.sustained_clock),
            longest_gap_ms: longest_gap_us.unwrap_or(self.end_us.saturating_sub(self.start_us)) as f64 / 1e3,
            samples_with_errors: self.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_core::record::{GPU_SAMPLE_VERSION, GpuProcess};

    fn sample(at_ms: u64, device: u32, used: u64, energy_mj: Option<u64>) -> GpuSample {
        GpuSample {
            v: GPU_SAMPLE_VERSION,
            unix_us: at_ms * 1000,
            device,
            memory_used_bytes: Some(used),
            memory_reserved_bytes: None,
            util_gpu_pct: Some(50 + 50 * device),
            util_memory_pct: None,
            power_mw: Some(100_000),
            energy_mj,
            sm_clock_mhz: Some(1000 + at_ms as u32),
            memory_clock_mhz: None,
            temperature_c: Some(60),
            throttle: Some(if at_ms == 300 {
                vec![ThrottleReason::SwPowerCap, ThrottleReason::GpuIdle]
            } else {
                vec![ThrottleReason::GpuIdle]
            }),
            processes: Some(vec![GpuProcess {
                pid: 7,
                device,
                used_bytes: None,
                name: None,
            }]),
            took_us: 1,
            errors: Vec::new(),
        }
    }

    #[test]
    fn two_devices_add_up() {
        let mut window = GpuWindow::new(0, 400_000);
        for (at, a, b) in [(100, 10, 20), (200, 30, 20), (300, 20, 25)] {
            window.add(&sample(at, 0, a, Some(at * 10)), &BTreeSet::new());
            window.add(&sample(at, 1, b, Some(at * 30)), &BTreeSet::new());
        }
        let is = window.summary(Some(4));
        assert_eq!(is.samples, 6);
        assert_eq!(is.memory_peak_bytes, Some(50));
        assert_eq!(is.memory_mean_bytes, Some(20.0 + 65.0 / 3.0));
        assert_eq!(is.util_mean_pct, Some(75.0));
        assert_eq!(is.power_mean_w, Some(200.0));
        // 2 J and 6 J in 0.2 s, over 0.4 s.
        let energy = is.energy_j.expect("energy");
        assert!((energy - 16.0).abs() < 1e-9, "{energy}");
        assert_eq!(is.energy_j_per_output_token, Some(energy / 4.0));
        assert_eq!(
            (is.sm_clock_mean_mhz, is.sm_clock_min_mhz),
            (Some(1200.0), Some(1100))
        );
        assert_eq!(is.throttled_share, 2.0 / 6.0);
        assert_eq!(
            is.throttle_shares,
            BTreeMap::from([("sw_power_cap".to_owned(), 2.0 / 6.0)])
        );
        assert_eq!(is.longest_gap_ms, 100.0);
        assert_eq!(window.processes().iter().copied().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_strangers_memory_is_not_the_servers() {
        let mut window = GpuWindow::new(0, 400_000);
        let shared = |stranger: Option<u64>| {
            let mut shared = sample(100, 0, 30, None);
            shared
                .processes
                .iter_mut()
                .flatten()
                .for_each(|p| p.used_bytes = stranger);
            shared
        };
        let strangers = BTreeSet::from([7]);
        window.add(&shared(Some(20)), &strangers);
        assert_eq!(window.summary(None).memory_peak_bytes, Some(10));
        // What NVML does not tell can't be taken off.
        window.add(&shared(None), &strangers);
        assert_eq!(window.summary(None).memory_peak_bytes, Some(30));
    }

    #[test]
    fn without_an_energy_counter_power_times_time() {
        let mut window = GpuWindow::new(0, 2_000_000);
        window.add(&sample(100, 0, 1, None), &BTreeSet::new());
        let is = window.summary(None);
        assert_eq!(is.energy_j, Some(200.0));
        assert_eq!(is.energy_j_per_output_token, None);
        assert_eq!(is.longest_gap_ms, 1900.0);
        assert_eq!(GpuWindow::new(0, 5_000).summary(None).longest_gap_ms, 5.0);
    }
    #[test]
    fn an_energy_of_a_few_samples_is_not_certain() {
        let certain = |every_ms: u64, samples: u64, counter: bool| {
            let mut window = GpuWindow::new(0, every_ms * samples * 1000);
            for i in 0..samples {
                window.add(
                    &sample(every_ms * i, 0, 1, counter.then_some(i)),
                    &BTreeSet::new(),
                );
            }
            window.summary(None).energy_certain
        };
        assert_eq!(certain(100, 9, true), Some(false), "under a second");
        assert_eq!(certain(500, 9, true), Some(false), "nine samples");
        assert_eq!(certain(100, 10, true), Some(true));
        // NVML's power is the mean of the last second.
        assert_eq!(certain(100, 50, false), Some(false));
        assert_eq!(certain(100, 100, false), Some(true));
        assert_eq!(GpuWindow::new(0, 5_000).summary(None).energy_certain, None);
    }

    #[test]
    fn the_clock_lost_is_what_a_reason_took_from_the_clock_that_is_held() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gpu.jsonl");
        let (mut file, _) = benchd_journal::GpuFile::open_append(&path).expect("open");
        let mut put = |at_ms: u64, mhz: u32, slowed: bool, util: u32| {
            let reasons = vec![ThrottleReason::SwPowerCap];
            let of = GpuSample {
                sm_clock_mhz: Some(mhz),
                util_gpu_pct: Some(util),
                throttle: Some(if slowed { reasons } else { Vec::new() }),
                ..sample(at_ms, 0, 1, None)
            };
            file.append(&of).expect("append");
        };
        // Idle and boosted, then busy: at its clock, a hair below it, and far below.
        put(0, 2100, false, 0);
        (1..10).for_each(|i| put(i * 100, 1980, false, 90));
        (10..20).for_each(|i: u64| {
            let slowed = i.is_multiple_of(2);
            put(i * 100, if slowed { 1979 } else { 1980 }, slowed, 90);
        });
        (20..30).for_each(|i| put(i * 100, if i < 25 { 1782 } else { 1980 }, i < 25, 90));
        let windows = [(1_000_000, 1_999_999), (2_000_000, 2_999_999)];
        let of = |largest: &[(u32, u32)]| {
            let largest = largest.iter().copied().collect();
            let (windows, _) = gpu_windows(&path, &windows, &BTreeSet::new(), &largest, |_| {})
                .expect("read")
                .expect("a file");
            windows.iter().map(|w| w.summary(None)).collect::<Vec<_>>()
        };
        let both = of(&[(0, 2100)]);
        assert_eq!(
            both[0].sustained_clock_mhz,
            Some(1980.0),
            "not what it could do at best"
        );
        let lost = |of: &GpuSummary| of.clock_lost_share.expect("known");
        assert!(
            both[0].throttled_share == 0.5 && lost(&both[0]) < 0.001,
            "{both:?}"
        );
        // Half of the samples, a tenth below.
        assert!((lost(&both[1]) - 0.05).abs() < 1e-9, "{both:?}");
    }
}
