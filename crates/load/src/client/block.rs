//! Completed events on their way from the timed path to the decoder.

/// A block is handed on when it holds this much, bytes.
pub(super) const BLOCK_BYTES: usize = 8 << 10;

/// What the `event` field says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum EventKind {
    /// Anything but an error.
    #[default]
    Data,
    /// `event: error`.
    Error,
}

/// When and by which read an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Arrival, microseconds from the send.
    pub at_us: u64,
    /// Number of the read that brought the event's last byte, from 0.
    pub read: u32,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    stamp: Stamp,
    end: usize,
    kind: EventKind,
}

/// One completed event of a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event<'a> {
    pub(super) kind: EventKind,
    pub(super) stamp: Stamp,
    /// Its data, lines joined with LF.
    pub(super) data: &'a [u8],
}

/// Events of one stream, one after the other in one buffer; the last may be unfinished.
#[derive(Debug, Default)]
pub struct Block {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

impl Block {
    /// An empty block, without memory of its own yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The completed events, in order.
    pub(super) fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let mut start = 0;
        self.marks.iter().map(move |mark| {
            let data = &self.bytes[start..mark.end];
            start = mark.end;
            Event {
                kind: mark.kind,
                stamp: mark.stamp,
                data,
            }
        })
    }

    /// How many events are complete.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether no event is complete.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether the block is worth handing on.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES && !self.marks.is_empty()
    }

    /// Takes the completed events out; what is unfinished stays.
    pub(super) fn take(&mut self) -> Self {
        let unfinished = &self.bytes[self.completed_bytes()..];
        let mut kept = Self::new();
        if !unfinished.is_empty() {
            kept.append(unfinished);
        }
        self.bytes.truncate(self.completed_bytes());
        std::mem::replace(self, kept)
    }

    /// Forgets the completed events, keeping the memory.
    pub fn clear_completed(&mut self) {
        let completed = self.completed_bytes();
        self.bytes.drain(..completed);
        self.marks.clear();
    }

    /// Memory held, bytes.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<Mark>()
    }

    #[inline]
    pub(super) fn append(&mut self, data: &[u8]) {
        if self.bytes.capacity() == 0 {
            // One event more than a full block, so that a block seldom grows.
            self.bytes.reserve(BLOCK_BYTES + BLOCK_BYTES / 8);
        }
        self.bytes.extend_from_slice(data);
    }

    #[inline]
    pub(super) fn complete(&mut self, kind: EventKind, stamp: Stamp) -> &[u8] {
        let start = self.completed_bytes();
        self.marks.push(Mark {
            stamp,
            end: self.bytes.len(),
            kind,
        });
        &self.bytes[start..]
    }

    #[inline]
    pub(super) fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.completed_bytes()
    }

    #[inline]
    fn completed_bytes(&self) -> usize {
        self.marks.last().map_or(0, |mark| mark.end)
    }
}
