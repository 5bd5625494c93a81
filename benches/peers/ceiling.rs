//! `ceiling FLOWS SECONDS PAGES`: what one core can do at most, for a flow cache to be compared with.
//!
//! A frame is written as if copied in from a port, its five-tuple is read, hashed and looked up in one table of FLOWS entries of
//! one cache line each, prefetched a batch ahead; MACs, source address, source port, TTL and both checksums are rewritten and the
//! flow's packets and octets are counted. There are no guards, no sessions, no timers, no other protocol and no output: a real
//! switch can come near it, not past it. PAGES is `small` (4 KiB) or `huge` (transparent huge pages asked for).
//!
//! First every flow's frame is rewritten once and compared, checksums computed from scratch, with what it should be. The batch
//! is the better of 32 and 256 frames. Prints one JSON object.
//!
//! After `memceil.rs` of this project's notes on other switches, with the same entry, generator and loop; as there, the frames
//! that are timed have no UDP checksum. It is no part of the workspace, which forbids the `unsafe` that leaves the bounds checks
//! out here: `rustc --edition 2021 -C opt-level=3 -C target-cpu=native ceiling.rs`.

use std::arch::x86_64::{_mm_crc32_u64, _mm_prefetch, _rdtsc, _MM_HINT_T0};
use std::time::Instant;

extern "C" {
    fn mmap(address: *mut u8, length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    fn madvise(address: *mut u8, length: usize, advice: i32) -> i32;
}

const READ_WRITE: i32 = 3;
const PRIVATE_ANONYMOUS: i32 = 0x22;
const MADV_HUGEPAGE: i32 = 14;
const MADV_NOHUGEPAGE: i32 = 15;
const HUGE_PAGE: usize = 2 << 20;

/// Octets from one frame of the batch to the next.
const STRIDE: usize = 128;
/// An untagged Ethernet frame of 64 octets without its FCS.
const FRAME: usize = 60;
/// The MAC that frames leave with.
const FROM: [u8; 6] = [2, 0, 0, 0, 2, 0];
const DESTINATION: u32 = 0x0a63_6363;
const DESTINATION_PORT: u16 = 80;
/// Of a 60-octet frame: IPv4's total length and UDP's length.
const IP_LENGTH: u8 = 46;
const UDP_LENGTH: u16 = 26;

/// A flow and what becomes of its packets; one cache line. Addresses and ports as they lie in a frame.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Entry {
    key: (u64, u64),
    source: u32,
    port: u16,
    out: u16,
    to: [u8; 8],
    from: [u8; 8],
    /// What to add to the complement of the IPv4 and of the UDP checksum (RFC 1624).
    ip_delta: u16,
    udp_delta: u16,
    used: u32,
    packets: u64,
    octets: u64,
}

/// The source of flow `i`, before and after.
fn before(i: u32) -> (u32, u16) {
    (0x0a00_0000 + (i >> 6), (1024 + (i & 63) * 997) as u16)
}
fn after(i: u32) -> (u32, u16) {
    (0xc633_6401 + i / 60_000, (1024 + i % 60_000) as u16)
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
#[inline(always)]
unsafe fn get<T>(frame: *const u8, at: usize) -> T {
    (frame.add(at) as *const T).read_unaligned()
}
#[inline(always)]
unsafe fn put<T>(frame: *mut u8, at: usize, value: T) {
    (frame.add(at) as *mut T).write_unaligned(value);
}
#[inline(always)]
unsafe fn hash(key: (u64, u64)) -> u64 {
    _mm_crc32_u64(_mm_crc32_u64(0x9e37_79b9, key.0), key.1)
}
#[inline(always)]
unsafe fn key(frame: *const u8) -> (u64, u64) {
    (get(frame, 26), u64::from(get::<u32>(frame, 34)) | u64::from(*frame.add(23)) << 32)
}

/// What does not differ from frame to frame.
unsafe fn template(frame: *mut u8) {
    let head = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, IP_LENGTH, 0, 0, 0, 0, 64, 17];
    std::ptr::copy_nonoverlapping(head.as_ptr(), frame, head.len());
}

