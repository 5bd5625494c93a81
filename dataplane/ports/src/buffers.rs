//! Memory of frames that have left, for frames to come: a warm lab allocates nothing for a frame.
//!
//! Two sorts, because a frame may stay (it waits for a neighbour, or for a fragment) and should then hold no
//! more than it needs: small ones for what a wire carries, large ones for what a kernel leaves uncut.

use crate::MAX_FRAME_LEN;

/// Capacity of a small buffer: a frame of the usual MTU.
const SMALL: usize = 2_048;
/// Buffers kept: a megabyte of small ones, two of large ones.
const SMALL_KEPT: usize = 512;
const LARGE_KEPT: usize = 32;

/// Frames longer than this get a large buffer.
const LARGE_FROM: usize = 4_096;

/// Buffers to be used again, the last one first: it is the one that is still in the processor's cache.
#[derive(Debug, Default)]
pub struct Buffers {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty buffer for a frame that is probably as long as `last`, the one before it.
    pub fn take(&mut self, last: usize) -> Vec<u8> {
        if last > LARGE_FROM {
            self.large.pop().unwrap_or_else(|| Vec::with_capacity(MAX_FRAME_LEN))
        } else {
            self.small.pop().unwrap_or_else(|| Vec::with_capacity(SMALL))
        }
    }

    /// Takes a buffer back, of whatever size; those beyond the number that is kept are freed.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let (kept, most) = if buffer.capacity() > LARGE_FROM {
            (&mut self.large, LARGE_KEPT)
        } else {
            (&mut self.small, SMALL_KEPT)
        };
        if kept.len() < most && buffer.capacity() > 0 {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// Moves a short frame out of a large buffer that it got by chance, so that it holds only what it needs.
    pub fn fit(&mut self, bytes: &mut Vec<u8>) {
        if bytes.len() <= LARGE_FROM && bytes.capacity() > LARGE_FROM {
            let mut small = self.take(0);
            small.extend_from_slice(bytes);
            self.put(std::mem::replace(bytes, small));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_by_size_the_last_first() {
        let mut buffers = Buffers::default();
        let (small, large) = (buffers.take(60), buffers.take(60_000));
        assert!(small.capacity() >= SMALL && small.capacity() <= LARGE_FROM);
        assert!(large.capacity() >= MAX_FRAME_LEN);
        let at = [small.as_ptr(), large.as_ptr()];
        buffers.put(vec![1; SMALL]);
        buffers.put(small);
        buffers.put(large);
        let (small, large, older) =
            (buffers.take(0), buffers.take(LARGE_FROM + 1), buffers.take(0));
        assert_eq!([small.as_ptr(), large.as_ptr()], at);
        assert!(older.is_empty(), "what was in it is gone");
    }

    #[test]
    fn no_more_are_kept_than_are_needed() {
        let mut buffers = Buffers::default();
        for _ in 0..1_000 {
            buffers.put(Vec::with_capacity(SMALL));
            buffers.put(Vec::with_capacity(MAX_FRAME_LEN));
        }
        buffers.put(Vec::new());
        assert_eq!((buffers.small.len(), buffers.large.len()), (SMALL_KEPT, LARGE_KEPT));
    }

    #[test]
    fn a_short_frame_leaves_a_large_buffer() {
        let mut buffers = Buffers::default();
        let mut bytes = buffers.take(60_000);
        bytes.extend([7; 60]);
        buffers.fit(&mut bytes);
        assert_eq!(bytes, [7; 60]);
        assert!(bytes.capacity() < LARGE_FROM && buffers.large.len() == 1);
        let mut long = buffers.take(60_000);
        long.extend([7; 60_000]);
        let at = long.as_ptr();
        buffers.fit(&mut long);
        assert_eq!(long.as_ptr(), at, "stays where it is");
    }
}
