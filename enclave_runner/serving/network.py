"""The network of a serving machine: one interface, one address, no route, no resolver.

Two requests to the kernel give the address and its mask, one brings the interface up
(netdevice(7)). So the machine answers neighbours on its own network; everything else is unreachable
for it, and it has no program that would want to. Left out: the port, which is the listener's.
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
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_IFF_UP: Final = 1
# What of IPv4 a machine does not do: answer pings, follow redirects.
_SETTINGS: Final = (
    ("icmp_echo_ignore_all", "1"),
    ("conf/all/accept_redirects", "0"),
    ("conf/default/accept_redirects", "0"),
)
_IPV4: Final = Path("/proc/sys/net/ipv4")
# Hyper-V brings its interface some time after its bus.
_WAIT_S: Final = 60.0
_POLL_S: Final = 0.05


def bring_up(address: str, prefix: int) -> None:
    """Give loopback and the one interface their addresses. ToolError where there is not one."""
    name = _interface()
    for setting, value in _SETTINGS:
        (_IPV4 / setting).write_text(value, encoding="ascii")
    _address(_LOOPBACK, "127.0.0.1", 8)
    _address(name, address, prefix)


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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, mask)):
            fcntl.ioctl(asked, request, struct.pack("16s16s", name.encode(), _of_inet(value)))
        answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, struct.pack("16sh14x", name.encode(), 0))
        (flags,) = struct.unpack_from("h", answer, 16)
        fcntl.ioctl(asked, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags | _IFF_UP))


def _of_inet(address: str) -> bytes:
    """struct sockaddr_in, without a port."""
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
