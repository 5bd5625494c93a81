//! Room for blocks of 32-bit words, by their size: what a session remembers beside its fixed part has
//! no more octets than it needs, and none for an allocator.

/// The end of a list of free blocks.
const END: u32 = u32::MAX;

/// Blocks of one size, one behind the other.
#[derive(Debug)]
struct Blocks {
    words: Vec<u32>,
    /// The free block that is taken next; its first word says which comes after it.
    free: u32,
}

/// Blocks of all sizes.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// By size in words.
    sizes: Vec<Blocks>,
}

impl Pool {
    /// Keeps a block of at least one word; returns its place among those of its size. `None` if there are
    /// 2^32 already.
    pub(super) fn insert(&mut self, block: &[u32]) -> Option<u32> {
        let size = block.len();
        while self.sizes.len() <= size {
            self.sizes.push(Blocks { words: Vec::new(), free: END });
        }
        let blocks = self.sizes.get_mut(size)?;
        if blocks.free != END {
            let at = blocks.free;
            let words = blocks.words.get_mut(range(size, at))?;
            blocks.free = *words.first()?;
            words.copy_from_slice(block);
            return Some(at);
        }
        let at =
            u32::try_from(blocks.words.len().checked_div(size)?).ok().filter(|at| *at != END)?;
        blocks.words.extend_from_slice(block);
        Some(at)
    }

    /// The block of `size` words at `at`.
    #[inline]
    pub(super) fn get(&self, size: usize, at: u32) -> &[u32] {
        self.sizes.get(size).and_then(|b| b.words.get(range(size, at))).unwrap_or_default()
    }

    /// The same, to change.
    #[inline]
    pub(super) fn get_mut(&mut self, size: usize, at: u32) -> &mut [u32] {
        self.sizes.get_mut(size).and_then(|b| b.words.get_mut(range(size, at))).unwrap_or_default()
    }

    /// Gives the room of a block back.
    pub(super) fn remove(&mut self, size: usize, at: u32) {
        let Some(blocks) = self.sizes.get_mut(size) else { return };
        if let Some(first) = blocks.words.get_mut(range(size, at)).and_then(|w| w.first_mut()) {
            *first = std::mem::replace(&mut blocks.free, at);
        }
    }
}

fn range(size: usize, at: u32) -> std::ops::Range<usize> {
    let first = size * at as usize;
    first..first + size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_given_back_is_used_again() {
        let mut pool = Pool::default();
        let a = pool.insert(&[1, 2, 3]);
        let b = pool.insert(&[4, 5, 6]);
        let other = pool.insert(&[7]);
        assert_eq!((a, b, other), (Some(0), Some(1), Some(0)));
        pool.remove(3, 0);
        pool.remove(3, 1);
        assert_eq!(pool.insert(&[8, 9, 10]), Some(1), "the last that was given back");
        assert_eq!(pool.insert(&[11, 12, 13]), Some(0));
        assert_eq!(pool.insert(&[14, 15, 16]), Some(2));
        assert_eq!(pool.get(3, 1), [8, 9, 10]);
        assert_eq!(pool.get(3, 0), [11, 12, 13]);
        assert_eq!(pool.get(1, 0), [7]);
        assert!(pool.get(3, 3).is_empty());
    }
}
