//! The words that answers are made of: one word a token. None needs an escape in JSON.

use super::args::TextKind;

/// The vocabulary of a language, in the order of a text.
pub(super) fn words(kind: TextKind) -> &'static [&'static str] {
    match kind {
        // Those of an answer that is not the last word.
        TextKind::English | TextKind::LastWord => ENGLISH,
        TextKind::Korean => KOREAN,
    }
}

#[rustfmt::skip]
const ENGLISH: &[&str] = &[
    "The", "scheduler", "admits", "a", "request", "once", "its", "prompt", "fits", "the", "key-value", "cache;", "until",
    "then", "it", "waits", "in", "order", "of", "arrival.", "Each", "step", "gives", "one", "token", "to", "every",
    "running", "stream,", "so", "throughput", "grows", "with", "the", "batch", "while", "the", "time", "per", "token",
    "grows", "only", "slowly.", "A", "shared", "prefix", "is", "computed", "once", "and", "read", "again", "by", "later",
    "requests", "that", "begin", "with", "it.",
];

#[rustfmt::skip]
const KOREAN: &[&str] = &[
    "스케줄러는", "프롬프트가", "키-값", "캐시에", "들어갈", "자리가", "생기면", "요청을", "받아들이고,", "그때까지는",
    "도착한", "순서대로", "기다리게", "한다.", "매", "단계마다", "실행", "중인", "모든", "스트림이", "토큰을", "하나씩",
    "받으므로", "배치가", "커질수록", "처리량은", "늘어나지만", "토큰당", "시간은", "천천히", "늘어난다.", "공유된", "접두사는",
    "한", "번만", "계산되고,", "같은", "접두사로", "시작하는", "다음", "요청들이", "그것을", "다시", "읽는다.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_need_no_escape_and_differ_in_script() {
        for word in words(TextKind::English).iter().chain(words(TextKind::Korean)) {
            assert!(
                !word.contains(['"', '\\', ' ']) && !word.chars().any(char::is_control),
                "{word}"
            );
        }
        assert!(words(TextKind::English).iter().all(|w| w.is_ascii()));
        assert!(words(TextKind::Korean).iter().all(|w| !w.is_ascii()));
    }
}
