"""What the serving machine's program does before it serves, in a network of its own.

The network is that of a new namespace, whose one interface a tunnel makes. So the kernel sets the
address and the route that a machine would have.
"""

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aicert.formats.digest import of_bytes
from aicert.frozen import replace
from aicert.lease import serve_settings
from aicert.lease.serve_settings import Settings

ROOT = Path(__file__).resolve().parents[4]
SETTINGS = Settings(
    address="10.0.0.4", prefix=29, port=8443, image=of_bytes(b"lock"), memory=1 << 30, threads=2
)
AWAY = replace(SETTINGS, courier=of_bytes(b"key"), gateway="10.0.0.1")
# linux/if_tun.h: TUNSETIFF, with IFF_TAP | IFF_NO_PI.
PROGRAM = """
import fcntl, json, os, struct, sys
from pathlib import Path

from enclave_runner.serving import __main__ as serving, boot

tunnels = []
for name in json.loads(sys.argv[2]):
    tunnels.append(os.open("/dev/net/tun", os.O_RDWR))
    fcntl.ioctl(tunnels[-1], 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
place = Path(sys.argv[1])
boot.INPUTS, boot.MEMORY, boot.ENGINE_USER = place, place, os.getuid()


def main(words):
    routes = [line.split() for line in Path("/proc/self/net/route").read_text().splitlines()[1:]]
    seen = {"routes": [[line[0], line[1], line[2], line[7]] for line in routes]}
    seen["addresses"] = Path("/proc/self/net/fib_trie").read_text()
    for name in ("icmp_echo_ignore_all", "conf/all/accept_redirects"):
        seen[name] = Path("/proc/sys/net/ipv4", name).read_text().strip()
    print(json.dumps(seen | {"words": words}))
    return 0


serving.main = main
sys.exit(boot.main())
"""


def booted(
    folder: Path, settings: Settings, *interfaces: str
) -> "subprocess.CompletedProcess[str]":
    (folder / serve_settings.SETTINGS).write_bytes(serve_settings.emit(settings))
    program = folder / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), str(folder), json.dumps(interfaces)]
    return subprocess.run(
        ["unshare", "--map-root-user", "--net", "--mount", "--",
         "sh", "-ec", 'mount -t sysfs none /sys; exec "$@"', "sh", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def number(address: str) -> str:
    """Return an address as the kernel's table of routes writes it."""
    return ipaddress.IPv4Address(address).packed[::-1].hex().upper()


@pytest.mark.parametrize("gateway", [None, "10.0.0.1"])
def test_a_machine_that_is_called_at_its_port_has_one_address_and_perhaps_a_way_out(
    tmp_path: Path, gateway: str | None
) -> None:
    done = booted(tmp_path, replace(AWAY, gateway=gateway), "machine0")
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    anywhere = number("0.0.0.0")  # noqa: S104 - a destination
    default = [["machine0", anywhere, number("10.0.0.1"), anywhere]]
    neighbours = ["machine0", number("10.0.0.0"), anywhere, number("255.255.255.248")]
    assert seen["routes"] == [*(default if gateway else []), neighbours]
    assert "10.0.0.4" in seen["addresses"]
    assert (seen["icmp_echo_ignore_all"], seen["conf/all/accept_redirects"]) == ("1", "0")
    assert "--host=10.0.0.4" in seen["words"]
    assert seen["words"][-1] == f"--courier-key={of_bytes(b'key')}"
    assert (tmp_path / "engine").is_dir()


def test_a_machine_without_a_port_for_its_courier_says_so(tmp_path: Path) -> None:
    done = booted(tmp_path, SETTINGS, "machine0")
    words = "error: the machine has no port named aicert.courier\n"
    assert (done.returncode, done.stderr) == (2, words)


def test_a_machine_with_two_interfaces_does_not_serve(tmp_path: Path) -> None:
    done = booted(tmp_path, AWAY, "machine0", "machine1")
    words = "error: the machine has 2 network interfaces instead of one\n"
    assert (done.returncode, done.stderr) == (2, words)
