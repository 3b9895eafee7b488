//! Who of a server's processes runs at one moment, and how each of them ends after that.
//!
//! A front end may live on for seconds without the worker that computes, and then end as if all were well. So every
//! process is watched through a pidfd of its own: its end is noticed at once, and its status is read while the kernel
//! still keeps it for the parent, or from the pidfd where the parent was quicker.

use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    exit::LeaderExit,
    signal::{self, ProcessHandle},
};
use benchd_core::record::ProcessIdentity;

/// Bytes of a process's name that `/proc/PID/stat` shows.
const COMM_BYTES: usize = 15;

/// How long before its front end a worker must have died to be the first: SGLang's front end kills its children within
/// milliseconds before itself; vLLM's outlived a killed engine by 0.8 s at least.
const LEAD: Duration = Duration::from_millis(250);

const SIGTERM: i32 = nix::sys::signal::Signal::SIGTERM as i32;

/// A process of a server that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Who it was.
    pub identity: ProcessIdentity,
    /// Its title where it had set itself one, else its name.
    pub name: String,
    /// How it ended; `None` where its parent had taken the status before benchd could read it, and the kernel keeps none
    /// (before Linux 6.15).
    pub how: Option<LeaderExit>,
    /// When that was noticed.
    pub at: Instant,
}

impl ProcessEnd {
    /// Whether it may have ended because its work was done, as helpers do.
    fn is_orderly(&self) -> bool {
        self.how == Some(LeaderExit::Code(0))
    }
}

impl std::fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}) ", self.name, self.identity.pid)?;
        match &self.how {
            Some(signal @ LeaderExit::Signal { .. }) => write!(f, "was killed by {signal}"),
            Some(code @ LeaderExit::Code(_)) => write!(f, "ended with {code}"),
            None => f.write_str("is gone"),
        }
    }
}

/// Processes of a server, each watched for its end while a clone of this is there.
#[derive(Debug, Clone)]
pub struct Roster {
    ends: watch::Receiver<Vec<ProcessEnd>>,
    /// Aborted when dropped.
    _watches: Arc<JoinSet<()>>,
}

impl Roster {
    /// Watches these. Needs a tokio runtime with I/O.
    pub(super) fn of(processes: &[ProcessIdentity]) -> Self {
        let (ended, ends) = watch::channel(Vec::new());
        let mut watches = JoinSet::new();
        for identity in processes {
            let (identity, ended) = (identity.clone(), ended.clone());
            let name = title(&identity);
            let watched = match ProcessHandle::open(&identity) {
                Ok(handle) => handle.map(ProcessHandle::watched).transpose(),
                Err(error) => Err(error),
            };
            let watched = match watched {
                Ok(watched) => watched,
                Err(error) => {
                    tracing::warn!(pid = identity.pid, name, %error, "a process of the server can't be watched");
                    continue;
                }
            };
            watches.spawn(async move {
                // One that ended before it could be watched has nothing to wait for.
                if let Some(watched) = &watched
                    && let Err(error) = watched.readable().await
                {
                    tracing::warn!(pid = identity.pid, name, %error, "a process of the server is watched no more");
                    return;
                }
                let at = Instant::now();
                let kept = || signal::exit_once_reaped(watched.as_ref()?.get_ref());
                let how = status(&identity).or_else(kept);
                ended.send_modify(|ends| {
                    ends.push(ProcessEnd {
                        identity,
                        name,
                        how,
                        at,
                    });
                });
            });
        }
        Self {
            ends,
            _watches: Arc::new(watches),
        }
    }

    /// The first that ended otherwise than helpers do (exit 0), if one has.
    pub fn died(&self) -> Option<ProcessEnd> {
        first_death(&self.ends.borrow())
    }

    /// The first that died by itself, where that was well before the leader ended. What dies about when the leader does, or
    /// of TERM, was ended by it.
    pub fn died_before(&self, leader: i32) -> Option<ProcessEnd> {
        let ends = self.ends.borrow();
        let of_leader = ends.iter().find(|end| end.identity.pid == leader);
        let leader_at = of_leader.map_or_else(Instant::now, |end| end.at);
        first_death(&ends).filter(|end| {
            let told = matches!(end.how, Some(LeaderExit::Signal { number, .. }) if number == SIGTERM);
            end.identity.pid != leader && !told && end.at + LEAD <= leader_at
        })
    }

    /// Waits until one has ended otherwise than helpers do; for ever where none does.
    pub async fn death(&self) -> ProcessEnd {
        let mut ends = self.ends.clone();
        let found = ends.wait_for(|ends| first_death(ends).is_some()).await;
        match found.ok().and_then(|ends| first_death(&ends)) {
            Some(death) => death,
            // All are watched no more, and none died.
            None => std::future::pending().await,
        }
    }
}

