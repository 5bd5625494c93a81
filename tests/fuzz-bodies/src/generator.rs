//! Inputs from a seed, for drivers that have no coverage to be guided by.

use crate::Body;

/// SplitMix64 (Steele, Lea, Flood 2014): the same everywhere and for ever, so that a seed names an input.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator that a seed names.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but not including `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.bits() % end).unwrap_or(0)
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits().to_le_bytes()[0]).collect()
    }
}

/// The input that a seed names. What is decoded is random octets; what is a format's is one of the `corpus`, changed in a few
/// places as libFuzzer would.
#[must_use]
pub fn input(body: &Body, corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    if body.decodes {
        let length = 1 + random.below(body.longest);
        return random.octets(length);
    }
    let Some(mut bytes) = pick(&mut random, corpus) else {
        let length = random.below(body.longest);
        return random.octets(length);
    };
    for _ in 0..random.below(8) {
        change(&mut random, &mut bytes, corpus);
    }
    bytes.truncate(body.longest);
    bytes
}

fn pick(random: &mut Random, corpus: &[Vec<u8>]) -> Option<Vec<u8>> {
    corpus.get(random.below(corpus.len())).cloned()
}

/// One change: an octet, a bit, a piece left out, doubled, or taken from another input; a length field more or less.
fn change(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(32)).min(bytes.len());
    match random.below(7) {
        0 => {
            let value = random.octets(1);
            if let (Some(octet), [value]) = (bytes.get_mut(at), value.as_slice()) {
                *octet = *value;
            }
        }
        1 => {
            let bit = 1u8 << random.below(8);
            if let Some(octet) = bytes.get_mut(at) {
                *octet ^= bit;
            }
        }
        2 => {
            let step = if random.below(2) == 0 { 1 } else { 0xff };
            if let Some(octet) = bytes.get_mut(at) {
                *octet = octet.wrapping_add(step);
            }
        }
        3 if at < end => {
            bytes.drain(at..end);
        }
        4 => {
            let piece = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        5 => {
            let other = pick(random, corpus).unwrap_or_default();
            let from = random.below(other.len());
            let until = (from + random.below(200)).min(other.len());
            let piece = other.get(from..until).unwrap_or_default().to_vec();
            bytes.splice(at..end.max(at), piece);
        }
        _ => bytes.truncate(at),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_seed_names_an_input() {
        let corpus = vec![b"kind: Pod\n".to_vec(), vec![]];
        for body in &crate::BODIES {
            for seed in 0..200 {
                let one = input(body, &corpus, seed);
                assert_eq!(one, input(body, &corpus, seed));
                assert!(one.len() <= body.longest);
            }
            let all: std::collections::BTreeSet<_> =
                (0..200).map(|seed| input(body, &corpus, seed)).collect();
            assert!(all.len() > 50, "{}: only {} different inputs", body.name, all.len());
        }
        assert!(crate::body("pipeline").is_some() && crate::body("pipe").is_none());
    }
}
