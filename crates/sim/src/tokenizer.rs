//! The toy tokenizer: deterministic, so that prompt token counts are exact and can be predicted.
//!
//! Text is split at white space, which makes no token of its own. A word is split into runs of ASCII digits and runs
//! of everything else; digits make a token for each 3 begun, everything else a token for each 4 *bytes* begun. So
//! `hello 12345 서버` counts `hell`+`o`, `123`+`45`, and two for the 6 bytes of `서버`: 6 tokens.
//! A prompt is the chat template's tokens (a constant number) followed by those of each message's text in order.

/// A token: a hash of its bytes. Equal pieces are equal tokens.
pub type Token = u32;

/// Bytes of a token that holds no digits.
const PIECE_BYTES: usize = 4;
/// Digits of a token that holds digits.
const PIECE_DIGITS: usize = 3;

/// Tokens of `text`, appended to `into`.
pub fn tokenize(text: &str, into: &mut Vec<Token>) {
    for word in text.split_ascii_whitespace() {
        let mut rest = word.as_bytes();
        while let Some(first) = rest.first() {
            let digits = first.is_ascii_digit();
            let run = rest
                .iter()
                .position(|b| b.is_ascii_digit() != digits)
                .unwrap_or(rest.len());
            let (head, tail) = rest.split_at(run);
            let size = if digits { PIECE_DIGITS } else { PIECE_BYTES };
            into.extend(head.chunks(size).map(hash_piece));
            rest = tail;
        }
    }
}

/// Number of tokens of `text`.
pub fn count(text: &str) -> u32 {
    let mut tokens = Vec::new();
    tokenize(text, &mut tokens);
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}

/// Hashes of the prompt's whole blocks of `block_tokens`, each of which covers everything before it too: two prompts
/// share their first k hashes exactly if they share their first k blocks.
pub(super) fn block_hashes(tokens: &[Token], block_tokens: u32) -> Vec<u64> {
    let mut chain = FNV_OFFSET;
    tokens
        .chunks_exact((block_tokens as usize).max(1))
        .map(|block| {
            for token in block {
                chain = fnv(chain, &token.to_le_bytes());
            }
            chain
        })
        .collect()
}

/// Start value of FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over `bytes`, going on from `state`.
fn fnv(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn hash_piece(piece: &[u8]) -> Token {
    let h = fnv(FNV_OFFSET, piece);
    (h ^ (h >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_documentation() {
        assert_eq!(count(""), 0);
        assert_eq!(count(" \n\t "), 0);
        assert_eq!(count("a"), 1);
        assert_eq!(count("abcd"), 1);
        assert_eq!(count("abcde"), 2);
        assert_eq!(count("hello 12345 서버"), 6);
        assert_eq!(count("x1y22z333w4444"), 9);
    }

    #[test]
    fn count_of_joined_texts_is_the_sum() {
        let words = "Describe 2048 tokens of paged attention in 서버 terms";
        let twice = format!("{words} {words}");
        assert_eq!(count(&twice), 2 * count(words));
    }

    #[test]
    fn blocks_agree_as_far_as_the_tokens_do() {
        let mut a: Vec<Token> = (0..64).collect();
        let mut b = a.clone();
        b[40] = 999;
        let (ha, hb) = (block_hashes(&a, 16), block_hashes(&b, 16));
        assert_eq!(ha.len(), 4);
        assert_eq!(ha[..2], hb[..2]);
        assert_ne!(ha[2], hb[2]);
        assert_ne!(ha[3], hb[3], "a later block covers what came before it");
        a.truncate(63);
        assert_eq!(block_hashes(&a, 16).len(), 3, "a torn block has no hash");
    }
}
