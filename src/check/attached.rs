//! Servers that someone else runs (`url:`): which processes are theirs.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, ToSocketAddrs as _},
};

use benchd_core::record::GpuProcess;
use benchd_host::process::{self, Serving};
use benchd_plan::{Framework, Plan, Source};

/// Who serves the framework's address. A name with several addresses is this machine's where one of them is.
pub(crate) fn serving(framework: &Framework) -> Serving {
    let place = (framework.host.as_str(), framework.port);
    let addresses: Vec<SocketAddr> = place.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let mut best = Serving::Elsewhere;
    for address in addresses {
        match process::serving(address) {
            by @ Serving::By(_) => return by,
            Serving::Unseen => best = Serving::Unseen,
            Serving::Elsewhere => {}
        }
    }
    best
}

/// Those of `found` that belong to no server of the plan's, and the URLs of servers on this machine whose processes can't
/// be seen: any of those may be theirs.
pub(crate) fn others(plan: &Plan, found: &[GpuProcess]) -> (Vec<GpuProcess>, Vec<String>) {
    if found.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let (mut theirs, mut unseen) = (BTreeSet::new(), Vec::new());
    for framework in plan.frameworks.values() {
        let Source::Url(url) = &framework.source else {
            continue;
        };
        match serving(framework) {
            Serving::By(processes) => theirs.extend(processes.iter().map(|p| i64::from(p.pid))),
            Serving::Unseen => unseen.push(url.clone()),
            Serving::Elsewhere => {}
        }
    }
    let mut others = found.to_vec();
    others.retain(|process| !theirs.contains(&i64::from(process.pid)));
    (others, unseen)
}
