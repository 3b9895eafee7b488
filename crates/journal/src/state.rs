//! What a journal amounts to: a pure fold over its entries. Resume, status, live view and report read this.

use indexmap::IndexMap;

use super::event::{
    CellEnded, CellFailed, Entry, Event, GpuBaseline, GpuHeld, GpuReleased, LaneEnded, LaneOutcome, Note,
    RunEnded, RunOutcome, ServerReady, ServerReaped,
};
use benchd_core::record::{LaneId, ProcessIdentity};

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The run's id.
    pub run_id: String,
    /// The plan's name.
    pub plan: String,
    /// SHA-256 of the plan's text, hex.
    pub plan_sha256: String,
    /// Version of the benchd that began or last resumed the run.
    pub benchd_version: String,
    /// Its process id.
    pub pid: u32,
    /// The kernel's boot id then.
    pub boot_id: String,
    /// How often the run began: 1, and one more for each resume.
    pub starts: u32,
    /// When it began first, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// When the last event happened, microseconds since the Unix epoch.
    pub last_unix_us: u64,
    /// The GPU before the first server: the first baseline of the journal; later ones are not baselines of this run.
    pub baseline: Option<GpuBaseline>,
    /// Lanes, in the order in which they run.
    pub lanes: IndexMap<LaneId, LaneState>,
    /// The lane that has begun and not ended.
    pub current_lane: Option<LaneId>,
    /// The cell that has begun and neither ended nor failed.
    pub current_cell: Option<String>,
    /// Notes with their times.
    pub notes: Vec<(u64, Note)>,
    /// How the run ended, since it last began.
    pub ended: Option<RunEnded>,
}

/// Where a lane stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneState {
    /// Cells that the plan gives it.
    pub planned_cells: u32,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts that failed by themselves; an interrupted one did not, nor one that the machine failed before the run
    /// went on.
    pub failures: u32,
    /// Those of them that the machine failed since the run last began.
    pub machine_failures: u32,
    /// When the last attempt began, microseconds since the Unix epoch.
    pub started_unix_us: Option<u64>,
    /// How the last attempt ended; `None` while it runs, or where benchd died.
    pub ended: Option<LaneEnded>,
    /// When it ended, microseconds since the Unix epoch.
    pub ended_unix_us: Option<u64>,
    /// Cells that have begun, in order.
    pub cells: IndexMap<String, CellState>,
    /// Where the answers to its questions are, by `quality/c1`.
    pub quality: IndexMap<String, CellEnded>,
    /// Its servers, one an attempt; the last is the newest.
    pub servers: Vec<ServerLife>,
    /// What a server said that benchd did not start (`url:`): it has no life here.
    pub attached: Option<ServerReady>,
}

/// Where a cell stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellState {
    /// Attempts begun.
    pub attempts: u32,
    /// When the last attempt began, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// What the cache reset before the last attempt came to.
    pub cache_reset: String,
    /// Its result.
    pub finished: Option<FinishedCell>,
    /// Attempts that failed.
    pub failures: Vec<CellFailed>,
}

/// A measured cell.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedCell {
    /// The end event: where the records are.
    pub ended: CellEnded,
    /// When the attempt began, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// When it ended, microseconds since the Unix epoch.
    pub ended_unix_us: u64,
    /// What the cache reset before it came to.
    pub cache_reset: String,
    /// Attempt of the lane that measured it, 1 on.
    pub lane_attempt: u32,
}

/// One server's life, and the witnesses by which its processes can be found again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerLife {
    /// Attempt of the lane, 1 on.
    pub lane_attempt: u32,
    /// The kernel's boot id then: after a reboot none of its processes is left.
    pub boot_id: String,
    /// The token in its environment.
    pub token: String,
    /// Program and arguments, secrets redacted.
    pub argv: Vec<String>,
    /// Environment that benchd set, secrets redacted.
    pub env: Vec<(String, String)>,
    /// TCP port that it was told to listen on.
    pub port: u16,
    /// The leader; `None` where benchd died (or the launch failed) before it was journalled.
    pub leader: Option<ProcessIdentity>,
    /// Inode numbers of the pipes that take its output.
    pub output_pipes: Vec<u64>,
    /// Every process of it that was ever journalled, the leader left out.
    pub descendants: Vec<ProcessIdentity>,
    /// When it was launched, microseconds since the Unix epoch.
    pub launched_unix_us: Option<u64>,
    /// What it said when it was ready.
    pub ready: Option<ServerReady>,
    /// When it was ready, microseconds since the Unix epoch.
    pub ready_unix_us: Option<u64>,
    /// When its stop began, microseconds since the Unix epoch.
    pub stopping_unix_us: Option<u64>,
    /// Its end; `None`: its processes may be there still.
    pub reaped: Option<ServerReaped>,
    /// When it was reaped, microseconds since the Unix epoch.
    pub reaped_unix_us: Option<u64>,
    /// Proof that its memory came back.
    pub released: Option<GpuReleased>,
    /// Proof that it did not.
    pub held: Option<GpuHeld>,
    /// The lane ended and this server had never been launched: there is nothing to find.
    pub never_launched: bool,
}

