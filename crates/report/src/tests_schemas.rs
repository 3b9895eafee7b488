//! The committed schemas, and the tables of `docs/formats.md` that are made from them.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
};

use serde_json::Value;

use super::schemas::{SchemaOf, schema_of};

/// Words of the page below the headings of what benchd writes.
const ABOUT_JOURNAL: &str = "`event` has one key, the kind of event, with its fields.";
const ABOUT_RUN: &str = "Rewritten whole, atomically. An `EnvironmentInfo`, in `{\"v\": 1, \"benchd_version\": …, \
                         \"environment\": …}`, is also what `benchd env` leaves beside an environment as \
                         `envs/<name>/installed.json`; what is not known is left out.";

/// The tables of `docs/formats.md` that are made from the types: each type once, in the order in which it is met.
fn formats_tables() -> String {
    let mut out = String::new();
    let mut done = BTreeSet::new();
    for (what, heading, name, words) in [
        (SchemaOf::Journal, "## journal.jsonl", "Entry", ABOUT_JOURNAL),
        (SchemaOf::Run, "## run.json", "RunInfo", ABOUT_RUN),
        (
            SchemaOf::Summary,
            "## summary.json",
            "RunSummary",
            "Times are milliseconds. What each figure means is in [metrics.md](metrics.md).",
        ),
        (
            SchemaOf::Study,
            "## study.json",
            "Study",
            "What `benchd report RUN…` writes of several runs.",
        ),
        (
            SchemaOf::Compare,
            "## benchd compare --format json",
            "RunComparison",
            "What `benchd compare` prints for programs.",
        ),
    ] {
        let schema = schema_of(what);
        let defined = |name: &str| schema.get("$defs").and_then(|defs| defs.get(name));
        out.push_str(&format!(
            "{heading}\n\n{words} JSON Schema: [`schemas/{file}`](../schemas/{file}).\n\n",
            file = what.file_name()
        ));
        let mut next: VecDeque<(String, &Value)> = VecDeque::from([(name.to_owned(), &schema)]);
        done.insert(name.to_owned());
        while let Some((name, of)) = next.pop_front() {
            let mut inside = Vec::new();
            if name == "Event" {
                for event in of["oneOf"].as_array().expect("events") {
                    let (key, fields) = event["properties"]
                        .as_object()
                        .and_then(|keys| keys.iter().next())
                        .expect("a kind of event");
                    let type_name = referred(fields).expect("its fields");
                    let fields = defined(type_name).expect("its type");
                    done.insert(type_name.to_owned());
                    let about = event["description"].as_str().expect("a description");
                    out.push_str(&format!("### Event `{key}`\n\n{about}\n\n{}", table(fields)));
                    inside.extend(references(fields));
                }
            } else {
                out.push_str(&format!("### {name}\n\n{}", table(of)));
                inside = references(of);
            }
            for inner in inside {
                if done.insert(inner.clone())
                    && let Some(of) = defined(&inner)
                {
                    next.push_back((inner, of));
                }
            }
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// One type: its fields, or the words that it may be.
fn table(of: &Value) -> String {
    let text = |value: &Value| {
        let text = value.get("description").and_then(Value::as_str).unwrap_or("");
        text.replace('|', "\\|")
    };
    if let Some(fields) = of.get("properties").and_then(Value::as_object) {
        let mut out = "| field | type | what |\n|---|---|---|\n".to_owned();
        for (name, field) in fields {
            out.push_str(&format!("| `{name}` | {} | {} |\n", kind(field), text(field)));
        }
        return out + "\n";
    }
    let mut out = "| value | what |\n|---|---|\n".to_owned();
    if of.get("type").is_some_and(|kind| kind == "string") && of.get("enum").is_none() {
        return format!("{}\n\n", text(of));
    }
    let words = of.get("oneOf").or(of.get("enum")).and_then(Value::as_array);
    for word in words.into_iter().flatten() {
        // A value with fields of its own: `{"read": {"value": …, "from": …}}`.
        for (name, of) in word
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let fields = of.get("properties").and_then(Value::as_object);
            let fields: Vec<String> = fields
                .into_iter()
                .flatten()
                .map(|(field, of)| format!("`{field}` ({}): {}", kind(of), text(of)))
                .collect();
            out.push_str(&format!(
                "| `{name}`: object | {} {} |\n",
                text(word),
                fields.join(" ")
            ));
        }
        let constants = word
            .get("const")
            .into_iter()
            .chain(word.get("enum").and_then(Value::as_array).into_iter().flatten())
            .chain(word.is_string().then_some(word));
        for constant in constants.filter_map(Value::as_str) {
            out.push_str(&format!("| `{constant}` | {} |\n", text(word)));
        }
    }
    out + "\n"
}

fn kind(field: &Value) -> String {
    if let Some(name) = referred(field) {
        return format!("`{name}`");
    }
    let list = |key: &str| field.get(key).and_then(Value::as_array).map(Vec::as_slice);
    if let Some(one_of) = list("anyOf") {
        return one_of.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    // A reference with a description of its own.
    if let Some([only]) = list("allOf") {
        return kind(only);
    }
    let mut types: Vec<&str> = match field.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    types.sort_by_key(|t| *t == "null");
    let of = |t: &str| match t {
        "array" => match (field.get("items"), list("prefixItems")) {
            (_, Some(all)) => format!("array of {}", all.iter().map(kind).collect::<Vec<_>>().join(", ")),
            (Some(items), _) => match (referred(items), kind(items)) {
                (Some(name), _) => format!("array of {name}"),
                (None, plain) if ["integer", "number", "string"].contains(&plain.as_str()) => {
                    format!("{plain}s")
                }
                (None, other) => format!("array of ({})", other.trim_start_matches("array of ")),
            },
            _ => "array".to_owned(),
        },
        "object" => match field.get("additionalProperties") {
            Some(of) if of.is_object() => format!("object: name → {}", kind(of)),
            _ => "object".to_owned(),
        },
        other => other.to_owned(),
    };
    if types.is_empty() {
        return "any".to_owned();
    }
    types.into_iter().map(of).collect::<Vec<_>>().join(" or ")
}

fn referred(field: &Value) -> Option<&str> {
    field.get("$ref")?.as_str()?.rsplit('/').next()
}

/// The types that a type's fields name, in their order.
fn references(of: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut look = vec![of];
    while let Some(value) = look.pop() {
        out.extend(referred(value).map(str::to_owned));
        match value {
            // Last in, first out.
            Value::Object(map) => {
                look.extend(
                    map.iter()
                        .rev()
                        .filter(|(key, _)| *key != "$defs")
                        .map(|(_, v)| v),
                );
            }
            Value::Array(items) => look.extend(items.iter().rev()),
            _ => {}
        }
    }
    out
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Compares a committed file with what it should be, or writes it.
fn current(path: &str, should: &str) {
    let path = root().join(path);
    if std::env::var_os("BENCHD_UPDATE").is_some() {
        std::fs::write(&path, should).expect("write");
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        is == should,
        "{} is stale\n  hint: BENCHD_UPDATE=1 cargo test --lib schemas",
        path.display()
    );
}

#[test]
fn the_committed_schemas_are_current() {
    for what in SchemaOf::ALL {
        let text = format!(
            "{}\n",
            serde_json::to_string_pretty(&schema_of(what)).expect("JSON")
        );
        current(&format!("schemas/{}", what.file_name()), &text);
    }
}

#[test]
fn the_formats_page_has_the_tables_of_the_schemas() {
    const BEGIN: &str = "<!-- The tables from here on are made from the schemas: BENCHD_UPDATE=1 cargo test --lib schemas -->\n\n";
    const END: &str = "\n<!-- Made until here. -->\n";
    let page = std::fs::read_to_string(root().join("docs/formats.md")).expect("the page");
    let begin = page.find(BEGIN).expect("the first mark") + BEGIN.len();
    let end = page.find(END).expect("the last mark");
    let should = format!("{}{}{}", &page[..begin], formats_tables(), &page[end..]);
    current("docs/formats.md", &should);
}

/// What README.md and docs/formats.md read of requests and samples is there.
#[test]
fn the_columns_that_the_examples_name_exist() {
    let mut fields: BTreeSet<String> = BTreeSet::new();
    for what in [SchemaOf::Request, SchemaOf::Gpu] {
        let schema = schema_of(what);
        let properties = schema["properties"].as_object().expect("fields");
        fields.extend(properties.keys().cloned());
    }
    let mut named = 0;
    for page in ["README.md", "docs/formats.md"] {
        let text = std::fs::read_to_string(root().join(page)).expect("the page");
        let examples: String = text
            .split("```")
            .skip(1)
            .step_by(2)
            .filter(|block| block.starts_with("python") || block.starts_with("sql"))
            .collect();
        // Names of fields: words with an underscore that end in a unit, and what polars and SQL filter by.
        let words = examples.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let ends = ["_us", "_bytes", "_tokens", "phase", "outcome", "cell"];
        for word in words.filter(|w| ends.iter().any(|end| w.ends_with(end))) {
            assert!(fields.contains(word), "{page}: no field `{word}`");
            named += 1;
        }
    }
    assert!(named >= 10, "{named}");
}
