//! Figures of synthetic runs, read back as an eye would: by their own ticks, colours and frames.

use std::collections::{BTreeMap, HashMap};

use roxmltree::{Document, Node};

use super::*;
use benchd_analysis::{CellSummary, RunSummary, summarise_run_with_series, testing::*};
use benchd_journal::{Event, LaneOutcome, ServerStopping};
use benchd_plan::{Cell, Language, PromptType};

/// The first figure.
const GLANCE: &str = "Throughput, TTFT, latency and memory";
const STREAMS: [u32; 4] = [1, 2, 8, 32];
const LENGTHS: [u32; 3] = [128, 512, 4_096];
/// Frameworks whose names would break out of a careless page.
const HOSTILE: [&str; 4] = [
    "<script>alert(1)<",
    "a\"b'c&d",
    "한국어-서버-이름이-아주-긴",
    "]]>--\u{1}",
];

fn cells() -> Vec<Cell> {
    let single = LENGTHS.map(|n| exact(&format!("single/in{n}"), ScenarioKind::Single, 1, n));
    let long = [4_096, 16_384].map(|n| exact(&format!("long/in{n}"), ScenarioKind::LongContext, 1, n));
    let concurrent = STREAMS.map(|c| exact(&format!("concurrent/c{c}"), ScenarioKind::Concurrent, c, 512));
    let korean = [Language::Ko, Language::En].map(|l| written(1, PromptType::Question, l));
    let mut all: Vec<Cell> = single.into_iter().chain(long).chain(concurrent).collect();
    all.push(shared("prefix_cache/sys2048"));
    all.extend(korean);
    all
}

/// A lane in which everything was measured, `slow` times slower than the first.
fn measure(b: &mut Builder, framework: &str, slow: u64) {
    let lane = lane_id(framework, "llama");
    let begun = b.events.len() as u64;
    b.ready(&lane);
    let cells = b.lanes[0].cells.clone();
    for cell in &cells {
        let many = |ttft: u64, latency: u64| -> Vec<Did> {
            (0..20)
                .map(|i| Did::ok(i * 10, (ttft + i) * slow, (latency + 3 * i) * slow))
                .collect()
        };
        let passes = match (cell.kind, &cell.input) {
            (ScenarioKind::PrefixCache, _) => {
                let pass = |first: u64| {
                    let ttft = |i: u64| if i == 0 { first } else { 10 + i };
                    let each = (0..12).map(|i| Did::ok(i * 100, ttft(i) * slow, 400 * slow));
                    (4_000, each.collect())
                };
                vec![pass(300), pass(320), pass(340)]
            }
            (ScenarioKind::Korean, _) => vec![(4_000, many(30, 900))],
            (_, benchd_plan::CellInput::Exact { input_tokens }) => {
                let streams = u64::from(cell.concurrency);
                let ttft = u64::from(*input_tokens) / 10 + 5 * streams;
                (0..4)
                    .map(|i| ((2_000 + 20 * i) * slow / streams, many(ttft, 1_000 + ttft)))
                    .collect()
            }
            _ => unreachable!("no other cells"),
        };
        b.measured(&lane, &cell.id, &passes);
    }
    b.events.push(Event::ServerStopping(ServerStopping {
        lane: lane.clone(),
        why: "finished".to_owned(),
    }));
    b.finish_lane(&lane);
    // One entry a second: samples from the lane's begin to its end.
    let samples =
        (begun * 4..b.events.len() as u64 * 4).map(|i| gpu_sample(i * 250, 60_000_000_000 + i * 50_000_000));
    b.samples(&lane, &samples.collect::<Vec<_>>());
}

fn begun(frameworks: &[&str]) -> Builder {
    Builder::new(
        frameworks
            .iter()
            .map(|f| (lane_id(f, "llama"), cells()))
            .collect(),
    )
}

fn run_of(frameworks: &[&str]) -> Builder {
    let mut b = begun(frameworks);
    for (framework, slow) in frameworks.iter().zip(1..) {
        measure(&mut b, framework, slow);
    }
    b.finish();
    b
}

fn drawn(b: &Builder) -> (RunSummary, Vec<Figure>) {
    b.write_journal();
    let (summary, series) = summarise_run_with_series(&b.run, &b.plan, &b.lanes).expect("a summary");
    let all = figures(&Study::of_one(summary.clone()), &[vec![series]]);
    (summary, all)
}

