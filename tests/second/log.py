"""The second verifier's transparency logs (docs/spec/log.md).

Written from docs/spec/ alone; shares no code with `aicert`. A note is read by one pattern, and a
root is computed by walking down from it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.second import forms
from tests.second.chain import NoError, OpenError, need
from tests.second.limits import limits

LOG = limits("log.md")
LOGS, WITNESS = 1, 4
NAME = r"[^\s+\x00-\x1f]+"
LINE = re.compile(rf"\u2014 ({NAME}) (\S+)")
NUMBER = re.compile("0|[1-9][0-9]*", re.ASCII)


@dataclass
class Note:
    """A signed note: its text, and its signature lines as (name, id, the rest)."""

    text: str
    lines: list[tuple[str, bytes, bytes]]


def number(text: str) -> int:
    need(NUMBER.fullmatch(text) and len(text) < 20)
    need(int(text) <= LOG["index of an entry, and size of a log"])
    return int(text)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def hash_in(text: str) -> bytes:
    data = forms.unbase64(text)
    need(len(data) == 32)
    return data


def check_name(name: str) -> None:
    need(re.fullmatch(NAME, name) and len(name.encode()) <= LOG["bytes of a key's name"])


def note_of(data: bytes) -> Note:
    need(len(data) <= LOG["note"])
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise NoError from None
    need(not re.search(r"[\x00-\x09\x0b-\x1f]", whole))
    need("\n\n" in whole and whole[-1] == "\n")
    end = whole.rindex("\n\n") + 1
    rows = whole[end + 1 : -1].split("\n")
    need(len(rows) <= LOG["signatures of a note"])
    lines = []
    for row in rows:
        match = LINE.fullmatch(row)
        if match is None:
            raise NoError
        check_name(match[1])
        signature = forms.unbase64(match[2])
        need(len(signature) > 4)
        lines.append((match[1], signature[:4], signature[4:]))
    return Note(whole[:end], lines)


def tree_of(text: str) -> tuple[str, int, bytes]:
    """Return origin, size and root of a checkpoint."""
    rows = text.removesuffix("\n").split("\n")
    need(len(rows) >= 3 and all(rows))
    check_name(rows[0])
    return rows[0], number(rows[1]), hash_in(rows[2])


def signatures(note: Note, key: str, kind: int) -> list[tuple[bytes, bytes]]:
    """Return each signature made with a key's name and id, with the key."""
    name, key_id, encoded = key.split("+", 2)
    data = forms.unbase64(encoded)
    need(data[0] == kind and sha(name.encode(), b"\n", data)[:4].hex() == key_id)
    named = [one[2] for one in note.lines if (one[0], one[1].hex()) == (name, key_id)]
    return [(one, data[1:]) for one in named]


def verify(key: bytes, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())
    except InvalidSignature:
        raise NoError from None


def climb(index: int, size: int, hashes: list[bytes], leaf: bytes) -> bytes:
    """Compute the root from a leaf and its path (RFC 6962, 2.1.1), from the root down: the last
    hash of the path is the root of the other half.
    """
    need(0 <= index < size)
    if size == 1:
        need(not hashes)
        return leaf
    need(hashes)
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return sha(b"\1", climb(index, half, hashes[:-1], leaf), hashes[-1])
    return sha(b"\1", hashes[-1], climb(index - half, size - half, hashes[:-1], leaf))


def entry_of(document: Mapping[str, Any]) -> bytes:
    """Return the log entry for a certificate, as log.md ("Entry") defines it."""
    statement = forms.strict_json(
        forms.unbase64(document["envelope"]["payload"]), forms.CERT["statement"]
    )
    forms.fit(statement, forms.STATEMENT)
    build, details = (statement["predicate"][key] for key in ("buildDefinition", "runDetails"))
    lock = forms.Lock(document["lockfile"])
    inputs = [{"name": n, "uri": uri, "digest": digest} for n, _, uri, digest in lock.inputs]
    entry = {
        "kind": "aicert-log-entry",
        "version": 1,
        "certificate": "sha256:" + core_digest(document),
        "lockfile": "sha256:" + sha(document["lockfile"].encode()).hex(),
        "run": build["externalParameters"]["run"],
        "trainer": build["externalParameters"]["trainer"],
        "builder": details["builder"]["id"],
        "code": [
            {"name": one["name"], "digest": forms.digest_of(one)}
            for one in sorted(details["builder"]["builderDependencies"], key=lambda d: d["name"])
        ],
        "inputs": inputs,
        "outputs": [
            {"name": one["name"], "digest": forms.digest_of(one)}
            for one in sorted(statement["subject"], key=lambda s: s["name"])
            if "/" not in one["name"]
        ],
    }
    report = json.loads(forms.unbase64(details["byproducts"][0]["content"]))
    base = str(report["values"].get("baseInput", {}).get("value", "")).split("/")[0]
    if base in [one["name"] for one in inputs]:
        entry["base"] = base
    for _ in range(2):
        data = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if len(data.encode()) <= LOG["entry"]:
            return data.encode()
        for one in inputs:
            one.pop("uri", None)
    raise NoError