impl ServerLife {
    /// Whether processes of it may be there still.
    pub fn is_open(&self) -> bool {
        let over = self.reaped.as_ref().is_some_and(|reaped| reaped.stuck.is_empty());
        !over && !self.never_launched
    }
}

impl LaneState {
    /// Cells that are measured.
    pub fn finished_cells(&self) -> impl Iterator<Item = (&str, &FinishedCell)> {
        self.cells
            .iter()
            .filter_map(|(id, c)| c.finished.as_ref().map(|f| (id.as_str(), f)))
    }

    /// What its newest server said when it was ready.
    pub fn ready(&self) -> Option<&ServerReady> {
        self.servers
            .iter()
            .rev()
            .find_map(|s| s.ready.as_ref())
            .or(self.attached.as_ref())
    }

    /// Whether nothing is left to do: the last attempt finished or failed.
    pub fn is_over(&self) -> bool {
        self.ended
            .as_ref()
            .is_some_and(|e| e.outcome != LaneOutcome::Interrupted)
    }
}

impl State {
    /// Folds entries.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    /// Servers whose processes may be there still, with their lanes.
    pub fn open_servers(&self) -> impl Iterator<Item = (&LaneId, &ServerLife)> {
        self.lanes
            .iter()
            .flat_map(|(id, lane)| lane.servers.iter().filter(|s| s.is_open()).map(move |s| (id, s)))
    }

    /// The result of a cell, where it is measured.
    pub fn finished(&self, lane: &LaneId, cell: &str) -> Option<&FinishedCell> {
        self.lanes.get(lane)?.cells.get(cell)?.finished.as_ref()
    }

    /// The number of a cell's next attempt, 1 on.
    pub fn next_cell_attempt(&self, lane: &LaneId, cell: &str) -> u32 {
        self.lanes
            .get(lane)
            .and_then(|l| l.cells.get(cell))
            .map_or(0, |c| c.attempts)
            + 1
    }

    /// Whether the run came to its own end; else it is under way, or can be resumed.
    pub fn is_finished(&self) -> bool {
        self.ended
            .as_ref()
            .is_some_and(|e| e.outcome == RunOutcome::Finished)
    }

    /// Whether the journal stops without an end event: the run is under way, or its process died.
    pub fn is_open(&self) -> bool {
        self.starts > 0 && self.ended.is_none()
    }

    /// Cells measured, of all lanes.
    pub fn cells_finished(&self) -> usize {
        self.lanes.values().map(|l| l.finished_cells().count()).sum()
    }

    /// Cells planned, of all lanes.
    pub fn cells_planned(&self) -> u32 {
        self.lanes.values().map(|l| l.planned_cells).sum()
    }

