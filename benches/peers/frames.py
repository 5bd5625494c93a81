#!/usr/bin/env python3
"""Frames for the comparison, and the check of what became of them: pcap files in, pcap files out, nothing but the standard library.

    frames.py requests OUT --flows N --to-mac M --from-mac M --src IP --dst IP [--dport P] [--fillers N]
    frames.py replies OUT CAPTURE... [--fillers N]
    frames.py check --flows N --sent FILE... --captured FILE... [what must be so]
    frames.py count FILE...
    frames.py empty OUT

Requests are UDP in 60-octet Ethernet frames (64 with the FCS), one a flow, in a shuffled order that is always the same. The payload
carries a mark, the number of the flow and the direction, so that every frame that comes out is known to be a certain frame that
went in. Replies are made of the requests that a switch let out: addresses, ports and MACs exchanged. Fillers come before them and
are not checked: more packets of the first of the flows, for a switch that loses some while it is getting ready.

`check` fails unless each flow's frame came out exactly once, in the captures together, with right IPv4 (RFC 791) and UDP (RFC 768)
checksums computed from scratch, an unchanged payload, and addresses, ports, TTL and MACs as told. It shares no code with any
switch that is compared.
"""
import argparse
import ipaddress
import random
import struct
import sys
from collections import Counter, namedtuple

MARK = b"tierlab!"
REQUEST, REPLY, FILLER = 0, 1, 2
# Where a frame says which of these it is.
DIRECTION = 42 + len(MARK) + 4
FRAME = 60
FIRST_PORT = 1024
# Little-endian, microseconds; and the same with nanoseconds.
MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
PCAP_HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")

Udp = namedtuple("Udp", "to_mac from_mac ttl src dst sport dport flow direction faults")


class Wrong(Exception):
    """What is not as it should be, in one line."""


def mac(text):
    octets = bytes(int(part, 16) for part in text.split(":"))
    if len(octets) != 6:
        raise argparse.ArgumentTypeError(f"'{text}' is no MAC address")
    return octets


def address(text):
    return ipaddress.IPv4Address(text).packed


def checksum(octets):
    """The Internet checksum, RFC 1071."""
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(to_mac, from_mac, src, dst, sport, dport, payload, ttl=64):
    length = 8 + len(payload)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, ttl, 17, 0) + src + dst
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    udp = struct.pack("!HHHH", sport, dport, length, 0)
    pseudo = src + dst + struct.pack("!HH", 17, length)
    # RFC 768: a checksum that comes to 0 is sent as all ones.
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp + payload) or 0xFFFF)
    return to_mac + from_mac + b"\x08\x00" + head + udp + payload


def payload(flow, direction):
    body = MARK + struct.pack("!IB", flow, direction)
    return body + bytes(FRAME - 42 - len(body))


