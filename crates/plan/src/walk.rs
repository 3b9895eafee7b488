//! The walk over the tree of a plan against its JSON schema: unknown, missing and duplicate keys, wrong types,
//! unknown words, numbers out of range; all of them.
//!
//! The walk also gives the plan back without what was wrong, so that the checks of meaning go over the rest and
//! their findings stand in the same report.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

use super::{
    diagnostic::{KeyPath, Problem, Spot},
    name::nearest,
    spanned::{Entry, Integer, Node, Value},
    wording::{expected, found, last, one_of, plain, quoted, type_help},
};

/// Most problems that are kept; a file with more is no plan at all.
const MAX_PROBLEMS: usize = 1000;

/// What a walk found.
pub(super) struct Walked {
    /// The plan without its wrong parts.
    pub(super) rest: Option<serde_yaml::Value>,
    /// What was wrong.
    pub(super) problems: Vec<Problem>,
    /// Keys that are probably there under a wrong name: their absence is no second problem.
    pub(super) misspelt: HashSet<KeyPath>,
}

/// Walks a tree against a schema as [`super::schema`] makes it.
pub(super) fn walk(tree: &Node, schema: &Json) -> Walked {
    let mut walker = Walker {
        root: schema,
        problems: Vec::new(),
        misspelt: HashSet::new(),
    };
    let rest = walker.node(tree, schema, &KeyPath::default(), Spot::START);
    Walked {
        rest,
        problems: walker.problems,
        misspelt: walker.misspelt,
    }
}

struct Walker<'a> {
    root: &'a Json,
    problems: Vec<Problem>,
    misspelt: HashSet<KeyPath>,
}