    /// Applies one entry. Total: an entry that fits nothing (a lane that was never started) makes what it needs.
    pub fn apply(&mut self, entry: &Entry) {
        let at = entry.unix_us;
        self.last_unix_us = at;
        match &entry.event {
            Event::RunStarted(e) => {
                if self.starts == 0 {
                    self.started_unix_us = at;
                }
                self.starts = self.starts.saturating_add(1);
                self.run_id.clone_from(&e.run_id);
                self.plan.clone_from(&e.plan);
                self.plan_sha256.clone_from(&e.plan_sha256);
                self.benchd_version.clone_from(&e.benchd_version);
                self.boot_id.clone_from(&e.boot_id);
                self.pid = e.pid;
                for (lane, cells) in &e.lanes {
                    let state = self.lane(lane);
                    // A resumed run may name only what is left of a lane.
                    state.planned_cells = state.planned_cells.max(*cells);
                }
                // A machine that was mended or booted again owes its lanes another attempt.
                for lane in self.lanes.values_mut() {
                    lane.failures -= std::mem::take(&mut lane.machine_failures);
                }
                self.ended = None;
                self.current_lane = None;
                self.current_cell = None;
            }
            Event::GpuBaseline(e) => {
                self.baseline.get_or_insert_with(|| e.clone());
            }
            Event::LaneStarted(e) => {
                let lane = self.lane(&e.lane);
                lane.attempts = lane.attempts.max(e.attempt);
                lane.started_unix_us = Some(at);
                lane.ended = None;
                lane.ended_unix_us = None;
                self.current_lane = Some(e.lane.clone());
                self.current_cell = None;
            }
            Event::CellStarted(e) => {
                let cell = self.lane(&e.lane).cells.entry(e.cell.clone()).or_default();
                cell.attempts = cell.attempts.max(e.attempt);
                cell.started_unix_us = at;
                cell.cache_reset.clone_from(&e.cache_reset);
                self.current_cell = Some(e.cell.clone());
            }
            Event::CellEnded(e) => {
                let lane = self.lane(&e.lane);
                let lane_attempt = lane.attempts.max(1);
                let cell = lane.cells.entry(e.cell.clone()).or_default();
                cell.attempts = cell.attempts.max(e.attempt);
                cell.finished = Some(FinishedCell {
                    ended: e.clone(),
                    started_unix_us: cell.started_unix_us,
                    ended_unix_us: at,
                    cache_reset: cell.cache_reset.clone(),
                    lane_attempt,
                });
                self.current_cell = None;
            }
            Event::CellFailed(e) => {
                let cell = self.lane(&e.lane).cells.entry(e.cell.clone()).or_default();
                cell.attempts = cell.attempts.max(e.attempt);
                cell.failures.push(e.clone());
                self.current_cell = None;
            }
            Event::QualityAsked(e) => {
                self.lane(&e.lane).quality.insert(e.cell.clone(), e.clone());
            }
            Event::LaneEnded(e) => {
                let lane = self.lane(&e.lane);
                lane.attempts = lane.attempts.max(e.attempt);
                let failed = u32::from(e.outcome == LaneOutcome::Failed);
                lane.failures += failed;
                lane.machine_failures += failed * u32::from(e.by_machine);
                lane.ended = Some(e.clone());
                lane.ended_unix_us = Some(at);
                for server in lane.servers.iter_mut().filter(|s| s.leader.is_none()) {
                    server.never_launched = true;
                }
                self.current_lane = None;
                self.current_cell = None;
            }
            Event::Note(e) => self.notes.push((at, e.clone())),
            Event::RunEnded(e) => {
                self.ended = Some(e.clone());
                self.current_lane = None;
                self.current_cell = None;
            }
            Event::ServerPrepared(e) => {
                let boot_id = self.boot_id.clone();
                let lane = self.lane(&e.lane);
                let lane_attempt = lane.attempts.max(1);
                // As a rule a lane has one life, and the whole night's are kept.
                lane.servers.reserve_exact(1);
                lane.servers.push(ServerLife {
                    lane_attempt,
                    boot_id,
                    token: e.token.clone(),
                    argv: e.argv.clone(),
                    env: e.env.clone(),
                    port: e.port,
                    ..ServerLife::default()
                });
            }
            Event::ServerLaunched(e) => {
                if let Some(server) = self.server(&e.lane) {
                    server.leader = Some(e.leader.clone());
                    server.output_pipes.clone_from(&e.output_pipes);
                    server.launched_unix_us = Some(at);
                }
            }
            Event::ServerDescendants(e) => {
                if let Some(server) = self.server(&e.lane) {
                    for process in &e.processes {
                        let known = server.leader.iter().chain(&server.descendants);
                        let same = |k: &ProcessIdentity| {
                            (k.pid, k.start_ticks) == (process.pid, process.start_ticks)
                        };
                        if !known.into_iter().any(same) {
                            server.descendants.push(process.clone());
                        }
                    }
                }
            }
            Event::ServerReady(e) => {
                if let Some(server) = self.server(&e.lane) {
                    server.ready = Some(e.clone());
                    server.ready_unix_us = Some(at);
                } else {
                    self.lane(&e.lane).attached = Some(e.clone());
                }
            }
            Event::ServerStopping(e) => {
                if let Some(server) = self.server(&e.lane) {
                    server.stopping_unix_us = Some(at);
                }
            }
            Event::ServerReaped(e) => {
                if let Some(server) = self.server(&e.lane) {
                    server.reaped = Some(e.clone());
                    server.reaped_unix_us = Some(at);
                }
            }
            Event::GpuReleased(e) => {
                if let Some(server) = self.server(&e.lane) {
                    server.released = Some(e.clone());
                    server.held = None;
                }
            }
            Event::GpuHeld(e) => {
                if let Some(server) = self.server(&e.lane) {
                    server.held = Some(e.clone());
                }
            }
        }
    }

    fn lane(&mut self, lane: &LaneId) -> &mut LaneState {
        self.lanes.entry(lane.clone()).or_default()
    }

    /// The lane's newest server. A `url:` server is never prepared and has no life here.
    fn server(&mut self, lane: &LaneId) -> Option<&mut ServerLife> {
        self.lanes.get_mut(lane)?.servers.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{GpuBaseline, testing::*},
        *,
    };

