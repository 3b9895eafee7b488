//! What charts are drawn from: bounded, with its extremes, at the right times.

use super::{series::*, testing::*};
use benchd_core::{record::GpuSample, stats::Sorted};
use benchd_journal::{Event, testing as journal};

const S: u64 = 1_000_000;

fn sample(at_ms: u64, device: u32, bytes: Option<u64>) -> GpuSample {
    GpuSample {
        device,
        memory_used_bytes: bytes,
        ..gpu_sample(at_ms, 0)
    }
}

fn attempt(from_s: u64, to_s: u64) -> LaneAttempt {
    LaneAttempt {
        started_unix_us: T0 + from_s * S,
        ended_unix_us: T0 + to_s * S,
        ..LaneAttempt::default()
    }
}

#[test]
fn the_journal_tells_when_lanes_cells_and_releases_were() {
    // Its entries are a second apart.
    let lanes = attempts(&journal::entries(journal::whole_run()));
    let at = |s: u64| T0 + s * S;
    let [attempt] = &lanes[&journal::lane_id()][..] else {
        panic!("{lanes:?}");
    };
    assert_eq!((attempt.started_unix_us, attempt.ended_unix_us), (at(2), at(16)));
    assert_eq!(
        (attempt.launched_unix_us, attempt.ready_unix_us),
        (Some(at(4)), Some(at(6)))
    );
    assert_eq!(
        (attempt.stopping_unix_us, attempt.reaped_unix_us),
        (Some(at(11)), Some(at(12)))
    );
    assert_eq!(
        (attempt.released_unix_us, attempt.released_bytes),
        (Some(at(14)), Some(1 << 20))
    );
    assert_eq!((attempt.held, attempt.baseline_bytes), (true, Some(1 << 20)));
    let cells: Vec<_> = attempt
        .cells
        .iter()
        .map(|c| (c.cell.as_str(), c.started_unix_us, c.ended_unix_us, c.measured))
        .collect();
    assert_eq!(
        cells,
        [
            ("single/in128", at(7), at(8), true),
            ("concurrent/c8", at(9), at(10), false)
        ]
    );
    // Two seconds before the stop, two after the memory's return.
    assert_eq!(attempt.stop_window(), Some((at(9), at(16))));
}

#[test]
fn attempts_are_apart_and_what_is_cleared_later_is_no_part_of_them() {
    let mut events = journal::whole_run();
    events.truncate(10);
    // benchd died in the second cell; it is begun anew, and what was left is cleared before the lane's next attempt.
    events.push(journal::run_started(true));
    events.extend(
        journal::whole_run()
            .into_iter()
            .filter(|e| matches!(e, Event::ServerReaped(_))),
    );
    events.push(journal::lane_started(2));
    events.push(journal::lane_ended(benchd_journal::LaneOutcome::Failed));
    let lanes = attempts(&journal::entries(events));
    let [first, second] = &lanes[&journal::lane_id()][..] else {
        panic!("{lanes:?}");
    };
    assert_eq!((first.ended_unix_us, first.reaped_unix_us), (T0 + 9 * S, None));
    assert!(!first.cells[1].measured && first.stop_window().is_none());
    assert_eq!(
        (second.started_unix_us, second.ended_unix_us),
        (T0 + 12 * S, T0 + 13 * S)
    );
}

#[test]
fn samples_fold_to_a_bounded_number_of_stretches_that_keep_their_extremes() {
    let attempts = [attempt(0, 1_000), attempt(5_000, 6_000)];
    let mut fold = GpuFold::new(&attempts);
    // Ten samples a second, one of them a peak of 2 bytes in a sea of ones, one a hole of 0.
    for i in 0..10_000 {
        let bytes = match i {
            4_321 => 2_000_000_000,
            4_322 => 0,
            _ => 1_000_000_000,
        };
        fold.add(&sample(i * 100, 0, Some(bytes)));
        fold.add(&sample(5_000_000 + i * 100, 0, Some(1_000_000_000)));
        // Between the attempts, and after them: nobody's.
        fold.add(&sample(2_000_000 + i, 0, Some(9_000_000_000)));
        fold.add(&sample(7_000_000 + i, 0, Some(9_000_000_000)));
    }
    let (buckets, stops) = fold.finish();
    assert!(stops.is_empty());
    assert!(
        (GPU_BUCKETS - 4..=GPU_BUCKETS).contains(&buckets.len()),
        "{}",
        buckets.len()
    );
    let memory: Vec<Band> = buckets.iter().filter_map(|b| b.memory_bytes).collect();
    let most = memory.iter().map(|b| b.max).fold(0.0, f64::max);
    let least = memory.iter().map(|b| b.min).fold(f64::INFINITY, f64::min);
    assert_eq!((least, most), (0.0, 2e9));
    // The peak stands where it was, within its own stretch.
    let peak = buckets
        .iter()
        .find(|b| b.memory_bytes.is_some_and(|m| m.max > 1.5e9))
        .expect("the peak");
    assert!(
        peak.unix_us.abs_diff(T0 + 432_100_000) <= peak.length_us / 2 + 1,
        "{peak:?}"
    );
    assert!(buckets.windows(2).all(|w| w[0].unix_us < w[1].unix_us));
    assert!(memory.iter().all(|b| b.min <= b.mean && b.mean <= b.max));
}

