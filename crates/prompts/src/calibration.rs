//! The texts of exact length that a model's cells need, found once and stored with the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    corpus::{Source, question_count},
    count::{Basis, TokenCounter},
    error::PromptError,
    fit::{Fitted, Fitter},
    probe::{CalibrateOptions, Prober},
    salt::SaltForm,
    template::{self, TemplateShare},
};
use benchd_core::record::{Message, Role};
use benchd_plan::{Cell, CellInput};

/// Version of a stored calibration's layout.
pub(crate) const CALIBRATION_VERSION: u32 = 1;

/// Different questions under a shared system prompt, where each length costs requests.
const SERVER_QUESTIONS: usize = 8;

/// Who counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountSource {
    /// A tokenizer file.
    File {
        /// The file.
        path: PathBuf,
        /// Its SHA-256.
        sha256: String,
    },
    /// A server's usage.
    Server {
        /// The framework's name in the plan.
        framework: String,
    },
}

/// The lengths that cells need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Lengths of whole prompts, content tokens.
    pub exact: BTreeSet<u32>,
    /// System prompt and question, content tokens each, with the most questions of one pass.
    pub shared: BTreeMap<(u32, u32), u32>,
}

impl Needs {
    /// What these cells need.
    pub fn of<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Self {
        let mut needs = Self::default();
        for cell in cells {
            match cell.input {
                CellInput::Exact { input_tokens } => {
                    needs.exact.insert(input_tokens);
                }
                CellInput::SharedPrefix {
                    system_tokens,
                    question_tokens,
                } => {
                    let most = needs.shared.entry((system_tokens, question_tokens)).or_default();
                    *most = cell.requests_per_pass.max(cell.warmup).max(*most);
                }
                CellInput::Written { .. } => {}
            }
        }
        needs
    }
}

/// System prompt and question counted in one request, against the sum of their own counts: what the template
/// does at their boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JointCheck {
    /// Tokens of the system prompt asked for.
    pub system_tokens: u32,
    /// Tokens of the question asked for.
    pub question_tokens: u32,
    /// Sum of the two texts' own counts.
    pub separate: u32,
    /// Content tokens counted together.
    pub together: u32,
}

/// What is known of a model's prompt lengths. Stored with the run: a later framework that serves the same model
/// gets the same texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// Layout version.
    pub v: u32,
    /// The model's name in the plan.
    pub model: String,
    /// Who counted.
    pub source: CountSource,
    /// How salts are written.
    pub salt_form: SaltForm,
    /// The chat template's share, as it was when the texts were made.
    pub template: TemplateShare,
    /// Bodies of whole prompts by content tokens.
    pub exact: BTreeMap<u32, Fitted>,
    /// Bodies of system prompts by content tokens.
    pub systems: BTreeMap<u32, Fitted>,
    /// Bodies of questions by content tokens.
    pub questions: BTreeMap<u32, Vec<Fitted>>,
    /// System prompts and questions counted together.
    pub joints: Vec<JointCheck>,
    /// Requests made in all.
    pub probes: u32,
    /// Lengths that the server could not take, and why; of the last measuring only.
    #[serde(skip)]
    pub left_out: Vec<(String, String)>,
}