    #[test]
    fn a_whole_lane_leaves_nothing_open() {
        let state = State::from_entries(&entries(whole_run()));
        let lane = &state.lanes[&lane_id()];
        assert_eq!((lane.attempts, lane.planned_cells), (1, 2));
        assert_eq!(lane.finished_cells().count(), 1);
        assert!(lane.is_over());
        assert_eq!(lane.cells["concurrent/c8"].failures.len(), 1);
        assert_eq!(state.open_servers().count(), 0);
        assert_eq!(
            lane.servers[0].descendants.len(),
            1,
            "the leader is not its own descendant"
        );
        assert!(lane.servers[0].released.is_some());
        assert_eq!(lane.ready().expect("ready").ready_ms, 9000);
        assert!(state.is_finished() && !state.is_open());
        assert_eq!((state.cells_finished(), state.cells_planned()), (1, 2));
        assert_eq!(
            (state.current_lane.as_ref(), state.current_cell.as_ref()),
            (None, None)
        );
    }

    #[test]
    fn death_in_a_cell_leaves_the_server_and_the_cell_open() {
        let mut events = whole_run();
        let at = events
            .iter()
            .position(|e| matches!(e, Event::CellEnded(_)))
            .expect("a cell ends");
        events.truncate(at);
        let state = State::from_entries(&entries(events.clone()));
        assert_eq!(state.current_lane, Some(lane_id()));
        assert_eq!(state.current_cell.as_deref(), Some("single/in128"));
        let (lane, server) = state.open_servers().next().expect("an open server");
        assert_eq!((lane, server.token.as_str()), (&lane_id(), "token"));
        assert_eq!(server.leader.as_ref().map(|l| l.pid), Some(100));
        assert_eq!(server.descendants[0].pid, 101);
        assert_eq!(server.boot_id, "boot");
        assert_eq!(state.next_cell_attempt(&lane_id(), "single/in128"), 2);
        assert_eq!(state.next_cell_attempt(&lane_id(), "concurrent/c8"), 1);
        assert_eq!(state.lanes[&lane_id()].attempts, 1);
        assert!(state.is_open() && !state.is_finished());

        // Resumed: what was open is seen still, the run is no longer in a cell.
        events.push(run_started(true));
        let state = State::from_entries(&entries(events));
        assert_eq!(state.starts, 2);
        assert_eq!(state.open_servers().count(), 1);
        assert_eq!(
            (state.current_lane.as_ref(), state.current_cell.as_ref()),
            (None, None)
        );
    }

    #[test]
    fn a_launch_that_failed_leaves_nothing_to_find_but_death_in_it_does() {
        let mut events = vec![run_started(false), lane_started(1), prepared()];
        assert_eq!(
            State::from_entries(&entries(events.clone()))
                .open_servers()
                .count(),
            1
        );
        events.push(lane_ended(LaneOutcome::Failed));
        assert_eq!(State::from_entries(&entries(events)).open_servers().count(), 0);
    }

    #[test]
    fn the_first_baseline_stays() {
        let baseline = |used| {
            Event::GpuBaseline(GpuBaseline {
                host: gpu_host(),
                used_bytes: vec![used],
                strangers: Vec::new(),
            })
        };
        let events = vec![run_started(false), baseline(1), run_started(true), baseline(2)];
        let state = State::from_entries(&entries(events));
        assert_eq!(state.baseline.expect("a baseline").used_bytes, vec![1]);
    }

    #[test]
    fn what_the_machine_failed_counts_until_the_run_goes_on() {
        let Event::LaneEnded(ended) = lane_ended(LaneOutcome::Failed) else {
            panic!("a lane's end")
        };
        let by_machine = Event::LaneEnded(LaneEnded {
            by_machine: true,
            ..ended.clone()
        });
        let mut events = vec![run_started(false), lane_started(1), by_machine.clone()];
        let failures =
            |events: &[Event]| State::from_entries(&entries(events.to_vec())).lanes[&lane_id()].failures;
        assert_eq!(failures(&events), 1, "no second attempt on the same machine");
        events.push(run_started(true));
        assert_eq!(failures(&events), 0);
        events.extend([lane_started(2), Event::LaneEnded(ended), run_started(true)]);
        assert_eq!(failures(&events), 1, "its own failure stays");
    }

    #[test]
    fn who_could_not_be_ended_is_looked_for_again() {
        let mut events = whole_run();
        let reaped = events.iter_mut().find_map(|event| match event {
            Event::ServerReaped(reaped) => Some(reaped),
            _ => None,
        });
        let reaped = reaped.expect("a server is reaped");
        reaped.stuck.clone_from(&reaped.swept);
        assert_eq!(State::from_entries(&entries(events)).open_servers().count(), 1);
    }

    #[test]
    fn an_interrupted_lane_is_not_over() {
        let events = vec![
            run_started(false),
            lane_started(1),
            lane_ended(LaneOutcome::Interrupted),
        ];
        let state = State::from_entries(&entries(events));
        assert!(!state.lanes[&lane_id()].is_over());
    }
}