impl<'a> Walker<'a> {
    fn problem(
        &mut self,
        path: &KeyPath,
        spot: Spot,
        message: String,
        label: Option<String>,
        help: Option<String>,
    ) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem {
                message,
                path: path.clone(),
                spot,
                label,
                help,
            });
        }
    }

    /// The schemas that a value may fit: references followed, alternatives spread out.
    fn branches(&self, schema: &'a Json, out: &mut Vec<&'a Map<String, Json>>) {
        let Some(map) = schema.as_object() else { return };
        if let Some(target) = map.get("$ref").and_then(Json::as_str) {
            if let Some(found) = target
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer))
            {
                self.branches(found, out);
            }
            return;
        }
        match map
            .get("anyOf")
            .or_else(|| map.get("oneOf"))
            .and_then(Json::as_array)
        {
            Some(list) => list.iter().for_each(|branch| self.branches(branch, out)),
            None => out.push(map),
        }
    }

    /// The schema's own words for what it wants, and its examples.
    fn words(&self, schema: &'a Json) -> (Option<&'a str>, Option<&'a Vec<Json>>) {
        let mut schema = schema;
        loop {
            let title = schema.get("title").and_then(Json::as_str);
            if title.is_some() {
                return (title, schema.get("examples").and_then(Json::as_array));
            }
            let target = schema
                .get("$ref")
                .and_then(Json::as_str)
                .and_then(|t| t.strip_prefix('#'));
            match target.and_then(|pointer| self.root.pointer(pointer)) {
                Some(found) => schema = found,
                None => return (None, None),
            }
        }
    }

    fn node(
        &mut self,
        node: &Node,
        schema: &'a Json,
        path: &KeyPath,
        key_spot: Spot,
    ) -> Option<serde_yaml::Value> {
        let mut branches = Vec::new();
        self.branches(schema, &mut branches);
        let wanted: &[&str] = match &node.value {
            Value::Null => &[],
            Value::Bool(_) => &["boolean"],
            Value::Integer(_) => &["integer", "number"],
            Value::Float(..) => &["number"],
            Value::Text(_) => &["string"],
            Value::Sequence(_) => &["array"],
            Value::Mapping(_) => &["object"],
        };
        let fitting: Vec<_> = branches
            .iter()
            .copied()
            .filter(|b| {
                b.get("type")
                    .and_then(Json::as_str)
                    .is_some_and(|t| wanted.contains(&t))
            })
            .collect();
        let Some(first) = fitting.first().copied() else {
            self.wrong_type(node, schema, &branches, path);
            return None;
        };
        match &node.value {
            Value::Null => None,
            Value::Bool(b) => Some(serde_yaml::Value::Bool(*b)),
            Value::Integer(n) => {
                #[expect(clippy::cast_precision_loss, reason = "only compared with small bounds")]
                let (size, number) = match *n {
                    Integer::Unsigned(n) => (n as f64, serde_yaml::Number::from(n)),
                    Integer::Negative(n) => (n as f64, serde_yaml::Number::from(n)),
                };
                self.in_range(size, &n.to_string(), first, path, node.spot)
                    .then_some(serde_yaml::Value::Number(number))
            }
            Value::Float(n, text) => self
                .in_range(*n, text, first, path, node.spot)
                .then(|| serde_yaml::Value::Number(serde_yaml::Number::from(*n))),
            Value::Text(text) => self
                .text(text, &fitting, self.words(schema).0, path, node.spot)
                .then(|| serde_yaml::Value::String(text.clone())),
            Value::Sequence(items) => self.sequence(items, first, path, node.spot),
            Value::Mapping(entries) => Some(self.mapping(entries, first, path, key_spot)),
        }
    }

    fn wrong_type(
        &mut self,
        node: &Node,
        schema: &'a Json,
        branches: &[&'a Map<String, Json>],
        path: &KeyPath,
    ) {
        let (title, examples) = if path.0.is_empty() {
            (None, None)
        } else {
            self.words(schema)
        };
        let expected = title.map_or_else(|| expected(branches), str::to_owned);
        if matches!(node.value, Value::Null) {
            self.problem(
                path,
                node.spot,
                format!("`{}` has no value", last(path)),
                Some(format!("expected {expected}")),
                Some("write a value, or take the key out".to_owned()),
            );
            return;
        }
        let help = type_help(node, branches, examples);
        let (message, label) = (
            format!("{} must be {expected}", quoted(path)),
            format!("found {}", found(node)),
        );
        self.problem(path, node.spot, message, Some(label), help);
    }

    fn in_range(
        &mut self,
        n: f64,
        text: &str,
        schema: &Map<String, Json>,
        path: &KeyPath,
        spot: Spot,
    ) -> bool {
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        let (min, above, max) = (bound("minimum"), bound("exclusiveMinimum"), bound("maximum"));
        let fits = n.is_finite()
            && min.is_none_or(|m| n >= m)
            && above.is_none_or(|m| n > m)
            && max.is_none_or(|m| n <= m);
        if fits {
            return true;
        }
        let range = match (min, above, max) {
            (Some(min), _, Some(max)) if min.total_cmp(&max).is_eq() => format!("must be {min}"),
            (Some(min), _, _) if n < min => format!("must be at least {min}"),
            (Some(min), _, Some(max)) => format!("must be between {min} and {max}"),
            (None, Some(above), Some(max)) => format!("must be above {above} and at most {max}"),
            (None, None, Some(max)) => format!("must be at most {max}"),
            _ => "must be a finite number".to_owned(),
        };
        self.problem(
            path,
            spot,
            format!("`{}` {range}", last(path)),
            Some(format!("found {text}")),
            None,
        );
        false
    }

    fn text(
        &mut self,
        text: &str,
        branches: &[&'a Map<String, Json>],
        title: Option<&str>,
        path: &KeyPath,
        spot: Spot,
    ) -> bool {
        let mut words: Vec<&str> = Vec::new();
        let mut free = false;
        let mut env = false;
        for branch in branches {
            let listed = branch.get("enum").and_then(Json::as_array).into_iter().flatten();
            let before = words.len();
            words.extend(listed.chain(branch.get("const")).filter_map(Json::as_str));
            free |= words.len() == before;
            env |= branch.get("x-env").is_some();
        }
        if !free {
            if words.contains(&text) {
                return true;
            }
            let known = words
                .iter()
                .map(|w| format!("`{w}`"))
                .collect::<Vec<_>>()
                .join(", ");
            let help = nearest(text, words.iter().copied()).map(|w| format!("did you mean `{w}`?"));
            let message = format!("`{}` can't be `{text}`", last(path));
            self.problem(
                path,
                spot,
                message,
                Some(title.map_or_else(|| format!("expected one of {known}"), |t| format!("expected {t}"))),
                help,
            );
            return false;
        }
        if text.contains('\0') {
            self.problem(
                path,
                spot,
                format!("`{}` holds a NUL character", last(path)),
                None,
                None,
            );
            return false;
        }
        if !env && text.contains("${") {
            self.problem(
                path,
                spot,
                format!("`{}` holds `${{`, but no variable is filled in here", last(path)),
                None,
                Some("only `notify.webhook` and the values of a framework's `env` take `${VAR}`".to_owned()),
            );
            return false;
        }
        if text.trim().is_empty() && !env {
            self.problem(path, spot, format!("`{}` is empty", last(path)), None, None);
            return false;
        }
        true
    }

    fn sequence(
        &mut self,
        items: &[Node],
        schema: &'a Map<String, Json>,
        path: &KeyPath,
        spot: Spot,
    ) -> Option<serde_yaml::Value> {
        let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            self.problem(
                path,
                spot,
                format!("{} must not be empty", quoted(path)),
                None,
                None,
            );
            return None;
        }
        if let Some(most) = schema.get("maxItems").and_then(Json::as_u64)
            && items.len() as u64 > most
        {
            self.problem(
                path,
                spot,
                format!("`{}` has more than {most} items", last(path)),
                None,
                None,
            );
            return None;
        }
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            match schema.get("items") {
                Some(schema) => out.extend(self.node(item, schema, &path, item.spot)),
                None => self.problem(&path, item.spot, "unexpected item".to_owned(), None, None),
            }
        }
        if out.len() < items.len() {
            return None;
        }
        if schema.get("uniqueItems").and_then(Json::as_bool) == Some(true) {
            let mut seen: HashMap<&serde_yaml::Value, usize> = HashMap::new();
            for (index, item) in out.iter().enumerate() {
                if let Some(first) = seen.insert(item, index) {
                    let message = format!("`{}` names {} twice", last(path), plain(&items[index]));
                    let label = format!("already item {} of the list", first + 1);
                    self.problem(&path.index(index), items[index].spot, message, Some(label), None);
                    return None;
                }
            }
        }
        Some(serde_yaml::Value::Sequence(out))
    }

    fn mapping(
        &mut self,
        entries: &[Entry],
        schema: &'a Map<String, Json>,
        path: &KeyPath,
        key_spot: Spot,
    ) -> serde_yaml::Value {
        let known = schema.get("properties").and_then(Json::as_object);
        let free = schema.get("additionalProperties").filter(|s| s.is_object());
        let names: Vec<&str> = known.into_iter().flatten().map(|(k, _)| k.as_str()).collect();
        let count = entries.len() as u64;
        if let Some(most) = schema.get("maxProperties").and_then(Json::as_u64)
            && count > most
        {
            let label = (!names.is_empty()).then(|| format!("expected {}", one_of(&names)));
            let message = match most {
                1 => format!("{} takes only one key", quoted(path)),
                _ => format!("{} has more than {most} entries", quoted(path)),
            };
            self.problem(path, key_spot, message, label, None);
            if most > 1 {
                return serde_yaml::Value::Mapping(serde_yaml::Mapping::new());
            }
        }
        let mut out = serde_yaml::Mapping::new();
        let mut seen: HashMap<&str, Spot> = HashMap::new();
        let given: HashSet<&str> = entries.iter().map(|e| e.key.as_str()).collect();
        for entry in entries {
            let here = path.key(&entry.key);
            if let Some(first) = seen.get(entry.key.as_str()) {
                let message = format!("`{}` is given twice", entry.key);
                let label = format!("first given on line {}", first.line);
                let help = Some("keep one of them".to_owned());
                self.problem(&here, entry.key_spot, message, Some(label), help);
                continue;
            }
            seen.insert(&entry.key, entry.key_spot);
            match known.and_then(|k| k.get(&entry.key)).or(free) {
                Some(schema) => {
                    if let Some(value) = self.node(&entry.value, schema, &here, entry.key_spot) {
                        out.insert(serde_yaml::Value::String(entry.key.clone()), value);
                    }
                }
                None => self.unknown_key(entry, &given, &names, path),
            }
        }
        let required = schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str);
        for key in required {
            let absent = path.key(key);
            if !given.contains(key) && !self.misspelt.contains(&absent) {
                let message = match path.0.is_empty() {
                    true => format!("the plan has no `{key}`"),
                    false => format!("`{}` has no `{key}`", last(path)),
                };
                let help = known
                    .and_then(|k| k.get(key))
                    .and_then(|s| s.get("description"))
                    .and_then(Json::as_str)
                    .map(|d| format!("`{key}`: {d}"));
                self.problem(path, key_spot, message, None, help);
            }
        }
        if count < schema.get("minProperties").and_then(Json::as_u64).unwrap_or(0) {
            let label = (!names.is_empty()).then(|| format!("expected {}", one_of(&names)));
            self.problem(
                path,
                key_spot,
                format!("{} must not be empty", quoted(path)),
                label,
                None,
            );
        }
        serde_yaml::Value::Mapping(out)
    }

    fn unknown_key(&mut self, entry: &Entry, given: &HashSet<&str>, names: &[&str], path: &KeyPath) {
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let absent = names.iter().copied().filter(|n| !given.contains(n));
        let meant = nearest(&entry.key, absent);
        let help = match meant {
            Some(name) => {
                self.misspelt.insert(path.key(name));
                format!("did you mean `{name}`?")
            }
            None => match self.home_of(&entry.key) {
                Some(home) => format!("`{}` belongs under `{home}`", entry.key),
                None => format!("known here: {}", names.join(", ")),
            },
        };
        let message = format!("unknown key `{}`", entry.key);
        self.problem(&path.key(&entry.key), entry.key_spot, message, None, Some(help));
    }

    /// The section in which a key that stands in the wrong place is known.
    fn home_of(&self, key: &str) -> Option<&'a str> {
        let sections = self.root.get("properties")?.as_object()?;
        sections.iter().find_map(|(section, schema)| {
            let mut branches = Vec::new();
            self.branches(schema, &mut branches);
            let has = |map: &Map<String, Json>| map.get("properties").is_some_and(|p| p.get(key).is_some());
            branches.into_iter().any(has).then_some(section.as_str())
        })
    }
}
