//! `benchd env`: makes the environments that a plan names, and fetches its models.

use std::time::{Duration, Instant};

use super::{CommandResult, DONE, load_plan, narrowed_lanes, runtime, trial};
use crate::{
    cli::{EnvArgs, Places},
    env::{self, EnvError},
    run::{self, Context as _, Failure, Signals, signal_exit_code},
};
use benchd_core::record::Redactor;
use benchd_plan::Plan;

/// How often the lines of a progress bar are shown.
const BAR_PERIOD: Duration = Duration::from_secs(5);

/// Makes what is missing, one environment after another; does nothing where all is there.
///
/// # Errors
/// When the plan is wrong (2), something is missing that nothing makes, or making it fails (3).
pub(super) fn run(args: EnvArgs) -> CommandResult {
    let loaded = load_plan(&args.plan)?;
    let redactor = run::redactor(&loaded);
    if !args.offline {
        let runtime = runtime()?;
        let done = runtime.block_on(async {
            let signals = Signals::listen().context("signal handlers can't be installed")?;
            make(&loaded.plan, &args, &signals, &redactor).await
        });
        done.map_err(|failure: Failure| failure.redacted(&redactor))?;
    }
    let still = missing(&loaded.plan, &args);
    if still.is_empty() {
        eprintln!("everything that {} names is there", args.plan.display());
        if args.warm {
            let lanes = narrowed_lanes(&loaded.plan, &[], "warm")?;
            let places = Places {
                results: "results".into(),
                logs: "logs".into(),
            };
            let trial = trial::start_each(&args.plan, &lanes, &places)?;
            eprint!("{}", redactor.text(&trial.text));
            return Ok(trial.code);
        }
        return DONE;
    }
    Err(Failure::machine(still.join("\n")).redacted(&redactor))
}

async fn make(plan: &Plan, args: &EnvArgs, signals: &Signals, redactor: &Redactor) -> Result<(), Failure> {
    for job in env::to_make(plan) {
        eprintln!("{}  ({})", job.recipe.display(), redactor.text(&job.why));
        let made = env::provision(&job.recipe, signals.clean(), Shown::new(redactor).line());
        made.await.map_err(|error| failed(&error, signals))?;
    }
    // A model needs its framework's environment: without that, the end says what is missing.
    if args.no_models || !env::missing_of_plan(plan).is_empty() {
        return Ok(());
    }
    for model in env::models_to_fetch(plan) {
        eprintln!("{}  (models.{})", redactor.text(&model.id), model.model);
        let fetched = env::fetch(plan, &model, signals.clean(), Shown::new(redactor).line());
        fetched.await.map_err(|error| failed(&error, signals))?;
    }
    for vocabulary in env::vocabularies_missing(plan)
        .iter()
        .filter(|v| v.can_be_fetched())
    {
        eprintln!("{}", vocabulary.path.display());
        let fetched = env::fetch_vocabulary(vocabulary, signals.clean(), Shown::new(redactor).line());
        fetched.await.map_err(|error| failed(&error, signals))?;
    }
    Ok(())
}

/// An error with its hint, and the exit code it calls for.
fn failed(error: &EnvError, signals: &Signals) -> Failure {
    let hint = error
        .hint()
        .map(|hint| format!("\n  hint: {hint}"))
        .unwrap_or_default();
    // What a recipe said was shown line by line.
    let text = match error {
        EnvError::Failed { recipe, status, .. } => format!("{} failed ({status})", recipe.display()),
        error => error.to_string(),
    };
    let failure = Failure::machine(format_args!("{text}{hint}"));
    match (error, signals.first()) {
        (EnvError::Cancelled { .. }, Some(signal)) => failure.with_code(signal_exit_code(signal)),
        _ => failure,
    }
}

/// What is not there, each with its remedy.
fn missing(plan: &Plan, args: &EnvArgs) -> Vec<String> {
    let mut texts: Vec<String> = env::missing_of_plan(plan)
        .iter()
        .map(|m| format!("{m}\n  hint: {}", m.hint(&args.plan)))
        .collect();
    let file = args.plan.display();
    texts.extend(
        env::venvs_unfit(plan)
            .into_iter()
            .map(|text| format!("{text}\n  hint: make it: benchd env {file}")),
    );
    texts.extend(env::of_other_versions(plan).into_iter().map(|text| {
        format!("{text}\n  hint: correct `version` in {file}, or the version in the environment's requirements or setup.sh")
    }));
    if !args.no_models {
        texts.extend(env::models_missing(plan).into_iter().map(|text| {
            format!("{text}\n  hint: benchd env {file} fetches what can be fetched; else correct the plan")
        }));
        texts.extend(env::vocabularies_missing(plan).into_iter().map(|missing| {
            let path = missing.path.display();
            let hint = match missing.can_be_fetched() {
                true => format!("fetch it: benchd env {file}"),
                false => "put it there, or take TIKTOKEN_ENCODINGS_BASE out".to_owned(),
            };
            format!("harmony's vocabulary: {path} is not there\n  hint: {hint}")
        }));
    }
    texts
}

/// Lines for people; those of a progress bar now and then.
struct Shown<'a> {
    redactor: &'a Redactor,
    bar: Option<Instant>,
}

impl<'a> Shown<'a> {
    fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, bar: None }
    }

    fn line(mut self) -> impl FnMut(&str) + Send + 'a {
        move |line| {
            let is_bar = line.contains("%|");
            if is_bar && self.bar.is_some_and(|shown| shown.elapsed() < BAR_PERIOD) {
                return;
            }
            if is_bar {
                self.bar = Some(Instant::now());
            }
            eprintln!("  {}", self.redactor.text(line));
        }
    }
}
