//! The folders of a run and the names in them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::error::DiskError;
use benchd_core::record::LaneId;

/// `results/<run-id>/` and `logs/<run-id>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    id: String,
    root: PathBuf,
    logs: PathBuf,
}

/// How many runs of one plan may start in one second before something is clearly wrong.
const MAX_SAME_SECOND: u32 = 1000;

impl RunDir {
    /// Makes the folders of a new run, named `<UTC date-time>-<plan>` (`20261124T190000Z-a100`; `-2`, `-3`, … where
    /// that is taken), and points `latest` at them.
    pub fn create(
        results_root: &Path,
        logs_root: &Path,
        plan_name: &str,
        now: jiff::Timestamp,
    ) -> Result<Self, DiskError> {
        for root in [results_root, logs_root] {
            fs::create_dir_all(root).map_err(|e| DiskError::new("create", root, e))?;
        }
        let base = format!("{}-{plan_name}", now.strftime("%Y%m%dT%H%M%SZ"));
        for n in 1..=MAX_SAME_SECOND {
            let id = if n == 1 {
                base.clone()
            } else {
                format!("{base}-{n}")
            };
            let (root, logs) = (results_root.join(&id), logs_root.join(&id));
            if !make_new(&root)? {
                continue;
            }
            if !make_new(&logs)? {
                // Logs of a run whose results are gone: leave them alone.
                fs::remove_dir(&root).map_err(|e| DiskError::new("remove", &root, e))?;
                continue;
            }
            sync_parent(&root)?;
            sync_parent(&logs)?;
            point_latest(results_root, &id)?;
            point_latest(logs_root, &id)?;
            return Ok(Self { id, root, logs });
        }
        Err(DiskError::new(
            "create",
            results_root.join(base),
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// The run in this folder (`results/latest` too); its logs are looked for under `logs_root`.
    pub fn open(root: &Path, logs_root: &Path) -> Result<Self, DiskError> {
        let real = fs::canonicalize(root).map_err(|e| DiskError::new("open the run folder", root, e))?;
        let id = real
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let journal = real.join("journal.jsonl");
        fs::metadata(&journal).map_err(|e| DiskError::new("find the journal", &journal, e))?;
        Ok(Self {
            logs: logs_root.join(&id),
            id,
            root: real,
        })
    }

    /// The run that a person names: a run id under `results_root`, a folder, or, where `None`, the newest.
    pub fn find(results_root: &Path, logs_root: &Path, name: Option<&str>) -> Result<Self, DiskError> {
        let name = name.unwrap_or("latest");
        let under = results_root.join(name);
        let root = if under.is_dir() {
            under
        } else {
            PathBuf::from(name)
        };
        if name == "latest" && !root.is_dir() {
            // The link may be gone (a copied folder); the newest run is still there.
            if let Some(newest) = Self::list(results_root, logs_root)?.into_iter().next() {
                return Ok(newest);
            }
        }
        Self::open(&root, logs_root)
    }

    /// All runs under `results_root` that have a journal, newest first.
    pub fn list(results_root: &Path, logs_root: &Path) -> Result<Vec<Self>, DiskError> {
        let mut runs = Vec::new();
        for folder in folders(results_root)? {
            if folder.join("journal.jsonl").is_file() {
                runs.push(Self::open(&folder, logs_root)?);
            }
        }
        // Ids start with the time; of one second the longer (`-2`, then `-10`) is the later.
        runs.sort_by(|a, b| age_key(&b.id).cmp(&age_key(&a.id)));
        Ok(runs)
    }

    /// Removes folders of this plan's runs that hold nothing: their benchd died before it made the journal.
    pub fn remove_empty(results_root: &Path, plan_name: &str) -> Result<(), DiskError> {
        for folder in folders(results_root)? {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if !is_named_for(&name, plan_name) {
                continue;
            }
            match fs::remove_dir(&folder).map_err(|e| (e.kind(), e)) {
                Ok(()) | Err((io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound, _)) => {}
                Err((_, e)) => return Err(DiskError::new("remove", folder, e)),
            }
        }
        Ok(())
    }

    /// Whether the run's id is one of this plan's.
    pub fn is_named_for(&self, plan_name: &str) -> bool {
        is_named_for(&self.id, plan_name)
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `results/<run-id>`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `logs/<run-id>`.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// `journal.jsonl`.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.jsonl")
    }

    /// `run.json`.
    pub fn run_json(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// The frozen plan.
    pub fn plan_yaml(&self) -> PathBuf {
        self.root.join("plan.yaml")
    }

    /// How the exact lengths of the prompts were found, by model.
    pub fn calibration_json(&self) -> PathBuf {
        self.root.join("calibration.json")
    }

    /// The frozen prompts.
    pub fn prompts(&self) -> PathBuf {
        self.root.join("prompts.jsonl")
    }

    /// `questions.jsonl`: what every lane is asked, with the right answers.
    pub fn questions(&self) -> PathBuf {
        self.root.join("questions.jsonl")
    }

    /// The whole run's cells, one row each.
    pub fn summary_csv(&self) -> PathBuf {
        self.root.join("summary.csv")
    }

    /// The whole run's summary.
    pub fn summary_json(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// The report in Markdown.
    pub fn report_md(&self) -> PathBuf {
        self.root.join("report.md")
    }

    /// The report in HTML.
    pub fn report_html(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// `<framework>/<model>`: all rounds of a lane share a folder, their records carry the round.
    pub fn lane(&self, lane: &LaneId) -> PathBuf {
        self.root.join(&lane.framework).join(&lane.model)
    }

    /// The lane's request records.
    pub fn requests(&self, lane: &LaneId) -> PathBuf {
        self.lane(lane).join("requests.jsonl")
    }

    /// The lane's answers to the questions.
    pub fn quality(&self, lane: &LaneId) -> PathBuf {
        self.lane(lane).join("quality.jsonl")
    }

    /// The lane's GPU samples.
    pub fn gpu(&self, lane: &LaneId) -> PathBuf {
        self.lane(lane).join("gpu.jsonl")
    }

    /// The lane's summary.
    pub fn lane_summary(&self, lane: &LaneId) -> PathBuf {
        self.lane(lane).join("summary.json")
    }

    /// benchd's own log.
    pub fn benchd_log(&self) -> PathBuf {
        self.logs.join("benchd.log")
    }

    /// The log of the lane's server.
    pub fn server_log(&self, lane: &LaneId) -> PathBuf {
        self.logs.join(format!("{}-{}.log", lane.framework, lane.model))
    }

    /// The name of a file of the run as the journal writes it: relative to the run folder.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    }
}

/// The folders in `root`, links (`latest`) left out; none where it does not exist.
fn folders(root: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let fail = |e| DiskError::new("list", root, e);
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// `<time>-<plan>`, or with the number of the run within its second.
fn is_named_for(id: &str, plan_name: &str) -> bool {
    let Some((_, rest)) = id.split_once('-') else {
        return false;
    };
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    match rest.strip_prefix(plan_name) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(number),
        None => false,
    }
}

/// The time, then the number of the run within its second.
fn age_key(id: &str) -> (&str, usize, &str) {
    let time = id.split('-').next().unwrap_or(id);
    (time, id.len(), id)
}

/// `false` where it exists.
fn make_new(dir: &Path) -> Result<bool, DiskError> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(DiskError::new("create", dir, e)),
    }
}

/// Replaces the link `latest`; whoever follows it sees the old run or the new one, never none.
fn point_latest(root: &Path, id: &str) -> Result<(), DiskError> {
    let (latest, next) = (root.join("latest"), root.join(format!(".latest-{id}")));
    std::os::unix::fs::symlink(id, &next).map_err(|e| DiskError::new("link", &next, e))?;
    if let Err(e) = fs::rename(&next, &latest) {
        // The rename's error is the one to tell.
        let _ = fs::remove_file(&next);
        return Err(DiskError::new("replace", latest, e));
    }
    sync_parent(&latest)
}

/// Writes a file so that a reader, or a crash, sees the old content or the new, never a part.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    use std::os::unix::fs::PermissionsExt as _;
    let fail = |e| DiskError::new("write", path, e);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        // What the user's umask makes of it, as for any file; the default would be for the owner only.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    sync_parent(path)
}

/// A new name is on the disk only when its folder is.
pub(super) fn sync_parent(path: &Path) -> Result<(), DiskError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| DiskError::new("sync", dir, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn runs_of_one_second_get_folders_of_their_own() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (results, logs) = (dir.path().join("results"), dir.path().join("logs"));
        let now = at("2026-11-24T19:00:05.9Z");
        let mut ids = Vec::new();
        for _ in 0..11 {
            let run = RunDir::create(&results, &logs, "a100", now).expect("create");
            fs::write(run.journal(), "").expect("journal");
            ids.push(run.id().to_owned());
        }
        assert_eq!(ids[0], "20261124T190005Z-a100");
        assert_eq!(ids[1], "20261124T190005Z-a100-2");
        assert_eq!(
            fs::read_link(results.join("latest")).expect("link"),
            Path::new(&ids[10])
        );
        assert_eq!(
            fs::read_link(logs.join("latest")).expect("link"),
            Path::new(&ids[10])
        );

        let later = RunDir::create(&results, &logs, "b", at("2026-11-24T19:00:06Z")).expect("create");
        fs::write(later.journal(), "").expect("journal");
        ids.push(later.id().to_owned());
        ids.reverse();
        let listed: Vec<_> = RunDir::list(&results, &logs)
            .expect("list")
            .iter()
            .map(|r| r.id().to_owned())
            .collect();
        assert_eq!(listed, ids);
        assert_eq!(
            RunDir::find(&results, &logs, None).expect("find").id(),
            later.id()
        );
        fs::remove_file(results.join("latest")).expect("remove");
        assert_eq!(
            RunDir::find(&results, &logs, None).expect("find").id(),
            later.id()
        );
        assert_eq!(
            RunDir::find(&results, &logs, Some(&ids[3])).expect("find").id(),
            ids[3]
        );
    }

    #[test]
    fn a_missing_run_is_a_clear_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        let error = RunDir::find(dir.path(), dir.path(), Some("nothing")).expect_err("no such run");
        assert!(
            error.to_string().contains("cannot open the run folder nothing"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_read_only_results_folder_is_told_with_a_hint() {
        use std::os::unix::fs::PermissionsExt as _;
        if nix::unistd::geteuid().is_root() {
            // Root may write anywhere; a path through a file fails for it too.
            let dir = tempfile::tempdir().expect("tempdir");
            let file = dir.path().join("file");
            fs::write(&file, "").expect("write");
            let error = RunDir::create(&file.join("x"), dir.path(), "p", at("2026-01-01T00:00:00Z"));
            assert!(error.expect_err("a file is no folder").hint().is_some());
            return;
        }
        let dir = tempfile::tempdir().expect("tempdir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).expect("chmod");
        let error = RunDir::create(&dir.path().join("r"), dir.path(), "p", at("2026-01-01T00:00:00Z"));
        assert!(error.expect_err("read-only").hint().is_some());
    }

    #[test]
    fn an_atomic_write_replaces_the_whole_content_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("run.json");
        write_atomic(&path, b"a long first content").expect("write");
        write_atomic(&path, b"short").expect("write");
        assert_eq!(fs::read(&path).expect("read"), b"short");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }
}
