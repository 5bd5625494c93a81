//! Cuts an IPv4 packet into fragments: RFC 791, 3.2 and 2.3; RFC 1812, 4.2.2.7.
//!
//! Invariants: fragments are in order; their data, put together at their offsets, are the data of the
//! packet; every fragment is a valid packet of at most `mtu` octets.

use crate::checksum::{complete, write_ipv4_header};
use crate::octets::{array_at, put, u16_at};
use crate::{Frame, Headers, parse, segment};

/// "More fragments" in the word of flags and offset.
const MORE: u16 = 0x2000;
/// Smallest MTU of IPv4: the longest header and 8 octets of data (RFC 791, 3.2).
const SMALLEST_MTU: u32 = 68;

/// The frames that `frame` becomes on a link with this MTU (octets of an IP packet). `headers` are
/// the frame's own. An existing fragment is split further; a packet that fits comes back alone. Options
/// with the copied bit are in every fragment, others in the first. A partial checksum is completed, and a
/// frame with segmentation is cut into its segments first.
///
/// `None` if a packet that does not fit has "don't fragment" set, if the packet is not IPv4, or if the MTU
/// is below 68.
#[must_use]
pub fn fragment_ipv4(frame: &Frame, headers: &Headers, mtu: u32) -> Option<Vec<Frame>> {
    let ip = headers.ip()?;
    if !ip.is_v4() || mtu < SMALLEST_MTU {
        return None;
    }
    if frame.segmentation.is_some() {
        let mut all = Vec::new();
        for piece in segment(frame.clone()) {
            let headers = parse(&piece.bytes).ok()?;
            all.append(&mut fragment_ipv4(&piece, &headers, mtu)?);
        }
        return (!all.is_empty()).then_some(all);
    }
    let mut whole = frame.clone();
    complete(&mut whole);
    if ip.total_len <= mtu {
        return Some(vec![whole]);
    }
    if ip.dont_fragment {
        return None;
    }
    split(&whole.bytes, headers, usize::try_from(mtu).ok()?)
}

fn split(bytes: &[u8], headers: &Headers, mtu: usize) -> Option<Vec<Frame>> {
    let ip = headers.ip()?;
    let (l3, l4) = (usize::from(headers.l3), usize::from(ip.l4));
    let ethernet = bytes.get(..l3)?;
    let fixed: &[u8; 20] = array_at(bytes, l3)?;
    let options = bytes.get(l3 + 20..l4)?;
    let copied = copied_options(options);
    let data = bytes.get(l4..headers.l3_end())?;
    let flags_offset = u16_at(bytes, l3 + 6)?;
    let last_has_more = flags_offset & MORE;
    let first_offset = usize::from(flags_offset & 0x1fff) * 8;

    let mut fragments = Vec::with_capacity(data.len() / (mtu - 60) + 1);
    let mut done = 0;
    while done < data.len() {
        // The first piece of a fragment that is not itself the first has the copied options already.
        let options = if done == 0 { options } else { &copied };
        let header_len = 20 + options.len();
        let room = mtu - header_len;
        let left = data.len() - done;
        let (length, more) = if left <= room { (left, last_has_more) } else { (room & !7, MORE) };
        let chunk = data.get(done..done + length)?;
        let mut out = Vec::with_capacity(l3 + header_len + length);
        out.extend_from_slice(ethernet);
        out.extend_from_slice(fixed);
        out.extend_from_slice(options);
        out.extend_from_slice(chunk);
        // 5 to 15 words of 4 octets.
        put(&mut out, l3, [0x40 | (header_len / 4) as u8]);
        // Smaller than the packet that is split, whose length fitted.
        put(&mut out, l3 + 2, ((header_len + length) as u16).to_be_bytes());
        // 13 bits of units of 8 octets: the end of the packet was checked when it was parsed.
        let offset = ((first_offset + done) / 8) as u16 & 0x1fff;
        put(&mut out, l3 + 6, (more | offset).to_be_bytes());
        write_ipv4_header(&mut out, l3, header_len);
        fragments.push(Frame::new(out));
        done += length;
    }
    Some(fragments)
}

/// The options with the copied bit, filled up to a multiple of 4 octets with "end of options".
fn copied_options(options: &[u8]) -> Vec<u8> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut copied = Vec::with_capacity(options.len());
    let mut rest = options;
    while let Some(&kind) = rest.first() {
        let length = match kind {
            END => break,
            NO_OPERATION => 1,
            _ => match rest.get(1) {
                // Below 2, or beyond the header: what follows cannot be told apart.
                Some(&length) if length >= 2 => usize::from(length),
                _ => break,
            },
        };
        let (Some(option), Some(after)) = (rest.get(..length), rest.get(length..)) else {
            break;
        };
        if kind & COPIED != 0 {
            copied.extend_from_slice(option);
        }
        rest = after;
    }
    copied.resize(copied.len().next_multiple_of(4), END);
    copied
}
