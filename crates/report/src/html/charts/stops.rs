//! GPU memory around the stop of each server: the proof that it came back.

use super::{
    super::super::number::{megabytes, millis},
    Drawn,
    keys::{Key, Keys},
    plot::{Axis, Plot},
    scale::Scale,
};
use benchd_analysis::{GpuBucket, LaneAttempt, MachineStudy, RunSeries};

/// The last stop of each framework, a panel a model.
pub(super) fn releases(machine: &MachineStudy, series: &[RunSeries], keys: &Keys, id: &str) -> Option<Drawn> {
    let mut models: Vec<&str> = Vec::new();
    for lane in machine.runs.iter().flat_map(|r| &r.lanes) {
        if !models.contains(&lane.lane.model.as_str()) {
            models.push(&lane.lane.model);
        }
    }
    let mut drawn = Drawn::default();
    for model in models {
        let here = format!("{id}-{}", drawn.panels.len());
        drawn.add(of_model(machine, series, keys, &here, model));
    }
    drawn.some()
}

struct Stop<'a> {
    key: Key,
    name: &'a str,
    attempt: &'a LaneAttempt,
    stopping_us: u64,
    buckets: &'a [GpuBucket],
}

impl Stop<'_> {
    fn seconds(&self, unix_us: u64) -> f64 {
        (unix_us as f64 - self.stopping_us as f64) / 1e6
    }

    /// Seconds and bytes: the samples, and what the proof of the release saw last.
    fn memory(&self) -> Vec<(f64, f64)> {
        let samples = self
            .buckets
            .iter()
            .filter_map(|b| Some((self.seconds(b.unix_us), b.memory_bytes?.mean)));
        let mut points: Vec<_> = samples.collect();
        if let (Some(at), Some(bytes)) = (self.attempt.released_unix_us, self.attempt.released_bytes) {
            points.push((self.seconds(at), bytes as f64));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    /// Bytes on the line between the samples around this moment.
    fn on_line(&self, at: f64) -> f64 {
        let memory = self.memory();
        let next = memory.partition_point(|(t, _)| *t <= at);
        match (next.checked_sub(1).and_then(|i| memory.get(i)), memory.get(next)) {
            (Some((t0, b0)), Some((t1, b1))) if t1 > t0 => b0 + (at - t0) / (t1 - t0) * (b1 - b0),
            (Some((_, bytes)), _) | (None, Some((_, bytes))) => *bytes,
            (None, None) => 0.0,
        }
    }

    /// From the stop signal to the last that is known of it, seconds.
    fn length(&self) -> f64 {
        let last = self.attempt.released_unix_us.max(self.attempt.reaped_unix_us);
        last.map_or(0.0, |at| self.seconds(at))
    }
}

fn of_model(
    machine: &MachineStudy,
    series: &[RunSeries],
    keys: &Keys,
    id: &str,
    model: &str,
) -> Option<(String, Vec<Key>)> {
    let mut stops: Vec<Stop<'_>> = Vec::new();
    for (run, series) in machine.runs.iter().zip(series) {
        for (lane, series) in run.lanes.iter().zip(&series.lanes) {
            let last = series.stops.last_key_value();
            if let Some((at, buckets)) = last
                && lane.lane.model == model
                && let Some(attempt) = series.attempts.get(*at)
                && let Some(stopping_us) = attempt.stopping_unix_us
                && buckets.iter().filter(|b| b.memory_bytes.is_some()).count() > 1
            {
                let key = keys.key(&lane.lane.framework);
                // Of several rounds and nights the newest.
                stops.retain(|s| s.key != key);
                stops.push(Stop {
                    key,
                    name: &lane.lane.framework,
                    attempt,
                    stopping_us,
                    buckets,
                });
            }
        }
    }
    stops.sort_by_key(|s| s.key);
    if stops.is_empty() {
        return None;
    }
    // As much before and after as lets the fall be seen.
    let longest = stops.iter().map(Stop::length).fold(0.0, f64::max);
    let (from, to) = (
        -(longest * 0.25).clamp(0.2, 2.0),
        longest + (longest * 0.1).clamp(0.1, 2.0),
    );
    let most = stops
        .iter()
        .flat_map(|s| s.buckets)
        .filter_map(|b| b.memory_bytes)
        .map(|b| b.max / 1e9)
        .fold(0.0, f64::max);
    let title = format!("GPU memory around the stop, {model}");
    let x = Axis::new("seconds from the stop signal", Scale::linear(from, to));
    let y = Axis::new(
        "GB in use; point: last process gone, open: memory back",
        Scale::from_zero(most),
    );
    let mut plot = Plot::new(&title, &x, &y, []);
    if let Some(baseline) = stops.iter().find_map(|s| s.attempt.baseline_bytes) {
        plot.reference(baseline as f64 / 1e9, "before the first server");
    }
    plot.vertical(0.0, "stop");
    let mut said = Vec::new();
    for stop in &stops {
        let memory = stop.memory();
        // The last sample before the panel begins it.
        let first = memory.iter().rposition(|(at, _)| *at <= from).unwrap_or(0);
        let shown = memory[first..].iter().filter(|(at, _)| *at <= to);
        let points: Vec<_> = shown.map(|(at, bytes)| (at.max(from), bytes / 1e9)).collect();
        plot.line(stop.key, &points, "ln");
    }
    for stop in &stops {
        let mut of_stop = stop.name.to_owned();
        if let Some(reaped) = stop.attempt.reaped_unix_us {
            let after = millis(Some(reaped.saturating_sub(stop.stopping_us) / 1000));
            of_stop.push_str(&format!("\nlast process gone {after} after the stop signal"));
        }
        if let Some(released) = stop.attempt.released_unix_us {
            let after = millis(Some(released.saturating_sub(stop.stopping_us) / 1000));
            of_stop.push_str(&format!("\nmemory back, proven {after} after the stop signal"));
        } else if stop.attempt.held {
            of_stop.push_str("\nmemory did not come back");
        }
        if let Some(at) = stop.attempt.reaped_unix_us.map(|at| stop.seconds(at))
            && let Some((_, bytes)) = stop.memory().iter().rfind(|(t, _)| *t <= at)
        {
            let tip = format!(
                "{of_stop}\n{} MB in the sample before the last process was gone",
                megabytes(*bytes)
            );
            // On the line, which goes on to the next sample.
            plot.ring(stop.key, (at, stop.on_line(at) / 1e9), false, &tip);
        }
        if let (Some(at), Some(bytes)) = (stop.attempt.released_unix_us, stop.attempt.released_bytes) {
            let tip = format!("{of_stop}\n{} MB at the proof", megabytes(bytes as f64));
            plot.ring(stop.key, (stop.seconds(at), bytes as f64 / 1e9), true, &tip);
        }
        said.push(of_stop.replace('\n', ", "));
    }
    let description = format!("{}.", said.join("; "));
    Some((
        plot.finish(id, &description),
        stops.iter().map(|s| s.key).collect(),
    ))
}
