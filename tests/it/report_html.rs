//! The report in a real browser: drawn, quiet, alone, by day and by night, on a phone and on paper; and its values
//! beside those of the other files.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use benchd_report::number::number;
use scraper::{ElementRef, Html, Selector};

/// Folder of the kept run's results.
const RUN: &str = "tests/fixtures/quickstart-run";

/// The browsers that are looked for, where `BENCHD_CHROMIUM` names none.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Tells what the page came to, in an attribute that can be read from outside. Goes into a copy of the report.
const PROBE: &str = r#"<script>
const broken = [];
addEventListener("securitypolicyviolation", (e) => broken.push(e.violatedDirective + " " + e.blockedURI));
addEventListener("error", (e) => broken.push(String(e.message)));
addEventListener("load", () => setTimeout(() => {
  const page = document.documentElement;
  const empty = [...document.querySelectorAll("figure svg")].filter((svg) => {
    const box = svg.getBBox();
    return !(box.width > 0 && box.height > 0 && svg.getBoundingClientRect().width > 0);
  });
  const told = {
    width: innerWidth,
    overflow: page.scrollWidth - page.clientWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    charts: document.querySelectorAll("figure svg").length,
    empty: empty.length,
    answers: [...new Set([...document.querySelectorAll(".answers")].map((row) =>
      new Set([...row.children].map((a) => a.getBoundingClientRect().left).filter((x) => x > 0)).size))],
    loaded: performance.getEntriesByType("resource").map((r) => r.name),
    broken,
  };
  page.dataset.told = JSON.stringify(told);
  if (parent !== window) parent.postMessage(told, "*");
}, 50));
</script>"#;

/// Shows the report in a frame as wide as a phone: the browser's own windows are wider.
const PHONE: &str = r#"<!doctype html><title>phone</title><body style="margin:0"><script>
addEventListener("message", (e) => { document.documentElement.dataset.told = JSON.stringify(e.data); });
</script><iframe src="probed.html" width="390" height="844" style="border:0"></iframe>"#;

