//! Synthetic runs for tests: a run folder with a journal, records and samples whose figures are known.
#![allow(missing_docs, reason = "builders for tests: their names say it")]

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use indexmap::IndexMap;

use super::{AnalysisError, CellSummary, RunSummary, summarise_run_with_series};
use benchd_core::record::*;
use benchd_journal::*;
use benchd_plan::*;

/// Wall clock at which every cell's first pass begins, microseconds.
pub const T0: u64 = 1_800_000_000_000_000;

pub fn lane_id(framework: &str, model: &str) -> LaneId {
    LaneId {
        framework: framework.to_owned(),
        model: model.to_owned(),
        round: 1,
    }
}

pub fn exact(id: &str, kind: ScenarioKind, concurrency: u32, input_tokens: u32) -> Cell {
    Cell {
        id: id.to_owned(),
        scenario: id.split('/').next().unwrap_or(id).to_owned(),
        kind,
        concurrency,
        input: CellInput::Exact { input_tokens },
        output_tokens: 11,
        requests_per_pass: 10,
        passes: 1,
        prompts: PromptMode::Distinct,
        warmup: 3,
        cache: CachePolicy::Reset,
        arrival: Arrival::Closed,
        slo: None,
    }
}

pub fn shared(id: &str) -> Cell {
    Cell {
        input: CellInput::SharedPrefix {
            system_tokens: 2048,
            question_tokens: 128,
        },
        kind: ScenarioKind::PrefixCache,
        ..exact(id, ScenarioKind::PrefixCache, 1, 0)
    }
}

pub fn written(concurrency: u32, prompt_type: PromptType, language: Language) -> Cell {
    let id = format!(
        "korean/c{concurrency}/{}/{}",
        prompt_type.as_str(),
        language.as_str()
    );
    Cell {
        input: CellInput::Written {
            prompt_type,
            language,
        },
        ..exact(&id, ScenarioKind::Korean, concurrency, 0)
    }
}

/// What one request did, in milliseconds from its pass's start and from its send.
#[derive(Debug, Clone)]
pub struct Did {
    pub at_ms: u64,
    pub ttft_ms: u64,
    pub latency_ms: u64,
    pub tokens: u64,
    pub prompt_tokens: u64,
    pub cached: Option<u64>,
    pub outcome: Outcome,
    pub text: String,
    pub model: &'static str,
    /// Time from the planned send, milliseconds (open loop).
    pub queued_ms: Option<u64>,
    /// Events; `None`: one a token.
    pub chunks: Option<u64>,
    /// No token came into sight, whatever was counted.
    pub silent: bool,
    pub coalesced: u32,
    pub usage: bool,
    /// What the server says of its own times.
    pub timings: Option<serde_json::Value>,
}

impl Did {
    pub fn ok(at_ms: u64, ttft_ms: u64, latency_ms: u64) -> Self {
        Self {
            at_ms,
            ttft_ms,
            latency_ms,
            tokens: 11,
            prompt_tokens: 522,
            cached: Some(0),
            outcome: Outcome::Ok,
            text: "abcde".to_owned(),
            model: "meta-llama/Llama",
            queued_ms: None,
            chunks: None,
            silent: false,
            coalesced: 0,
            usage: true,
            timings: None,
        }
    }

    pub fn timeout(at_ms: u64) -> Self {
        Self {
            outcome: Outcome::Timeout,
            ..Self::ok(at_ms, 0, 300_000)
        }
    }
}

