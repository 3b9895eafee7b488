//! The figures of the report: drawn here as SVG, placed by the page.
//!
//! Figures are made of panels narrow enough for a phone, that stand beside each other where there is room. Everything
//! that a mark says when it is pointed at stands in its `<title>`, so that it is there without a script, and is written
//! by the same functions as the tables.

mod along;
mod bars;
mod keys;
mod korean;
mod lines;
mod palette;
mod plot;
mod prefix;
mod scale;
mod spread;
mod stops;
mod svg;
mod tokens;
mod values;

pub use palette::{Scheme, chart_rules, chart_variables};

pub(super) use keys::{Key, Keys};
use values::ModelView;

use benchd_analysis::{RunSeries, Study};
use benchd_plan::ScenarioKind;

/// Where in the report a figure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the comparison at a glance.
    Glance,
    /// In a scenario's section.
    Scenario(ScenarioKind),
    /// In the section on operations.
    Operations,
}

/// One figure, ready for the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Unique in the page; letters, digits and dashes.
    pub id: String,
    /// Where it stands.
    pub place: Place,
    /// Index of the machine in the study; `None` where it is about several.
    pub machine: Option<usize>,
    /// The model; `None` where it is about all of them.
    pub model: Option<String>,
    /// Heading, plain text: what is shown, with its unit.
    pub title: String,
    /// Below it, plain text: how to read it, what it does not say.
    pub caption: String,
    /// HTML of the figure: a legend and inline `<svg>`s, all text escaped.
    pub html: String,
}

/// The panels of a figure and the frameworks in them.
#[derive(Debug, Default)]
struct Drawn {
    panels: Vec<String>,
    keys: Vec<Key>,
}

impl Drawn {
    fn add(&mut self, panel: Option<(String, Vec<Key>)>) {
        if let Some((svg, keys)) = panel {
            self.panels.push(svg);
            self.keys.extend(keys);
        }
    }

    fn some(self) -> Option<Self> {
        (!self.panels.is_empty()).then_some(self)
    }

    fn html(&self, keys: &Keys, model: Option<&str>) -> String {
        format!(
            "{}<div class=\"panels\">{}</div>",
            keys.legend(&self.keys, model),
            self.panels.concat()
        )
    }
}

/// All figures of a study that have something to show. `series` are those of its machines and their runs, in their
/// order; where they are missing, the figures that need them are.
pub fn figures(study: &Study, series: &[Vec<RunSeries>]) -> Vec<Figure> {
    let keys = Keys::of(study);
    let mut figures = side_by_side(study, series, &keys);
    for (at, machine) in study.machines.iter().enumerate() {
        let series = series.get(at).map_or(&[][..], Vec::as_slice);
        let mut figure =
            |place, id: String, model: Option<&str>, title: &str, caption: &str, drawn: Option<Drawn>| {
                if let Some(drawn) = drawn {
                    figures.push(Figure {
                        html: drawn.html(&keys, model),
                        place,
                        machine: Some(at),
                        model: model.map(str::to_owned),
                        title: title.to_owned(),
                        caption: caption.to_owned(),
                        id,
                    });
                }
            };
        for (n, view) in values::models(machine, series).iter().enumerate() {
            for of in of_model(view, &keys, &format!("fig-{at}-{n}")) {
                figure(of.place, of.id, Some(view.model), of.title, &of.caption, of.drawn);
            }
        }
        for (n, (run, series)) in machine.runs.iter().zip(series).enumerate() {
            let id = format!("fig-{at}-run-{n}");
            let sampled = series.lanes.iter().any(|l| !l.gpu.is_empty());
            let caption = if sampled {
                "One colour a framework. Below the lanes' names: the start and the stop (grey), the cells (light and dark by \
                 turns), the release of the memory (red, down to the axis). Lines are means, their bands the lowest and \
                 highest sample of each moment. Drag to zoom, double click to see all; by keyboard + and - and 0."
            } else {
                "One colour a framework. Below the lanes' names: the start and the stop (grey), the cells (light and dark by \
                 turns). No GPU was sampled in this run."
            };
            let drawn = along::timeline(run, series, &keys, &format!("{id}-0"));
            let title = if sampled {
                "GPU along the run"
            } else {
                "Lanes and cells along the run"
            };
            figure(Place::Operations, id, None, title, caption, drawn);
        }
        let id = format!("fig-{at}-stops");
        let drawn = stops::releases(machine, series, &keys, &id);
        figure(
            Place::Operations,
            id,
            None,
            "GPU memory around the stop",
            "Every server is stopped before the next one starts; the next one waits until the memory is back where it was \
             before the first. Of several runs and rounds the newest.",
            drawn,
        );
    }
    figures
}

