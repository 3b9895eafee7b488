//! The report's Markdown as HTML, so that both say the same: headings with anchors, tables in boxes of their own,
//! the words of the report (frameworks, flags, intervals) marked by the columns in which they stand.
//!
//! The Markdown is benchd's own; texts from outside are escaped in it, and markup that is in it all the same comes out
//! as text.

use std::collections::HashSet;

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::{
    charts::Keys,
    text::{escape, slug, with_korean},
};
use crate::markdown::headline::BARS;

/// What the whole page knows while its parts are written.
#[derive(Debug)]
pub(super) struct Page {
    /// Ids in use.
    ids: HashSet<String>,
    /// Headings, for the table of contents.
    pub(super) contents: Vec<Entry>,
    /// The frameworks' colours and marks, those of the figures.
    keys: Keys,
    /// Begins the ids of the part that is being written: several machines have the same headings.
    prefix: String,
    /// Figures that stand already: two scenarios of one kind share theirs.
    placed: HashSet<String>,
}

/// A line of the table of contents.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) level: u8,
    pub(super) id: String,
    pub(super) title: String,
}

impl Page {
    /// A page with the marks of these frameworks, in which these ids are taken.
    pub(super) fn new(keys: Keys, ids: impl IntoIterator<Item = String>) -> Self {
        Self {
            ids: ids.into_iter().collect(),
            contents: Vec::new(),
            keys,
            prefix: String::new(),
            placed: HashSet::new(),
        }
    }

    /// Whether a figure stands here for the first time.
    pub(super) fn place(&mut self, figure: &str) -> bool {
        self.placed.insert(figure.to_owned())
    }

    /// From here on ids begin with this.
    pub(super) fn set_prefix(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    /// An id that no other element has.
    pub(super) fn id(&mut self, wanted: &str) -> String {
        let slug = format!("{}{}", self.prefix, slug(wanted));
        let mut id = slug.clone();
        let mut n = 1;
        while !self.ids.insert(id.clone()) {
            n += 1;
            id = format!("{slug}-{n}");
        }
        id
    }

    /// A heading with its anchor; down to the third level it is in the table of contents.
    pub(super) fn heading(&mut self, level: u8, title: &str, html: &str) -> String {
        let id = match flag_heading(title) {
            Some(flag) => self.id(&flag_id(flag)),
            None => self.id(title),
        };
        let text = format!(
            "<h{level} id=\"{id}\">{html}<a class=\"anchor\" href=\"#{id}\" aria-label=\"link to this part\">#</a></h{level}>\n"
        );
        if level > 1 && level < 4 {
            self.contents.push(Entry {
                level,
                id,
                title: title.to_owned(),
            });
        }
        text
    }

    /// A framework's name with its mark.
    pub(super) fn framework(&self, name: &str) -> String {
        // `vllm #2` is vllm's second round.
        let plain = name.split(" #").next().unwrap_or(name);
        match self.keys.find(plain) {
            Some(key) => format!("<span class=\"fw\">{}{}</span>", key.mark(), with_korean(name)),
            None => with_korean(name),
        }
    }
}

/// Puts something of its own into the page: told of each heading (level, text), gives HTML to stand right after it.
pub(super) type AfterHeading<'a> = &'a mut dyn FnMut(u8, &str) -> String;

/// Some Markdown as HTML.
pub(super) fn html(markdown: &str, page: &mut Page, after_heading: AfterHeading<'_>) -> String {
    let mut writer = Writer {
        page,
        out: String::with_capacity(markdown.len() * 2),
        heading: None,
        table: None,
        code: false,
        left_out: None,
    };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.event(event, after_heading);
    }
    writer.out
}

struct Writer<'p> {
    page: &'p mut Page,
    out: String,
    /// Text of the heading that is being read, and where its HTML begins.
    heading: Option<(String, usize)>,
    table: Option<TableState>,
    code: bool,
    /// Where a block began that the page has something better for.
    left_out: Option<usize>,
}

/// A table scrolls within its box.
const TABLE_BOX: &str = "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"table\">";

/// Where in a table the writer is.
struct TableState {
    right: Vec<bool>,
    header: Vec<String>,
    in_head: bool,
    column: usize,
    /// Text of the cell that is being read, and where its HTML begins.
    text: String,
    start: usize,
    /// First cell of the row before: a cell's rows belong together.
    before: String,
    row_start: usize,
    /// Where its `<table>` stands.
    tag: usize,
    /// Whether a cell holds a sentence.
    sentences: bool,
}

/// Characters from which on a cell holds a sentence rather than a figure or a name.
const SENTENCE: usize = 40;

