"""The second verifier's formats: certificate, statement, report, lockfile, paths, TPM structures.

Written from docs/spec/ alone; shares no code with `aicert`.
"""

import base64
import binascii
import hashlib
import json
import re
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec

from tests.second.chain import NoError, need
from tests.second.limits import limits

CERT, RUN, LOCK = limits("certificate.md"), limits("run-report.md"), limits("lockfile.md")
GPU = limits("gpu.md")
TPM = limits("measurement.md")
# Limits for texts and for lists of numbers that have no limit of their own.
TEXT, NUMBERS = (
    CERT["characters of a text without a limit of its own"],
    RUN["numbers of a `value`, and `unchangedWeights`"],
)
X509 = CERT["X.509 certificate"]
STRUCTURE = CERT["each of `attest`, `signature`, `public`"]


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# certificate.md, "Reading it": JSON with one meaning.


def strict_json(data: bytes, limit: int) -> Any:
    plain = data.isascii() and b"\\u" not in data
    need(len(data) <= (limit if plain else CERT["JSON with `\\u` or characters beyond ASCII"]))
    depth = 0
    tokens = re.finditer(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', data, re.DOTALL)
    for count, token in enumerate(tokens, 1):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        need(count <= CERT["strings, brackets, braces and commas of JSON"])
        need(depth <= CERT["levels of JSON"])
    need(not re.search(rb"\\u[dD][89a-fA-F]", data))
    try:
        text = data.decode("utf-8")
        need(text[:1] != "\ufeff")
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_int,
            parse_float=_float,
        )  # fmt: skip
    except ValueError:
        raise NoError("no JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len(dict(pairs)) == len(pairs))
    return dict(pairs)


def _refuse(text: str) -> NoReturn:
    raise NoError(text)


def _int(text: str) -> int:
    greatest = CERT["greatest integer of JSON, and −1 times the least"]
    need(len(text) <= 20 and text != "-0" and abs(int(text)) <= greatest)
    return int(text)


def _float(text: str) -> float:
    need(len(text) <= CERT["characters of another number"] and abs(float(text)) != float("inf"))
    return float(text)


def fit(value: Any, form: Any) -> None:
    """Hold `value` against a form: objects with exactly these keys (`?`: may be absent), lists
    `[item, least, most]`, predicates, or a constant.
    """
    if isinstance(form, dict):
        wanted = {key.rstrip("?"): part for key, part in form.items()}
        need(type(value) is dict and set(value) <= set(wanted))
        need({key for key in form if not key.endswith("?")} <= set(value))
        for key in value:
            fit(value[key], wanted[key])
    elif isinstance(form, list):
        item, least, most = form
        need(type(value) is list and least <= len(value) <= most)
        for one in value:
            fit(one, item)
    elif callable(form):
        need(form(value))
    else:
        need(type(value) is type(form) and value == form)


def text(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and len(value) <= most


def ascii_text(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and len(value) <= most and value.isascii()


def like(pattern: str) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and re.fullmatch(pattern, value) is not None


def b64(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and len(unbase64(value)) <= most


def unbase64(value: str) -> bytes:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise NoError("no base64") from None
    need(base64.b64encode(data).decode() == value)
    return data


HEX = "[0-9a-f]{64}"
NAME = "[a-z0-9][a-z0-9-]{0,62}"
TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
SIGNED = {"attest": b64(STRUCTURE), "signature": b64(STRUCTURE)}
CERTIFICATE: Any = {
    "kind": "aicert-certificate",
    "version": lambda value: type(value) is int and value in (1, 2),
    "envelope": {
        "payloadType": "application/vnd.in-toto+json",
        "payload": b64(CERT["statement"]),
        "signatures": [
            {"keyid": text(CERT["characters of `keyid`"]), "sig": b64(CERT["`sig`"])},
            1,
            1,
        ],
    },
    "evidence": {
        "kind": "tpm2",
        "nonce": like(HEX),
        "quote": SIGNED,
        "pcrs": {str(index): like(HEX) for index in range(16)},
        "akChain": [b64(X509), 1, CERT["certificates of `akChain`"]],
        "runKey": {"public": b64(STRUCTURE), "certify": SIGNED},
        "eventLog?": b64(CERT["`eventLog`"]),
        "platform?": lambda value: fit_platform(value),  # noqa: PLW0108 - defined below
        "gpus?": lambda value: fit_gpus(value),  # noqa: PLW0108 - defined below
        "timestamps": [text(CERT["characters of one of `timestamps`"]), 0, CERT["`timestamps`"]],
    },
    "lockfile": ascii_text(CERT["`lockfile`"]),
    "imageLock?": ascii_text(CERT["`imageLock`"]),
}
DIGEST: Any = {"sha256?": like(HEX), "dirHash?": like(HEX)}
NAMED: Any = {"name": text(CERT["characters of a `name` with a digest"]), "digest": DIGEST}
STATEMENT: Any = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [NAMED, 0, CERT["entries of `subject`"]],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {
            "buildType": "urn:aicert:build:run:v1",
            "externalParameters": {
                "lockfile": like(f"sha256:{HEX}"),
                "outputs": [like(NAME), 0, LOCK["inputs"]],
                "run": text(63),
                "trainer": text(63),
            },
            "resolvedDependencies": [
                {"name": text(63), "uri": text(TEXT), "digest": DIGEST},
                0,
                LOCK["inputs"],
            ],
        },
        "runDetails": {
            "builder": {
                "id": text(CERT["characters of `builder.id`"]),
                "builderDependencies": [NAMED, 0, CERT["`builderDependencies`"]],
            },
            "metadata": {
                "invocationId": like(HEX),
                "startedOn": like(TIME),
                "finishedOn": like(TIME),
            },
            "byproducts": [lambda value: type(value) is dict, 2, 2],
        },
    },
}
BYPRODUCTS: Any = (
    {
        "name": "run-report",
        "mediaType": "application/json",
        "digest": DIGEST,
        "content": b64(RUN["run report"]),
    },
    {"name": "training-log", "digest": DIGEST},
)


def _plain(value: Any) -> bool:
    if type(value) is list:
        return len(value) <= NUMBERS and all(type(one) in (int, float) for one in value)
    return type(value) in (int, float) or text(TEXT)(value)


EXIT = r"\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5]|signal:[1-9]\d?|timeout|memory"
OVERRIDE = {key: text(TEXT) for key in ("key", "configured", "used", "why")}
ORIGIN = "measured|derived|self-reported"


def _values(origin: str) -> Callable[[Any], bool]:
    def fits(values: Any) -> bool:
        need(type(values) is dict and len(values) <= RUN["`values`, and `overrides`"])
        for key, value in values.items():
            need(re.fullmatch("[a-z][a-zA-Z0-9]{0,63}", key))
            fit(value, {"origin": like(origin), "value": _plain})
        counted = {k: one["value"] for k, one in values.items() if one["origin"] == "in-trainer"}
        return not counted or _counted(**counted)

    return fits


def _counted(**numbers: Any) -> bool:
    """Whether counted epochs are consistent (run-report.md, "Epochs")."""
    whole = [numbers.pop(key, None) for key in ("countedRows", "trainingRows", "countedSteps")]
    need(list(numbers) == ["countedEpochs"] and all(type(one) is int for one in whole))
    need(type(numbers["countedEpochs"]) in (int, float))
    rows, of, steps = whole
    need(rows >= 0 and of >= 1 and steps >= 0)
    return bool(0 <= numbers["countedEpochs"] <= rows / of)


def _signatures(value: Any) -> bool:
    digest = like(f"(?:sha256|dirHash):{HEX}")
    sized = type(value) is dict and 1 <= len(value) <= RUN["`values`, and `overrides`"]
    return sized and all(like(NAME)(name) and digest(value[name]) for name in value)


def _signers(value: Any) -> bool:
    sized = type(value) is dict and 1 <= len(value) <= LOCK["inputs"]
    return sized and all(like(NAME)(name) and text(TEXT)(value[name]) for name in value)


def _audits(value: Any) -> bool:
    sized = type(value) is dict and 1 <= len(value) <= LOCK["`audits`"]
    digest = like(f"sha256:{HEX}|none")
    return sized and all(like(NAME)(name) and digest(value[name]) for name in value)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


RECORDS: Any = {
    "name": like(NAME),
    "split": like(f"[!-~]{{1,{RUN['characters of a `split`']}}}"),
    "rows": count(0),
    "bytes": count(0),
    "digest": like(f"sha256:{HEX}"),
    "unreadBytes": count(0),
    "files": [text(TEXT), 0, RUN["`files` of all `records`"]],
}
REASON = RUN["characters of a `reason`"]
UNMEASURED: Any = {
    "state": like("no-loss|incomplete"),
    "reason": lambda value: text(REASON)(value) and bool(value),
    "comparable": lambda value: type(value) is bool,
    "rows": count(0),
    "tokens": count(0),
    "templateTokens": count(0),
}
MEASURED: Any = {
    **UNMEASURED,
    "state": "measured",
    "reason": text(REASON),
    "rows": count(1),
    "tokens": count(1),
    "before": _number,
    "after": _number,
}


def _records(value: Any) -> bool:
    fit(value, [RECORDS, 0, RUN["`records`"]])
    need(sum(len(one["files"]) for one in value) <= RUN["`files` of all `records`"])
    for one in value:
        need(len(set(one["files"])) == len(one["files"]))
        check_paths(one["files"])
    return True


def _loss(value: Any) -> bool:
    measured = type(value) is dict and value.get("state") == "measured"
    fit(value, MEASURED if measured else UNMEASURED)
    return bool(value["templateTokens"] <= value["tokens"])


LONGEST = RUN["characters of a text's name"]
TEXT_NAME = f"[!-~]([ -~]{{0,{LONGEST - 2}}}[!-~])?"


def _texts(value: Any) -> bool:
    name, digest = like(TEXT_NAME), like(f"sha256:{HEX}")
    sized = type(value) is dict and len(value) <= RUN["`texts`"]
    return sized and all(name(one) and digest(value[one]) for one in value)


REPORT_1: Any = {
    "version": 1,
    "exitCode": {"origin": "measured", "value": like(EXIT)},
    "unchangedWeights": {"origin": "measured", "value": [text(TEXT), 0, NUMBERS]},
    "overrides": [OVERRIDE, 0, RUN["`values`, and `overrides`"]],
    "values": _values(ORIGIN),
    "signatures?": {"origin": "measured", "value": _signatures},
    "signers?": {"origin": "measured", "value": _signers},
    "audits?": {"origin": "measured", "value": _audits},
}
REPORT_2: Any = {
    **REPORT_1,
    "version": 2,
    "values": _values(f"{ORIGIN}|in-trainer"),
    "records": {"origin": "derived", "value": _records},
    "loss?": {"origin": "measured", "value": _loss},
    "texts": {"origin": "measured", "value": _texts},
    "removed": {"origin": "measured", "value": [text(TEXT), 0, RUN["`removed`"]]},
}


def fit_platform(value: Any) -> bool:
    report, collateral = (
        b64(CERT["`report` and `quote` of `platform`"]),
        b64(CERT["`collateral` of `platform`"]),
    )
    form: Any = {"kind": "azure-hcl", "report": report, "chipCertificate?": b64(X509),
                 "quote?": report, "collateral?": collateral}  # fmt: skip
    if type(value) is dict and value.get("kind") == "tdx":
        form = {"kind": "tdx", "report": report, "collateral?": collateral}
    fit(value, form)
    return True


def fit_gpus(value: Any) -> bool:
    device = {"report": b64(GPU["`report` of a device"]),
              "chain": [b64(X509), 1, GPU["certificates of a device"]]}  # fmt: skip
    fit(value, {"devices": [device, 1, GPU["`devices`"]],
                "collateral?": b64(GPU["`collateral` of `gpus`"])})  # fmt: skip
    return True


def fit_report(report: Any) -> None:
    need(type(report) is dict)
    fit(report, REPORT_2 if report.get("version") == 2 else REPORT_1)
    audits = report.get("audits", {"value": {}})["value"]
    need(report["exitCode"]["value"] != "0" or "none" not in audits.values())


def claimed_run(certificate: bytes) -> Any:
    """Return the run that a certificate claims to be for; None if it claims none."""
    try:
        statement = json.loads(unbase64(json.loads(certificate)["envelope"]["payload"]))
        return statement["predicate"]["buildDefinition"]["externalParameters"]["run"]
    except (ValueError, KeyError, TypeError, NoError):
        return None


def digest_of(entry: Any) -> str:
    ((kind, value),) = (
        entry["digest"].items() if len(entry["digest"]) == 1 else (_refuse("digest"),)
    )
    return f"{kind}:{value}"


# lockfile.md

_T = rf'"([ !#-\[\]-~]{{1,{LOCK["characters of a value"]}}})"'
PATTERNS = LOCK["patterns of `only`, and of `except`"]
_LIST = rf"\[{_T.replace('(', '(?:')}(?:, {_T.replace('(', '(?:')}){{0,{PATTERNS - 1}}}\]"
_KEY = r'"(p256:0[23][0-9a-f]{64}|p384:0[23][0-9a-f]{96}|p521:0[23][0-9a-f]{132})"'
_HEAD = re.compile(
    rf'version = 1\nrun = "({NAME})"\ntrainer = "({NAME})"\n'
    rf'outputs = \[("{NAME}"(?:, "{NAME}")*)\]\n(?:ranks = ([1-9]\d{{0,2}})\n)?'
    rf'(?:audits = \[("{NAME}"(?:, "{NAME}")*)\]\n)?'
)
_BLOCK = re.compile(
    rf'\n\[\[input\]\]\nname = "({NAME})"\nfrom = {_T}\n'
    rf"(?:only = {_LIST}\n)?(?:except = {_LIST}\n)?"
    rf"(allow-pickle = true\n)?(allow-remote-code = true\n)?(?:signed-by = {_KEY}\n)?uri = {_T}\n"
    rf'size = (0|[1-9]\d{{0,18}})\ndigest = "((?:sha256|dirHash):{HEX})"\n'
)


class Lock:
    """A lockfile. `inputs` are (name, from, uri, digest), `signers` the keys by input, `code` the
    claims that a policy must make (policy.md).
    """

    def __init__(self, data: str) -> None:
        head = _HEAD.match(data)
        if head is None:
            raise NoError("not canonical")
        self.run, self.trainer = head[1], head[2]
        self.outputs = re.findall(NAME, head[3])
        need(head[4] is None or 1 < int(head[4]) <= LOCK["`ranks`"])
        self.audits = re.findall(NAME, head[5] or "")
        need(self.audits == sorted(set(self.audits)) and len(self.audits) <= LOCK["`audits`"])
        self.inputs: list[tuple[str, str, str, str]] = []
        self.signers: dict[str, str] = {}
        self.code: set[str] = set()
        end = head.end()
        while block := _BLOCK.match(data, end):
            need(int(block[7]) < 1 << 63)
            self.inputs.append((block[1], block[2], block[6], block[8]))
            self.signers |= {block[1]: block[5]} if block[5] else {}
            self.code |= {"pickle"} if block[3] else set()
            self.code |= {"remote-code"} if block[4] else set()
            end = block.end()
        names = [item[0] for item in self.inputs]
        need(end == len(data) and len(names) <= LOCK["inputs"])
        need(names == sorted(set(names)) and self.outputs == sorted(set(self.outputs)))
        for config in ("config", *(f"{audit}-config" for audit in self.audits)):
            need(any(item[0] == config and item[3][:7] == "sha256:" for item in self.inputs))


def dir_hash(files: Mapping[str, str]) -> str:
    order = sorted(files, key=lambda path: path.encode())
    return "dirHash:" + sha("".join(f"{files[p]}  {p}\n" for p in order).encode()).hex()


def check_paths(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        need(path and all(part not in ("", ".", "..") for part in parts) and "\\" not in path)
        need(len(path.encode()) <= LOCK["bytes of a path"])
        need(len(parts) <= LOCK["folders in one another"] + 1)
        need(all(len(part.encode()) <= LOCK["bytes of a name in a path"] for part in parts))
        need(unicodedata.normalize("NFC", path) == path)
        need(not any(unicodedata.category(c) in _INVISIBLE or c in _BLANK for c in path))
        for depth in range(1, len(parts) + 1):
            # A folder's name ends with a slash, so it cannot equal the name of a file.
            piece = "/".join(parts[:depth]) + ("/" if depth < len(parts) else "")
            key = unicodedata.normalize("NFKC", piece.rstrip("/")).casefold()
            need(seen.setdefault(key, piece) == piece and key.count("/") == depth - 1)
        folded = unicodedata.normalize("NFKC", path).casefold()
        grown = LOCK["characters of a path's folded form, for each of the path"]
        need(len(unicodedata.normalize("NFC", folded)) <= grown * len(path))


_BLANK = {chr(n) for n in (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0)}
_BLANK |= {chr(n) for n in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10))}
_BLANK |= {chr(n) for n in range(0xE0100, 0xE01F0)}
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


# certificate.md, `subject.files`

INERT = (
    *(".gitattributes", "README.md", "bom.cdx.json", "bom.spdx.json", "bom.training.cdx.json"),
    "bom.image.cdx.json",
    *("certificate.json", "model.sig", "provenance.intoto.jsonl", "run-key.pem"),
    "scai.intoto.json",
)


UNREAD = (".git/", ".cache/huggingface/", ".eval_results/")


def unread(path: str) -> bool:
    """Whether an operating system puts this file into folders, so that nobody reads it."""
    return unicodedata.normalize("NFKC", path).casefold().startswith(UNREAD)


def inert(path: str) -> bool:
    """Whether a file may be next to the certified ones."""
    if path.startswith(UNREAD) or path in INERT:
        return True
    stem = path.removesuffix(".md") if path.endswith(".md") else path.removesuffix(".txt")
    return stem == "LICENSE" or re.fullmatch("LICENSE-[0-9A-Za-z_-]{1,64}", stem) is not None


# measurement.md


def replay(events: Sequence[bytes]) -> bytes:
    value = bytes(32)
    for event in events:
        value = sha(value + sha(event))
    return value


class Attest:
    """A TPMS_ATTEST; `rest` is the part that depends on its type."""

    def __init__(self, data: bytes, kind: int) -> None:
        need(len(data) <= TPM["TPM structure"])
        try:
            magic, stated = struct.unpack_from(">IH", data)
            self.signer, offset = sized(data, 6, TPM["name, and extraData"])
            self.extra, offset = sized(data, offset, TPM["name, and extraData"])
            self.clock, *boot, safe, firmware = struct.unpack_from(">QIIBQ", data, offset)
        except struct.error:
            raise NoError("cut short") from None
        need(magic == 0xFF544347 and stated == kind and safe <= 1)
        self.boot = (*boot, firmware, self.signer)
        self.rest = data[offset + 25 :]


def sized(data: bytes, offset: int, most: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">H", data, offset)
    end = offset + 2 + size
    need(size <= most and end <= len(data))
    return data[offset + 2 : end], end


def quote_digest(rest: bytes) -> bytes:
    """Return the pcrDigest of a quote over exactly PCRs 0–15 of the SHA-256 bank."""
    for octets in (b"\x03\xff\xff\x00", b"\x04\xff\xff\x00\x00"):
        head = b"\x00\x00\x00\x01\x00\x0b" + octets
        if rest.startswith(head):
            digest, end = sized(rest + b"\0", len(head), 64)
            need(end == len(rest))
            return digest
    raise NoError("selection")


RUN_KEY = bytes.fromhex("0023000b00040076000000100018000b00030010")


def run_key_of(public: bytes) -> ec.EllipticCurvePublicKey:
    need(public.startswith(RUN_KEY))
    try:
        x, end = sized(public, len(RUN_KEY), 32)
        y, end = sized(public, end, 32)
        need(end == len(public))
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
        return point.public_key()
    except (struct.error, ValueError):
        raise NoError("no point") from None
