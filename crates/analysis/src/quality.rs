//! Whether the lanes answer right: the questions with one checkable answer, graded, and lanes of one model held against
//! each other on the same questions.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{AnalysisError, korean::LOOP_SHARE};
use benchd_core::{
    record::LaneId,
    stats::{DEFAULT_LEVEL, Interval, mcnemar_exact, share_interval},
};
use benchd_journal::{CellEnded, LaneState, RunDir, cell_records};
use benchd_prompts::{Grade, Question, Task, grade, quality};

/// Below this upper end of its interval a share of right answers is that of a server that answers nothing.
pub const NOTHING_SHARE: f64 = 0.1;
/// Lanes differ where a difference as large would come by chance more rarely than this, over all pairs of a run (Holm).
pub const QUALITY_P: f64 = 0.05;
/// A lane is worse under load where the same questions say so with a smaller chance than this.
const LOAD_P: f64 = 0.01;

/// The answers of one lane to the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneQuality {
    /// One request at a time.
    pub alone: Answers,
    /// As many at a time as the lane's tests have at most; `None` where that is one.
    pub loaded: Option<Answers>,
    /// Chance that the answers under load are no worse than alone (McNemar); `None` without load.
    pub loaded_p: Option<f64>,
}

/// Graded answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Answers {
    /// Requests at a time.
    pub concurrency: u32,
    /// Questions.
    pub asked: u64,
    /// Right ones.
    pub right: u64,
    /// The share of right answers with its 95 % interval (Wilson).
    pub interval: Option<Interval>,
    /// Right ones and all, by task.
    pub tasks: IndexMap<String, (u64, u64)>,
    /// Requests that failed; they count as not right.
    pub failed: u64,
    /// Answers of nothing but white space.
    pub empty: u64,
    /// Answers with a code that only another question holds.
    pub foreign: u64,
    /// Answers that repeat themselves for most of their length.
    pub looping: u64,
    /// Answers with characters that are none (U+FFFD).
    pub broken: u64,
    /// Whether each question was answered right, by its id.
    #[serde(skip)]
    pub(super) right_by_id: BTreeMap<String, bool>,
}

impl Answers {
    /// Whether there is something to look at whatever the model: no right answers, empty ones, another request's text.
    pub fn is_odd(&self) -> bool {
        self.is_nothing() || self.foreign > 0 || self.failed > 0 || self.empty > self.asked / 10
    }

    /// Whether next to nothing is right.
    pub fn is_nothing(&self) -> bool {
        self.interval
            .is_some_and(|interval| interval.high < NOTHING_SHARE)
    }
}

/// Two lanes of one model on the same questions, asked alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct QualityPair {
    /// The model.
    pub model: String,
    /// One framework.
    pub one: String,
    /// The other.
    pub other: String,
    /// Questions that only one of them answered right.
    pub only_one: u64,
    /// Questions that only the other answered right.
    pub only_other: u64,
    /// Chance of a split as uneven where neither is better (McNemar's exact test).
    pub p: f64,
    /// The framework that is certainly worse; `None` where none is.
    pub worse: Option<String>,
}

/// Grades the answers that `asked` names.
///
/// # Errors
/// The records can't be read.
pub fn grade_answers(
    root: &Path,
    asked: &CellEnded,
    questions: &[Question],
) -> Result<Answers, AnalysisError> {
    let by_id: HashMap<&str, &Question> = questions.iter().map(|q| (q.id.as_str(), q)).collect();
    let codes: Vec<&str> = questions.iter().filter_map(|q| q.code.as_deref()).collect();
    let mut tasks: BTreeMap<Task, (u64, u64)> = BTreeMap::new();
    let concurrency = asked
        .cell
        .rsplit('c')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let mut answers = Answers {
        concurrency,
        asked: 0,
        right: 0,
        interval: None,
        tasks: IndexMap::new(),
        failed: 0,
        empty: 0,
        foreign: 0,
        looping: 0,
        broken: 0,
        right_by_id: BTreeMap::new(),
    };
    for record in cell_records(root, asked)? {
        let record = record?;
        let Some(question) = by_id.get(record.prompt_id.as_str()) else {
            continue;
        };
        let text = record.text.as_str();
        let grade = grade(&question.expected, text);
        let right = record.is_ok() && grade == Grade::Right;
        answers.asked += 1;
        answers.right += u64::from(right);
        answers.failed += u64::from(!record.is_ok());
        answers.empty += u64::from(record.is_ok() && grade == Grade::Empty);
        let own = |code: &str| question.code.as_deref() == Some(code);
        answers.foreign += u64::from(codes.iter().any(|code| !own(code) && text.contains(code)));
        let signs = quality(text);
        answers.looping += u64::from(signs.repetition.repeated_share >= LOOP_SHARE);
        answers.broken += u64::from(signs.replacement_characters > 0);
        let of_task = tasks.entry(question.task).or_default();
        of_task.0 += u64::from(right);
        of_task.1 += 1;
        answers.right_by_id.insert(question.id.clone(), right);
    }
    answers.interval = share_interval(answers.right, answers.asked, DEFAULT_LEVEL);
    answers.tasks = tasks
        .into_iter()
        .map(|(task, n)| (task.as_str().to_owned(), n))
        .collect();
    Ok(answers)
}