/// Uses the page as people do, and tells what came of it: points at marks, puts frameworks aside, zooms, types, prints.
const USE: &str = r#"<script>
addEventListener("load", () => setTimeout(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const told = {};
  const tip = one(".tip");
  const says = () => (tip.hidden ? null : tip.textContent);
  const middle = (e) => { const b = e.getBoundingClientRect(); return { clientX: b.left + b.width / 2, clientY: b.top + b.height / 2 }; };
  const pointer = (type, at, where) => (where || document.elementFromPoint(at.clientX, at.clientY) || document.body)
    .dispatchEvent(new PointerEvent(type, { bubbles: true, pointerType: "mouse", button: 0, ...at }));
  const key = (e, name) => e.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));

  // Pointing at every point of every plot and at every bar: what lies there says its own words.
  told.pointed = [];
  for (const mark of all(".chart:not(:has(.zoom)) .mk:has(.bar, .err, .open)")) {
    mark.scrollIntoView({ block: "center" });
    const drawn = one(".bar, .pt, .open", mark);
    const at = middle(drawn);
    if (drawn.matches(".bar")) at.clientX = drawn.getBoundingClientRect().left + 2;
    pointer("pointermove", at);
    const box = tip.getBoundingClientRect();
    told.pointed.push({
      chart: mark.closest("svg").getAttribute("aria-label"),
      says: says(),
      own: (says() || "").split("\n\n").includes(mark.dataset.tip),
      marked: mark.classList.contains("at"),
      inside: box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight,
    });
  }
  pointer("pointermove", { clientX: 1, clientY: 1 }, document.body);
  told.gone = says() === null && all(".mk.at").length === 0;
  told.titles = all(".chart .mk title").length;

  // A framework less, by click and by key; the others stay.
  const off = () => [...new Set(all(".chart .fw-off").map((g) => g.dataset.fw))];
  const keys = all(".legend .lk[data-fw='0']");
  keys[0].click();
  const groups = all(".chart g[data-fw='0']");
  told.off = {
    frameworks: off(),
    faint: groups.every((g) => Number(getComputedStyle(g).opacity) < 0.2),
    pressed: keys.map((k) => k.getAttribute("aria-pressed")),
  };
  key(keys[0], "Enter");
  told.on = { frameworks: off(), pressed: keys.map((k) => k.getAttribute("aria-pressed")) };
  key(one(".legend .lk[data-fw='1']"), " ");
  told.second = off();
  key(one(".legend .lk[data-fw='1']"), " ");

  // From mark to mark.
  const chart = one(".chart:has(.err)");
  chart.focus();
  told.focused = document.activeElement === chart;
  const marks = all("[data-tip]", chart).map((m) => m.dataset.tip);
  const walked = [];
  for (const name of ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"]) { key(chart, name); walked.push(marks.indexOf(says())); }
  key(chart, "Escape");
  told.walked = { walked, last: marks.length - 1, hidden: says() === null };

  // A closer look at the run, and back.
  const zoom = one("svg.zoom"), run = zoom.closest(".chart"), view = () => zoom.getAttribute("viewBox");
  const axis = () => one(".zt", run).innerHTML, labels = () => all(".zl", run).map((l) => l.textContent + l.getAttribute("x") + l.getAttribute("visibility"));
  const whole = [view(), axis(), labels().join()], reset = one(".zoomreset");
  run.scrollIntoView({ block: "center" });
  const box = run.getBoundingClientRect(), across = (share) => ({
    clientX: box.left + box.width * (Number(zoom.dataset.left) + Number(zoom.getAttribute("width")) * share) / run.viewBox.baseVal.width,
    clientY: box.top + box.height / 2,
  });
  const drag = () => { pointer("pointerdown", across(0.25)); pointer("pointermove", across(0.4)); pointer("pointermove", across(0.5)); pointer("pointerup", across(0.5)); };
  const same = () => view() === whole[0] && axis() === whole[1] && labels().join() === whole[2] && reset.hidden;
  told.zoom = { before: reset.hidden };
  drag();
  told.zoom.near = view().split(" ").map(Number);
  told.zoom.ticks = all(".zt text", run).map((t) => t.textContent);
  told.zoom.offered = !reset.hidden;
  told.zoom.left = all(".sel").length;
  run.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  told.zoom.double = same();
  drag(); reset.click();
  told.zoom.button = same();
  run.focus(); key(run, "+"); key(run, "+");
  told.zoom.typed = view().split(" ").map(Number);
  key(run, "-");
  told.zoom.wider = view().split(" ").map(Number);

  // Print takes all of it, and gives it back.
  const closed = all("main details:not([open])").length;
  dispatchEvent(new Event("beforeprint"));
  told.print = { closed, left: all("main details:not([open])").length, whole: same(), tip: says() };
  dispatchEvent(new Event("afterprint"));
  told.print.again = [all("main details:not([open])").length, view() !== whole[0]];
  key(run, "0");
  told.zoom.typedBack = same();
  document.documentElement.dataset.told = JSON.stringify(told);
}, 50));
</script>"#;

struct Report {
    dir: tempfile::TempDir,
    html: String,
}

impl Report {
    fn of_fixture() -> Self {
        let dir = tempfile::tempdir().unwrap();
        super::sample_report::copy(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(RUN),
            &dir.path().join("run"),
        );
        let out = Command::new(env!("CARGO_BIN_EXE_benchd"))
            .current_dir(dir.path())
            .args(["report", "run", "--results", "."])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let html = fs::read_to_string(dir.path().join("run/report.html")).unwrap();
        let probed = html.replacen("<style>", &format!("{PROBE}<style>"), 1);
        fs::write(dir.path().join("probed.html"), probed).unwrap();
        fs::write(dir.path().join("phone.html"), PHONE).unwrap();
        let used = html.replacen("<style>", &format!("{USE}<style>"), 1);
        fs::write(dir.path().join("used.html"), used).unwrap();
        Self { dir, html }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join("run").join(name)).unwrap()
    }

    fn browser(&self, page: &str, args: &[&str]) -> Output {
        let profile = tempfile::tempdir().unwrap();
        Command::new(chromium())
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--enable-logging=stderr",
                "--virtual-time-budget=5000",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(args)
            .arg(format!("file://{}", self.dir.path().join(page).display()))
            .output()
            .unwrap()
    }

    /// What the page tells of itself, opened with these arguments. Nothing may stand on the browser's console.
    fn told(&self, page: &str, args: &[&str]) -> serde_json::Value {
        let out = self.browser(page, &[args, &["--dump-dom"]].concat());
        let said = String::from_utf8_lossy(&out.stderr);
        let console: Vec<_> = said.lines().filter(|l| l.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "{console:?}");
        let dom = Html::parse_document(&String::from_utf8_lossy(&out.stdout));
        let told = dom.root_element().attr("data-told").map(str::to_owned);
        serde_json::from_str(&told.unwrap_or_else(|| panic!("the page did not load: {said}"))).unwrap()
    }
}

