"""Write the test vectors of leases: what is read, what is refused, and every digest on the way.

    python -m tests.vectors.leases        # then: git diff --exit-code tests/vectors

Deterministic, as the vectors of certificates are; README.md has the form.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.formats.digest import Digest, of_bytes
from aicert.formats.image_lock import ImageLock
from aicert.formats.listing import EMPTY_FILE_HEX
from aicert.formats.tpm import sha256_name
from aicert.frozen import replace
from aicert.lease import bundle, custody, keys, licence, terms, tpm_policy
from aicert.lease.blob import Blob
from aicert.lease.bundle import Header, PackedFile
from aicert.lease.custody import Secrets
from aicert.lease.licence import Bounds, Licence
from aicert.lease.orders import GRANT, REVOKE, SEALED_HALF, STOP, Order
from aicert.lease.terms import Terms
from tests.adversarial import ca_forge

FOLDER = Path(__file__).resolve().parent / "lease"
LEASE = "719013b3e3cbb8539017a0e3b4efa6d0"
BOUNDS = Bounds(budget=812, epoch=3, clock=5_400_000, resets=4, restarts=0)
FIRMWARE = {index: bytes([index + 1]) * 32 for index in licence.FIRMWARE_PCRS}
CUSTODIAN = ca_forge.ec_key("custodian")
STRANGER = ca_forge.ec_key("another custodian")
# A storage key as TPMs make it from TCG's template, and a blob for it with any bytes of that size.
STORAGE = bytes.fromhex("0001000b00030472000000060080004300100800000000000100") + (
    ca_forge.rsa_key("storage").public_key().public_numbers().n.to_bytes(256)
)
MACHINE = sha256_name(STORAGE)
BLOB = Blob(public=b"p" * 78, duplicate=b"d" * 108, seed=b"s" * 256)
IMAGE = ImageLock(
    digest=Digest("sha256", "9a" * 32),
    name="serve",
    disk=Digest("sha256", "cd" * 32),
    pcrs={4: b"\x04" * 32, 11: b"\x0b" * 32, 12: bytes(32), 13: bytes(32)},
    verity={},
    packages=(),
)


def agreed(**changes: object) -> Terms:
    """Return the custodian's terms, with some values changed."""
    usual = Terms(
        digest=of_bytes(b""),
        lease=LEASE,
        model=Digest("dirHash", "8e" * 32),
        certificate=Digest("sha256", "77" * 32),
        tick_tokens=1000,
        routes=terms.ROUTES,
        max_output_tokens=4096,
        heartbeat_seconds=60,
        egress_bytes_per_token=16,
        key=terms.SPLIT,
        custodian=keys.spki_digest(CUSTODIAN.public_key()),
    )
    return terms.identified(replace(usual, **changes))


def signed(
    bounds: Bounds = BOUNDS,
    *,
    key: ec.EllipticCurvePrivateKey = CUSTODIAN,
    lease: str = LEASE,
    terms_digest: Digest | None = None,
    image: ImageLock | None = IMAGE,
    firmware: dict[int, bytes] = FIRMWARE,
    machine: bytes = MACHINE,
) -> Licence:
    """Return a licence with an RFC 6979 signature: the same bytes each time."""
    named = terms_digest or agreed().digest
    digest = licence.policy_digest(bounds, licence.registers(firmware, image))
    data = licence.signed_bytes(lease, named, machine, digest)
    return Licence(
        lease=lease,
        terms=named,
        machine=machine,
        image=None if image is None else image.digest,
        bounds=bounds,
        signature=key.sign(data, ca_forge.ecdsa(hashes.SHA256())),
    )


def custody_file() -> bytes:
    """Return the custodian's keys, drawn from fixed bytes."""
    kept = Secrets(lease=LEASE, key=CUSTODIAN, tpm_half=b"\x01" * 32, broker_half=b"\x02" * 32)
    return custody.emit(kept)


def bundle_header() -> bytes:
    """Return the header of a bundle of three files."""
    files = (
        PackedFile(path="config.json", size=612, sha256="c0" * 32),
        PackedFile(path="empty", size=0, sha256=EMPTY_FILE_HEX),
        PackedFile(path="model.safetensors", size=5 << 20, sha256="5a" * 32),
    )
    return bundle.emit(Header(lease=LEASE, terms=agreed().digest, files=files))


def orders_of_each_kind() -> tuple[Order, ...]:
    """Return a grant, a revocation and a stop."""
    given = Order(
        kind=GRANT, lease=LEASE, terms=agreed().digest, boot="b0" * 32, epoch=3, seq=1,
        answers="a0" * 32, generation=17, licence=licence.emit(signed()), half=b"h" * SEALED_HALF,
    )  # fmt: skip
    bare = replace(given, licence=b"", half=b"")
    return given, replace(bare, kind=REVOKE), replace(bare, kind=STOP)


def corpus() -> Iterator[tuple[str, dict[str, object]]]:
    """Return the content of every file by its name."""
    # The forgers in that module use the values above.
    from tests.vectors import lease_messages

    yield from _terms()
    yield from _licences()
    yield from lease_messages.enrolments(IMAGE)
    yield from lease_messages.machines(IMAGE)
    yield from lease_messages.signed_receipts()
    yield from lease_messages.answers()
    yield from lease_messages.signed_orders(CUSTODIAN, orders_of_each_kind())