/// A packet of flow `i` comes in.
#[inline(always)]
unsafe fn generate(frame: *mut u8, i: u32) {
    let (source, port) = before(i);
    *frame.add(22) = 64;
    put(frame, 24, 0x1234u16);
    put(frame, 26, source.to_be());
    put(frame, 30, DESTINATION.to_be());
    put(frame, 34, port.to_be());
    put(frame, 36, DESTINATION_PORT.to_be());
    put(frame, 38, u32::from(UDP_LENGTH.to_be()));
}

struct Table {
    entries: *mut Entry,
    mask: u64,
}

impl Table {
    unsafe fn new(flows: usize, huge: bool) -> Table {
        let slots = (flows * 2).next_power_of_two();
        let length = slots * std::mem::size_of::<Entry>();
        let area = mmap(std::ptr::null_mut(), length + HUGE_PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
        assert!(area as isize != -1, "no memory for {flows} flows");
        let start = ((area as usize + HUGE_PAGE - 1) & !(HUGE_PAGE - 1)) as *mut u8;
        madvise(start, length, if huge { MADV_HUGEPAGE } else { MADV_NOHUGEPAGE });
        let table = Table { entries: start.cast(), mask: slots as u64 - 1 };
        for i in 0..flows as u32 {
            table.insert(i);
        }
        table
    }

    unsafe fn insert(&self, i: u32) {
        let mut frame = [0u8; FRAME];
        frame[23] = 17;
        generate(frame.as_mut_ptr(), i);
        let key = key(frame.as_ptr());
        let ((old, old_port), (new, new_port)) = (before(i), after(i));
        let not = |half: u32| u32::from(!(half as u16));
        let address = not(old >> 16) + not(old) + (new >> 16) + (new & 0xffff);
        let mut slot = hash(key) & self.mask;
        while (*self.entries.add(slot as usize)).used != 0 {
            slot = (slot + 1) & self.mask;
        }
        *self.entries.add(slot as usize) = Entry {
            key,
            source: new.to_be(),
            port: new_port.to_be(),
            out: (i & 7) as u16,
            to: [2, 0, 0, 0, 1, i as u8, FROM[0], FROM[1]],
            from: [FROM[0], FROM[1], FROM[2], FROM[3], FROM[4], FROM[5], 0, 0],
            // TTL and protocol are one 16-bit word: 64 becomes 63.
            ip_delta: fold(address + not(0x4011) + 0x3f11),
            udp_delta: fold(address + not(u32::from(old_port)) + u32::from(new_port)),
            used: 1,
            packets: 0,
            octets: 0,
        };
    }

    /// Looks up and rewrites; the port that the frame leaves by, or `None` for a stranger's.
    #[inline(always)]
    unsafe fn forward(&self, frame: *mut u8, key: (u64, u64), mut slot: u64) -> Option<u16> {
        loop {
            let entry = &mut *self.entries.add(slot as usize);
            if entry.key == key {
                put(frame, 0, get::<u64>(entry.to.as_ptr(), 0));
                put(frame, 8, get::<u32>(entry.from.as_ptr(), 2));
                *frame.add(22) -= 1;
                put(frame, 26, entry.source);
                put(frame, 34, entry.port);
                let sum = u16::from_be(get(frame, 24));
                put(frame, 24, (!fold(u32::from(!sum) + u32::from(entry.ip_delta))).to_be());
                let sum = u16::from_be(get(frame, 40));
                if sum != 0 {
                    // RFC 768: 0 says that there is none, a checksum of 0 is sent as its other zero.
                    let sum = match !fold(u32::from(!sum) + u32::from(entry.udp_delta)) {
                        0 => 0xffff,
                        sum => sum,
                    };
                    put(frame, 40, sum.to_be());
                }
                entry.packets += 1;
                entry.octets += 64;
                return Some(entry.out & 7);
            }
            if entry.used == 0 {
                return None;
            }
            slot = (slot + 1) & self.mask;
        }
    }
}

/// The Internet checksum (RFC 1071) computed from scratch.
fn checksum(octets: &[u8], start: u32) -> u16 {
    let words = octets.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum = words.fold(start, |sum, word| sum + word);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
fn pseudo_header(frame: &[u8]) -> u32 {
    let addresses = frame[26..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    addresses.sum::<u32>() + 17 + u32::from(UDP_LENGTH)
}

/// Every flow's frame, with right checksums in, comes out with the right addresses, TTL and checksums.
unsafe fn verify(table: &Table, flows: u32) {
    for i in 0..flows {
        let mut frame = [0u8; FRAME];
        template(frame.as_mut_ptr());
        generate(frame.as_mut_ptr(), i);
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let sum = checksum(&frame[34..], pseudo_header(&frame));
        frame[40..42].copy_from_slice(&if sum == 0 { 0xffffu16 } else { sum }.to_be_bytes());
        let key = key(frame.as_ptr());
        let out = table.forward(frame.as_mut_ptr(), key, hash(key) & table.mask);
        let (source, port) = after(i);
        let right = out == Some((i & 7) as u16)
            && frame[..6] == [2, 0, 0, 0, 1, i as u8]
            && frame[6..12] == FROM
            && frame[22] == 63
            && frame[26..30] == source.to_be_bytes()
            && frame[34..36] == port.to_be_bytes()
            && checksum(&frame[14..34], 0) == 0
            && frame[40..42] != [0, 0]
            && checksum(&frame[34..], pseudo_header(&frame)) == 0;
        assert!(right, "flow {i} came out wrong: {frame:02x?}");
    }
}

/// Frames a second and TSC clocks a frame, of flows chosen at random.
unsafe fn measure(table: &Table, flows: usize, seconds: f64, batch: usize) -> (f64, f64) {
    let mut frames = vec![0u8; batch * STRIDE];
    let frames = frames.as_mut_ptr();
    for i in 0..batch {
        template(frames.add(i * STRIDE));
    }
    let mut state = 88_172_645_463_325_252u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 32) * flows as u64 >> 32) as u32
    };
    let mut keys = vec![((0u64, 0u64), 0u64); batch];
    let mut out = [0u64; 8];
    let (mut count, mut strangers) = (0u64, 0u64);
    let (started, clock) = (Instant::now(), _rdtsc());
    while started.elapsed().as_secs_f64() < seconds {
        for _ in 0..(4096 / batch).max(1) {
            for i in 0..batch {
                generate(frames.add(i * STRIDE), random());
            }
            for i in 0..batch {
                let frame = frames.add(i * STRIDE);
                let plain = get::<u16>(frame, 12) == 0x0008 && *frame.add(14) == 0x45 && *frame.add(22) > 1;
                strangers += u64::from(!plain);
                let key = key(frame);
                let slot = hash(key) & table.mask;
                *keys.get_unchecked_mut(i) = (key, slot);
                _mm_prefetch(table.entries.add(slot as usize) as *const i8, _MM_HINT_T0);
            }
            for i in 0..batch {
                let (key, slot) = *keys.get_unchecked(i);
                match table.forward(frames.add(i * STRIDE), key, slot) {
                    Some(port) => *out.get_unchecked_mut(port as usize) += 1,
                    None => strangers += 1,
                }
            }
            count += batch as u64;
        }
    }
    let (clocks, elapsed) = (_rdtsc() - clock, started.elapsed().as_secs_f64());
    assert!(strangers == 0 && out.iter().sum::<u64>() == count, "{strangers} of {count} frames were lost");
    (count as f64 / elapsed, clocks as f64 / count as f64)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, flows, seconds, pages] = &arguments[..] else {
        eprintln!("usage: ceiling FLOWS SECONDS small|huge");
        std::process::exit(2);
    };
    let (Ok(flows), Ok(seconds), true) = (flows.parse::<usize>(), seconds.parse::<f64>(), pages == "small" || pages == "huge")
    else {
        eprintln!("usage: ceiling FLOWS SECONDS small|huge");
        std::process::exit(2);
    };
    // SAFETY: slots are masked with the table's size, the table has more slots than flows, frames lie STRIDE apart in a buffer
    // of their own, and all offsets into a frame are below FRAME.
    let best = unsafe {
        let table = Table::new(flows, pages == "huge");
        verify(&table, flows as u32);
        [32, 256]
            .map(|batch| (measure(&table, flows, seconds / 2.0, batch), batch))
            .into_iter()
            .max_by(|a, b| a.0 .0.total_cmp(&b.0 .0))
    };
    if let Some(((pps, clocks), batch)) = best {
        println!(
            "{{\"flows\": {flows}, \"pages\": \"{pages}\", \"batch\": {batch}, \"mpps\": {:.3}, \"clocks_per_packet\": {clocks:.1}, \"verified\": {flows}}}",
            pps / 1e6
        );
    }
}
