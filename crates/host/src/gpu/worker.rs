//! The NVML thread: opens the library, answers commands, keeps the sampler's ticks, and ends with its handle.

use std::{
    ffi::OsString,
    ops::ControlFlow,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::Instant,
};

use nvml_wrapper::Nvml;
use tokio::sync::oneshot;

use super::{
    error::GpuError,
    nvml::{self, Chosen},
    observation::{DeviceHealth, Observation},
    placement::DeviceProcesses,
    sample::{Sampler, SamplerReport, Sampling},
    watch::OurPids,
};
use benchd_core::record::GpuHost;
use benchd_plan::DeviceSelector;

/// What the thread can be asked.
pub(super) enum Command {
    Observe(oneshot::Sender<Observation>),
    Health(oneshot::Sender<Vec<DeviceHealth>>),
    Processes(oneshot::Sender<Result<Vec<DeviceProcesses>, GpuError>>),
    StartSampling(Sampling),
    StopSampling(oneshot::Sender<SamplerReport>),
}

/// The thread's whole life. `opened` gets the inventory or the reason why there is none.
pub(super) fn run(
    library: &OsString,
    selectors: &[DeviceSelector],
    ours: &OurPids,
    opened: &SyncSender<Result<GpuHost, GpuError>>,
    commands: &Receiver<Command>,
) {
    let started = Nvml::builder()
        .lib_path(library)
        .init()
        .map_err(|error| GpuError::at_init(&library.to_string_lossy(), &error));
    let nvml = match started {
        Ok(nvml) => nvml,
        Err(error) => return answer_opened(opened, Err(error)),
    };
    let found = nvml::choose(&nvml, selectors)
        .and_then(|chosen| nvml::inventory(&nvml, &chosen).map(|host| (chosen, host)));
    match found {
        Ok((chosen, host)) => {
            answer_opened(opened, Ok(host));
            serve(&nvml, &chosen, ours, commands);
        }
        Err(error) => answer_opened(opened, Err(error)),
    }
}

fn answer_opened(opened: &SyncSender<Result<GpuHost, GpuError>>, answer: Result<GpuHost, GpuError>) {
    if opened.send(answer).is_err() {
        tracing::debug!("nobody waits for NVML any more");
    }
}

fn serve(nvml: &Nvml, chosen: &[Chosen<'_>], ours: &OurPids, commands: &Receiver<Command>) {
    // A pid is far below 2^31 (PID_MAX_LIMIT is 2^22); 0 is nobody's parent but init's.
    let benchd = i32::try_from(std::process::id()).unwrap_or(0);
    let mut sampler: Option<Sampler> = None;
    // What a sampler that ended by itself had to say.
    let mut last_report = SamplerReport::default();
    loop {
        let command = match &mut sampler {
            None => match commands.recv() {
                Ok(command) => command,
                Err(_) => return,
            },
            Some(running) => {
                let wait = running.due().saturating_duration_since(Instant::now());
                // A due tick goes before any command, so that commands can't starve it.
                let received = if wait.is_zero() {
                    Err(RecvTimeoutError::Timeout)
                } else {
                    commands.recv_timeout(wait)
                };
                match received {
                    Ok(command) => command,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        if running.tick(chosen, ours, benchd) == ControlFlow::Break(()) {
                            last_report = running.report();
                            sampler = None;
                        }
                        continue;
                    }
                }
            }
        };
        match command {
            Command::Observe(reply) => {
                reply_to(
                    reply,
                    Observation {
                        devices: chosen.iter().map(Chosen::observe).collect(),
                    },
                );
            }
            Command::Health(reply) => reply_to(reply, chosen.iter().map(Chosen::health).collect()),
            Command::Processes(reply) => reply_to(reply, nvml::processes(nvml, chosen)),
            Command::StartSampling(settings) => sampler = Some(Sampler::new(settings, Instant::now())),
            Command::StopSampling(reply) => {
                if let Some(stopped) = sampler.take() {
                    last_report = stopped.report();
                }
                reply_to(reply, std::mem::take(&mut last_report));
            }
        }
    }
}

fn reply_to<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::debug!("nobody waits for this answer of NVML any more");
    }
}
