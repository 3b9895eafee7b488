//! Ports that no other test of this machine takes at the same time.

use std::{
    fs::{File, TryLockError},
    net::TcpListener,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// Below the range from which Linux takes ports for outgoing connections: what was free a moment ago is then not
/// taken by somebody's connection.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that is free, and kept from other tests as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _reserved: File,
}

impl Port {
    /// Any free one.
    pub(crate) fn free() -> Self {
        let folder = std::env::temp_dir().join("benchd-test-ports");
        std::fs::create_dir_all(&folder).unwrap();
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .subsec_nanos();
        let width = u32::from(RANGE.end - RANGE.start);
        (0..width)
            .map(|step| RANGE.start + u16::try_from((nanos / 1000 + step) % width).unwrap())
            .find_map(|number| Self::reserve(&folder.join(number.to_string()), number))
            .expect("one of thousands of ports is free")
    }

    fn reserve(lock: &PathBuf, number: u16) -> Option<Self> {
        let file = File::options().create(true).append(true).open(lock).ok()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(error)) => panic!("{}: {error}", lock.display()),
        }
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self {
            number,
            _reserved: file,
        })
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether nobody listens on it.
    pub(crate) fn is_free(&self) -> bool {
        TcpListener::bind(("127.0.0.1", self.number)).is_ok()
    }
}