/// Characters of a name up to which it is kept on one line.
const SHORT: usize = 24;

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>, after_heading: AfterHeading<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag, after_heading),
            Event::Text(text) => {
                self.note(&text);
                let html = if self.code {
                    escape(&text)
                } else {
                    with_korean(&text)
                };
                self.out.push_str(&html);
            }
            Event::Code(text) => {
                self.note(&text);
                self.out.push_str("<code>");
                self.out.push_str(&with_korean(&text));
                self.out.push_str("</code>");
            }
            // Markup in a text is a text.
            Event::Html(text) | Event::InlineHtml(text) => {
                self.note(&text);
                self.out.push_str(&escape(&text));
            }
            Event::SoftBreak | Event::HardBreak => {
                self.note(" ");
                self.out.push('\n');
            }
            Event::Rule => self.out.push_str("<hr>\n"),
            Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    fn note(&mut self, text: &str) {
        if let Some((heading, _)) = &mut self.heading {
            heading.push_str(text);
        } else if let Some(table) = &mut self.table {
            table.text.push_str(text);
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        let html = match tag {
            Tag::Paragraph => "<p>",
            Tag::BlockQuote(_) => "<div class=\"banner\" role=\"note\">\n",
            Tag::List(None) => "<ul>\n",
            Tag::List(Some(_)) => "<ol>\n",
            Tag::Item => "<li>",
            Tag::Emphasis => "<em>",
            Tag::Strong => "<strong>",
            Tag::CodeBlock(kind) => {
                self.code = true;
                if matches!(&kind, CodeBlockKind::Fenced(info) if **info == *BARS) {
                    // With the line that leads to it.
                    let lead = self.out.rfind("<p>").filter(|_| self.out.ends_with(":</p>\n"));
                    self.left_out = Some(lead.unwrap_or(self.out.len()));
                }
                "<pre tabindex=\"0\"><code>"
            }
            Tag::Link { dest_url, .. } => {
                let link = format!("<a href=\"{}\">", escape(&safe_link(&dest_url)));
                self.out.push_str(&link);
                return;
            }
            Tag::Heading { .. } => {
                self.heading = Some((String::new(), self.out.len()));
                return;
            }
            Tag::Table(alignments) => {
                self.table = Some(TableState {
                    right: alignments.iter().map(|a| *a == Alignment::Right).collect(),
                    header: Vec::new(),
                    in_head: true,
                    column: 0,
                    text: String::new(),
                    start: 0,
                    before: String::new(),
                    row_start: 0,
                    tag: 0,
                    sentences: false,
                });
                self.lead_in();
                let tag = self.out.len() + TABLE_BOX.len();
                if let Some(table) = &mut self.table {
                    table.tag = tag;
                }
                self.out.push_str(TABLE_BOX);
                "<table>\n"
            }
            Tag::TableHead => "<thead><tr>",
            Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.column = 0;
                    table.row_start = self.out.len();
                }
                "<tr>"
            }
            Tag::TableCell => {
                if let Some(table) = &mut self.table {
                    table.text.clear();
                    table.start = self.out.len();
                }
                ""
            }
            _ => "",
        };
        self.out.push_str(html);
    }

    fn end(&mut self, tag: TagEnd, after_heading: AfterHeading<'_>) {
        let html = match tag {
            TagEnd::Paragraph => "</p>\n",
            TagEnd::BlockQuote(_) => "</div>\n",
            TagEnd::List(false) => "</ul>\n",
            TagEnd::List(true) => "</ol>\n",
            TagEnd::Item => "</li>\n",
            TagEnd::Emphasis => "</em>",
            TagEnd::Strong => "</strong>",
            TagEnd::Link => "</a>",
            TagEnd::CodeBlock => {
                self.code = false;
                if let Some(start) = self.left_out.take() {
                    self.out.truncate(start);
                    return;
                }
                "</code></pre>\n"
            }
            TagEnd::Heading(level) => {
                if let Some((title, start)) = self.heading.take() {
                    let inner = self.out.split_off(start);
                    let level = number(level);
                    self.out.push_str(&self.page.heading(level, &title, &inner));
                    self.out.push_str(&after_heading(level, &title));
                }
                return;
            }
            TagEnd::TableHead => {
                if let Some(table) = &mut self.table {
                    table.in_head = false;
                }
                "</tr></thead>\n<tbody>\n"
            }
            TagEnd::TableCell => {
                self.cell();
                return;
            }
            TagEnd::TableRow => "</tr>\n",
            TagEnd::Table => {
                // Sentences without a column of figures: rows that a narrow screen can stack.
                if let Some(table) = self.table.take()
                    && table.sentences
                    && !table.right.contains(&true)
                {
                    let at = table.tag + "<table".len();
                    self.out.insert_str(at, " class=\"prose\"");
                }
                "</tbody></table></div>\n"
            }
            _ => "",
        };
        self.out.push_str(html);
    }

    /// A paragraph that ends in a colon belongs to the table after it.
    fn lead_in(&mut self) {
        if self.out.ends_with(":</p>\n")
            && let Some(start) = self.out.rfind("<p>")
        {
            self.out
                .replace_range(start..start + "<p>".len(), "<p class=\"lead\">");
        }
    }

    /// Closes a cell of a table: what it holds is shown as its column asks.
    fn cell(&mut self) {
        let Some(table) = &mut self.table else { return };
        let inner = self.out.split_off(table.start);
        let right = table.right.get(table.column).copied().unwrap_or(false);
        let class = if right { " class=\"n\"" } else { "" };
        let html = if table.in_head {
            table.header.push(table.text.clone());
            format!("<th scope=\"col\"{class}>{inner}</th>")
        } else {
            let first = table.column == 0;
            let sentence = table.text.chars().count() > SENTENCE;
            table.sentences |= sentence;
            let again = first && table.text == table.before && !table.text.is_empty();
            if first {
                if !again && !table.before.is_empty() && inner.starts_with("<code>") {
                    // Rows of another cell begin: a rule above them.
                    let at = table.row_start + "<tr".len();
                    self.out.insert_str(at, " class=\"next\"");
                }
                table.before.clone_from(&table.text);
            }
            let shown = match table.header.get(table.column).map(String::as_str) {
                Some("framework" | "against") if inner == with_korean(&table.text) => {
                    self.page.framework(&table.text)
                }
                Some("verdict" | "seen" | "says" | "lane" | "lane's end") => badge(&table.text, inner),
                // `llama-3.1-8b` is one word.
                Some("model") if table.text.chars().count() <= SHORT => {
                    format!("<span class=\"nb\">{inner}</span>")
                }
                Some("flags") => flags(&table.text, &self.page.prefix),
                _ if right => figure(&inner),
                _ => moment(&table.text).unwrap_or(inner),
            };
            match (first, again) {
                (true, true) if sentence => format!("<th scope=\"row\" class=\"again long\">{shown}</th>"),
                (true, true) => {
                    let n = if right { " n" } else { "" };
                    format!("<th scope=\"row\" class=\"again{n}\">{shown}</th>")
                }
                (true, false) if sentence => format!("<th scope=\"row\" class=\"long\">{shown}</th>"),
                (true, false) => format!("<th scope=\"row\"{class}>{shown}</th>"),
                (false, _) => format!("<td{class}>{shown}</td>"),
            }
        };
        table.column += 1;
        self.out.push_str(&html);
    }
}

