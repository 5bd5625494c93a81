"""Sends and captures frames at the interfaces named as arguments: AF_PACKET, standard library only.

Standard input has a command a line, standard output an answer:

  send IFACE HEX     puts a frame on the wire; no answer
  until IFACE HEX    prints a line "frame IFACE HEX" for each IPv4 frame that came in anywhere, until one at
                     IFACE ends with these octets and whatever came in before it is printed too; then "done",
                     or "late" if none came in time

The process stays on one processor. A veth hands a frame to the backlog of the processor that sent it, and
so does every router behind it: the whole way is one queue, and a frame sent later is not seen earlier.
"""

import os
import select
import socket
import sys
import time

ETH_P_IP = 0x0800
PATIENCE = 10.0


def main():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sockets = {}
    for name in sys.argv[1:]:
        # Of this protocol a socket gets what comes in, not what goes out.
        sockets[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        sockets[name].bind((name, ETH_P_IP))
    names = {s: name for name, s in sockets.items()}
    poll = select.poll()
    by_number = {}
    for s in names:
        poll.register(s, select.POLLIN)
        by_number[s.fileno()] = s
    print("ready", flush=True)

    def read(timeout):
        """What is there now, or comes within the timeout (seconds)."""
        frames = []
        for number, _ in poll.poll(timeout * 1000):
            s = by_number[number]
            while True:
                try:
                    frames.append((names[s], s.recv(65536, socket.MSG_DONTWAIT)))
                except BlockingIOError:
                    break
        for name, frame in frames:
            print("frame", name, frame.hex())
        return frames

    for line in sys.stdin:
        command, name, octets = line.split()
        octets = bytes.fromhex(octets)
        if command == "send":
            sockets[name].send(octets)
            continue
        deadline = time.monotonic() + PATIENCE
        seen = False
        while not seen and time.monotonic() < deadline:
            frames = read(max(0.0, deadline - time.monotonic()))
            seen = any(at == name and frame.endswith(octets) for at, frame in frames)
        while read(0.0):
            pass
        print("done" if seen else "late", flush=True)


main()
