//! IPv4 fragments as octets (RFC 791, 3.2): a frame cut into pieces, and pieces joined to a frame.

use super::{IP, checksum, get, put};

const HEADER: usize = IP + 20;

/// Cuts an IPv4 frame behind these octets of its payload, each a multiple of eight and more than the one before.
#[must_use]
pub fn cut(frame: &[u8], behind: &[u32]) -> Vec<Vec<u8>> {
    let Some((header, payload)) = frame.split_at_checked(HEADER) else { return Vec::new() };
    let len = payload.len();
    let ends = behind.iter().filter_map(|end| usize::try_from(*end).ok()).filter(|end| *end < len);
    let mut pieces = Vec::new();
    let mut from = 0;
    for end in ends.chain([len]) {
        let Some(part) = payload.get(from..end) else { return Vec::new() };
        let more = if end < len { 0x2000 } else { 0 };
        pieces.push(piece(header, part, more | u16::try_from(from / 8).unwrap_or(0)));
        from = end;
    }
    pieces
}

fn piece(header: &[u8], part: &[u8], bits: u16) -> Vec<u8> {
    let mut frame = [header, part].concat();
    put(&mut frame, IP + 2, u16::try_from(20 + part.len()).unwrap_or(u16::MAX));
    put(&mut frame, IP + 6, bits);
    put(&mut frame, IP + 10, 0);
    let sum = checksum(frame.get(IP..HEADER).unwrap_or_default());
    put(&mut frame, IP + 10, sum);
    frame
}

/// The frame that pieces came from, once all are there; they may be in any order.
#[must_use]
pub fn join(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut sorted: Vec<(usize, bool, &[u8])> = Vec::new();
    for piece in pieces {
        let bits = get(piece, IP + 6)?;
        let len = usize::from(get(piece, IP + 2)?);
        let part = piece.get(HEADER..IP + len)?;
        sorted.push((usize::from(bits & 0x1fff) * 8, bits & 0x2000 != 0, part));
    }
    sorted.sort_unstable();
    let mut payload = Vec::new();
    let mut complete = false;
    for (offset, more, part) in sorted {
        if offset != payload.len() {
            return None;
        }
        payload.extend(part);
        complete = !more;
    }
    complete.then(|| {
        piece(pieces.first().and_then(|p| p.get(..HEADER)).unwrap_or_default(), &payload, 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_what_was_cut() {
        let frame = piece(&[0x45; HEADER], &[7; 100], 0);
        let mut pieces = cut(&frame, &[8, 48]);
        assert_eq!(pieces.iter().map(|p| p.len() - HEADER).collect::<Vec<_>>(), [8, 40, 52]);
        pieces.reverse();
        assert_eq!(join(&pieces), Some(frame));
        pieces.pop();
        assert_eq!(join(&pieces), None);
    }
}