/// The drawings of a figure.
fn svgs(figure: &Figure) -> Vec<&str> {
    let parts = figure.html.split("<svg class=\"chart\" id=").skip(1);
    parts
        .map(|part| {
            let end = part.rfind("</svg></div>").expect("an end") + "</svg>".len();
            let from =
                part.as_ptr() as usize - figure.html.as_ptr() as usize - "<svg class=\"chart\" id=".len();
            &figure.html[from..from + "<svg class=\"chart\" id=".len() + end]
        })
        .collect()
}

fn parsed(svg: &str) -> Document<'_> {
    Document::parse(svg).unwrap_or_else(|e| panic!("{e}: {svg}"))
}

fn has_class(node: &Node<'_, '_>, class: &str) -> bool {
    let classes = node.attribute("class").unwrap_or("");
    classes.split(' ').any(|c| c == class)
}

fn of_class<'a, 'i: 'a>(doc: &'a Document<'i>, class: &'a str) -> impl Iterator<Item = Node<'a, 'i>> {
    doc.descendants().filter(move |n| has_class(n, class))
}

fn attribute(node: &Node<'_, '_>, name: &str) -> f64 {
    let value = node.attribute(name).unwrap_or_else(|| panic!("no {name}"));
    value.parse().unwrap_or_else(|e| panic!("{name}: {value}: {e}"))
}

/// The points that a path goes through.
fn points(d: &str) -> Vec<(f64, f64)> {
    let mut spaced = String::new();
    for c in d.chars() {
        if c.is_ascii_alphabetic() {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    let mut words = spaced.split_whitespace().peekable();
    let (mut all, mut at) = (Vec::new(), (0.0, 0.0));
    while let Some(word) = words.next() {
        let mut take = |n: usize| -> Vec<f64> {
            (0..n)
                .map(|_| words.next().expect("a number").parse().expect("a number"))
                .collect()
        };
        match word {
            "M" | "L" => {
                let of = take(2);
                at = (of[0], of[1]);
            }
            "v" => at.1 += take(1)[0],
            "a" => {
                let of = take(7);
                at = (at.0 + of[5], at.1 + of[6]);
            }
            "z" => continue,
            other => panic!("{other} in {d}"),
        }
        all.push(at);
    }
    all
}

/// The middle of what a marker covers.
fn middle(mark: &Node<'_, '_>) -> (f64, f64) {
    let all = points(mark.attribute("d").expect("a path"));
    let (mut low, mut high) = (all[0], all[0]);
    for (x, y) in all {
        low = (low.0.min(x), low.1.min(y));
        high = (high.0.max(x), high.1.max(y));
    }
    ((low.0 + high.0) / 2.0, (low.1 + high.1) / 2.0)
}

/// Left, right and bottom of a plot: where its horizontal axis lies.
fn axis(doc: &Document<'_>) -> Option<(f64, f64, f64)> {
    of_class(doc, "axis")
        .filter_map(|n| Some(points(n.attribute("d")?)))
        .find(|p| p[0].1 == p[1].1 && p[1].0 - p[0].0 > 50.0)
        .map(|p| (p[0].0, p[1].0, p[0].1))
}

/// Reads values off a vertical axis by its own labels.
struct Ruler {
    /// Value and place, from the lowest value up.
    ticks: Vec<(f64, f64)>,
    log: bool,
}

impl Ruler {
    fn of(doc: &Document<'_>) -> Self {
        let (left, _, bottom) = axis(doc).expect("an axis");
        let mut ticks: Vec<(f64, f64)> = of_class(doc, "m")
            .filter(|n| {
                n.attribute("text-anchor") == Some("end")
                    && attribute(n, "x") < left
                    && attribute(n, "y") < bottom + 8.0
            })
            .filter_map(|n| {
                Some((
                    n.text()?.replace([',', '%', ' '], "").parse().ok()?,
                    attribute(&n, "y") - 3.5,
                ))
            })
            .collect();
        ticks.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        assert!(ticks.len() >= 2, "{ticks:?}");
        let log = of_class(doc, "m").any(|n| {
            n.text()
                .is_some_and(|t| t.ends_with("log scale") && attribute(&n, "y") < 40.0)
        });
        Self { ticks, log }
    }

    fn value(&self, y: f64) -> f64 {
        let (first, last) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        let share = (y - first.1) / (last.1 - first.1);
        if self.log {
            first.0 * (last.0 / first.0).powf(share)
        } else {
            first.0 + share * (last.0 - first.0)
        }
    }

    /// What a tenth of a pixel and its rounding are worth there.
    fn grain(&self, y: f64) -> f64 {
        (self.value(y) - self.value(y + 0.35)).abs()
    }
}

fn figure<'f>(all: &'f [Figure], title: &str, place: Place) -> &'f Figure {
    all.iter()
        .find(|f| f.title == title && f.place == place)
        .unwrap_or_else(|| panic!("{title}: {:?}", all.iter().map(|f| &f.title).collect::<Vec<_>>()))
}