/// The figures of models that several machines have served.
fn side_by_side(study: &Study, series: &[Vec<RunSeries>], keys: &Keys) -> Vec<Figure> {
    if study.machines.len() < 2 {
        return Vec::new();
    }
    let all: Vec<ModelView<'_>> = (0..)
        .zip(&study.machines)
        .flat_map(|(at, machine)| values::models(machine, series.get(at).map_or(&[][..], Vec::as_slice)))
        .collect();
    let mut models: Vec<&str> = Vec::new();
    for view in &all {
        if !models.contains(&view.model) {
            models.push(view.model);
        }
    }
    let of_model = |(n, model): (usize, &str)| {
        let views: Vec<&ModelView<'_>> = all.iter().filter(|v| v.model == model).collect();
        let id = format!("fig-machines-{n}");
        let drawn = bars::machines(&views, keys, &id)?;
        Some(Figure {
            html: drawn.html(keys, Some(model)),
            id,
            place: Place::Glance,
            machine: None,
            model: Some(model.to_owned()),
            title: "Machines side by side".to_owned(),
            caption: "One scale for all machines. Only cells that more than one of them measured; what differs between them \
                      beside the GPU (versions, plans, nights) is told below."
                .to_owned(),
        })
    };
    (0..).zip(models).filter_map(of_model).collect()
}

/// A figure of a model before it is placed.
struct OfModel {
    place: Place,
    id: String,
    title: &'static str,
    caption: String,
    drawn: Option<Drawn>,
}

fn of_model(view: &ModelView<'_>, keys: &Keys, id: &str) -> Vec<OfModel> {
    let runs = if view.repeated() {
        " Small points are single runs or rounds, the large one their geometric mean."
    } else {
        ""
    };
    let mut all = Vec::new();
    let mut add = |place, name: &str, title, caption: String, draw: &dyn Fn(&str) -> Option<Drawn>| {
        let id = format!("{id}-{name}");
        all.push(OfModel {
            place,
            drawn: draw(&id),
            id,
            title,
            caption,
        });
    };
    add(
        Place::Glance,
        "glance",
        "Throughput, TTFT, latency and memory",
        "Whiskers are 95 % intervals. \"Best\" stands only where the interval of the ratio to every other framework leaves \
         equality out and all weights are of one precision; a percentile and a peak have no interval here, so they have no \
         best."
            .to_owned(),
        &|id| bars::glance(view, keys, id),
    );
    add(
        Place::Scenario(ScenarioKind::Single),
        "tokens",
        "Token by token",
        "One request each: of the cell's first requests the one whose latency is nearest to the cell's median. A gap is a \
         wait; an event may carry several tokens."
            .to_owned(),
        &|id| tokens::timelines(view, keys, id),
    );
    let by_length = format!(
        "Medians with their 95 % intervals. Both axes of lengths have equal ratios; values from 0 where nothing else is \
         said.{runs}"
    );
    let long = view.closed(ScenarioKind::LongContext).next().is_some();
    if !long {
        add(
            Place::Scenario(ScenarioKind::Single),
            "length",
            "By input length",
            by_length.clone(),
            &|id| lines::by_length(view, keys, id, &[ScenarioKind::Single]),
        );
    }
    add(
        Place::Scenario(ScenarioKind::LongContext),
        "length",
        "By input length",
        format!("{by_length} One stream: the single requests and the long contexts together."),
        &|id| {
            let kinds = [ScenarioKind::Single, ScenarioKind::LongContext];
            long.then(|| lines::by_length(view, keys, id, &kinds)).flatten()
        },
    );
    add(
        Place::Scenario(ScenarioKind::Concurrent),
        "scaling",
        "Throughput and latency against concurrency",
        format!(
            "Medians with their 95 % intervals. Dotted: throughput that grows as the streams do, from each framework's \
             fewest; efficiency is measured throughput over that.{runs}"
        ),
        &|id| lines::by_concurrency(view, keys, id),
    );
    add(
        Place::Scenario(ScenarioKind::PrefixCache),
        "prefix",
        "First against later requests",
        "The first request of a pass pays for the shared prefix; where a cache holds it, the later ones do not.".to_owned(),
        &|id| prefix::by_request(view, keys, id),
    );
    for (kind, name) in [
        (ScenarioKind::Single, "single"),
        (ScenarioKind::Concurrent, "concurrent"),
        (ScenarioKind::LongContext, "long"),
        (ScenarioKind::PrefixCache, "prefix"),
    ] {
        add(
            Place::Scenario(kind),
            &format!("spread-{name}"),
            "Distributions",
            "The share of the requests that took at most so long: further left is faster, steeper is steadier. Latencies are \
             those of full outputs. Points: 25, 50, 75 and 95 %. Of many cells the first, a middle one and the last."
                .to_owned(),
            &|id| spread::distributions(view, keys, id, kind),
        );
    }
    add(
        Place::Scenario(ScenarioKind::Korean),
        "korean",
        "Korean against English",
        "The same question in both languages. Ratios above 1: Korean has more. Of several runs and rounds the first."
            .to_owned(),
        &|id| korean::languages(view, keys, id),
    );
    all
}

#[cfg(test)]
mod tests;