fn first_death(ends: &[ProcessEnd]) -> Option<ProcessEnd> {
    ends.iter()
        .filter(|end| !end.is_orderly())
        .min_by_key(|end| end.at)
        .cloned()
}

/// What a process calls itself: the kernel cuts names, and programs that set a title put the whole of it where their
/// arguments were.
fn title(identity: &ProcessIdentity) -> String {
    let name = &identity.name;
    if name.len() < COMM_BYTES {
        return name.clone();
    }
    let argument = procfs::process::Process::new(identity.pid)
        .and_then(|process| process.cmdline())
        .ok()
        .and_then(|arguments| arguments.into_iter().next());
    argument
        .filter(|argument| argument.starts_with(name.as_str()))
        .unwrap_or_else(|| name.clone())
}

/// How an ended process ended, as long as its parent has not asked for it.
fn status(identity: &ProcessIdentity) -> Option<LeaderExit> {
    let stat = procfs::process::Process::new(identity.pid).ok()?.stat().ok()?;
    (stat.starttime == identity.start_ticks && matches!(stat.state, 'Z' | 'X'))
        .then(|| ExitStatus::from_raw(stat.exit_code.unwrap_or_default()))
        .map(LeaderExit::from_status)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::{super::table, *};

    fn child(script: &str) -> (Child, ProcessIdentity) {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let identity = table::identity(i32::try_from(child.id()).unwrap()).unwrap();
        (child, identity)
    }

    #[tokio::test]
    async fn who_is_killed_is_a_death_with_its_signal_and_who_ends_in_order_is_none() {
        let (mut helper, a) = child("read line; exit 0");
        let (mut worker, b) = child("read line; exit 3");
        let roster = Roster::of(&[a.clone(), b.clone()]);
        assert_eq!(roster.died(), None);
        drop(helper.stdin.take());
        let mut ends = roster.ends.clone();
        ends.wait_for(|ends| ends.len() == 1).await.unwrap();
        assert_eq!(roster.died(), None, "a helper's end is no death");
        worker.kill().unwrap();
        let death = roster.death().await;
        assert_eq!(death.identity, b);
        assert_eq!(
            death.to_string(),
            format!("sh (pid {}) was killed by signal 9 (SIGKILL)", b.pid)
        );
        assert_eq!(roster.died(), Some(death));
        helper.wait().unwrap();
        worker.wait().unwrap();
    }

    #[test]
    fn the_first_to_die_is_told_from_those_that_the_leader_ended() {
        let killed = LeaderExit::Signal {
            number: 9,
            core: false,
        };
        let told = LeaderExit::Signal {
            number: SIGTERM,
            core: false,
        };
        let began = Instant::now();
        let first = |ends: &[(i32, LeaderExit, u64)]| {
            let ends = ends.iter().map(|(pid, how, ms)| ProcessEnd {
                identity: super::super::seen(*pid, 1, 1, 100, 100).identity,
                name: "worker".to_owned(),
                how: Some(*how),
                at: began + Duration::from_millis(*ms),
            });
            let (_, ends) = watch::channel(ends.collect());
            let roster = Roster {
                ends,
                _watches: Arc::default(),
            };
            roster.died_before(100).map(|end| end.identity.pid)
        };
        let leader = |ms| (100, LeaderExit::Code(0), ms);
        assert_eq!(first(&[(101, killed, 0), leader(800)]), Some(101));
        assert_eq!(
            first(&[(101, killed, 0), (102, killed, 5_790), (100, killed, 5_800)]),
            Some(101)
        );
        assert_eq!(
            first(&[(102, killed, 0), (100, killed, 8)]),
            None,
            "killed by the leader"
        );
        assert_eq!(
            first(&[(100, killed, 0), (101, killed, 300)]),
            None,
            "the leader was first"
        );
        assert_eq!(
            first(&[(101, told, 0), leader(5_000)]),
            None,
            "told to end by the leader"
        );
    }

    #[test]
    fn a_status_that_the_parent_took_is_the_pidfds_or_not_known() {
        let (mut worker, identity) = child("read line; exit 0");
        let handle = ProcessHandle::open(&identity).unwrap().unwrap();
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!(status(&identity), None);
        // Kernels before 6.15 keep none.
        let kept = signal::exit_once_reaped(&handle.into_fd());
        let killed = LeaderExit::Signal {
            number: 9,
            core: false,
        };
        assert!(kept.is_none() || kept == Some(killed), "{kept:?}");
    }

    #[tokio::test]
    async fn a_status_that_the_parent_took_first_is_not_known_and_a_death_all_the_same() {
        let (mut worker, identity) = child("read line; exit 0");
        worker.kill().unwrap();
        worker.wait().unwrap();
        let death = Roster::of(std::slice::from_ref(&identity)).death().await;
        assert_eq!(death.how, None);
        assert!(death.to_string().ends_with("is gone"), "{death}");
    }
}
