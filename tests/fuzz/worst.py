"""Inputs that cost as much as possible: `python -m tests.fuzz.worst` measures every one.

Sizes are the parsers' own limits, or slightly below what their other limits allow. Seconds are CPU
seconds of a machine on which `reference` takes REFERENCE_SECONDS. Each process measures that too,
so that a slow or busy computer gets the same result as a fast one.
"""

import gzip
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from aicert.appraisal.evidence import azure_hcl, time_token
from aicert.cli.show import event_log
from aicert.errors import AicertError
from aicert.formats import (
    certificate,
    evaluated_tasks,
    evaluation,
    gguf,
    image_lock,
    lockfile,
    run_report,
    run_report_facts,
    safetensors,
    statement,
)
from aicert.formats.paths import MAX_PATH_BYTES
from aicert.formats.strict_json import MAX_NON_ASCII, MAX_TOKENS
from aicert.records.schema import MAX_NODES
from aicert.trust import policy_table
from tests.adversarial import attacks_evaluations, attacks_tasks
from tests.adversarial.ca_forge import ec_key, issue, usage
from tests.adversarial.time_forge import Token
from tests.fuzz import event_logs, log_targets
from tests.fuzz.targets import TARGETS
from tests.unit import gguf_files

Case = tuple[str, str, bytes]
HEX = b"0" * 64
LISTED = 100_000
REFERENCE_SECONDS = 0.005
MOST_MEMORY = 4 << 30


