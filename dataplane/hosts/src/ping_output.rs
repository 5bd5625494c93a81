//! A ping report as the `ping` of iputils prints it.
//!
//! Two things differ on purpose: reverse DNS is never asked (as with `-n`), and `pipe N`, which counts
//! requests in flight, is not printed.

use std::fmt::Write as _;
use std::time::Duration;

use crate::operation::{IcmpReport, PingEvent, PingReport};

/// The whole output, header and statistics included, each line ended.
#[must_use]
pub fn render(report: &PingReport) -> String {
    let mut out = String::new();
    if let Some(failure) = &report.failure {
        return format!("ping: connect: {failure}\n");
    }
    let (dst, size) = (report.dst, u32::from(report.size));
    // Writing to a String cannot fail.
    if dst.is_v4() {
        let _ = write!(out, "PING {dst} ({dst})");
    } else {
        let _ = write!(out, "PING {dst}({dst})");
    }
    if let (true, Some(source)) = (report.source_given, report.source) {
        let device = report.interface.as_deref().map_or(String::new(), |d| format!(" {d}"));
        let _ = write!(out, " from {source}{device}:");
    }
    if dst.is_v4() {
        // ICMP and IPv4 header.
        let _ = writeln!(out, " {size}({}) bytes of data.", size + 28);
    } else {
        let _ = writeln!(out, " {size} data bytes");
    }
    for event in &report.events {
        match event {
            PingEvent::Reply { from, seq, ttl, bytes, rtt, duplicate } => {
                let again = if *duplicate { " (DUP!)" } else { "" };
                let time = round_trip(*rtt);
                let _ = writeln!(
                    out,
                    "{bytes} bytes from {from}: icmp_seq={seq} ttl={ttl} time={time} ms{again}"
                );
            }
            PingEvent::Error { seq, report } => {
                let _ = writeln!(out, "From {} icmp_seq={seq} {}", report.from, icmp_text(report));
            }
            PingEvent::Unsent { failure, .. } => {
                let _ = writeln!(out, "ping: sendmsg: {failure}");
            }
        }
    }
    statistics(report, &mut out);
    out
}

fn statistics(report: &PingReport, out: &mut String) {
    let (sent, received) = (report.transmitted, report.received());
    let _ = write!(out, "\n--- {} ping statistics ---\n", report.dst);
    let _ = write!(out, "{sent} packets transmitted, {received} received");
    if report.duplicates() > 0 {
        let _ = write!(out, ", +{} duplicates", report.duplicates());
    }
    if report.errors() > 0 {
        let _ = write!(out, ", +{} errors", report.errors());
    }
    if sent > 0 {
        let loss = f64::from(sent.saturating_sub(received)) * 100.0 / f64::from(sent);
        let millis = report.elapsed.as_millis();
        let _ = write!(out, ", {}% packet loss, time {millis}ms", six_digits(loss));
    }
    out.push('\n');
    let times: Vec<u128> = report
        .events
        .iter()
        .filter_map(|e| match e {
            PingEvent::Reply { rtt, .. } => Some(rtt.as_micros()),
            _ => None,
        })
        .collect();
    if let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) {
        let n = times.len() as u128;
        let mean = times.iter().sum::<u128>() / n;
        let squares = times.iter().map(|t| t * t).sum::<u128>() / n;
        let mdev = squares.saturating_sub(mean * mean).isqrt();
        let [min, mean, max, mdev] = [*min, mean, *max, mdev].map(millis);
        let _ = writeln!(out, "rtt min/avg/max/mdev = {min}/{mean}/{max}/{mdev} ms");
    }
}

fn millis(micros: u128) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// Milliseconds with as many decimals as iputils prints for that magnitude.
fn round_trip(rtt: Duration) -> String {
    let us = rtt.as_micros();
    match us {
        0..1000 => millis(us),
        1000..9995 => format!("{}.{:02}", (us + 5) / 1000, (us + 5) % 1000 / 10),
        9995..99_950 => format!("{}.{}", (us + 50) / 1000, (us + 50) % 1000 / 100),
        _ => ((us + 500) / 1000).to_string(),
    }
}

