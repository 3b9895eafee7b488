//! The delegated cgroup: where systemd (`Delegate=yes`) or a person gives benchd a part of the tree, every server
//! gets a cgroup of its own there.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Names a cgroup v2 directory that a person delegates to benchd.
const DELEGATED_VARIABLE: &str = "BENCHD_CGROUP";

/// benchd's own place below the delegated directory: version 2 wants processes in leaves only.
const OWN_PLACE: &str = "benchd";

/// The delegated directory, with benchd moved into a place of its own below it; `None` where nothing is
/// delegated. A note for people where something is and can't be used.
pub(super) fn enter() -> (Option<PathBuf>, Option<String>) {
    let named = std::env::var_os(DELEGATED_VARIABLE).filter(|v| !v.is_empty());
    let under_systemd = std::env::var_os("NOTIFY_SOCKET").is_some_and(|v| !v.is_empty());
    let dir = match named {
        Some(dir) => PathBuf::from(dir),
        None if under_systemd => match unit_cgroup() {
            Some(dir) => dir,
            None => return (None, None),
        },
        None => return (None, None),
    };
    match move_into(&dir) {
        Ok(()) => (Some(dir), None),
        Err(error) => (
            None,
            Some(format!(
                "the cgroup {} can't be used ({error}): servers are stopped by group and sweep alone",
                dir.display()
            )),
        ),
    }
}

fn move_into(delegated: &Path) -> io::Result<()> {
    let own = delegated.join(OWN_PLACE);
    match std::fs::create_dir(&own) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // `0` is the writer itself, all its threads.
    std::fs::write(own.join("cgroup.procs"), "0")
}

/// The cgroup that systemd gave the unit, where the machine has version 2.
fn unit_cgroup() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let unit = unit_path(&text)?;
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(|mount| Path::new(mount).join(unit))
        .find(|dir| dir.join("cgroup.kill").exists())
}

/// The version 2 line of /proc/self/cgroup, without the leading slash, where it is a service's; the subgroup of
/// systemd's `DelegateSubgroup=` or of an earlier [`enter`] left out.
fn unit_path(proc_self_cgroup: &str) -> Option<&str> {
    let path = proc_self_cgroup.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let end = path.rfind(".service")? + ".service".len();
    let rest = &path[end..];
    // A process deeper than one level below the unit is in nobody's plain subgroup.
    (rest.is_empty() || rest.starts_with('/') && rest.matches('/').count() == 1).then(|| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_cgroup_is_found_and_no_other() {
        let unit = "system.slice/system-benchd.slice/benchd@a100.service";
        assert_eq!(unit_path(&format!("9:name=systemd:/x\n0::/{unit}\n")), Some(unit));
        assert_eq!(unit_path(&format!("0::/{unit}/benchd\n")), Some(unit));
        assert_eq!(unit_path("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit_path("0::/\n"), None);
        assert_eq!(unit_path("4:memory:/a.service\n"), None);
    }
}