def core_digest(document: Mapping[str, Any]) -> str:
    bare = {**document, "evidence": {**document["evidence"], "timestamps": []}}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode() + b"\n").hexdigest()


def proof_of(data: bytes) -> tuple[int, list[bytes], Note]:
    need(len(data) <= LOG["proof"] and b"\n\n" in data)
    head, checkpoint = data.split(b"\n\n", 1)
    try:
        rows = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoError from None
    need(rows[0] == "c2sp.org/tlog-proof@v1")
    if rows[1:] and rows[1].startswith("extra "):
        forms.unbase64(rows.pop(1)[6:])
    need(rows[1:] and rows[1].startswith("index "))
    need(len(rows) - 2 <= LOG["hashes of a path"])
    return number(rows[1][6:]), [hash_in(one) for one in rows[2:]], note_of(checkpoint)


def stamps(document: Mapping[str, Any], kind: str) -> list[str]:
    return [
        one.removeprefix(kind) for one in document["evidence"]["timestamps"] if one.startswith(kind)
    ]


def included(document: Mapping[str, Any], policy: Mapping[str, Any]) -> list[Note]:
    """Decide log.included: return the checkpoints, of the policy's logs, that contain the entry."""
    notes: list[Note] = []
    if not policy.get("log") and "log" not in policy.get("require", ()):
        return notes
    for given in stamps(document, "tlog-proof:"):
        data = forms.unbase64(given)
        need(data)
        index, hashes, note = proof_of(data)
        for log in policy.get("log", ()):
            lines = signatures(note, log["key"], LOGS)
            for signature, key in lines:
                verify(key, signature, note.text)
            if lines:
                origin, size, root = tree_of(note.text)
                need(origin == log["key"].split("+")[0])
                leaf = sha(b"\0", entry_of(document))
                need(climb(index, size, hashes, leaf) == root)
                notes.append(note)
    if not notes and "log" in policy.get("require", ()):
        raise OpenError
    return notes


def quorum(
    note: Note, policy: Mapping[str, Any], at: datetime, *, latest: bool = False
) -> datetime:
    """Return the time that enough witnesses confirm by their cosignatures."""
    times = []
    for witness in policy.get("witness", ()):
        own = []
        for data, key in signatures(note, witness["key"], WITNESS):
            time = int.from_bytes(data[:8])
            need(len(data) == 72 and time < 1 << 63)
            verify(key, data[8:], f"cosignature/v1\ntime {time}\n{note.text}")
            own.append(time)
        if own:
            time = max(own) if latest else min(own)
            # Later times would pass the year 9999 in some time zone, which is at most a day ahead.
            need(time < 253_370_764_800)
            times.append(datetime.fromtimestamp(time, UTC))
            need(times[-1].year >= 2001)
    wanted: int = policy.get("witnesses", len(policy.get("witness", ())))
    if not wanted or len(times) < wanted:
        raise OpenError
    time_of = sorted(times, reverse=latest)[wanted - 1]
    if time_of - at > timedelta(hours=24):
        raise OpenError
    return time_of


def witnessed(notes: Sequence[Note], policy: Mapping[str, Any], at: datetime) -> datetime:
    """Decide log.witnessed: return the earliest time by which enough witnesses saw a tree with the
    entry.
    """
    times = []
    for note in notes:
        try:
            times.append(quorum(note, policy, at))
        except OpenError:
            continue
    if not times:
        raise OpenError
    return min(times)


def began(checkpoint: bytes, policy: Mapping[str, Any], at: datetime) -> datetime | None:
    """Decide time.not-before by a checkpoint; None if the check does not apply."""
    note = note_of(checkpoint)
    tree_of(note.text)
    try:
        return quorum(note, policy, at, latest=True)
    except OpenError:
        return None
