//! The simulated prefix cache: whole blocks of tokens, found by a chain of hashes, bounded, least recently used out
//! first.

use std::collections::{BTreeMap, HashMap};

/// A bounded set of blocks, each known by a hash that covers everything before it.
#[derive(Debug)]
pub(super) struct PrefixCache {
    capacity: usize,
    clock: u64,
    /// Block -> when it was used last.
    used: HashMap<u64, u64>,
    /// When -> block: the order of leaving.
    order: BTreeMap<u64, u64>,
}

impl PrefixCache {
    /// An empty cache of `capacity` blocks; 0 switches it off.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            used: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// How many of the first blocks are there; those are used by this.
    pub(super) fn lookup(&mut self, blocks: &[u64]) -> usize {
        let found = blocks.iter().take_while(|b| self.used.contains_key(b)).count();
        self.touch(&blocks[..found]);
        found
    }

    /// Puts all blocks in; the oldest leave where there is no room.
    pub(super) fn insert(&mut self, blocks: &[u64]) {
        if self.capacity > 0 {
            self.touch(&blocks[..blocks.len().min(self.capacity)]);
        }
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.used.clear();
        self.order.clear();
    }

    /// From the deepest block to the first, so that a prefix is always younger than what builds on it.
    fn touch(&mut self, blocks: &[u64]) {
        for block in blocks.iter().rev() {
            self.clock += 1;
            if let Some(before) = self.used.insert(*block, self.clock) {
                self.order.remove(&before);
            }
            self.order.insert(self.clock, *block);
        }
        while self.used.len() > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.used.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_longest_known_prefix() {
        let mut cache = PrefixCache::new(10);
        assert_eq!(cache.lookup(&[1, 2, 3]), 0);
        cache.insert(&[1, 2, 3]);
        assert_eq!(cache.lookup(&[1, 2, 3, 4]), 3);
        assert_eq!(cache.lookup(&[1, 9, 3]), 1);
        assert_eq!(cache.lookup(&[9, 2, 3]), 0);
    }

    #[test]
    fn the_least_recently_used_leave_and_from_their_tail() {
        let mut cache = PrefixCache::new(4);
        cache.insert(&[1, 2]);
        cache.insert(&[11, 12]);
        assert_eq!(cache.lookup(&[1, 2]), 2);
        cache.insert(&[21]);
        assert_eq!(cache.used.len(), 4);
        assert_eq!(cache.lookup(&[11, 12]), 1, "12 left before 11");
        assert_eq!(cache.lookup(&[1, 2]), 2);
    }

    #[test]
    fn none_at_capacity_zero_and_after_a_clear() {
        let mut off = PrefixCache::new(0);
        off.insert(&[1]);
        assert!(off.used.is_empty());
        let mut cache = PrefixCache::new(2);
        cache.insert(&[1]);
        cache.clear();
        assert_eq!(cache.lookup(&[1]), 0);
    }
}