impl Calibration {
    /// Texts whose length is not what was asked for.
    pub fn deviations(&self) -> impl Iterator<Item = &Fitted> {
        self.texts().filter(|fitted| !fitted.is_exact())
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &Fitted> {
        self.exact
            .values()
            .chain(self.systems.values())
            .chain(self.questions.values().flatten())
    }

    /// Whether every length of `needs` was measured.
    pub fn covers(&self, needs: &Needs) -> bool {
        self.missing(needs) == Needs::default()
    }

    /// What of `needs` was not measured.
    pub fn missing(&self, needs: &Needs) -> Needs {
        let mut missing = needs.clone();
        missing.exact.retain(|tokens| !self.exact.contains_key(tokens));
        missing.shared.retain(|(system, question), _| {
            !(self.systems.contains_key(system) && self.questions.contains_key(question))
        });
        missing
    }

    /// Takes over the lengths that are not known here yet; whether it did. Texts of another form of salts would not
    /// go together with these.
    pub fn add(&mut self, more: Self) -> bool {
        if more.salt_form != self.salt_form {
            return false;
        }
        for (tokens, fitted) in more.exact {
            self.exact.entry(tokens).or_insert(fitted);
        }
        for (tokens, fitted) in more.systems {
            self.systems.entry(tokens).or_insert(fitted);
        }
        for (tokens, fitted) in more.questions {
            self.questions.entry(tokens).or_insert(fitted);
        }
        self.joints.extend(more.joints);
        self.probes += more.probes;
        self.left_out = more.left_out;
        true
    }

    /// Refuses a layout that this build doesn't know.
    pub fn check_version(&self) -> Result<(), PromptError> {
        if self.v == CALIBRATION_VERSION {
            return Ok(());
        }
        Err(PromptError::Version {
            what: "the prompt calibration",
            found: self.v,
            known: CALIBRATION_VERSION,
        })
    }
}

/// Finds the texts of `needs`. A server is asked about 9 times for salts and template, then about 4 to 6 times
/// a text; each request may generate a single token. Nothing that is measured later is sent.
pub async fn calibrate<C: TokenCounter>(
    model: &str,
    source: CountSource,
    needs: &Needs,
    counter: &mut C,
    options: &CalibrateOptions,
) -> Result<Calibration, PromptError> {
    let seed = options.seed;
    let mut prober = Prober::new(counter, options);
    let salt_form = prober.salt_form().await?;
    let template = template::measure(&mut prober, !needs.shared.is_empty()).await?;
    let question_limit = match prober.basis() {
        Basis::Server => SERVER_QUESTIONS,
        Basis::Content => question_count(),
    };
    let mut fitter = Fitter::new(prober, template, salt_form);
    let mut calibration = Calibration {
        v: CALIBRATION_VERSION,
        model: model.to_owned(),
        source,
        salt_form,
        template,
        exact: BTreeMap::new(),
        systems: BTreeMap::new(),
        questions: BTreeMap::new(),
        joints: Vec::new(),
        probes: 0,
        left_out: Vec::new(),
    };
    let mut first_error = None;
    let mut left_out = Vec::new();
    // One length that can't be had here must not cost the others.
    let mut unless_left_out = |what: String, fitted: Result<Fitted, PromptError>| match fitted {
        Err(error) if error.is_of_one_length() => {
            left_out.push((what, error.to_string()));
            first_error.get_or_insert(error);
            Ok(None)
        }
        other => other.map(Some),
    };
    for &tokens in &needs.exact {
        let fitted = fitter.fit(Role::User, Source::exact(seed), tokens).await;
        if let Some(fitted) = unless_left_out(format!("prompts of {tokens} tokens"), fitted)? {
            calibration.exact.insert(tokens, fitted);
        }
    }
    let system_lengths: BTreeSet<u32> = needs.shared.keys().map(|&(system, _)| system).collect();
    for tokens in system_lengths {
        let fitted = fitter.fit(Role::System, Source::system(seed), tokens).await;
        if let Some(fitted) = unless_left_out(format!("system prompts of {tokens} tokens"), fitted)? {
            calibration.systems.insert(tokens, fitted);
        }
    }
    for (&(_, tokens), &most) in &needs.shared {
        let most = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .clamp(1, question_limit);
        let mut known = calibration.questions.remove(&tokens).unwrap_or_default();
        for number in known.len()..most {
            let fitted = fitter
                .fit(Role::User, Source::question(number, seed), tokens)
                .await;
            match unless_left_out(format!("questions of {tokens} tokens"), fitted)? {
                Some(fitted) => known.push(fitted),
                None => {
                    known.clear();
                    break;
                }
            }
        }
        if !known.is_empty() {
            calibration.questions.insert(tokens, known);
        }
    }
    let mut prober = fitter.prober;
    for &(system_tokens, question_tokens) in needs.shared.keys() {
        let system = calibration.systems.get(&system_tokens);
        let question = calibration
            .questions
            .get(&question_tokens)
            .and_then(|q| q.first());
        let (Some(system), Some(question), Some(share)) = (system, question, template.system_and_user) else {
            continue;
        };
        let messages = [
            Message::system(prober.salted(salt_form, &system.body)),
            Message::user(prober.salted(salt_form, &question.body)),
        ];
        calibration.joints.push(JointCheck {
            system_tokens,
            question_tokens,
            separate: system.reached + question.reached,
            together: prober.total(&messages).await?.saturating_sub(share),
        });
    }
    calibration.probes = prober.probes;
    calibration.left_out = left_out;
    let nothing = calibration.exact.is_empty() && calibration.questions.is_empty();
    if let Some(error) = first_error
        && nothing
    {
        return Err(error);
    }
    tracing::info!(
        model,
        probes = calibration.probes,
        ?template,
        "prompt lengths measured"
    );
    Ok(calibration)
}
