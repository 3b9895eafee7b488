//! The line of a dead server's log that says why it died.

use super::server_log::ServerLog;
use jiff::{SignedDuration, Timestamp};

/// How far back a line may lie: an error that was survived for longer killed nobody.
const REACH: SignedDuration = SignedDuration::from_secs(60);

/// Characters of it that are told.
const TOLD_CHARS: usize = 300;

/// Looks through the last minute of the log, of which `tail` are the newest lines.
pub(super) fn find(log: &ServerLog, tail: &[String]) -> Option<String> {
    let since = (Timestamp::now() - REACH)
        .strftime("%Y-%m-%dT%H:%M:%S")
        .to_string();
    let written = log.since().unwrap_or_default();
    let recent = written.lines().filter_map(|line| recent(line, &since));
    // The disk may be behind: the newest lines are at hand.
    of_lines(recent).or_else(|| of_lines(tail.iter().map(String::as_str)))
}

/// The same of lines that are all recent.
pub(super) fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let line = benchd_frameworks::last_words(lines)?;
    let mut told: String = line.chars().take(TOLD_CHARS).collect();
    if told.len() < line.len() {
        told.push('…');
    }
    Some(told)
}

/// The text of a log's line that is not older than `since`: both begin with the time as RFC 3339 has it.
fn recent<'a>(line: &'a str, since: &str) -> Option<&'a str> {
    let (head, text) = line.split_once([' ']).and_then(|(time, rest)| {
        let text = rest.get(6..)?;
        Some((time, text))
    })?;
    (head >= since).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recent_lines_count_and_their_texts_are_given_without_the_time() {
        let since = "2026-11-24T19:00:00";
        let line = "2026-11-24T19:00:00.120Z err | CUDA error: out of memory";
        assert_eq!(recent(line, since), Some("CUDA error: out of memory"));
        assert_eq!(recent("2026-11-24T18:59:59.999Z err | CUDA error", since), None);
        assert_eq!(recent("short", since), None);
    }
}