fn chromium() -> PathBuf {
    let named = std::env::var_os("BENCHD_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|dir| BROWSERS.map(|name| dir.join(name)))
        .find(|file| file.is_file());
    named.or(found).unwrap_or_else(|| {
        panic!("no Chromium on this machine\n  hint: tests/setup.sh installs it; BENCHD_CHROMIUM names another one")
    })
}

fn select<'a>(html: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

fn text(element: ElementRef<'_>) -> String {
    let text: String = element.text().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_browser_draws_it_by_day_and_by_night_and_asks_nobody_for_anything() {
    let report = Report::of_fixture();
    let mut papers = HashSet::new();
    // 1 is light, 0 dark.
    for scheme in ["1", "0"] {
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        let told = report.told("probed.html", &[&scheme, "--window-size=1280,900"]);
        assert_eq!(told["loaded"], serde_json::json!([]), "{told}");
        assert_eq!(told["broken"], serde_json::json!([]), "{told}");
        assert!(told["charts"].as_u64().unwrap() > 0, "{told}");
        assert_eq!(told["empty"], 0, "{told}");
        assert_eq!(told["overflow"], 0, "{told}");
        assert_ne!(told["paper"], told["ink"]);
        papers.insert(told["paper"].to_string());
    }
    assert_eq!(
        papers.len(),
        2,
        "light and dark have papers of their own: {papers:?}"
    );
}

#[test]
fn on_a_phone_the_page_is_no_wider_than_its_screen() {
    let told = Report::of_fixture().told("phone.html", &["--window-size=800,900"]);
    assert_eq!(told["width"], 390, "{told}");
    assert_eq!(
        told["answers"],
        serde_json::json!([1]),
        "one below the other: {told}"
    );
    assert_eq!(told["overflow"], 0, "{told}");
    assert_eq!(told["empty"], 0, "{told}");
}

#[test]
fn figures_answer_to_pointer_and_keys() {
    let report = Report::of_fixture();
    let told = report.told("used.html", &["--window-size=1280,900"]);
    let html = Html::parse_document(&report.html);
    // What a mark says is what the tables say.
    let pointed = told["pointed"].as_array().unwrap();
    assert!(pointed.len() > 10, "{told}");
    for mark in pointed {
        assert!(
            mark["own"] == true && mark["marked"] == true && mark["inside"] == true,
            "{mark}"
        );
    }
    let tables = html_tables(&html);
    let glance = tables
        .iter()
        .find(|t| t[0].iter().any(|h| h.starts_with("TTFT, single")))
        .unwrap();
    let column = glance[0]
        .iter()
        .position(|h| h.starts_with("TTFT, single"))
        .unwrap();
    let mut told_too = 0;
    for row in glance[1..].iter().filter(|row| row[column] != "–") {
        let value = row[column].split(' ').next().unwrap();
        let begins = format!("{}\nTTFT, single request: {value}", row[0]);
        let says = |m: &&serde_json::Value| m["says"].as_str().is_some_and(|s| s.starts_with(&begins));
        assert_eq!(pointed.iter().filter(says).count(), 1, "{begins}: {told}");
        told_too += 1;
    }
    assert!(told_too > 0, "{glance:?}");
    assert_eq!(
        (&told["gone"], &told["titles"]),
        (&serde_json::json!(true), &serde_json::json!(0))
    );

    let all = |what: &serde_json::Value, expected: &str| {
        what.as_array()
            .is_some_and(|a| !a.is_empty() && a.iter().all(|v| v == expected))
    };
    assert_eq!(told["off"]["frameworks"], serde_json::json!(["0"]), "{told}");
    assert!(
        told["off"]["faint"] == true && all(&told["off"]["pressed"], "false"),
        "{told}"
    );
    assert_eq!(told["on"]["frameworks"], serde_json::json!([]));
    assert!(all(&told["on"]["pressed"], "true"), "{told}");
    assert_eq!(told["second"], serde_json::json!(["1"]));

    let last = told["walked"]["last"].as_i64().unwrap();
    assert_eq!(told["focused"], true);
    assert_eq!(
        told["walked"],
        serde_json::json!({ "walked": [0, 1, 0, last], "last": last, "hidden": true })
    );

    let zoom = &told["zoom"];
    let number = |v: &serde_json::Value| v.as_f64().unwrap();
    // A quarter of 10,000, from the first quarter on.
    assert!(
        (number(&zoom["near"][0]) - 2_500.0).abs() < 20.0
            && (number(&zoom["near"][2]) - 2_500.0).abs() < 30.0,
        "{zoom}"
    );
    let ticks = zoom["ticks"].as_array().unwrap();
    assert!((2..=12).contains(&ticks.len()), "{zoom}");
    for yes in ["before", "offered", "double", "button", "typedBack"] {
        assert_eq!(zoom[yes], true, "{yes}: {zoom}");
    }
    assert_eq!(zoom["left"], 0);
    assert_eq!(
        (number(&zoom["typed"][2]), number(&zoom["wider"][2])),
        (2_500.0, 5_000.0)
    );

    let print = &told["print"];
    assert!(print["closed"].as_i64().unwrap() > 0, "{print}");
    assert_eq!(
        (&print["left"], &print["whole"], &print["tip"]),
        (
            &serde_json::json!(0),
            &serde_json::json!(true),
            &serde_json::Value::Null
        )
    );
    assert_eq!(print["again"], serde_json::json!([print["closed"], true]));
}

#[test]
fn it_prints() {
    let report = Report::of_fixture();
    let pdf = report.dir.path().join("report.pdf");
    let out = report.browser("run/report.html", &[&format!("--print-to-pdf={}", pdf.display())]);
    let bytes = fs::read(&pdf).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    assert!(
        bytes.starts_with(b"%PDF-") && bytes.len() > 20_000,
        "{} bytes",
        bytes.len()
    );
}

#[test]
fn its_links_lead_somewhere_and_its_ids_are_unique() {
    let report = Report::of_fixture();
    let html = Html::parse_document(&report.html);
    let ids: Vec<&str> = select(&html, "[id]")
        .iter()
        .filter_map(|e| e.attr("id"))
        .collect();
    let unique: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    for link in select(&html, "a[href]") {
        let to = link.attr("href").unwrap();
        match to.strip_prefix('#') {
            Some(id) => assert!(unique.contains(id), "{to} leads nowhere"),
            None => assert!(
                report.dir.path().join("run").join(to).is_file(),
                "{to} is not there"
            ),
        }
    }
    assert!(select(&html, "[src], link, iframe, object, form, [onclick], [onload]").is_empty());
    assert!(!report.html.contains("url(") && !report.html.contains("@import"));
    // Headings go down one level at a time.
    let mut last = 0;
    for heading in select(&html, "h1, h2, h3, h4, h5") {
        let level: u32 = heading.value().name()[1..].parse().unwrap();
        assert!(level <= last + 1, "{}", text(heading));
        last = level;
    }
}

/// Tables as lists of rows of texts.
type Tables = Vec<Vec<Vec<String>>>;

fn html_tables(html: &Html) -> Tables {
    let rows = Selector::parse("tr").unwrap();
    let cells = Selector::parse("th, td").unwrap();
    select(html, "main table")
        .into_iter()
        .map(|table| {
            let rows = table.select(&rows);
            rows.map(|row| row.select(&cells).map(text).collect()).collect()
        })
        .collect()
}

fn markdown_tables(md: &str) -> Tables {
    let mut tables: Tables = Vec::new();
    let mut inside = false;
    for line in md.lines() {
        if !line.starts_with('|') {
            inside = false;
            continue;
        }
        if line.starts_with("| --") {
            continue;
        }
        if !inside {
            tables.push(Vec::new());
            inside = true;
        }
        let plain = line
            .replace("**", "")
            .replace('`', "")
            .replace("&lt;", "<")
            .replace("&amp;", "&")
            .replace("\\", "");
        let cells = plain.trim_matches('|').split('|');
        let row = cells.map(|c| c.split_whitespace().collect::<Vec<_>>().join(" "));
        tables.last_mut().unwrap().push(row.collect());
    }
    tables
}

/// Links and lists of flags are laid out otherwise; figures and names are not.
fn plain(tables: &Tables) -> Tables {
    let flat = |c: &String| {
        let text = c.split("](").next().unwrap_or("");
        text.replace(['[', ',', ':', ']'], "")
    };
    tables
        .iter()
        .map(|t| t.iter().map(|r| r.iter().map(flat).collect()).collect())
        .collect()
}

#[test]
fn several_runs_have_one_page_that_opens_as_well() {
    let report = Report::of_fixture();
    let dir = report.dir.path();
    super::sample_report::copy(&dir.join("run"), &dir.join("second"));
    let out = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .current_dir(dir)
        .args(["report", "run", "second", "--results", ".", "--output", "study"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let html = fs::read_to_string(dir.join("study/report.html")).unwrap();
    let probed = html.replacen("<style>", &format!("{PROBE}<style>"), 1);
    fs::write(dir.join("probed-study.html"), probed).unwrap();
    let told = report.told("probed-study.html", &["--window-size=1280,900"]);
    assert!(told["charts"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(
        (&told["empty"], &told["overflow"]),
        (&serde_json::json!(0), &serde_json::json!(0)),
        "{told}"
    );
    assert_eq!(
        (&told["broken"], &told["loaded"]),
        (&serde_json::json!([]), &serde_json::json!([])),
        "{told}"
    );
    // The same night twice: the verdicts, the document's expectations and what lies between the nights are there.
    let markdown = fs::read_to_string(dir.join("study/report.md")).unwrap();
    for part in [
        "## Verdicts",
        "Expected by the document (5.1), and seen:",
        "## Between the nights",
    ] {
        assert!(markdown.contains(part), "{part}\n{markdown}");
    }
    assert_eq!(
        plain(&html_tables(&Html::parse_document(&html))),
        plain(&markdown_tables(&markdown))
    );
}

#[test]
fn html_markdown_and_csv_have_the_same_values() {
    let report = Report::of_fixture();
    let html = html_tables(&Html::parse_document(&report.html));
    let markdown = markdown_tables(&report.read("report.md"));
    assert_eq!(plain(&html), plain(&markdown));
    assert!(html.len() > 20, "{}", html.len());

    let csv = report.read("summary.csv");
    let mut lines = csv.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let mut found = 0;
    for row in lines {
        let row: HashMap<&str, &str> = header.iter().copied().zip(row).collect();
        let shown = html
            .iter()
            .filter(|t| t[0].contains(&"TTFT p50 (ms)".to_owned()) && t[0].contains(&"flags".to_owned()))
            .flatten()
            .find(|r| {
                r[0] == row["cell"]
                    && r[1].split(' ').next() == Some(benchd_frameworks::title(row["framework"]))
            })
            .unwrap_or_else(|| panic!("{} of {} is not in the page", row["cell"], row["framework"]));
        let as_shown = |name: &str| number(row[name].parse().unwrap());
        assert_eq!(
            shown[3].split(' ').next().unwrap(),
            as_shown("ttft_ms_p50"),
            "{shown:?}"
        );
        assert_eq!(
            shown[4].trim_start_matches('~'),
            as_shown("ttft_ms_p95"),
            "{shown:?}"
        );
        assert_eq!(
            shown[7].split(' ').next().unwrap(),
            as_shown("output_tokens_per_s"),
            "{shown:?}"
        );
        found += 1;
    }
    assert!(found > 10, "{found}");
}
