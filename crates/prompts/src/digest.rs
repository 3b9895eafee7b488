//! SHA-256.

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal of SHA-256 over `parts`, one after another.
pub(crate) fn sha256_hex(parts: &[&[u8]]) -> String {
    sha256(parts).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