fn number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

/// Links lead to files beside the report or to places in it, nowhere else.
fn safe_link(link: &str) -> String {
    let scheme = link.split(['/', '#', '?']).next().unwrap_or("").contains(':');
    if scheme || link.starts_with("//") {
        "#".to_owned()
    } else {
        link.to_owned()
    }
}

/// A moment breaks between its date and its time, nowhere else.
fn moment(text: &str) -> Option<String> {
    let (date, time) = text.split_once(' ')?;
    let is_date = date.len() == 10 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    (is_date && time.ends_with(" UTC")).then(|| {
        format!(
            "<span class=\"nb\">{}</span> <span class=\"nb\">{}</span>",
            escape(date),
            escape(time)
        )
    })
}

/// A number with its interval: the interval steps back.
fn figure(html: &str) -> String {
    let (Some(start), Some(end)) = (html.find(" ["), html.find(']')) else {
        return html.to_owned();
    };
    if start > end {
        return html.to_owned();
    }
    let (number, interval, rest) = (&html[..start], &html[start + 1..=end], &html[end + 1..]);
    // With a third figure behind it the cell would be wider than any other.
    let tall = if rest.contains('δ') { " tall" } else { "" };
    format!("<span class=\"num{tall}\">{number} <span class=\"ci\">{interval}</span>{rest}</span>")
}

/// A word that judges, with a shape of its own: colour never carries meaning alone.
fn badge(text: &str, html: String) -> String {
    let (word, rest) = match text.split_once(": ") {
        Some((word, _)) => (word, html.split_once(": ").map_or("", |(_, rest)| rest)),
        None => (text, ""),
    };
    match judgement(word) {
        Some(class) if rest.is_empty() => format!("<span class=\"badge {class}\">{}</span>", escape(word)),
        Some(class) => format!("<span class=\"badge {class}\">{}</span> {rest}", escape(word)),
        None => html,
    }
}

/// Which way a word points.
pub(super) fn judgement(word: &str) -> Option<&'static str> {
    Some(match word {
        "supported" | "as expected" | "yes" | "finished" => "good",
        "refuted" | "otherwise" | "no" | "failed" => "bad",
        "inconclusive" | "unclear" | "undecided" | "interrupted" | "running" => "unsure",
        "not measured" | "not started" => "none",
        _ => return None,
    })
}

/// The id of a flag's part in the section on flags.
pub(super) fn flag_id(name: &str) -> String {
    format!("flag-{}", slug(name))
}

/// The flag of a heading like `drift (3 cells)`.
fn flag_heading(title: &str) -> Option<&str> {
    Some(title.strip_suffix(" cells)")?.rsplit_once(" (")?.0)
}

/// Flags of a cell, each with a link to what it means.
fn flags(names: &str, prefix: &str) -> String {
    let each = names.split(", ").filter(|n| !n.is_empty());
    let links: Vec<String> = each
        .map(|n| {
            format!(
                "<a class=\"flag\" href=\"#{prefix}{}\">{}</a>",
                flag_id(n),
                escape(n)
            )
        })
        .collect();
    links.join(" ")
}