/// The questions of a run, as they were frozen; none where it asked none.
pub(super) fn frozen_questions(dir: &RunDir, notes: &mut Vec<String>) -> Vec<Question> {
    let Ok(text) = std::fs::read_to_string(dir.questions()) else {
        return Vec::new();
    };
    let (read, wrong): (Vec<_>, Vec<_>) = text
        .lines()
        .map(serde_json::from_str::<Question>)
        .partition(Result::is_ok);
    if !wrong.is_empty() {
        notes.push(format!(
            "{} lines of questions.jsonl could not be read",
            wrong.len()
        ));
    }
    read.into_iter().filter_map(Result::ok).collect()
}

/// What a lane's answers come to; `None` where it was asked nothing, or not to the end.
pub(super) fn of_lane(
    dir: &RunDir,
    lane: &LaneState,
    questions: &[Question],
) -> Result<Option<LaneQuality>, AnalysisError> {
    let mut graded = Vec::new();
    for asked in lane.quality.values() {
        graded.push(grade_answers(dir.root(), asked, questions)?);
    }
    graded.sort_by_key(|answers| answers.concurrency);
    let mut graded = graded.into_iter();
    let Some(alone) = graded.next().filter(|answers| answers.concurrency == 1) else {
        return Ok(None);
    };
    let loaded = graded.next();
    let loaded_p = loaded.as_ref().map(|loaded| {
        let (only_alone, only_loaded) = split(&alone, loaded);
        if only_alone > only_loaded {
            mcnemar_exact(only_alone, only_loaded)
        } else {
            1.0
        }
    });
    Ok(Some(LaneQuality {
        alone,
        loaded,
        loaded_p,
    }))
}

impl LaneQuality {
    /// Whether the same questions are answered worse under load than alone.
    pub fn is_worse_under_load(&self) -> bool {
        self.loaded_p.is_some_and(|p| p < LOAD_P)
    }
}

/// Questions that only the one answered right, and only the other.
fn split(one: &Answers, other: &Answers) -> (u64, u64) {
    let (mut only_one, mut only_other) = (0, 0);
    for (id, &right) in &one.right_by_id {
        match (right, other.right_by_id.get(id)) {
            (true, Some(false)) => only_one += 1,
            (false, Some(true)) => only_other += 1,
            _ => {}
        }
    }
    (only_one, only_other)
}

/// Every pair of frameworks of a model, of their first round, on the same questions.
pub(super) fn pairs<'a>(lanes: impl Iterator<Item = (&'a LaneId, &'a LaneQuality)>) -> Vec<QualityPair> {
    let mut firsts: IndexMap<(&str, &str), &LaneQuality> = IndexMap::new();
    for (id, quality) in lanes {
        firsts
            .entry((id.model.as_str(), id.framework.as_str()))
            .or_insert(quality);
    }
    let mut pairs = Vec::new();
    for (n, ((model, one), of_one)) in firsts.iter().enumerate() {
        for ((_, other), of_other) in firsts.iter().skip(n + 1).filter(|((of, _), _)| of == model) {
            let (only_one, only_other) = split(&of_one.alone, &of_other.alone);
            pairs.push(QualityPair {
                model: (*model).to_owned(),
                one: (*one).to_owned(),
                other: (*other).to_owned(),
                only_one,
                only_other,
                p: mcnemar_exact(only_one, only_other),
                worse: None,
            });
        }
    }
    mark_worse(&mut pairs);
    pairs
}

/// Holm's procedure: the smallest chance against a share of [`QUALITY_P`], the next against a larger one, until one fails.
fn mark_worse(pairs: &mut [QualityPair]) {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| pairs[a].p.total_cmp(&pairs[b].p));
    let all = order.len();
    for (rank, at) in order.into_iter().enumerate() {
        if pairs[at].p > QUALITY_P / (all - rank) as f64 {
            break;
        }
        let pair = &mut pairs[at];
        let worse = if pair.only_one < pair.only_other {
            &pair.one
        } else {
            &pair.other
        };
        pair.worse = Some(worse.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(right: impl Fn(usize) -> bool) -> Answers {
        let right_by_id: BTreeMap<String, bool> = (0..100).map(|n| (format!("{n:03}"), right(n))).collect();
        let count = right_by_id.values().filter(|r| **r).count() as u64;
        Answers {
            concurrency: 1,
            asked: 100,
            right: count,
            interval: share_interval(count, 100, DEFAULT_LEVEL),
            tasks: IndexMap::new(),
            failed: 0,
            empty: 0,
            foreign: 0,
            looping: 0,
            broken: 0,
            right_by_id,
        }
    }

    fn lane(framework: &str, alone: Answers) -> (LaneId, LaneQuality) {
        let id = LaneId {
            framework: framework.to_owned(),
            model: "m".to_owned(),
            round: 1,
        };
        let quality = LaneQuality {
            alone,
            loaded: None,
            loaded_p: None,
        };
        (id, quality)
    }

    #[test]
    fn a_lane_that_is_certainly_worse_is_named_and_two_alike_are_not() {
        let lanes = [
            lane("good", answers(|n| n < 80)),
            lane("alike", answers(|n| (2..81).contains(&n))),
            lane("bad", answers(|n| n < 50)),
        ];
        let pairs = pairs(lanes.iter().map(|(id, q)| (id, q)));
        let worse: Vec<Option<&str>> = pairs.iter().map(|p| p.worse.as_deref()).collect();
        assert_eq!(worse, [None, Some("bad"), Some("bad")]);
        assert_eq!((pairs[0].only_one, pairs[0].only_other), (2, 1));
    }

    #[test]
    fn a_server_of_noise_answers_nothing_and_a_small_model_something() {
        assert!(answers(|n| n < 3).is_nothing());
        assert!(!answers(|n| n < 12).is_nothing());
    }
}