pub fn record(round: u32, cell: &Cell, pass: u32, index: u32, did: &Did) -> RequestRecord {
    let ok = did.outcome == Outcome::Ok;
    let seen = ok && !did.silent;
    let (first, last) = (did.ttft_ms * 1000, did.latency_ms * 1000);
    let chunks = did.chunks.unwrap_or(did.tokens).max(2);
    RequestRecord {
        v: REQUEST_RECORD_VERSION,
        round,
        scenario: cell.scenario.clone(),
        cell: cell.id.clone(),
        attempt: 1,
        lane_attempt: 1,
        pass,
        index,
        stream: index % cell.concurrency,
        prompt_id: format!("p{index}"),
        response_id: None,
        response_model: Some(did.model.to_owned()),
        phase: if pass == 0 { Phase::Warmup } else { Phase::Measured },
        outcome: did.outcome,
        error: (!ok).then(|| "no answer within 300 s".to_owned()),
        status: Some(200),
        sent_unix_us: T0 + did.at_ms * 1000,
        queued_us: did.queued_ms.map(|ms| ms * 1000),
        connect_us: Some(100),
        first_chunk_us: ok.then_some(first),
        first_token_us: seen.then_some(first),
        first_content_us: seen.then_some(first),
        last_token_us: seen.then_some(last),
        end_us: last,
        chunks_us: if seen {
            (0..chunks)
                .map(|i| first + (last - first) * i / (chunks - 1))
                .collect()
        } else {
            vec![]
        },
        coalesced: did.coalesced,
        prompt_tokens: (ok && did.usage).then_some(did.prompt_tokens),
        output_tokens: (ok && did.usage).then_some(did.tokens),
        cached_tokens: did.cached.filter(|_| ok),
        token_source: if did.usage {
            TokenSource::Usage
        } else {
            TokenSource::None
        },
        finish_reason: ok.then(|| "length".to_owned()),
        text: did.text.clone(),
        reasoning: String::new(),
        server_timings: did.timings.clone(),
    }
}

pub fn gpu_sample(at_ms: u64, used_bytes: u64) -> GpuSample {
    GpuSample {
        v: GPU_SAMPLE_VERSION,
        unix_us: T0 + at_ms * 1000,
        device: 0,
        memory_used_bytes: Some(used_bytes),
        memory_reserved_bytes: None,
        util_gpu_pct: Some(80),
        util_memory_pct: None,
        power_mw: Some(300_000),
        energy_mj: Some(at_ms * 300),
        sm_clock_mhz: Some(1410),
        memory_clock_mhz: None,
        temperature_c: Some(60),
        throttle: Some(Vec::new()),
        processes: Some(Vec::new()),
        took_us: 50,
        errors: Vec::new(),
    }
}

/// Weights of this format, read from a file.
pub fn served_in(weights: &str) -> Precision {
    Precision {
        weights: Reading::read(Format::new(weights), "config.json"),
        kv_cache: Reading::read(Format::new("fp16"), "--kv-cache-dtype"),
        random_weights: Reading::read(false, "--load-format"),
        file_bytes: None,
    }
}

pub struct Builder {
    _dir: tempfile::TempDir,
    pub run: RunDir,
    pub plan: Plan,
    pub lanes: Vec<Lane>,
    pub events: Vec<Event>,
}

fn framework(name: &str) -> Framework {
    Framework {
        name: name.to_owned(),
        kind: if name.starts_with("ollama") {
            FrameworkKind::Ollama
        } else if name.starts_with("sglang") {
            FrameworkKind::Sglang
        } else {
            FrameworkKind::Vllm
        },
        version: Some("0.15.1".to_owned()),
        source: Source::Venv(PathBuf::from("envs/vllm/.venv")),
        host: "127.0.0.1".to_owned(),
        port: 8000,
        args: Vec::new(),
        env: BTreeMap::new(),
        scenarios: None,
        start_timeout: Duration::from_secs(1200),
        stop_grace: Duration::from_secs(30),
        release_timeout: Duration::from_secs(60),
        release_tolerance_bytes: 64 << 20,
        retries: 0,
        provision: Provision::None,
    }
}

fn model(name: &str) -> Model {
    Model {
        name: name.to_owned(),
        hf: Some("meta-llama/Llama".to_owned()),
        ollama: Some("llama".to_owned()),
        openai: None,
        tokenizer: None,
        gguf: None,
        reasoning_effort: None,
        precision: None,
        args: BTreeMap::new(),
        not_on: BTreeMap::new(),
    }
}

