"""Somebody else on a booted machine's network: sends it any packet, and reads all that it sends.

qemu's own network would carry only connections to the machine's port. A filter of qemu hands our
packets to the machine's card, and another records what passes there (qemu, "-object
filter-redirector", "filter-dump").
"""

import functools
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from rules.machines.qemu.command import GUEST

DUMP: Final = "net.pcap"
_SOCKET: Final = "raw.sock"
RECORDED: Final = ("-object", f"filter-dump,id=dump,netdev=net,file={DUMP}")
REACHED: Final = (
    *RECORDED,
    "-chardev", f"socket,id=raw,path={_SOCKET},server=on,wait=off",
    "-object", "filter-redirector,id=inject,netdev=net,queue=tx,indev=raw",
)  # fmt: skip

# qemu's first card, and the address and the card of this computer on qemu's network.
MACHINE_CARD: Final = b"\x52\x54\x00\x12\x34\x56"
HOST: Final = bytes((10, 0, 2, 2))
_HOST_CARD: Final = b"\x52\x55\x0a\x00\x02\x02"
_MACHINE: Final = socket.inet_aton(GUEST)
_EVERYBODY: Final = b"\xff" * 6
_IPV4, _ARP, _IPV6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
_ICMP, _TCP, _UDP = 1, 6, 17
_SYN, _RST, _ACK = 2, 4, 16
# Fewer than a card of qemu has room for.
_AT_ONCE: Final = 128
# The port from which we ask.
_OURS: Final = 4001


def packets(data: bytes) -> Iterator[bytes]:
    """Yield the whole packets of a capture (pcap, "File Format": a header of 24 bytes, then 16
    before each packet).
    """
    at = 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        if at + 16 + length > len(data):
            return
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def sent(work: Path) -> list[bytes]:
    """Return all packets that the machine has sent so far."""
    return [each for each in packets((work / DUMP).read_bytes()) if each[6:12] == MACHINE_CARD]


def is_with_neighbour(packet: bytes) -> bool:
    """Whether it is ARP with this computer."""
    return packet[12:14] == _ARP and packet[38:42] == HOST


def is_served(packet: bytes, port: int) -> bool:
    """Whether it belongs to a connection to this port, and does not begin one."""
    is_tcp = packet[12:14] == _IPV4 and packet[23] == _TCP
    return is_tcp and packet[34:36] == port.to_bytes(2) and packet[47] & (_SYN | _ACK) != _SYN


def is_rejection(packet: bytes) -> bool:
    """Whether it is TCP's reset, or ICMP's "unreachable", which say that nobody is there."""
    if packet[12:14] != _IPV4:
        return False
    is_reset = packet[23] == _TCP and bool(packet[47] & _RST)
    return is_reset or (packet[23] == _ICMP and packet[34] == 3)


class Neighbour:
    """Sends packets to a machine that was booted with `REACHED`. `work`: qemu's folder."""

    def __init__(self, work: Path, wait_for: Callable[[Callable[[], bool], str], None]) -> None:
        self._work = work
        self._wait_for = wait_for
        self._socket = socket.socket(socket.AF_UNIX)
        # The folder's name may be longer than a socket's address.
        folder = os.open(work, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{_SOCKET}")
        finally:
            os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Send one frame of Ethernet."""
        self._socket.sendall(len(frame).to_bytes(4) + frame)

    def asks_who_has(self, address: bytes) -> None:
        """Ask by ARP which card has this address."""
        body = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + _HOST_CARD + HOST + bytes(6) + address
        self.send(_EVERYBODY + _HOST_CARD + _ARP + body)

    def pings(self) -> None:
        """Send an echo request (RFC 792)."""
        body = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"hello"
        self._send_ip(_ICMP, body[:2] + _sum(body) + body[4:])

    def sends_udp(self, port: int) -> None:
        """Send a datagram without a checksum, which UDP allows (RFC 768)."""
        self._send_ip(_UDP, struct.pack("!HHHH", _OURS, port, 13, 0) + b"hello")

    def looks_for_ipv6(self) -> None:
        """Ping all nodes, and solicit the address that the card would have (RFC 4861, 4291)."""
        mine, everybody = b"\xfe\x80" + bytes(13) + b"\x02", b"\xff\x02" + bytes(13) + b"\x01"
        theirs = b"\xfe\x80" + bytes(6) + b"\x50\x54\x00\xff\xfe\x12\x34\x56"
        for kind, body in ((128, struct.pack("!HH", 7, 1)), (135, bytes(4) + theirs)):
            pseudo = mine + everybody + struct.pack("!II", 4 + len(body), 58)
            message = bytes((kind, 0))
            whole = message + _sum(pseudo + message + bytes(2) + body) + body
            head = struct.pack("!IHBB", 6 << 28, len(whole), 58, 255) + mine + everybody
            self.send(b"\x33\x33\x00\x00\x00\x01" + _HOST_CARD + _IPV6 + head + whole)

    def open_ports(self, ports: Sequence[int]) -> set[int]:
        """Begin a connection to each port. Returns those where somebody answers; the others were
        all rejected.
        """
        for first in range(0, len(ports), _AT_ONCE):
            some = ports[first : first + _AT_ONCE]
            for port in some:
                self._begin(port)
            wanted = set(some)
            self._wait_for(functools.partial(self._have_answered, wanted), "an answer from ports")
        return {port for port, flags in self._answers().items() if not flags & _RST}

    def _have_answered(self, ports: set[int]) -> bool:
        return ports <= set(self._answers())

    def _answers(self) -> dict[int, int]:
        """Return the flags that TCP answered us with, by port."""
        return {
            int.from_bytes(packet[34:36]): packet[47]
            for packet in sent(self._work)
            if packet[12:14] == _IPV4 and packet[23] == _TCP and packet[36:38] == _OURS.to_bytes(2)
        }

    def _begin(self, port: int) -> None:
        """Send the first packet of a connection (RFC 9293)."""
        head = struct.pack("!HHIIBBHHH", _OURS, port, 1, 0, 5 << 4, _SYN, 8192, 0, 0)
        pseudo = HOST + _MACHINE + struct.pack("!HH", _TCP, len(head))
        self._send_ip(_TCP, head[:16] + _sum(pseudo + head) + head[18:])

    def _send_ip(self, protocol: int, body: bytes) -> None:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
        addresses = HOST + _MACHINE
        checked = head[:10] + _sum(head + addresses) + addresses
        self.send(MACHINE_CARD + _HOST_CARD + _IPV4 + checked + body)


def _sum(data: bytes) -> bytes:
    """Return the internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2)