fn panel_of<'f>(all: &'f [Figure], title: &str, place: Place, panel: &str) -> &'f str {
    let titled = format!(">{panel}</title>");
    svgs(figure(all, title, place))
        .into_iter()
        .find(|s| s.contains(&titled))
        .unwrap_or_else(|| panic!("no panel {panel}"))
}

fn cell<'s>(summary: &'s RunSummary, framework: &str, cell: &str) -> &'s CellSummary {
    let lane = summary
        .lanes
        .iter()
        .find(|l| l.lane.framework == framework)
        .expect("the lane");
    lane.cells.iter().find(|c| c.cell == cell).expect("the cell")
}

#[test]
fn every_drawing_is_well_formed_whatever_the_names_and_numbers_are_numbers() {
    let (_, all) = drawn(&run_of(&HOSTILE));
    let mut drawings = 0;
    for figure in &all {
        assert!(
            !figure.html.contains("<script") && !figure.html.contains("]]>"),
            "{}",
            figure.id
        );
        for svg in svgs(figure) {
            drawings += 1;
            let doc = parsed(svg);
            for bad in ["NaN", "inf", "null", "None"] {
                assert!(!svg.contains(bad), "{bad} in {svg}");
            }
            // What an image says to those who don't see it, and what a mark says when it is pointed at.
            let told = ["title", "desc"].map(|tag| {
                doc.root_element()
                    .children()
                    .filter(|n| n.has_tag_name(tag))
                    .count()
            });
            assert_eq!(told, [1, 1], "{}", figure.title);
            for mark in of_class(&doc, "mk") {
                let says = mark
                    .children()
                    .find(|n| n.has_tag_name("title"))
                    .and_then(|t| t.text());
                assert!(
                    says.is_some_and(|s| !s.trim().is_empty()),
                    "{}: a mark without words",
                    figure.title
                );
            }
        }
    }
    assert!(drawings > 30, "{drawings}");
    let everything: String = all.iter().map(|f| f.html.as_str()).collect();
    for said in [
        "&lt;script&gt;alert(1)&lt;",
        "a&quot;b&#39;c&amp;d",
        "한국어-서버-이름이-아주-긴",
        "]]&gt;--",
    ] {
        assert!(everything.contains(said), "{said}");
    }
    let ids: Vec<_> = all.iter().map(|f| &f.id).collect();
    assert!(
        ids.iter()
            .all(|id| ids.iter().filter(|other| other == &id).count() == 1),
        "{ids:?}"
    );
}

#[test]
fn every_kind_of_figure_is_drawn() {
    let (_, all) = drawn(&run_of(&["vllm", "sglang"]));
    let mut titles: Vec<_> = all.iter().map(|f| f.title.as_str()).collect();
    titles.dedup();
    assert_eq!(
        titles,
        [
            "Throughput, TTFT, latency and memory",
            "Token by token",
            "By input length",
            "Throughput and latency against concurrency",
            "First against later requests",
            "Distributions",
            "Korean against English",
            "GPU along the run",
            "GPU memory around the stop",
        ]
    );
}

/// Whether a text is a framework's name, with or without version and precision.
fn is_named(text: &str, framework: &str) -> bool {
    [framework, benchd_analysis::shown_framework(framework)]
        .iter()
        .any(|name| text.split([' ', '·']).next() == Some(name))
}