#[test]
fn several_devices_add_up_in_memory_and_power_and_not_in_utilisation() {
    let mut fold = GpuFold::new(&[attempt(0, 10)]);
    for device in 0..2 {
        fold.add(&sample(1_000, device, Some(10 * (u64::from(device) + 1))));
        // A device that does not tell.
        fold.add(&sample(5_000, device, (device == 0).then_some(7)));
    }
    let (buckets, _) = fold.finish();
    let of = |b: &GpuBucket| {
        (
            b.memory_bytes.map(|m| m.mean),
            b.util_pct.map(|m| m.mean),
            b.power_w.map(|m| m.mean),
        )
    };
    let seen: Vec<_> = buckets.iter().map(of).collect();
    assert_eq!(
        seen,
        [
            (Some(30.0), Some(80.0), Some(600.0)),
            (Some(7.0), Some(80.0), Some(600.0))
        ]
    );
}

#[test]
fn a_stop_is_seen_closer_than_the_run() {
    let mut long = attempt(0, 36_000);
    long.stopping_unix_us = Some(T0 + 35_990 * S);
    long.reaped_unix_us = Some(T0 + 35_993 * S);
    long.released_unix_us = Some(T0 + 35_995 * S);
    let mut fold = GpuFold::new(&[long]);
    for i in 0..100 {
        fold.add(&sample(35_988_000 + i * 100, 0, Some(1_000 - i)));
    }
    let (whole, stops) = fold.finish();
    assert!(whole.len() <= 2, "ten seconds of ten hours: {}", whole.len());
    let stop = &stops[&0];
    assert!((80..=STOP_BUCKETS).contains(&stop.len()), "{}", stop.len());
    // Up to two seconds after the return.
    assert!(stop.iter().all(|b| b.unix_us <= T0 + 35_997 * S + b.length_us));
}

#[test]
fn a_distribution_keeps_its_ends_and_its_percentiles() {
    let values: Vec<f64> = (0..50_001).map(|i| f64::from(i) / 10.0).collect();
    let spread = Spread::of(&Sorted::new(values).expect("values"));
    assert_eq!((spread.values.len(), spread.n), (SPREAD_VALUES, 50_001));
    assert_eq!(
        (spread.values[0], spread.values[SPREAD_VALUES - 1]),
        (0.0, 5_000.0)
    );
    assert_eq!(spread.percentiles, [1_250.0, 2_500.0, 3_750.0, 4_750.0]);
    assert!(spread.values.is_sorted());
    let few = Spread::of(&Sorted::new(vec![3.0, 1.0, 2.0]).expect("values"));
    assert_eq!(
        (few.values.as_slice(), few.percentile_of(1)),
        (&[1.0, 2.0, 3.0][..], 50.0)
    );
    let one = Spread::of(&Sorted::new(vec![3.0]).expect("values"));
    assert_eq!((one.percentiles, one.percentile_of(0)), ([3.0; 4], 50.0));
}

#[test]
fn of_many_requests_the_first_stays_alone_and_the_extremes_stay_in_sight() {
    let mut fold = SeriesFold::default();
    for pass in 0..3_u32 {
        for index in 0..5_000 {
            let ttft = if index == 0 { 500.0 } else { 10.0 };
            fold.add_numbered(index, if (pass, index) == (1, 3_333) { 99.0 } else { ttft });
        }
    }
    let points = fold.finish(None, None).by_request;
    assert!(points.len() <= REQUEST_POINTS, "{}", points.len());
    assert_eq!(
        (points[0].from, points[0].to, points[0].n, points[0].median_ms),
        (0, 0, 3, 500.0)
    );
    let odd = points
        .iter()
        .find(|p| p.from <= 3_333 && p.to >= 3_333)
        .expect("its group");
    assert_eq!((odd.min_ms, odd.median_ms, odd.max_ms), (10.0, 10.0, 99.0));
    assert_eq!(points.iter().map(|p| p.n).sum::<u64>(), 15_000);
    assert!(
        points.windows(2).all(|w| w[0].to + 1 == w[1].from),
        "no number twice and none left out"
    );
    // Few requests stand each for itself.
    let mut few = SeriesFold::default();
    (0..5).for_each(|i| few.add_numbered(i, f64::from(i)));
    assert_eq!(few.finish(None, None).by_request.len(), 5);
}

#[test]
fn the_request_that_is_shown_token_by_token_is_the_one_nearest_to_the_median() {
    let cell = exact("single/in512", benchd_plan::ScenarioKind::Single, 1, 512);
    let mut fold = SeriesFold::default();
    for (index, latency) in (0..).zip([900, 1_000, 5_000]) {
        let did = Did {
            tokens: 1_000,
            ..Did::ok(0, 10, latency)
        };
        fold.add_timeline(&record(1, &cell, 1, index, &did));
    }
    let latency = Sorted::new(vec![900.0, 1_000.0, 5_000.0]).expect("values");
    let timeline = fold.finish(None, Some(&latency)).timeline.expect("a timeline");
    assert_eq!(
        (timeline.index, timeline.latency_ms, timeline.ttft_ms),
        (1, 1_000.0, 10.0)
    );
    assert_eq!(timeline.events, 1_000);
    assert!(
        timeline.arrivals_ms.len() <= ARRIVALS,
        "{}",
        timeline.arrivals_ms.len()
    );
    assert!(
        timeline
            .arrivals_ms
            .iter()
            .all(|at| (10.0..=1_000.0).contains(at))
    );
}
