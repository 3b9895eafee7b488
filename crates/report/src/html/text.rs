//! Escaping, and marking of Korean inside other text.

/// Escapes text for HTML, inside elements and quoted attributes alike. Control characters are left out: HTML allows
/// none of them.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    push_escaped(&mut out, text);
    out
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_noncharacter(c) => {}
            c => out.push(c),
        }
    }
}

/// Code points that HTML refuses.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

/// [`escape`], with runs of Korean in a `<span lang="ko">`: fonts, line breaks and voices differ by language.
pub(super) fn with_korean(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(start) = rest.find(is_hangul) {
        let run = &rest[start..];
        // Spaces and marks between two Korean words belong to the run.
        let mut end = 0;
        for (at, c) in run.char_indices() {
            if is_hangul(c) {
                end = at + c.len_utf8();
            } else if c.is_ascii_alphanumeric() || !(c.is_whitespace() || c.is_ascii_punctuation()) {
                break;
            }
        }
        push_escaped(&mut out, &rest[..start]);
        out.push_str("<span lang=\"ko\">");
        push_escaped(&mut out, &run[..end]);
        out.push_str("</span>");
        rest = &run[end..];
    }
    push_escaped(&mut out, rest);
    out
}

fn is_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}')
}

/// Letters, digits and dashes of a text, for an `id`.
pub(super) fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            out.extend(c.to_lowercase());
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    let trimmed = out.trim_end_matches('-');
    if trimmed.is_empty() { "part" } else { trimmed }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_control_characters_do_not_get_through() {
        assert_eq!(
            escape("<b a=\"1\" c='2'>&\u{1b}[31m\u{0}\u{ffff}</b>\n"),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;[31m&lt;/b&gt;\n"
        );
    }

    #[test]
    fn korean_is_marked_as_such_with_its_spaces_and_no_more() {
        assert_eq!(
            with_korean("time (총 처리 시간) of a <pass>"),
            "time (<span lang=\"ko\">총 처리 시간</span>) of a &lt;pass&gt;"
        );
        assert_eq!(
            with_korean("vLLM은 빠르다."),
            "vLLM<span lang=\"ko\">은 빠르다</span>."
        );
        assert_eq!(with_korean("no Korean"), "no Korean");
    }

    #[test]
    fn slugs_are_safe_in_an_id() {
        assert_eq!(slug("Scenario: long_context"), "scenario-long_context");
        assert_eq!(slug("served_from_cache (3 cells)"), "served_from_cache-3-cells");
        assert_eq!(slug("\"><"), "part");
    }
}
