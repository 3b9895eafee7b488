//! Texts of exact length: found once for a model, kept in the run's folder, so that every lane and every resumed start
//! sends the same.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    attempt::{LaneAttempt, RUN_SEED},
    display::Display,
    failure::{Context as _, Failure},
    lane_end::LaneEnd,
    lines::{Line, Status},
    signals::Signals,
};
use crate::{scenario::ServerCounter, server::ProbeAnswer};
use benchd_core::record::Message;
use benchd_journal::{DiskError, write_atomic};
use benchd_load::client::Target;
use benchd_prompts::{
    Basis, CalibrateOptions, Calibration, CountSource, Needs, PromptError, TemplateShare, TokenCounter,
    TokenizerFile, calibrate, template_share,
};

pub(super) struct Calibrations {
    path: PathBuf,
    by_model: BTreeMap<String, Calibration>,
}

impl Calibrations {
    /// Those of an earlier start of the run; none where there are none yet.
    ///
    /// # Errors
    /// The file can't be read, is damaged, or is of another version.
    pub(super) fn read(path: PathBuf) -> Result<Self, Failure> {
        let shown = path.display();
        let by_model: BTreeMap<String, Calibration> = match std::fs::read_to_string(&path) {
            Ok(text) => {
                serde_json::from_str(&text).context(&format!("{shown} is damaged: start a new run"))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).context(&format!("{shown} can't be read")),
        };
        for calibration in by_model.values() {
            calibration.check_version().map_err(Failure::machine)?;
        }
        Ok(Self { path, by_model })
    }

    fn insert(&mut self, model: &str, calibration: Calibration) -> Result<(), DiskError> {
        self.by_model.insert(model.to_owned(), calibration);
        let text = serde_json::to_vec_pretty(&self.by_model)
            .map_err(|error| DiskError::new("write", &self.path, error.into()))?;
        write_atomic(&self.path, &text)
    }

    /// The chat template's share on this server, and the model's texts of exact length, which the first lane of a
    /// model finds for every other.
    pub(super) async fn of_lane(
        &mut self,
        attempt: &LaneAttempt<'_>,
        target: &Target,
        answer: &ProbeAnswer,
        signals: &Signals,
        display: &Display,
    ) -> Result<(Option<TemplateShare>, Calibration), LaneEnd> {
        let (lane, model) = (&attempt.lane.id, &attempt.lane.id.model);
        let failed = |error: PromptError| {
            if signals.first().is_some() {
                LaneEnd::interrupted()
            } else {
                LaneEnd::failed("prompts", error.to_string())
            }
        };
        let options = CalibrateOptions::new(RUN_SEED);
        let of_model = attempt.lanes.iter().filter(|lane| lane.id.model == *model);
        let needs = Needs::of(of_model.flat_map(|lane| &lane.cells));
        let mut counter = WatchedCounter {
            counter: ServerCounter {
                adapter: attempt.adapter,
                target: target.clone(),
                shape: answer.shape,
                timeout: attempt.request.timeout,
                reasoning_effort: attempt.model.reasoning_effort,
                cancel: signals.clean().clone(),
            },
            limit: attempt.request.timeout,
            display,
        };
        let template = if answer.prompt_tokens.is_some() {
            display.status(&Status::ChatTemplate(lane));
            let share = template_share(&mut counter, !needs.shared.is_empty(), &options).await;
            Some(share.map_err(failed)?)
        } else {
            None
        };
        let known = self.by_model.get(model).cloned();
        if let Some(known) = &known
            && known.covers(&needs)
        {
            return Ok((template, known.clone()));
        }
        // An earlier server could not take them all.
        let needs = known
            .as_ref()
            .map_or(needs.clone(), |known| known.missing(&needs));
        display.status(&Status::Texts(lane));
        let began = Instant::now();
        let measured = match &attempt.model.tokenizer {
            Some(path) => {
                let mut file = TokenizerFile::open(path).map_err(failed)?;
                let source = CountSource::File {
                    path: file.path().to_owned(),
                    sha256: file.sha256().to_owned(),
                };
                calibrate(model, source, &needs, &mut file, &options).await
            }
            None => {
                let source = CountSource::Server {
                    framework: lane.framework.clone(),
                };
                calibrate(model, source, &needs, &mut counter, &options).await
            }
        };
        // A call that was broken off looks like a refusal.
        if signals.first().is_some() {
            return Err(LaneEnd::interrupted());
        }
        let calibration = with_what_was_known(measured, known).map_err(failed)?;
        for (what, why) in &calibration.left_out {
            display.say(&Line::TextsLeftOut { what, why });
        }
        display.say(&Line::TextsFound {
            probes: calibration.probes,
            took: began.elapsed(),
        });
        for fitted in calibration.deviations() {
            display.say(&Line::TextOff {
                asked: fitted.asked,
                reached: fitted.reached,
            });
        }
        self.insert(model, calibration.clone()).map_err(LaneEnd::disk)?;
        Ok((template, calibration))
    }
}

/// The texts of an earlier lane stay as they are, so that every server gets the same; this lane's are added.
fn with_what_was_known(
    measured: Result<Calibration, PromptError>,
    known: Option<Calibration>,
) -> Result<Calibration, PromptError> {
    let Some(mut known) = known else { return measured };
    match measured {
        Ok(more) => {
            if !known.add(more) {
                let why = "its numbers need salts of another form than the texts of earlier lanes".to_owned();
                known.left_out = vec![("more lengths".to_owned(), why)];
            }
            Ok(known)
        }
        // What earlier servers could not take this one can't either.
        Err(error) if error.is_of_one_length() => {
            known.left_out = vec![("the lengths still missing".to_owned(), error.to_string())];
            Ok(known)
        }
        Err(error) => Err(error),
    }
}

/// A counter whose every answer feeds the watchdog.
struct WatchedCounter<'a, C> {
    counter: C,
    limit: Duration,
    display: &'a Display,
}

impl<C: TokenCounter> TokenCounter for WatchedCounter<'_, C> {
    async fn count(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
        let counting = self.counter.count(messages);
        self.display.watchdog().wait(self.limit, counting).await
    }

    fn basis(&self) -> Basis {
        self.counter.basis()
    }
}
