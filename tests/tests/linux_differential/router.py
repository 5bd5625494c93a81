"""Prepares and resets a router; runs in its network namespace.

At the beginning it has the kernel compute every checksum before a frame leaves by the interfaces named as
arguments: between the two ends of a veth pair it leaves that out, and a capture would show checksums that
are not there yet. That is `ethtool -K IFACE tx off` (linux/ethtool.h, linux/sockios.h).

Then, for every line of standard input, it makes the kernel forget all connections and prints "done": `conntrack -F`
(linux/netfilter/nfnetlink_conntrack.h).
"""

import ctypes
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17

NETLINK_NETFILTER = 12
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLMSG_ERROR = 2
# Of the subsystem conntrack, 1: delete, here without saying which.
IPCTNL_MSG_CT_DELETE = 1 << 8 | 2


def compute_checksums(name):
    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", name.encode(), ctypes.addressof(value)) + bytes(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def forget_connections():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(10.0)
        header = struct.pack("IHHII", 20, IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        netlink.send(header + bytes(4))
        _, kind, _, _, _, error = struct.unpack_from("IHHIIi", netlink.recv(4096))
        if kind != NLMSG_ERROR or error != 0:
            sys.exit(f"connections are not forgotten: message {kind}, error {error}")


def main():
    for name in sys.argv[1:]:
        compute_checksums(name)
    print("ready", flush=True)
    for _ in sys.stdin:
        forget_connections()
        print("done", flush=True)


main()
