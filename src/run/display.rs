//! What people see while a run goes on. On a terminal: one status line with lane, cell, progress and remaining
//! time, and above it a line for each thing that ended. In a pipe and under systemd: the same lines, plain.
//! Everything goes to stderr.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    Systemd,
    journald::{Journald, Place},
};
use benchd_core::record::Redactor;

/// How often the status line is drawn again.
const REDRAW_HZ: u8 = 5;

/// The display of one run.
#[derive(Debug)]
pub struct Display {
    bar: Option<ProgressBar>,
    colour: bool,
    started: Instant,
    redactor: Redactor,
    systemd: Systemd,
    journald: Option<Journald>,
    place: Mutex<Place>,
}

/// How a line is meant. Colour only repeats what the word at its start says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary.
    Plain,
    /// Something ended well.
    Good,
    /// Something to look at.
    Warn,
    /// Something failed.
    Bad,
}

impl Display {
    /// A status line where stderr is a terminal, plain lines elsewhere; no colour with `NO_COLOR`. What is shown
    /// holds no secret that `redactor` knows; the status goes to `systemd` as well.
    pub fn new(redactor: Redactor, systemd: Systemd) -> Self {
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
            place: Mutex::default(),
        }
    }

    /// A line that stays.
    pub fn line(&self, tone: Tone, text: &str) {
        let text = &*self.redactor.text(text);
        if let Some(journald) = &self.journald {
            if let Some(line) = journald.line(tone, text, &self.place()) {
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
    pub fn in_run(&self, run: &str) {
        run.clone_into(&mut self.place().run);
    }

    /// The lane and cell that the next lines speak of; empty for none.
    pub fn at(&self, lane: &str, cell: &str) {
        let mut place = self.place();
        lane.clone_into(&mut place.lane);
        cell.clone_into(&mut place.cell);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// systemd's handle, which has the run's heart.
    pub fn systemd(&self) -> &Systemd {
        &self.systemd
    }

    /// The status line's text, and systemd's; nothing in a pipe.
    pub fn status(&self, mut text: String) {
        self.redactor.clean(&mut text);
        self.systemd.status(&text);
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Time since the display began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the status line away.
    pub fn close(&self) {
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

/// A closed stderr must not end a night's run: what can't be shown is still in the log.
fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `1 h 05 m`, `3 m 20 s`, `12 s`: short and readable from afar.
pub fn short_duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} m {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = |s| short_duration(Duration::from_secs(s));
        assert_eq!(
            (shown(7), shown(200), shown(3900)),
            ("7 s".into(), "3 m 20 s".into(), "1 h 05 m".into())
        );
    }
}
