//! What people see while a run goes on, and systemd with them. On a terminal: one status line, and above it a line for
//! each thing that ended. In a pipe and under systemd: the same lines, plain. Everything goes to stderr; lines go to
//! benchd's log as well.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    journald::{Journald, Subject},
    lines::{Line, Status, Tone},
    systemd::Systemd,
    watchdog::Watchdog,
};
use benchd_core::record::Redactor;

/// How often the status line is drawn again.
const REDRAW_HZ: u8 = 5;

#[derive(Debug)]
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    colour: bool,
    started: Instant,
    redactor: Redactor,
    systemd: Systemd,
    journald: Option<Journald>,
    subject: Mutex<Subject>,
}

impl Display {
    /// A status line where stderr is a terminal, plain lines elsewhere; no colour with `NO_COLOR`. What is shown
    /// holds no secret that `redactor` knows; the status goes to `systemd` as well.
    pub(crate) fn new(redactor: Redactor, systemd: Systemd) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAW_HZ));
            bar.set_style(
                ProgressStyle::with_template("{spinner} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self {
            bar,
            colour,
            started: Instant::now(),
            redactor,
            systemd,
            journald: Journald::behind_stderr(),
            subject: Mutex::default(),
        }
    }

    /// Says a line, also to the log.
    pub(super) fn say(&self, line: &Line<'_>) {
        let (tone, text) = (line.tone(), line.to_string());
        match tone {
            Tone::Plain | Tone::Good => tracing::info!("{text}"),
            Tone::Warn => tracing::warn!("{text}"),
            Tone::Bad => tracing::error!("{text}"),
        }
        self.show(tone, &text);
    }

    /// Shows the last lines of a server's log, which has them already.
    pub(super) fn quote(&self, log_tail: &[String]) {
        for line in log_tail {
            self.show(Tone::Plain, &format!("  | {line}"));
        }
    }

    fn show(&self, tone: Tone, text: &str) {
        let text = &*self.redactor.text(text);
        if let Some(journald) = &self.journald {
            if let Some(line) = journald.line(tone, text, &self.subject()) {
                write_line(&line);
            }
            return;
        }
        let code = match tone {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Warn => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
        };
        let text = if self.colour && !code.is_empty() {
            format!("{code}{text}\x1b[0m")
        } else {
            text.to_owned()
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(&text)),
            None => write_line(&text),
        }
    }

    /// The run that the next lines speak of.
    pub(super) fn in_run(&self, run: &str) {
        run.clone_into(&mut self.subject().run);
    }

    /// The lane and cell that the next lines speak of; empty for none.
    pub(super) fn at(&self, lane: &str, cell: &str) {
        let mut subject = self.subject();
        lane.clone_into(&mut subject.lane);
        cell.clone_into(&mut subject.cell);
    }

    fn subject(&self) -> MutexGuard<'_, Subject> {
        self.subject.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn systemd(&self) -> &Systemd {
        &self.systemd
    }

    /// What feeds systemd's watchdog.
    pub(super) fn watchdog(&self) -> &Watchdog {
        self.systemd.watchdog()
    }

    /// Shows what is going on now; nothing in a pipe.
    pub(super) fn status(&self, status: &Status<'_>) {
        let mut text = status.to_string();
        self.redactor.clean(&mut text);
        self.systemd.status(&text);
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Time since the display began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the status line away.
    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.close();
    }
}

/// A closed stderr must not end a run: what can't be shown is still in the log.
fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