def _terms() -> Iterator[tuple[str, dict[str, object]]]:
    data = terms.emit(agreed())
    for name, text in {
        "terms": data,
        "terms-of-an-offline-lease": terms.emit(agreed(key=terms.TPM_ALONE)),
    }.items():
        read: dict[str, object] = {"verdict": "read", "digest": str(of_bytes(text))}
        yield name, {"kind": "terms", "inputs": {"text": text.decode()}, "expected": read}
    for name, text in {
        "terms-with-a-comment": data.replace(b"version = 1", b"version = 1 # one"),
        "terms-with-a-route-that-loads-models": data.replace(b"/v1/models", b"/load_model"),
        "terms-in-another-order": b"".join(sorted(data.splitlines(keepends=True))),
        "terms-with-crlf": data.replace(b"\n", b"\r\n"),
        "terms-that-count-nothing": data.replace(b"tick-tokens = 1000", b"tick-tokens = 0"),
    }.items():
        yield (
            name,
            {
                "kind": "terms",
                "inputs": {"text": text.decode()},
                "expected": {"verdict": "malformed"},
            },
        )


def _licences() -> Iterator[tuple[str, dict[str, object]]]:
    text = licence.emit(signed())
    edits = {
        "budget": (b"budget 812", b"budget 999"),
        "epoch": (b"epoch 3", b"epoch 4"),
        "clock": (b"clock 5400000", b"clock 5400001"),
        "resets": (b"resets 4", b"resets 9"),
        "restarts": (b"restarts 0", b"restarts 1"),
        "lease": (LEASE.encode(), LEASE[::-1].encode()),
        "terms": (agreed().digest.hex.encode(), b"ee" * 32),
        "machine": (MACHINE.hex().encode(), b"000b" + b"ee" * 32),
    }
    yield "licence", _licence(text, "signed")
    yield (
        "licence-without-an-image",
        _licence(
            licence.emit(
                signed(image=None, firmware=dict.fromkeys(licence.FIRMWARE_PCRS, bytes(32)))
            ),
            "signed",
            dict.fromkeys(licence.LICENCE_PCRS, bytes(32)),
        ),
    )
    for field, (old, new) in edits.items():
        yield f"licence-with-an-edited-{field}", _licence(text.replace(old, new), "refused")
    by_stranger = licence.emit(signed(key=STRANGER))
    yield "licence-of-another-custodian", _licence(by_stranger, "refused")
    for index in licence.LICENCE_PCRS:
        values = licence.registers(FIRMWARE, IMAGE)
        changed = {**values, index: b"\xee" * 32}
        yield f"licence-where-pcr-{index}-differs", _licence(text, "refused", changed)
    for name, data in {
        "with-a-leading-zero": text.replace(b"budget 812", b"budget 0812"),
        "with-a-line-more": text + b"note 1\n",
        "with-a-budget-of-64-bits": text.replace(b"budget 812", b"budget 9223372036854775808"),
        "with-resets-of-33-bits": text.replace(b"resets 4", b"resets 4294967296"),
        "with-a-signature-in-upper-case": text.replace(b"signature 30", b"signature 3A"),
        "with-a-longer-signature": text[:-1] + b"00\n",
    }.items():
        yield f"licence-{name}", _licence(data, "malformed")


def _licence(
    text: bytes, verdict: str, values: dict[int, bytes] | None = None
) -> dict[str, object]:
    given = licence.registers(FIRMWARE, IMAGE) if values is None else values
    custodian = CUSTODIAN.public_key()
    expected: dict[str, object] = {"verdict": verdict}
    if verdict != "malformed":
        parsed = licence.parse(text)
        reference = licence.policy_reference(parsed.lease, parsed.terms, parsed.machine)
        expected |= {
            "policyDigest": licence.policy_digest(parsed.bounds, given).hex(),
            "policyRef": reference.hex(),
            "custodianName": keys.name_of(custodian).hex(),
            "authPolicy": licence.sealed_policy(
                custodian, parsed.lease, parsed.terms, parsed.machine
            ).hex(),
            "receiptPolicy": licence.receipt_policy(given).hex(),
            "meterName": tpm_policy.counter_name(licence.METER_INDEX).hex(),
            "epochName": tpm_policy.counter_name(licence.EPOCH_INDEX).hex(),
        }
    return {
        "kind": "licence",
        "inputs": {
            "custodian": keys.spki_of(custodian).hex(),
            "registers": {str(index): given[index].hex() for index in sorted(given)},
            "text": text.decode(),
        },
        "expected": expected,
    }


def files() -> dict[str, bytes]:
    """Return every file by its name in FOLDER."""
    return {
        f"{name}.json": (json.dumps({"format": 1, **content}, indent=1) + "\n").encode("ascii")
        for name, content in corpus()
    }


def main() -> None:
    """Bring the files up to date; print what changed."""
    wanted = files()
    FOLDER.mkdir(exist_ok=True)
    for name, data in wanted.items():
        file = FOLDER / name
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)
            print(f"wrote    lease/{name}")
    for file in FOLDER.glob("*.json"):
        if file.name not in wanted:
            file.unlink()
            print(f"removed  lease/{file.name}")


if __name__ == "__main__":
    main()