def _filled(head: bytes, body: bytes, tail: bytes, size: int) -> bytes:
    return head + body * ((size - len(head) - len(tail)) // len(body)) + tail


def json_cases() -> Iterator[Case]:
    """Yield documents of a certificate's maximum size, or with the maximum number of tokens."""
    size = certificate.MAX_BYTES
    repeated = {
        "only brackets": (b"", b"[", b""),
        "empty lists": (b"[", b"[],", b"1]"),
        "empty objects": (b"[", b"{},", b"1]"),
        "numbers": (b"[", b"1,", b"1]"),
        "floats": (b"[", b"1.5,", b"1]"),
        "one key": (b"{", b'"a":1,', b'"a":1}'),
        "empty strings": (b"", b'""', b""),
        "quotes": (b"", b'"', b""),
        "escaped quotes": (b'"', b'\\"', b'"'),
        "escaped letters": (b'"', b"\\u0041", b'"'),
        "wide escapes": (b'"\\u1234', b"\\n", b'"'),
        "an unfinished escape": (b'"', b"\\", b""),
        "one number": (b"", b"1", b""),
        "one fraction": (b"0.", b"1", b""),
        "one exponent": (b"1e", b"1", b""),
        "spaces": (b"", b" ", b""),
        "NUL": (b"", b"\0", b""),
        "closed too often": (b"[", b"]", b""),
    }
    for name, (head, body, tail) in repeated.items():
        yield "certificate", name, _filled(head, body, tail, size)
    wide = '"é\N{GRINNING FACE}'.encode()
    yield "certificate", "one wide character", _filled(wide, b"a", b'"', size)
    yield "json", "a wide text", _filled(wide, b"a", b'"', min(MAX_NON_ASCII, 1 << 20))
    chain = b'{"a":' * 30 + b"1" + b"}" * 30
    just_below = {
        "many objects": (b"[", b'{"a":1},', MAX_TOKENS // 5 - 5, b"1]"),
        "many lists": (b"[", b"[],", MAX_TOKENS // 3 - 5, b"1]"),
        "many deep objects": (b"[", chain + b",", MAX_TOKENS // 91 - 5, b"1]"),
        "many long floats": (b"[", b"1.2345678901234567890123456789,", MAX_TOKENS - 5, b"1]"),
        "many spaced numbers": (b"[", b"1," + b" " * 100, MAX_TOKENS - 5, b"1]"),
    }
    for name, (head, body, count, tail) in just_below.items():
        yield "certificate", name, head + body * count + tail
    keys = b",".join(b'"%08d":1' % number for number in range(MAX_TOKENS // 2 - 5))
    yield "certificate", "many keys", b"{" + keys + b"}"
    texts = b",".join(b'"%0120d"' % number for number in range(MAX_TOKENS // 2 - 5))
    yield "certificate", "many strings", b"[" + texts + b"]"


def statement_cases() -> Iterator[Case]:
    """Yield statements with as many output files, or as deep ones, as fit."""
    entry = b'{"digest":{"sha256":"%b"},"name":"m/%b"}'
    head = (
        b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/'
        b'v1","predicate":{"buildDefinition":{"buildType":"urn:aicert:build:run:v1",'
        b'"externalParameters":{"lockfile":"sha256:%b","outputs":["m"],"run":"r","trainer":"t"},'
        b'"resolvedDependencies":[]},"runDetails":{"builder":{"id":"b","builderDependencies":[]},'
        b'"metadata":{"invocationId":"%b","startedOn":"2026-01-01T00:00:00Z","finishedOn":'
        b'"2026-01-01T00:00:00Z"},"byproducts":[{"content":"","digest":{"sha256":"%b"},"mediaType":'
        b'"application/json","name":"run-report"},{"digest":{"sha256":"%b"},"name":"training-log"}]'
        b'}},"subject":[{"digest":{"dirHash":"%b"},"name":"m"},'
    ) % (
        HEX,
        HEX,
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        HEX,
        HEX,
    )
    count = MAX_TOKENS // 12 - 20
    shapes = {
        "many files": [b"%08d" % n for n in range(count)],
        "many folders": [b"a%d/b/c/d/e/f" % n for n in range(count)],
        "accented names": ["é%d/ü/ñ".encode() % n for n in range(count)],
    }
    long = (statement.MAX_BYTES - len(head)) // (MAX_PATH_BYTES + 150)
    room = MAX_PATH_BYTES - 130
    shapes["deep folders"] = [
        b"%06d/" % n + b"/".join([b"a" * (room // 60 - 1)] * 60) for n in range(long)
    ]
    # Each folds to four characters, in a check for twin names.
    folding = "\u337f" * 80
    for where, text in (("files", "f/%06d" + folding), ("folders", "%06d" + folding + "/f")):
        size = len((text % 0).encode()) + len(entry % (HEX, b",")) + 1
        shapes[f"{where} whose names fold to many letters"] = [
            (text % n).encode() for n in range((MAX_NON_ASCII - len(head)) // size)
        ]
    shapes["deeper than allowed"] = [b"%06d/" % n + b"a/" * 1900 + b"a" for n in range(long)]
    for name, paths in shapes.items():
        listed = b",".join(entry % (HEX, path) for path in paths)
        yield "statement", name, head + listed + b"]}"


def report_cases() -> Iterator[Case]:
    """Yield run reports and paravisor reports with the maximum content."""
    head = b'{"version":1,"exitCode":{"origin":"measured","value":"0"},"overrides":[],'
    head += b'"unchangedWeights":{"origin":"measured","value":[%b]},"values":{%b}}'
    value = b'"v%d":{"origin":"derived","value":%b}'
    least = len(head) + len(value) * run_report.MAX_VALUES
    room = (run_report.MAX_BYTES - least) // run_report.MAX_VALUES
    for name, one in (("many numbers", b"1,"), ("many floats", b"1.25e-300,")):
        numbers = b"[" + one * min(MAX_TOKENS // 210, room // len(one) - 5) + b"1]"
        listed = (value % (n, numbers) for n in range(run_report.MAX_VALUES))
        yield "report", name, head % (b"", b",".join(listed))
    paths = (b'"%06d/a"' % n for n in range(run_report.MAX_ITEMS))
    yield "report", "many unchanged files", head % (b",".join(paths), b"")
    yield from _record_cases()
    for name, one in (("many keys", b'{"kid":"k"},'), ("many lists", b"[],")):
        yield "runtime", name, _filled(b'{"keys":[', one, b"{}]}", azure_hcl.MAX_RUNTIME)
    number = _filled(
        b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"', b"A", b'"}]}', 1000
    )
    yield "runtime", "a long modulus", number


def _record_cases() -> Iterator[Case]:
    """Yield as many row file names as the report holds, in one selection and over all."""
    head = b'{"version":2,"exitCode":{"origin":"measured","value":"0"},"overrides":[],"values":{},'
    head += b'"unchangedWeights":{"origin":"measured","value":[]},'
    head += b'"records":{"origin":"derived","value":[%b]}}'
    one = b'{"name":"a","split":"s","rows":1,"bytes":9,"unreadBytes":0,"digest":"sha256:%b",'
    one = one % HEX + b'"files":[%b]}'
    room = run_report.MAX_BYTES - len(head) - len(one)
    for name, text in (("many files of rows", '"%05d"'), ("folding files of rows", '"%05dﷺ"')):
        size = len((text % 0).encode()) + 1
        count = min(run_report_facts.MAX_RECORD_FILES, room // size)
        paths = b",".join((text % n).encode() for n in range(count))
        times = min(run_report_facts.MAX_RECORDS, room // (len(one) + len(paths) + 1))
        yield "report", name, head % b",".join([one % paths] * times)


def evaluation_cases() -> Iterator[Case]:
    """Yield results with as many tasks, metrics and rows as there may be."""
    whole = attacks_tasks.results(*attacks_tasks.TWO)
    known = attacks_tasks.addition()
    for name, own in (("many tasks", whole), ("many tasks of the image", known)):
        tasks = [replace(own.tasks[0], name=f"t{n}") for n in range(evaluated_tasks.MAX_TASKS)]
        yield "evaluation", name, evaluated_tasks.emit(replace(own, tasks=tuple(tasks)))
    metrics = [
        replace(attacks_tasks.ACC, name="exact_match", filter=f"{n:064}")
        for n in range(evaluated_tasks.MAX_METRICS)
    ]
    texts = [
        replace(whole.tasks[1], name=f"t{n}", metrics=tuple(metrics))
        for n in range(evaluation.MAX_BYTES // 6000)
    ]
    yield "evaluation", "many metrics", evaluated_tasks.emit(replace(whole, tasks=tuple(texts)))
    rows = [replace(whole.data[0], split=f"s{n:02}") for n in range(run_report_facts.MAX_RECORDS)]
    count = sum(each.rows for each in rows)
    many = replace(attacks_evaluations.measured(), data=tuple(rows), rows=count, left_out=0)
    yield "evaluation", "many rows", evaluation.emit(many)


def toml_cases() -> Iterator[Case]:
    """Yield inputs that are expensive for TOML readers."""
    limits = {
        "lockfile": lockfile.MAX_BYTES,
        "image-lock": image_lock.MAX_BYTES,
        "policy": policy_table.MAX_POLICY,
    }
    repeated = {
        "brackets": (b"a=", b"[", b""),
        "inline tables": (b"", b"a={", b""),
        "dotted key": (b"a", b".a", b"=1\n"),
        "dotted table": (b"[a", b".a", b"]\n"),
        "one number": (b"version = ", b"1", b"\n"),
        "number with underscores": (b"version = 1", b"_1", b"\n"),
        "hexadecimal": (b"version = 0x", b"f", b"\n"),
        "one fraction": (b"version = 1.", b"1", b"\n"),
        "numbers": (b"a=[", b"1.5,", b"]\n"),
        "empty lists": (b"a=[", b"[],", b"]\n"),
        "empty tables": (b"a=[", b"{},", b"]\n"),
        "times": (b"a=[", b"1979-05-27T07:32:00Z,", b"]\n"),
        "tables": (b"", b"[[input]]\n", b""),
        "packages": (b"", b"[[package]]\n", b""),
        "comments": (b"", b"#\n", b""),
        "empty lines": (b"", b"\n", b""),
        "spaces": (b"a", b" ", b""),
        "a text over lines": (b'a="""', b"\\\n", b'"""\n'),
    }
    for target, size in limits.items():
        for name, (head, body, tail) in repeated.items():
            yield target, name, _filled(head, body, tail, size)
        tables = b"".join(b"[t%x]\n" % number for number in range(size // 9))
        yield target, "many tables", tables
        keys = b"".join(b"t%x=1\n" % number for number in range(size // 9))
        yield target, "many keys", keys
        header = b"[a" + b".a" * 500 + b"]\n"
        yield target, "keys below a dotted table", _filled(header, b"b.c=1\n", b"", size)
        yield target, "many dotted keys", _filled(b"", b"a." * 50 + b"a=1\n", b"", size)


def binary_cases() -> Iterator[Case]:
    """Yield logs with the maximum number of events, and listings."""
    first = event_logs.spec_id({0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64})
    small = event_logs.event(8, event_logs.IPL, b"", algorithms=(4, 11, 12, 13))
    yield "event-log", "many events", _filled(first, small, b"", event_log.MAX_BYTES)
    tiny = event_logs.spec_id() + event_logs.event(8, event_logs.IPL, b"") * event_log.MAX_EVENTS
    yield "event-log", "as many events as allowed", tiny
    large = bytes(event_log.MAX_BYTES - 2000)
    yield "event-log", "one large event", event_logs.spec_id() + event_logs.event(8, 4, large)
    text = event_logs.event(8, 4, b"\xe2\x98\x83" * 340_000)
    yield "event-log", "one long text", event_logs.spec_id() + text
    for name, path in (("many files", b"%08d"), ("many folders", b"%08d/a/b/c/d")):
        lines = b"".join(HEX + b"  " + path % number + b"\n" for number in range(LISTED))
        yield "listing", name, lines
    yield "listing", "empty lines", b"\n" * (1 << 24)
    deep = b"a/" * 2000
    lines = b"".join(HEX + b"  %06d/" % number + deep + b"x\n" for number in range(2000))
    yield "listing", "deep folders", lines


def time_cases() -> Iterator[Case]:
    """Yield a time stamp with the maximum number of certificates, each an issuer of all others."""
    key, name = ec_key("busy"), "busy"
    alike = tuple(
        issue(
            name, key, issuer=name, issuer_key=key, ca=True, key_usage=usage(cert=True),
            serial=serial,
        )
        for serial in range(1, time_token.MAX_CERTIFICATES)
    )  # fmt: skip
    unknown = Token(digest=bytes(32), root_name=name, root_key=key, extra_certificates=alike)
    yield "time-stamp", "certificates that issued one another", unknown.der()
    longest = bytes(time_token.MAX_TOKEN - 4)
    yield "time-stamp", "one long element", b"\x30\x82\x3f\xfc" + longest
    yield "time-stamp", "empty elements", b"\x30\x82\x3f\xfc" + b"\x30\x00" * (len(longest) // 2)


def _header(head: bytes, body: bytes, tail: bytes) -> bytes:
    """Return a safetensors file with the largest header, kept in memory only once."""
    size = safetensors.MAX_HEADER.to_bytes(8, "little")
    times = (safetensors.MAX_HEADER - len(head) - len(tail)) // len(body)
    return b"".join((size, head, body * times, tail)).ljust(8 + safetensors.MAX_HEADER)


def safetensors_cases() -> Iterator[Case]:
    """Yield headers with as many tensors, or as large shapes, as fit."""

    def file(body: bytes, size: int = 0) -> bytes:
        return len(body).to_bytes(8, "little") + body + bytes(size)

    form = b'"%b":{"dtype":"U8","shape":[%b],"data_offsets":[%d,%d]}'
    count = safetensors.MAX_TENSORS
    listed = b",".join(form % (b"%0100d" % n, b"1,1", n, n + 1) for n in range(count))
    yield "safetensors", "many tensors", file(b"{" + listed + b"}", count)
    listed += b"," + form % (b"a", b"0", 0, 0)
    yield "safetensors", "one tensor too many", file(b"{" + listed + b"}", count)
    dimensions = b",".join([b"%d" % (2**63 - 1)] * safetensors.MAX_RANK)
    listed = b",".join(form % (b"%d" % n, dimensions, 0, 0) for n in range(2000))
    yield "safetensors", "large shapes", file(b"{" + listed + b"}")
    listed = b",".join(form % (b"%d" % n, b"0," * 30 + b"0", 0, 0) for n in range(3000))
    yield "safetensors", "empty tensors", file(b"{" + listed + b"}")
    texts = b",".join(b'"%08d":""' % number for number in range(MAX_TOKENS // 3 - 5))
    yield "safetensors", "metadata", file(b'{"__metadata__":{' + texts + b"}}")
    yield "safetensors", "one long name", _header(b'{"\xf0\x9f\x98\x80', b"a", b'":1}')
    yield "safetensors", "spaces", _header(b"{}", b" ", b"")
    repeated = {"empty entries": b'"a":{},', "quotes": b'"', "brackets": b"{", "entries": b'"":1,'}
    for name, body in repeated.items():
        yield "safetensors", name, _header(b"{", body, b"}")
    spaced = b'"%b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' + b" " * (1 << 19)
    del listed
    # It has no name here: what this process holds counts for the child that reads.
    yield (
        "safetensors",
        "spaced tensors",
        file(b"{" + b",".join(spaced % b"%d" % n for n in range(180)) + b"}"),
    )


def gguf_cases() -> Iterator[Case]:
    """Yield headers with as many tensors, keys and values as fit."""
    count = gguf.MAX_TENSORS
    entries = [gguf_files.entry(f"{n:060}", (1, 1, 1, 1), 0, 32 * n) for n in range(count)]
    yield (
        "gguf",
        "many tensors",
        gguf_files.aligned(gguf_files.head([], entries)) + bytes(32 * count),
    )
    texts = gguf_files.array("t", gguf_files.STRING, [""] * gguf.MAX_ITEMS)
    yield "gguf", "many texts", gguf_files.gguf([texts])
    long = [gguf_files.key(f"{n:0256}", 8, "x" * 32_000) for n in range(gguf.MAX_KEYS)]
    yield "gguf", "long texts", gguf_files.gguf(long)


def rows_cases() -> Iterator[Case]:
    """Yield sources of rows, of the size that a reader should manage in a second.

    Rows have no size limit; a quadratic reader, or one that keeps the input in memory several
    times, exceeds the second by far.
    """
    size = 4 << 20
    columns = b",".join(b"c%d" % number for number in range(MAX_NODES))
    row = b"," * (MAX_NODES - 1) + b"\n"
    yield "rows-csv", "as many columns as allowed", columns + b"\n" + row * (size >> 15)
    keys = b"".join(b'{"k%d":1}\n' % number for number in range(MAX_NODES >> 3))
    yield "rows-json", "other keys in each row", keys
    repeated = {
        ("rows-csv", "short lines"): (b"x\n", b"1\n", b"", size >> 5),
        ("rows-csv", "an open quote"): (b'x\n"', b"a\n", b"", size),
        ("rows-csv", "quotes"): (b"x\n", b'"', b"", size),
        ("rows-csv", "empty lines"): (b"x\n", b"\n", b"", size >> 1),
        ("rows-csv", "carriage returns"): (b"x\n", b"\r", b"", size),
        ("rows-csv", "floats"): (b"x\n", b"0.1234567890123456\n", b"", size >> 3),
        ("rows-json", "brackets"): (b"", b"[", b"", size),
        ("rows-json", "objects"): (b"", b'{"a":1}\n', b"", size >> 3),
        ("rows-json", "an array of objects"): (b"[", b'{"a":1},', b'{"a":1}]', size >> 3),
        ("rows-json", "one text"): (b'{"a":"', b"a", b'"}\n', size),
        ("rows-json", "escaped letters"): (b'{"a":"', b"\\u0041", b'"}\n', size),
        ("rows-json", "escaped quotes"): (b'{"a":"', b'\\"', b'"}\n', size),
        ("rows-json", "one number"): (b'{"a":', b"1", b"}\n", size),
        ("rows-json", "numbers"): (b'{"a":[', b"1,", b"1]}\n", size >> 3),
        ("rows-json", "empty lists"): (b'{"a":[', b"[],", b"[]]}\n", size >> 3),
        ("rows-json", "spaces"): (b"", b" ", b"", size),
        ("rows-json", "blank lines"): (b"", b"\n", b"", size),
        ("rows-text", "empty lines"): (b"", b"\n", b"", size >> 4),
        ("rows-text", "one line"): (b"", b"a", b"", size),
        ("rows-text", "carriage returns"): (b"", b"\r", b"", size),
        ("rows-thrift", "nested structs"): (b"", b"\x1c", b"", size),
        ("rows-thrift", "a long list"): (b"\x19\xf5\xff\xff\x1f", b"\2", b"", size >> 1),
        ("rows-gzip", "empty members"): (b"", gzip.compress(b"", mtime=0), b"", size >> 4),
        ("rows-zstd", "empty frames"): (b"", b"\x28\xb5\x2f\xfd\x20\0\1\0\0", b"", size >> 2),
    }
    for (target, name), (head, body, tail, length) in repeated.items():
        yield target, name, _filled(head, body, tail, length)


def cases() -> Iterator[Case]:
    """Yield every `(target, name, input)`."""
    yield from json_cases()
    yield from statement_cases()
    yield from report_cases()
    yield from evaluation_cases()
    yield from toml_cases()
    yield from binary_cases()
    yield from safetensors_cases()
    yield from gguf_cases()
    yield from rows_cases()
    yield from time_cases()
    yield from log_targets.worst()


def reference() -> float:
    """Return the CPU seconds of a fixed amount of work in this process now: the least of three."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        sum(number * number for number in range(100_000))
        taken.append(time.process_time() - started)
    return min(taken)


def comparable(seconds: float) -> float:
    """Convert CPU seconds of this process to those where `reference` takes REFERENCE_SECONDS."""
    return seconds * REFERENCE_SECONDS / reference()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU seconds (see above) and peak memory of a process that holds the input and reads it."""

    target: str
    name: str
    seconds: float
    megabytes: int
    outcome: str


def measure(target: str, name: str, data: bytes) -> Cost:
    """Read `data` in a child process, so that no earlier work counts."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # A defect must fail a test, and not use up the computer's memory.
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        started = time.process_time()
        outcome = _outcome(target, data)
        seconds = comparable(time.process_time() - started)
        os.write(writer, json.dumps([seconds, outcome]).encode())
        os._exit(0)
    os.close(writer)
    _, _, usage = os.wait4(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read()
    # A child that ran out of memory sent no result.
    seconds, outcome = json.loads(message) if message else (0.0, "the child died")
    return Cost(
        target=target,
        name=name,
        seconds=seconds,
        megabytes=usage.ru_maxrss // 1024,
        outcome=outcome,
    )


# A target that reads, writes and reads again costs several times what a verifier needs.
READERS = {**TARGETS, "certificate": certificate.parse, "statement": statement.parse}


def _outcome(target: str, data: bytes) -> str:
    try:
        READERS[target](data)
    except AicertError as error:
        return f"refused: {str(error)[:80]!a}"
    except MemoryError:
        return "more memory than any input may take"
    return "accepted"


def main(targets: list[str]) -> int:
    """Measure each input of `targets`, or all inputs, and print one JSON object per line."""
    for target, name, data in cases():
        if not targets or target in targets:
            print(json.dumps(asdict(measure(target, name, data))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
