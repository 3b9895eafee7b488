//! The GPU room on the fake NVML library: the whole way from a C call to a verdict.

mod open;
mod real;
mod release;
mod sampler;

use std::{
    process::{Child, Command},
    time::Duration,
};

use benchd_host::gpu::{Gpu, GpuError};
use benchd_plan::{DeviceSelector, GpuSelection};

use crate::support::fake_nvml::FakeGpu;

const GIB: u64 = 1 << 30;
/// Long enough for anything that must come; nothing is asserted about how soon it does.
const PATIENCE: Duration = Duration::from_secs(300);
/// A process that is always there and never ours.
const INIT: u32 = 1;

fn index(index: u32) -> GpuSelection {
    GpuSelection::Devices(vec![DeviceSelector::Index(index)])
}

fn uuid(uuid: &str) -> GpuSelection {
    GpuSelection::Devices(vec![DeviceSelector::Uuid(uuid.to_owned())])
}

fn open(fake: &FakeGpu) -> Gpu {
    Gpu::open(&index(0), Some(&fake.library())).expect("the fake GPU opens")
}

fn refused(fake: &FakeGpu, selection: &GpuSelection) -> GpuError {
    Gpu::open(selection, Some(&fake.library())).expect_err("the GPU must be refused")
}

/// A process of ours; ended when dropped.
struct Server(Child);

impl Server {
    fn start() -> Self {
        Self(
            Command::new("sleep")
                .arg("600")
                .spawn()
                .expect("sleep can be started"),
        )
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn pids(&self) -> Vec<i32> {
        vec![i32::try_from(self.pid()).expect("a pid fits")]
    }

    fn end(&mut self) {
        self.0.kill().expect("our child can be killed");
        self.0.wait().expect("our child can be waited for");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.end();
        }
    }
}