#[test]
fn a_framework_has_one_colour_and_one_shape_everywhere() {
    let names = ["vllm", "sglang", "ollama", "llamacpp"];
    let mut b = begun(&names);
    // The plan's second framework measures nothing: the others keep their colours.
    for (framework, slow) in [("vllm", 1), ("ollama", 2), ("llamacpp", 3)] {
        measure(&mut b, framework, slow);
    }
    let (_, all) = drawn(&b);
    let mut seen: HashMap<&str, BTreeMap<String, usize>> = HashMap::new();
    for figure in &all {
        let legend = &figure.html[..figure.html.find("</ul>").expect("a legend") + "</ul>".len()];
        let legend = parsed(legend);
        for key in legend.descendants().filter(|n| has_class(n, "lk")) {
            let name = names.iter().find(|n| {
                key.descendants()
                    .any(|d| d.text().is_some_and(|text| is_named(text, n)))
            });
            let name = name.expect("a name in the legend");
            assert_eq!(
                names[attribute(&key, "data-fw") as usize],
                *name,
                "{}",
                figure.title
            );
            let group = key.descendants().find(|n| n.has_tag_name("g")).expect("its mark");
            *seen
                .entry(name)
                .or_default()
                .entry(group.attribute("class").unwrap_or("").to_owned())
                .or_default() += 1;
        }
        for svg in svgs(figure) {
            let doc = parsed(svg);
            for group in doc.descendants().filter(|n| n.attribute("data-fw").is_some()) {
                let name = names[attribute(&group, "data-fw") as usize];
                let colour = group.attribute("class").unwrap_or("").replace("mk ", "");
                *seen.entry(name).or_default().entry(colour).or_default() += 1;
                // The mark's own words name the same framework.
                let says = group
                    .children()
                    .find(|n| n.has_tag_name("title"))
                    .and_then(|t| t.text());
                assert!(says.is_none_or(|s| s.starts_with(name)), "{name}: {says:?}");
            }
        }
    }
    let colours: Vec<_> = names
        .iter()
        .map(|n| seen.get(n).map(|c| c.keys().collect::<Vec<_>>()))
        .collect();
    assert_eq!(
        format!("{colours:?}"),
        r#"[Some(["f1"]), None, Some(["f3"]), Some(["f4"])]"#
    );
}

