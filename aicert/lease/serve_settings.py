"""The settings that a host gives to a machine that serves (`serve.json`), beside the bundle.

    {"address":"10.0.2.15","image":"sha256:…","memory":2147483648,"port":8443,"prefix":24,"threads":2}

Both lie on the input volume. Nothing here is measured or believed: a wrong address is reached by
nobody, and which image booted the registers say. `image` is repeated in the serving statement, and
whoever judges the machine compares it.

Where no port for the courier exists, `courier` is the SHA-256 of the key with which it calls at the
machine's own port (`parcels`). `gateway` is the neighbour to whom answers for other networks go.
"""

import ipaddress
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import machine_io, strict_json
from aicert.formats.digest import Digest
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass

# Their names in the root of the input volume.
SETTINGS: Final = "serve.json"
BUNDLE: Final = "bundle"
# The port of virtio-serial on which courier and machine talk.
COURIER_PORT: Final = "aicert.courier"
# With a longer prefix an address has no neighbours.
_LONGEST_PREFIX: Final = 30
_LAST_PORT: Final = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a machine is to run. `address` with `prefix`: the one address of its one interface;
    `memory` in bytes and `threads` are the engine's. `courier` and `gateway` may be absent.
    """

    address: str
    prefix: int
    port: int
    image: Digest
    memory: int
    threads: int
    courier: Digest | None = None
    gateway: str | None = None


def emit(settings: Settings) -> bytes:
    """The file."""
    document: dict[str, object] = {
        "address": settings.address,
        "image": str(settings.image),
        "memory": settings.memory,
        "port": settings.port,
        "prefix": settings.prefix,
        "threads": settings.threads,
    }
    if settings.courier is not None:
        document["courier"] = str(settings.courier)
    if settings.gateway is not None:
        document["gateway"] = settings.gateway
    return strict_json.dumps(document)


def parse(data: bytes) -> Settings:
    """Read the settings in their one form; EvidenceError for any other."""
    fields = Fields(
        strict_json.loads(data, what=SETTINGS, max_bytes=machine_io.MAX_LIMITS), SETTINGS
    )
    address = _address(fields, "address")
    prefix = fields.integer("prefix", low=1, high=_LONGEST_PREFIX)
    gateway = _address(fields, "gateway") if fields.has("gateway") else None
    network = ipaddress.IPv4Network(f"{address}/{prefix}", strict=False)
    if gateway is not None and ipaddress.IPv4Address(gateway) not in network:
        raise EvidenceError(f"{SETTINGS}: the gateway is not a neighbour of the machine")
    settings = Settings(
        address=address,
        prefix=prefix,
        port=fields.integer("port", low=1, high=_LAST_PORT),
        image=Digest.parse(fields.text("image")),
        memory=fields.integer("memory", low=1),
        threads=fields.integer("threads", low=1, high=1024),
        courier=Digest.parse(fields.text("courier")) if fields.has("courier") else None,
        gateway=gateway,
    )
    fields.done()
    return settings


def _address(fields: Fields, name: str) -> str:
    address = fields.text(name, max_length=15)
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise EvidenceError(f"{SETTINGS}: {address!a} is not an IPv4 address") from None
    return address
