//! Hypotheses: names that the plan has, figures that their scenario gives, thresholds that mean something.

use indexmap::IndexMap;

use super::{At, Checker};
use crate::{
    Bound, ConcurrencyTest, DegradationTest, Figure, Framework, Hypotheses, Hypothesis, KoreanTest,
    OwnHypothesis, OwnTest, Roles, Rule, Scenario, ScenarioKind, SharedPrefixTest, SingleRequestTest,
    diagnostic::KeyPath,
    name::nearest,
    raw_hypotheses::{RawHypotheses, RawHypothesisMap, RawOwn, RawOwnTest, RawRoles},
    values::ShareText,
};

/// What the hypotheses are checked against.
struct Known<'a> {
    frameworks: &'a IndexMap<String, Framework>,
    scenarios: &'a IndexMap<String, Scenario>,
}

/// The kinds of scenario that give a figure.
fn kinds_with(figure: Figure) -> &'static [ScenarioKind] {
    use ScenarioKind::{Concurrent, Korean, LongContext, PrefixCache, Single};
    match figure {
        Figure::FirstTtftMs | Figure::LaterTtftMs | Figure::LaterOverFirst => &[PrefixCache],
        Figure::ScalingEfficiency => &[Concurrent, LongContext],
        figure if figure.is_korean_over_english() => &[Korean],
        _ => &[Single, Concurrent, LongContext, PrefixCache, Korean],
    }
}