#[test]
fn nothing_is_drawn_outside_its_frame() {
    let (_, all) = drawn(&run_of(&HOSTILE));
    for figure in &all {
        for svg in svgs(figure) {
            let doc = parsed(svg);
            let root = doc.root_element();
            let size: Vec<f64> = root
                .attribute("viewBox")
                .expect("a view box")
                .split(' ')
                .map(|n| n.parse().expect("a number"))
                .collect();
            let (width, height) = (size[2], size[3]);
            let title = root
                .children()
                .find_map(|n| n.has_tag_name("title").then(|| n.text()))
                .flatten()
                .unwrap_or("");
            let inside = |x: f64, y: f64, slack: f64, what: &str| {
                assert!(
                    (-slack..=width + slack).contains(&x) && (-slack..=height + slack).contains(&y),
                    "{title}: {what} at {x}, {y} of {width} × {height}"
                );
            };
            for node in doc.descendants().filter(Node::is_element) {
                // The run's own drawing has coordinates of its own, and labels that wait for a zoom.
                if node.ancestors().any(|a| has_class(&a, "zoom")) || node.attribute("visibility").is_some() {
                    continue;
                }
                if let Some(d) = node.attribute("d") {
                    for (x, y) in points(d) {
                        inside(x, y, 0.6, d);
                    }
                }
                if node.has_tag_name("rect") {
                    let (x, y) = (attribute(&node, "x"), attribute(&node, "y"));
                    inside(x, y, 0.1, "rect");
                    inside(
                        x + attribute(&node, "width"),
                        y + attribute(&node, "height"),
                        0.1,
                        "rect",
                    );
                }
                if node.has_tag_name("text") {
                    let says = node.text().unwrap_or("");
                    let size = if has_class(&node, "h") {
                        12.5
                    } else if has_class(&node, "s") {
                        10.0
                    } else {
                        11.0
                    };
                    let wide = svg::text_width(says, size);
                    let x = attribute(&node, "x");
                    let (from, to) = match node.attribute("text-anchor") {
                        Some("middle") => (x - wide / 2.0, x + wide / 2.0),
                        Some("end") => (x - wide, x),
                        _ => (x, x + wide),
                    };
                    inside(from, attribute(&node, "y"), 2.0, says);
                    inside(to, attribute(&node, "y"), 2.0, says);
                }
            }
            // Lines and points of a plot: within its axes.
            let Some((left, right, bottom)) = axis(&doc).filter(|_| !svg.contains("class=\"zoom\"")) else {
                continue;
            };
            for class in ["ln", "area", "err", "pt", "open", "ideal", "tick"] {
                for node in of_class(&doc, class).filter(|n| n.has_tag_name("path")) {
                    for (x, y) in points(node.attribute("d").expect("a path")) {
                        let slack = 4.8;
                        assert!(
                            (left - slack..=right + slack).contains(&x)
                                && (28.0..=bottom + slack).contains(&y),
                            "{title}: {class} at {x}, {y}; axis from {left} to {right} at {bottom}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn points_and_intervals_of_lines_can_be_read_off_the_axis() {
    let frameworks = ["vllm", "sglang"];
    let (summary, all) = drawn(&run_of(&frameworks));
    let place = Place::Scenario(ScenarioKind::Concurrent);
    let svg = panel_of(&all, "Throughput and latency against concurrency", place, "TTFT");
    let doc = parsed(svg);
    let ruler = Ruler::of(&doc);
    assert!(!ruler.log, "212 over 56 ms is no wide range");
    assert_eq!(ruler.ticks[0], (0.0, 200.0), "zero is the ground");
    let (left, right, _) = axis(&doc).expect("an axis");
    for (n, framework) in frameworks.iter().enumerate() {
        let marks: Vec<_> = of_class(&doc, "mk")
            .filter(|m| attribute(m, "data-fw") as usize == n)
            .collect();
        assert_eq!(marks.len(), STREAMS.len());
        for (mark, streams) in marks.iter().zip(STREAMS) {
            let ttft = cell(&summary, framework, &format!("concurrent/c{streams}"))
                .ttft_ms
                .as_ref()
                .expect("TTFT");
            let point = mark.descendants().find(|d| has_class(d, "pt")).expect("a point");
            let (x, y) = middle(&point);
            // Equal ratios: 1 left, 32 right, 2 a fifth of the way.
            let share = f64::from(streams).log2() / 5.0;
            assert!(
                (x - (left + 4.0 + share * (right - left - 8.0))).abs() < 0.2,
                "{streams}: {x}"
            );
            // Triangles and squares have their weight elsewhere than their box.
            let grain = ruler.grain(y) * if n == 0 { 1.0 } else { 2.0 };
            assert!(
                (ruler.value(y) - ttft.p50).abs() <= grain,
                "{} for {}",
                ruler.value(y),
                ttft.p50
            );
            let interval = ttft.p50_interval.expect("80 requests have an interval");
            let err = mark
                .descendants()
                .find(|d| has_class(d, "err"))
                .expect("its interval");
            let ends = points(err.attribute("d").expect("a path"));
            for (end, value) in [(ends[0], interval.low), (ends[1], interval.high)] {
                assert!(
                    (ruler.value(end.1) - value).abs() <= ruler.grain(end.1),
                    "{} for {value}",
                    ruler.value(end.1)
                );
                assert_eq!(end.0, ends[0].0, "upright");
            }
        }
    }
}

#[test]
fn values_far_apart_stand_in_equal_ratios_and_the_axis_says_so() {
    let (summary, all) = drawn(&run_of(&["vllm", "sglang"]));
    // TTFT from 17.8 ms at 128 tokens to 3,300 at 16,384.
    let place = Place::Scenario(ScenarioKind::LongContext);
    let svg = panel_of(&all, "By input length", place, "TTFT, 1 stream");
    let doc = parsed(svg);
    let ruler = Ruler::of(&doc);
    assert!(ruler.log, "{svg}");
    for (name, mark) in
        of_class(&doc, "mk").map(|m| (m.descendants().find_map(|t| t.text()).unwrap_or(""), m))
    {
        let mut lines = name.lines();
        let framework = lines.next().expect("a name");
        let summary = cell(&summary, framework, lines.last().expect("a cell"));
        let (_, y) = middle(&mark.descendants().find(|d| has_class(d, "pt")).expect("a point"));
        let p50 = summary.ttft_ms.as_ref().expect("TTFT").p50;
        assert!(
            (ruler.value(y) / p50 - 1.0).abs() < 0.03,
            "{} for {p50}",
            ruler.value(y)
        );
    }
}

#[test]
fn bars_are_as_long_as_their_values_from_zero() {
    let frameworks = ["vllm", "sglang", "ollama"];
    let (summary, all) = drawn(&run_of(&frameworks));
    let svg = panel_of(&all, GLANCE, Place::Glance, "TTFT, single request");
    let doc = parsed(svg);
    let bars: Vec<_> = of_class(&doc, "bar").collect();
    let values = frameworks.map(|f| {
        cell(&summary, f, "single/in512")
            .ttft_ms
            .as_ref()
            .expect("TTFT")
            .p50
    });
    assert_eq!(bars.len(), values.len());
    for (bar, value) in bars.iter().zip(values) {
        assert_eq!(attribute(bar, "x"), 0.0);
        let unit = attribute(&bars[2], "width") / values[2];
        assert!((attribute(bar, "width") - value * unit).abs() < 0.11, "{value}");
    }
    // The whisker of each lies on its bar's middle, from its low to its high end.
    for ((rule, bar), framework) in of_class(&doc, "rule").zip(&bars).zip(frameworks) {
        let interval = cell(&summary, framework, "single/in512")
            .ttft_ms
            .as_ref()
            .and_then(|d| d.p50_interval)
            .expect("an interval");
        let ends = points(rule.attribute("d").expect("a path"));
        let unit = attribute(&bars[2], "width") / values[2];
        assert!(
            (ends[0].0 - interval.low * unit).abs() < 0.2 && (ends[1].0 - interval.high * unit).abs() < 0.2,
            "{ends:?}"
        );
        assert!((ends[0].1 - attribute(bar, "y") - attribute(bar, "height") / 2.0).abs() < 0.11);
    }
}

#[test]
fn lines_of_quantities_begin_at_zero_unless_they_say_otherwise() {
    let (_, all) = drawn(&run_of(&["vllm", "sglang", "ollama"]));
    let mut checked = 0;
    for figure in &all {
        for svg in svgs(figure) {
            let doc = parsed(svg);
            let told = of_class(&doc, "m").any(|n| {
                n.text()
                    .is_some_and(|t| t.contains("log scale") && attribute(&n, "y") < 40.0)
            });
            // Only panels with figures along their left side.
            let ticks: Vec<_> = axis(&doc)
                .map(|(left, _, bottom)| {
                    of_class(&doc, "m")
                        .filter(|n| {
                            n.attribute("text-anchor") == Some("end")
                                && attribute(n, "x") < left
                                && attribute(n, "y") < bottom + 8.0
                        })
                        .filter_map(|n| {
                            Some((
                                n.text()?.replace([',', '%', ' '], "").parse::<f64>().ok()?,
                                attribute(&n, "y") - 3.5 - bottom,
                            ))
                        })
                        .collect()
                })
                .unwrap_or_default();
            if ticks.len() > 1 && !told && !svg.contains("class=\"zoom\"") {
                assert!(
                    ticks.iter().any(|(v, off)| *v == 0.0 && off.abs() < 0.2),
                    "{}: {ticks:?}",
                    figure.title
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 8, "{checked}");
}

#[test]
fn a_run_without_anything_has_no_figures_and_a_single_request_has_whole_ones() {
    let empty = Builder::new(vec![(lane_id("vllm", "llama"), cells())]);
    assert_eq!(drawn(&empty).1, []);
    let mut one = Builder::one(exact("single/in512", ScenarioKind::Single, 1, 512));
    one.measured(
        &lane_id("vllm", "llama"),
        "single/in512",
        &[(100, vec![Did::ok(0, 10, 90)])],
    );
    let (_, all) = drawn(&one);
    let titles: Vec<_> = all.iter().map(|f| f.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "Throughput, TTFT, latency and memory",
            "Token by token",
            "Distributions",
            "Lanes and cells along the run"
        ]
    );
    for figure in &all {
        for svg in svgs(figure) {
            parsed(svg);
            assert!(!svg.contains("NaN") && !svg.contains("class=\"err\""), "{svg}");
        }
    }
}

#[test]
fn a_lane_that_failed_leaves_the_others_as_they_are() {
    let mut b = begun(&["vllm", "sglang", "ollama"]);
    measure(&mut b, "vllm", 1);
    let broken = lane_id("sglang", "llama");
    b.ready(&broken);
    b.end_lane(&broken, LaneOutcome::Failed, Some(("ready", "exit 1", &[])));
    measure(&mut b, "ollama", 3);
    b.finish();
    let (_, all) = drawn(&b);
    let svg = panel_of(&all, GLANCE, Place::Glance, "TTFT, single request");
    assert!(svg.contains("vllm") && svg.contains("ollama") && !svg.contains("sglang"));
    // It stands where the run is told, with all that it had.
    let run = svgs(figure(&all, "GPU along the run", Place::Operations))[0];
    assert!(run.contains("sglang · llama"), "{run}");
    // One framework alone is never best.
    let mut alone = begun(&["vllm", "sglang"]);
    measure(&mut alone, "vllm", 1);
    let (_, all) = drawn(&alone);
    assert!(all.iter().all(|f| !f.html.contains(" best</text>")));
}

#[test]
fn drawings_stay_small_whatever_was_measured() {
    let lane = lane_id("vllm", "llama");
    let mut b = Builder::one(shared("prefix_cache/sys2048"));
    let each = (0..5_000).map(|i| Did {
        tokens: 2_000,
        ..Did::ok(i, 10 + i % 90, 9_000)
    });
    b.measured(&lane, "prefix_cache/sys2048", &[(60_000, each.collect())]);
    b.samples(
        &lane,
        &(0..50_000)
            .map(|i| gpu_sample(i / 10, 1_000_000 * (i % 1_000)))
            .collect::<Vec<_>>(),
    );
    let (_, all) = drawn(&b);
    let bytes: usize = all.iter().map(|f| f.html.len()).sum();
    assert!(bytes < 400_000, "{bytes}");
}

#[test]
fn machines_stand_side_by_side_on_one_scale() {
    let b = run_of(&["vllm", "sglang"]);
    b.write_journal();
    let (summary, series) = summarise_run_with_series(&b.run, &b.plan, &b.lanes).expect("a summary");
    let mut study = Study::of_one(summary);
    let one = figures(&study, &[vec![series.clone()]]);
    assert!(
        one.iter().all(|f| f.machine == Some(0)),
        "one machine stands beside none"
    );
    let mut other = study.machines[0].clone();
    study.machines[0].name = "A100".to_owned();
    other.name = "RTX 5090 <b>".to_owned();
    // The other machine is twice as fast at the single request, and measured nothing under load.
    for cell in other
        .runs
        .iter_mut()
        .flat_map(|r| &mut r.lanes)
        .flat_map(|l| &mut l.cells)
    {
        if let Some(ttft) = &mut cell.ttft_ms {
            ttft.p50 /= 2.0;
            ttft.p50_interval = None;
        }
    }
    for lane in other.runs.iter_mut().flat_map(|r| &mut r.lanes) {
        lane.cells.retain(|c| c.kind != ScenarioKind::Concurrent);
    }
    study.machines.push(other);
    let all = figures(&study, &[vec![series.clone()], vec![series]]);
    let beside = figure(&all, "Machines side by side", Place::Glance);
    assert_eq!((beside.machine, beside.model.as_deref()), (None, Some("llama")));
    let [svg] = svgs(beside)[..] else {
        panic!("load was measured on one machine only: {}", beside.html);
    };
    let doc = parsed(svg);
    let bars: Vec<f64> = of_class(&doc, "bar")
        .map(|bar| attribute(&bar, "width"))
        .collect();
    let names: Vec<_> = of_class(&doc, "mk")
        .filter_map(|m| {
            m.descendants()
                .find(|n| n.has_tag_name("title"))?
                .text()?
                .lines()
                .next()
        })
        .collect();
    assert_eq!(
        names,
        [
            "vllm · A100",
            "vllm · RTX 5090 <b>",
            "sglang · A100",
            "sglang · RTX 5090 <b>"
        ]
    );
    assert!(
        (bars[0] / bars[1] - 2.0).abs() < 0.02 && (bars[2] / bars[3] - 2.0).abs() < 0.02,
        "{bars:?}"
    );
}
