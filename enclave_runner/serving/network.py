"""The network of a serving machine: one interface, one address, no resolver.

Two ioctls set the address and its mask, and one brings the interface up (netdevice(7)). The machine
can talk to neighbours on its own network. Everything else is unreachable unless there is a gateway,
through which a cloud's machine answers clients that are no neighbours; no program in it opens a
connection, and the engine has a network of its own. The listener opens the port.
"""

import fcntl
import socket
import struct
import time
from pathlib import Path
from typing import Final

from aicert.errors import ToolError

_INTERFACES: Final = Path("/sys/class/net")
_LOOPBACK: Final = "lo"
# linux/sockios.h, linux/if.h.
_SIOCADDRT: Final = 0x890B
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_IFF_UP: Final = 1
# linux/route.h: struct rtentry, of which only destination, gateway, mask and flags are not zero.
_ROUTE: Final = "8x16s16s16sH62x"
_RTF_UP_GATEWAY: Final = 3
_ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - a destination, not an address to listen on
# IPv4 features that are off: answering pings, following redirects.
_SETTINGS: Final = (
    ("icmp_echo_ignore_all", "1"),
    ("conf/all/accept_redirects", "0"),
    ("conf/default/accept_redirects", "0"),
)
_IPV4: Final = Path("/proc/sys/net/ipv4")
# How long to wait for the interface: Hyper-V adds it a while after its bus.
_WAIT_S: Final = 60.0
_POLL_S: Final = 0.05


def bring_up(address: str, prefix: int, gateway: str | None = None) -> None:
    """Configure loopback and the one interface, and the way to other networks, if there is one.
    Raises ToolError unless there is exactly one interface.
    """
    name = _interface()
    for setting, value in _SETTINGS:
        (_IPV4 / setting).write_text(value, encoding="ascii")
    _address(_LOOPBACK, "127.0.0.1", 8)
    _address(name, address, prefix)
    if gateway is not None:
        anywhere = _of_inet(_ANYWHERE)
        route = struct.pack(_ROUTE, anywhere, _of_inet(gateway), anywhere, _RTF_UP_GATEWAY)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            fcntl.ioctl(probe, _SIOCADDRT, route)


def _interface() -> str:
    until = time.monotonic() + _WAIT_S
    while True:
        names = sorted(path.name for path in _INTERFACES.iterdir() if path.name != _LOOPBACK)
        if len(names) == 1:
            return names[0]
        if names or time.monotonic() > until:
            raise ToolError(f"the machine has {len(names)} network interfaces instead of one")
        time.sleep(_POLL_S)


def _address(name: str, address: str, prefix: int) -> None:
    mask = socket.inet_ntoa(struct.pack("!I", ~((1 << (32 - prefix)) - 1) & 0xFFFFFFFF))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, mask)):
            fcntl.ioctl(probe, request, struct.pack("16s16s", name.encode(), _of_inet(value)))
        answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, struct.pack("16sh14x", name.encode(), 0))
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags | _IFF_UP))


def _of_inet(address: str) -> bytes:
    """Return a struct sockaddr_in for an address, without a port."""
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