impl Checker<'_> {
    pub(super) fn hypotheses(
        &mut self,
        raw: Option<&RawHypotheses>,
        frameworks: &IndexMap<String, Framework>,
        scenarios: &IndexMap<String, Scenario>,
    ) -> Hypotheses {
        match raw {
            None => Hypotheses::default(),
            Some(RawHypotheses::List(ids)) => Hypotheses {
                roles: Roles::default(),
                list: ids.iter().copied().map(Hypothesis::by_default).collect(),
            },
            Some(RawHypotheses::Map(map)) => self.hypothesis_map(
                map,
                &Known {
                    frameworks,
                    scenarios,
                },
            ),
        }
    }

    fn hypothesis_map(&mut self, raw: &RawHypothesisMap, known: &Known<'_>) -> Hypotheses {
        let path = KeyPath::of(&["hypotheses"]);
        let mut list = Vec::new();
        if let Some(raw) = &raw.h1 {
            let default = SharedPrefixTest::default();
            list.push(Hypothesis::H1(SharedPrefixTest {
                throughput: raw.throughput.unwrap_or(default.throughput),
                ttft: raw.ttft.unwrap_or(default.ttft),
                cache_gain: raw.cache_gain.unwrap_or(default.cache_gain),
            }));
        }
        if let Some(raw) = &raw.h2 {
            let default = ConcurrencyTest::default();
            list.push(Hypothesis::H2(ConcurrencyTest {
                overwhelming: raw.overwhelming.unwrap_or(default.overwhelming),
                from_concurrency: raw.from_concurrency.unwrap_or(default.from_concurrency),
            }));
        }
        if let Some(raw) = &raw.h3 {
            let margin = self.share(&path.key("H3").key("margin"), raw.margin.as_ref());
            list.push(Hypothesis::H3(SingleRequestTest {
                margin: margin.unwrap_or(SingleRequestTest::default().margin),
            }));
        }
        if let Some(raw) = &raw.h4 {
            let difference = self.share(&path.key("H4").key("difference"), raw.difference.as_ref());
            list.push(Hypothesis::H4(DegradationTest {
                difference: difference.unwrap_or(DegradationTest::default().difference),
            }));
        }
        if let Some(raw) = &raw.h5 {
            let difference = self.share(&path.key("H5").key("difference"), raw.difference.as_ref());
            list.push(Hypothesis::H5(KoreanTest {
                difference: difference.unwrap_or(KoreanTest::default().difference),
            }));
        }
        for (name, own) in raw.own.iter().flatten() {
            list.extend(
                self.own(name, own, &path.key("own").key(name), known)
                    .map(Hypothesis::Own),
            );
        }
        Hypotheses {
            roles: self.roles(raw.roles.as_ref(), &path.key("roles"), known),
            list,
        }
    }

    fn roles(&mut self, raw: Option<&RawRoles>, path: &KeyPath, known: &Known<'_>) -> Roles {
        let Some(raw) = raw else {
            return Roles::default();
        };
        let given = [
            ("sglang", &raw.sglang),
            ("vllm", &raw.vllm),
            ("ollama", &raw.ollama),
            ("control", &raw.control),
        ];
        for (n, (role, name)) in given.iter().enumerate() {
            let Some(name) = name else { continue };
            let here = path.key(role);
            self.known_framework(&here, name, known);
            let twin = given[..n].iter().find(|(_, other)| other.as_ref() == Some(name));
            if let Some((twin, _)) = twin {
                let message = format!("`{name}` stands for both {twin} and {role}");
                let help = "a framework compared with itself says nothing: give each role one of its own";
                self.problem(At::Value, &here, message, Some(help));
            }
        }
        Roles {
            sglang: raw.sglang.clone(),
            vllm: raw.vllm.clone(),
            ollama: raw.ollama.clone(),
            control: raw.control.clone(),
        }
    }

    fn own(&mut self, name: &str, raw: &RawOwn, path: &KeyPath, known: &Known<'_>) -> Option<OwnHypothesis> {
        self.name(At::Key, path, name);
        if ["H1", "H2", "H3", "H4", "H5"]
            .iter()
            .any(|id| id.eq_ignore_ascii_case(name))
        {
            let message = format!("`{name}` is the name of one of the document's hypotheses");
            let help = "give your own another name, or set the thresholds of that one beside `own`";
            self.problem(At::Key, path, message, Some(help));
        }
        let mut tests = Vec::new();
        for (n, test) in raw.tests.iter().flatten().enumerate() {
            tests.extend(self.own_test(test, &path.key("tests").index(n), known));
        }
        (!tests.is_empty()).then_some(OwnHypothesis {
            name: name.to_owned(),
            claim: raw.claim.clone()?,
            rule: raw.rule.unwrap_or(Rule::All),
            tests,
        })
    }

    fn own_test(&mut self, raw: &RawOwnTest, path: &KeyPath, known: &Known<'_>) -> Option<OwnTest> {
        let (of, against) = (raw.of.as_ref(), raw.against.as_ref());
        for (key, name) in [("of", of), ("against", against)] {
            if let Some(name) = name {
                self.known_framework(&path.key(key), name, known);
            }
        }
        if of.is_some() && of == against {
            let here = path.key("against");
            let help = "name the framework that it is compared with";
            self.problem(
                At::Value,
                &here,
                "a framework is compared with itself",
                Some(help),
            );
        }
        let scenario = raw
            .scenario
            .as_ref()
            .and_then(|name| self.known_scenario(&path.key("scenario"), name, known));
        if let (Some(scenario), Some(figure)) = (scenario, raw.figure) {
            self.figure_of_scenario(path, raw, figure, scenario);
            for (key, name) in [("of", of), ("against", against)] {
                let framework = name.and_then(|name| known.frameworks.get(name));
                if let Some(framework) = framework
                    && let Some(only) = &framework.scenarios
                    && !only.contains(&scenario.name)
                {
                    let message = format!("`{}` does not run `{}`", framework.name, scenario.name);
                    let help =
                        "add the scenario to the framework's `scenarios`, or compare another framework";
                    self.problem(At::Value, &path.key(key), message, Some(help));
                }
            }
        }
        let bound = self.bound(raw, path);
        Some(OwnTest {
            figure: raw.figure?,
            of: of?.clone(),
            against: against?.clone(),
            scenario: scenario?.name.clone(),
            concurrency: raw.concurrency.as_ref().map(|l| l.0.clone()).unwrap_or_default(),
            input_tokens: raw.input_tokens.as_ref().map(|l| l.0.clone()).unwrap_or_default(),
            bound: bound?,
        })
    }

    fn figure_of_scenario(&mut self, path: &KeyPath, raw: &RawOwnTest, figure: Figure, scenario: &Scenario) {
        let kinds = kinds_with(figure);
        if !kinds.contains(&scenario.kind) {
            let message = format!("a scenario of kind {} has no `{figure}`", scenario.kind);
            let names: Vec<String> = kinds.iter().map(|k| format!("`{k}`")).collect();
            let help = format!("`{figure}` is a figure of {}", names.join(" or "));
            self.problem(At::Value, &path.key("figure"), message, Some(&help));
            return;
        }
        let levels: Vec<u32> = scenario.concurrency.iter().map(|c| c.get()).collect();
        if figure == Figure::ScalingEfficiency && levels.len() < 2 {
            let message = format!("`{}` has one concurrency only: nothing scales", scenario.name);
            let help = "give the scenario several: `concurrency: [1, 8, 16]`";
            self.problem(At::Value, &path.key("figure"), message, Some(help));
        }
        let lengths: Vec<u32> = scenario.input_tokens.iter().map(|n| n.get()).collect();
        for (key, given, has) in [
            ("concurrency", raw.concurrency.as_ref().map(|l| &l.0), &levels),
            ("input_tokens", raw.input_tokens.as_ref().map(|l| &l.0), &lengths),
        ] {
            for (n, value) in given.into_iter().flatten().enumerate() {
                if !has.contains(value) {
                    let message = format!("`{}` has no cell with `{key}` {value}", scenario.name);
                    let known: Vec<String> = has.iter().map(ToString::to_string).collect();
                    let help = if known.is_empty() {
                        "take it out".to_owned()
                    } else {
                        format!("it has {}", known.join(", "))
                    };
                    self.problem(At::Value, &path.key(key).index(n), message, Some(&help));
                }
            }
        }
    }

    /// Exactly one of the four.
    fn bound(&mut self, raw: &RawOwnTest, path: &KeyPath) -> Option<Bound> {
        const KEYS: [&str; 4] = ["at_least", "at_most", "differs_by", "within"];
        let given: Vec<&str> = KEYS
            .into_iter()
            .filter(|key| self.written(&path.key(key)))
            .collect();
        match given[..] {
            [] => {
                let help = "add one of `at_least: 1.5`, `at_most: 0.5`, `differs_by: 10%`, `within: 10%`";
                self.problem(At::Value, path, "the test has no threshold", Some(help));
                return None;
            }
            [_] => {}
            [first, second, ..] => {
                let message = format!("`{first}` and `{second}` exclude each other");
                let help = "one test has one threshold: write two tests, or keep one";
                self.problem(At::Key, &path.key(second), message, Some(help));
                return None;
            }
        }
        let differs_by = self.share(&path.key("differs_by"), raw.differs_by.as_ref());
        let within = self.share(&path.key("within"), raw.within.as_ref());
        raw.at_least
            .map(Bound::AtLeast)
            .or(raw.at_most.map(Bound::AtMost))
            .or(differs_by.map(Bound::DiffersBy))
            .or(within.map(Bound::Within))
    }

    fn known_framework(&mut self, path: &KeyPath, name: &str, known: &Known<'_>) {
        // What is written and was refused is known all the same.
        let names = self.names("frameworks");
        if known.frameworks.contains_key(name) || names.iter().any(|n| n == name) {
            return;
        }
        let help = match nearest(name, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the plan's frameworks: {}", names.join(", ")),
        };
        self.problem(
            At::Value,
            path,
            format!("the plan has no framework `{name}`"),
            Some(&help),
        );
    }

    fn known_scenario<'k>(&mut self, path: &KeyPath, name: &str, known: &Known<'k>) -> Option<&'k Scenario> {
        let names = self.names("scenarios");
        if !names.iter().any(|n| n == name) {
            let help = match nearest(name, names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the plan's scenarios: {}", names.join(", ")),
            };
            self.problem(
                At::Value,
                path,
                format!("the plan has no scenario `{name}`"),
                Some(&help),
            );
        }
        known.scenarios.get(name)
    }

    fn share(&mut self, path: &KeyPath, raw: Option<&ShareText>) -> Option<f64> {
        match raw?.parse() {
            Ok(share) => Some(share),
            Err(error) => {
                self.problem(At::Value, path, error, Some("write a share as `10%`"));
                None
            }
        }
    }
}