def write(path, frames, second=0, fillers=(0, b"")):
    count, filler = fillers
    with open(path, "wb") as file:
        file.write(PCAP_HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        file.write((RECORD.pack(second, 0, len(filler), len(filler)) + filler) * count)
        for frame in frames:
            file.write(RECORD.pack(second, 0, len(frame), len(frame)) + frame)


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < PCAP_HEADER.size or PCAP_HEADER.unpack_from(data)[0] not in MAGIC:
        raise Wrong(f"{path} is no capture")
    at = PCAP_HEADER.size
    while at < len(data):
        if at + RECORD.size > len(data):
            raise Wrong(f"{path} is cut off")
        _, _, length, original = RECORD.unpack_from(data, at)
        at += RECORD.size
        if length != original or at + length > len(data):
            raise Wrong(f"{path} has a frame that is cut off")
        yield data[at : at + length]
        at += length


def parse(frame):
    """A frame of ours taken apart, with all that is wrong with it; None if it is another's (ARP, neighbour discovery)."""
    if frame[12:14] != b"\x08\x00" or len(frame) < 42 or frame[23] != 17 or MARK not in frame:
        return None
    faults = []
    if frame[14] != 0x45:
        faults.append("IPv4 header with options")
    total = struct.unpack_from("!H", frame, 16)[0]
    end = 14 + total
    if end > len(frame):
        faults.append("IPv4 length beyond the frame")
    if checksum(frame[14:34]):
        faults.append("IPv4 checksum")
    sport, dport, length, udp_sum = struct.unpack_from("!HHHH", frame, 34)
    if length != total - 20:
        faults.append("UDP length")
    if not udp_sum:
        faults.append("UDP without a checksum")
    elif checksum(frame[26:34] + struct.pack("!HH", 17, length) + frame[34:end]):
        faults.append("UDP checksum")
    flow, direction = struct.unpack_from("!IB", frame, 42 + len(MARK))
    if frame[42:end] != payload(flow, direction):
        faults.append("payload")
    return Udp(frame[0:6], frame[6:12], frame[22], frame[26:30], frame[30:34], sport, dport, flow, direction, faults)


def ours(paths):
    for path in paths:
        for frame in read(path):
            if frame[DIRECTION : DIRECTION + 1] == bytes([FILLER]):
                continue
            udp = parse(frame)
            if udp:
                yield udp


def requests(options):
    order = list(range(options.flows))
    random.Random(1).shuffle(order)
    if FIRST_PORT + options.flows > 65536:
        raise Wrong(f"{options.flows} flows of one client to one port: at most {65536 - FIRST_PORT}")

    def frame(i, direction):
        macs = (options.to_mac, options.from_mac)
        return datagram(*macs, options.src, options.dst, FIRST_PORT + i, options.dport, payload(i, direction))

    fillers = (options.fillers, frame(order[0], FILLER))
    write(options.out, (frame(i, REQUEST) for i in order), fillers=fillers)


def replies(options):
    """Their capture begins a second after the requests': a replay of both sends them later."""

    def frame(u, direction):
        return datagram(u.from_mac, u.to_mac, u.dst, u.src, u.dport, u.sport, payload(u.flow, direction))

    captured = list(ours(options.captures))
    if not captured:
        raise Wrong(f"nothing came out: {' '.join(options.captures)}")
    fillers = (options.fillers, frame(captured[0], FILLER))
    write(options.out, (frame(u, REPLY) for u in captured), second=1, fillers=fillers)


def show(octets):
    return ".".join(map(str, octets)) if len(octets) == 4 else ":".join(f"{o:02x}" for o in octets)


def check(options):
    sent = {}
    for u in ours(options.sent):
        if u.faults:
            raise Wrong(f"what was sent is wrong itself: {', '.join(u.faults)}")
        sent[u.flow] = u
    if len(sent) != options.flows:
        raise Wrong(f"{len(sent)} flows were sent, not {options.flows}")
    direction = next(iter(sent.values())).direction
    # A reply is addressed as the client addressed its request, seen from the other side.
    client = {u.flow: u for u in ours([options.client])} if options.client else {}
    seen, tuples, members = set(), set(), Counter()
    for u in ours(options.captured):
        was = sent.get(u.flow)
        if u.direction != direction or was is None:
            raise Wrong(f"flow {u.flow}: a frame came out that was not sent here")
        faults = list(u.faults)
        if u.flow in seen:
            faults.append("came out twice")
        seen.add(u.flow)
        want = {
            "TTL": (u.ttl, was.ttl - options.hops),
            "destination port": (u.dport, was.dport),
            "source port": (u.sport, was.sport),
            "source": (u.src, was.src),
            "destination": (u.dst, was.dst),
            "destination MAC": (u.to_mac, was.to_mac),
            "source MAC": (u.from_mac, was.from_mac),
        }
        if client:
            asked = client[u.flow]
            want |= {
                "destination": (u.dst, asked.src),
                "destination port": (u.dport, asked.sport),
                "source": (u.src, asked.dst),
                "source port": (u.sport, asked.dport),
            }
        if options.src:
            want["source"] = (u.src, options.src)
            # A translation may choose ports, but no two flows get the same (checked below).
            want.pop("source port")
        if options.members:
            members[u.dst] += 1
            want["destination"] = (u.dst if u.dst in options.members else None, u.dst)
        for name, value in (("destination MAC", options.to_mac), ("source MAC", options.from_mac)):
            if value == "any":
                want.pop(name)
            elif value != "same":
                macs = [mac(m) for m in value.split(",")]
                got = want[name][0]
                want[name] = (got, got if got in macs else macs[0])
        for name, (got, wanted) in want.items():
            if got != wanted:
                text = [show(v) if isinstance(v, bytes) else v for v in (got, wanted)]
                faults.append(f"{name} {text[0]} instead of {text[1]}")
        tuples.add((u.src, u.dst, u.sport, u.dport))
        if faults:
            raise Wrong(f"flow {u.flow}: {'; '.join(faults)}")
    if len(seen) != options.flows:
        raise Wrong(f"{len(seen)} of {options.flows} frames came out")
    if len(tuples) != options.flows:
        raise Wrong(f"{options.flows} flows came out as only {len(tuples)}")
    if options.members and (set(members) != set(options.members) or min(members.values()) < options.flows / len(members) / 2):
        raise Wrong(f"members got {sorted((show(m), n) for m, n in members.items())}: not spread over all of them")
    print(options.flows)


def count(options):
    print(sum(1 for _ in ours(options.captures)))


def main():
    parser = argparse.ArgumentParser(description="frames for the comparison with other switches, and their check")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("requests", help="write the clients' frames")
    command.add_argument("out")
    command.add_argument("--flows", type=int, required=True)
    command.add_argument("--to-mac", type=mac, required=True)
    command.add_argument("--from-mac", type=mac, required=True)
    command.add_argument("--src", type=address, required=True)
    command.add_argument("--dst", type=address, required=True)
    command.add_argument("--dport", type=int, default=9)
    command.add_argument("--fillers", type=int, default=0)
    command.set_defaults(run=requests)
    command = commands.add_parser("replies", help="write the answers to what came out")
    command.add_argument("out")
    command.add_argument("captures", nargs="+")
    command.add_argument("--fillers", type=int, default=0)
    command.set_defaults(run=replies)
    command = commands.add_parser("check", help="fail unless what came out is right; prints the number of frames")
    command.add_argument("--flows", type=int, required=True)
    command.add_argument("--sent", nargs="+", required=True, help="what went in")
    command.add_argument("--captured", nargs="+", required=True, help="what came out, at whichever port")
    command.add_argument("--hops", type=int, default=0, help="how much less the TTL must be")
    command.add_argument("--src", type=address, help="the address that sources are translated to")
    command.add_argument("--members", type=lambda t: [address(a) for a in t.split(",")], help="members of the load balancer")
    command.add_argument("--client", help="the requests that these are the replies to: addressed to their senders")
    command.add_argument("--to-mac", default="same", help="same, any, or the MACs that are allowed")
    command.add_argument("--from-mac", default="same")
    command.set_defaults(run=check)
    command = commands.add_parser("count", help="print how many of our frames are in captures")
    command.add_argument("captures", nargs="+")
    command.set_defaults(run=count)
    command = commands.add_parser("empty", help="write a capture without frames")
    command.add_argument("out")
    command.set_defaults(run=lambda options: write(options.out, []))
    options = parser.parse_args()
    try:
        options.run(options)
    except (OSError, Wrong) as error:
        sys.exit(f"frames.py: {error}")


if __name__ == "__main__":
    main()