impl Builder {
    /// A run of these lanes, begun.
    pub fn new(lanes: Vec<(LaneId, Vec<Cell>)>) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let now = jiff::Timestamp::from_microsecond(i64::try_from(T0).expect("a time")).expect("a time");
        let run = RunDir::create(
            &dir.path().join("results"),
            &dir.path().join("logs"),
            "night",
            now,
        )
        .expect("create");
        let mut plan = Plan {
            name: "night".to_owned(),
            host: Host {
                gpu: GpuSelection::Devices(vec![DeviceSelector::Index(0)]),
                expect: Expect::default(),
                exclusive: true,
                stranger_wait: std::time::Duration::ZERO,
            },
            request: RequestSettings {
                temperature: 0.0,
                top_p: 1.0,
                seed: None,
                timeout: Duration::from_secs(300),
                warmup: 3,
            },
            models: IndexMap::new(),
            frameworks: IndexMap::new(),
            scenarios: IndexMap::new(),
            hypotheses: Hypotheses::default(),
            order: Order::Fixed,
            repeats: NonZeroU32::MIN,
            quality: None,
            notify: None,
        };
        for (id, _) in &lanes {
            plan.frameworks
                .insert(id.framework.clone(), framework(&id.framework));
            plan.models.insert(id.model.clone(), model(&id.model));
        }
        let lanes: Vec<Lane> = lanes.into_iter().map(|(id, cells)| Lane { id, cells }).collect();
        let events = vec![Event::RunStarted(RunStarted {
            run_id: run.id().to_owned(),
            plan: "night".to_owned(),
            plan_sha256: "5e".repeat(32),
            benchd_version: "0.1.0".to_owned(),
            pid: 1,
            boot_id: "boot".to_owned(),
            resumed: false,
            lanes: lanes
                .iter()
                .map(|l| (l.id.clone(), l.cells.len() as u32))
                .collect(),
        })];
        Self {
            _dir: dir,
            run,
            plan,
            lanes,
            events,
        }
    }

    /// One lane with one cell, its server ready.
    pub fn one(cell: Cell) -> Self {
        let lane = lane_id("vllm", "llama");
        let mut builder = Self::new(vec![(lane.clone(), vec![cell])]);
        builder.ready(&lane);
        builder
    }

    /// The lane's server comes up.
    pub fn ready(&mut self, lane: &LaneId) {
        self.events.extend([
            Event::LaneStarted(LaneStarted {
                lane: lane.clone(),
                attempt: 1,
            }),
            Event::ServerPrepared(ServerPrepared {
                lane: lane.clone(),
                token: "t".to_owned(),
                argv: vec![
                    "vllm".to_owned(),
                    "serve".to_owned(),
                    "meta-llama/Llama".to_owned(),
                ],
                env: match lane.framework.as_str() {
                    "ollama" => vec![("OLLAMA_NUM_PARALLEL".to_owned(), "1".to_owned())],
                    _ => vec![("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-1".to_owned())],
                },
                port: 8000,
            }),
            Event::ServerLaunched(ServerLaunched {
                lane: lane.clone(),
                leader: ProcessIdentity {
                    pid: 100,
                    start_ticks: 1,
                    pgid: 100,
                    sid: 100,
                    name: "vllm".to_owned(),
                },
                output_pipes: Vec::new(),
            }),
            Event::ServerReady(ServerReady {
                lane: lane.clone(),
                healthy_ms: 20_000,
                ready_ms: 21_500,
                facts: BTreeMap::from([("version".to_owned(), "0.15.1".to_owned())]),
                stream: StreamShape {
                    usage: true,
                    end: EndMarker::Done,
                },
                template_tokens: Some(10),
                gpu_used_bytes: Some(70_000_000_000),
                load: Some(match lane.framework.as_str() {
                    "vllm" => LoadFigures {
                        weights_bytes: Some(16_100_000_000),
                        kv_cache_bytes: Some(50_000_000_000),
                        kv_cache_tokens: Some(381_000),
                        compute_bytes: Some(1_050_000_000),
                        load_ms: Some(4_200),
                        devices: 1,
                        on_host: false,
                    },
                    _ => LoadFigures::default(),
                }),
                precision: Some(served_in(if lane.framework == "ollama" {
                    "q4_k_m"
                } else {
                    "bf16"
                })),
                compile_caches: None,
                processes: Vec::new(),
            }),
        ]);
    }

    /// A cell is measured: its passes follow each other, each as long as given.
    pub fn measured(&mut self, lane: &LaneId, cell: &str, passes: &[(u64, Vec<Did>)]) -> &mut CellEnded {
        let cell = self
            .lanes
            .iter()
            .find(|l| l.id == *lane)
            .and_then(|l| l.cells.iter().find(|c| c.id == cell));
        let cell = cell.expect("a planned cell").clone();
        let path = self.run.requests(lane);
        let (mut file, _) = RecordFile::open_append(&path).expect("open");
        let offset = file.position();
        // A warm-up that must not be counted.
        file.append(&record(lane.round, &cell, 0, 0, &Did::ok(0, 9_000, 9_999)))
            .expect("append");
        let mut records = 1;
        let (mut failed, mut start_ms, mut times) = (0, 0, Vec::new());
        for (pass, (duration_ms, requests)) in (1..).zip(passes) {
            for (index, did) in (0..).zip(requests) {
                let did = Did {
                    at_ms: start_ms + did.at_ms,
                    ..did.clone()
                };
                file.append(&record(lane.round, &cell, pass, index, &did))
                    .expect("append");
                records += 1;
                failed += u64::from(did.outcome != Outcome::Ok);
            }
            times.push(PassTimes {
                pass,
                started_unix_us: T0 + start_ms * 1000,
                duration_us: duration_ms * 1000,
            });
            start_ms += duration_ms;
        }
        let bytes = file.sync().expect("sync") - offset;
        self.events.push(Event::CellStarted(CellStarted {
            lane: lane.clone(),
            cell: cell.id.clone(),
            attempt: 1,
            cache_reset: "proven".to_owned(),
        }));
        self.events.push(Event::CellEnded(CellEnded {
            lane: lane.clone(),
            cell: cell.id,
            attempt: 1,
            file: self.run.relative(&path),
            offset,
            bytes,
            records,
            requests: records - 1,
            failed,
            passes: times,
            client: ClientLag::default(),
            flags: Vec::new(),
            server_counters: BTreeMap::new(),
        }));
        match self.events.last_mut() {
            Some(Event::CellEnded(ended)) => ended,
            other => panic!("{other:?}"),
        }
    }

    pub fn samples(&self, lane: &LaneId, samples: &[GpuSample]) {
        let (mut file, _) = GpuFile::open_append(&self.run.gpu(lane)).expect("open");
        for sample in samples {
            file.append(sample).expect("append");
        }
    }

    /// The lane's server is stopped and its memory is back.
    pub fn finish_lane(&mut self, lane: &LaneId) {
        self.events.extend([
            Event::ServerReaped(ServerReaped {
                lane: lane.clone(),
                stop_ms: 2_300,
                exit: "exit 0".to_owned(),
                killed: false,
                swept: Vec::new(),
                stuck: Vec::new(),
            }),
            Event::GpuReleased(GpuReleased {
                lane: lane.clone(),
                release_ms: 410,
                used_bytes: vec![1_000_000],
                baseline_bytes: vec![1_000_000],
                strangers: Vec::new(),
            }),
        ]);
        self.end_lane(lane, LaneOutcome::Finished, None);
    }

    pub fn end_lane(&mut self, lane: &LaneId, outcome: LaneOutcome, failure: Option<(&str, &str, &[&str])>) {
        self.events.push(Event::LaneEnded(LaneEnded {
            lane: lane.clone(),
            attempt: 1,
            outcome,
            stage: failure.map(|f| f.0.to_owned()),
            reason: failure.map(|f| f.1.to_owned()),
            log_tail: failure
                .map(|f| f.2.iter().map(|l| (*l).to_owned()).collect())
                .unwrap_or_default(),
            by_machine: false,
        }));
    }

    pub fn finish(&mut self) {
        self.events.push(Event::RunEnded(RunEnded {
            outcome: RunOutcome::Finished,
            exit_code: 0,
            reason: None,
        }));
    }

    /// Writes the journal as it stands.
    pub fn write_journal(&self) {
        let mut text = Vec::new();
        for entry in benchd_journal::testing::entries(self.events.clone()) {
            serde_json::to_writer(&mut text, &entry).expect("an entry");
            text.push(b'\n');
        }
        std::fs::write(self.run.journal(), text).expect("write");
    }

    pub fn summary(&self) -> Result<RunSummary, AnalysisError> {
        self.write_journal();
        summarise_run_with_series(&self.run, &self.plan, &self.lanes).map(|(summary, _)| summary)
    }

    /// The first lane's only cell.
    pub fn cell(&self) -> CellSummary {
        let summary = self.summary().expect("a summary");
        let lane = &summary.lanes[0];
        assert_eq!((lane.cells.len(), &lane.missing[..]), (1, &[][..]));
        lane.cells[0].clone()
    }
}