/// C's `%g` for 0 to 100: six significant digits, no trailing zeros.
fn six_digits(value: f64) -> String {
    let whole = value.abs().max(1.0).log10() as usize + 1;
    let text = format!("{value:.*}", 6usize.saturating_sub(whole));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// What iputils calls an ICMP or ICMPv6 error, e.g. `Destination Host Unreachable`.
#[must_use]
pub fn icmp_text(report: &IcmpReport) -> String {
    let (kind, code) = (report.kind, report.code);
    let mtu = report.mtu.unwrap_or(0);
    let text = if report.from.is_v4() {
        match (kind, code) {
            (3, 0) => "Destination Net Unreachable",
            (3, 1) => "Destination Host Unreachable",
            (3, 2) => "Destination Protocol Unreachable",
            (3, 3) => "Destination Port Unreachable",
            (3, 4) => return format!("Frag needed and DF set (mtu = {mtu})"),
            (3, 5) => "Source Route Failed",
            (3, 6) => "Destination Net Unknown",
            (3, 7) => "Destination Host Unknown",
            (3, 9) => "Destination Net Prohibited",
            (3, 10) => "Destination Host Prohibited",
            (3, 13) => "Packet filtered",
            (3, _) => return format!("Dest Unreachable, Bad Code: {code}"),
            (11, 0) => "Time to live exceeded",
            (11, 1) => "Frag reassembly time exceeded",
            _ => return format!("Bad ICMP type: {kind}"),
        }
    } else {
        match (kind, code) {
            (1, 0) => "Destination unreachable: No route",
            (1, 1) => "Destination unreachable: Administratively prohibited",
            (1, 2) => "Destination unreachable: Beyond scope of source address",
            (1, 3) => "Destination unreachable: Address unreachable",
            (1, 4) => "Destination unreachable: Port unreachable",
            (1, _) => return format!("Destination unreachable: Unknown code {code}"),
            (2, _) => return format!("Packet too big: mtu={mtu}"),
            (3, 0) => "Time exceeded: Hop limit",
            (3, 1) => "Time exceeded: Defragmentation failure",
            _ => return format!("Bad ICMP type: {kind}"),
        }
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

    use super::*;

    fn article(source: &str, device: &str, event: PingEvent) -> PingReport {
        PingReport {
            dst: "192.168.10.10".parse().unwrap(),
            source: Some(source.parse().unwrap()),
            interface: Some(device.to_owned()),
            source_given: true,
            size: 56,
            events: vec![event],
            transmitted: 1,
            elapsed: Duration::ZERO,
            failure: None,
        }
    }

    /// seeds/deploying-tanzu-with-nsx-t.txt, lines 84 to 94; it leaves out ping's empty lines.
    #[test]
    fn the_articles_two_pings() {
        let reply = PingEvent::Reply {
            from: "192.168.10.10".parse().unwrap(),
            seq: 1,
            ttl: 128,
            bytes: 64,
            rtt: Duration::from_micros(412),
            duplicate: false,
        };
        assert_eq!(
            render(&article("192.168.10.45", "eth0", reply)),
            "PING 192.168.10.10 (192.168.10.10) from 192.168.10.45 eth0: 56(84) bytes of data.\n\
             64 bytes from 192.168.10.10: icmp_seq=1 ttl=128 time=0.412 ms\n\
             \n\
             --- 192.168.10.10 ping statistics ---\n\
             1 packets transmitted, 1 received, 0% packet loss, time 0ms\n\
             rtt min/avg/max/mdev = 0.412/0.412/0.412/0.000 ms\n"
        );
        let report = IcmpReport {
            from: "10.244.0.1".parse().unwrap(),
            kind: 3,
            code: 1,
            mtu: None,
            local: false,
        };
        assert_eq!(
            render(&article("10.244.0.2", "eth1", PingEvent::Error { seq: 1, report })),
            "PING 192.168.10.10 (192.168.10.10) from 10.244.0.2 eth1: 56(84) bytes of data.\n\
             From 10.244.0.1 icmp_seq=1 Destination Host Unreachable\n\
             \n\
             --- 192.168.10.10 ping statistics ---\n\
             1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms\n"
        );
    }

    #[test]
    fn numbers_as_iputils_prints_them() {
        let us = |n| round_trip(Duration::from_micros(n));
        assert_eq!(us(0), "0.000");
        assert_eq!(us(999), "0.999");
        assert_eq!(us(1234), "1.23");
        assert_eq!(us(1235), "1.24");
        assert_eq!(us(12_340), "12.3");
        assert_eq!(us(123_400), "123");
        assert_eq!(six_digits(0.0), "0");
        assert_eq!(six_digits(100.0), "100");
        assert_eq!(six_digits(100.0 / 3.0), "33.3333");
        assert_eq!(six_digits(25.0), "25");
        assert_eq!(six_digits(0.5), "0.5");
    }
}
