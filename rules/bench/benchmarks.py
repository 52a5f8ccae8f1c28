"""What `./doit bench` measures: each function returns rows with a target next to the value.

Times of processes are wall times of whole processes, run in turn if two are compared, so that a
busy machine slows both. The value is a median, with the spread where that is useful.
"""

import contextlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from aicert.files.tree import read_tree
from rules.bench import audits as bench_audits
from rules.bench import dvc, machine, reads, records, sources
from rules.bench import logs as bench_logs
from rules.bench import serving as bench_serving
from rules.bench import signing as bench_signing
from rules.bench import training as bench_training
from rules.bench import trusted_time as bench_time
from rules.host.progress import say

RUN = "tiny-alpaca"
# MB of JSON lines per second on one core.
READ_RATE = 60
FORBIDDEN = ("torch", "dvc", "tpm2_pytss", "huggingface_hub", "httpx2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table. `met` is None if there is no target."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark: its description and the function that measures it."""

    what: str
    run: Callable[[], list[Row]]
    slow: bool = False


def limit(what: str, value: float, most: float, unit: str) -> Row:
    """Return a row whose value must not exceed `most`."""
    form = "{:.0f}" if unit == "ms" and value >= 10 else "{:.3f}" if unit == "×" else "{:.2f}"
    return Row(
        what=what,
        measured=f"{form.format(value)} {unit}".strip(),
        target=f"≤ {most:g} {unit}".strip(),
        met=value <= most,
    )


def at_least(what: str, value: float, least: float) -> Row:
    """Return a row whose value, a ratio, must reach `least`."""
    return Row(what=what, measured=f"{value:.2f} ×", target=f"≥ {least:g} ×", met=value >= least)


def wall(command: Sequence[str]) -> float:
    """Return the seconds that a process takes. Raises ToolError if it fails."""
    # Installed users run compiled files, so the first run writes them, even if the environment
    # forbids that.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    took = time.perf_counter() - started
    if done.returncode:
        raise ToolError(
            f"cannot be measured: exit {done.returncode} of {' '.join(command)}\n"
            + done.stderr[-1000:],
            hint="./doit certify",
        )
    return took


def medians(*commands: Sequence[str], times: int = 11) -> list[float]:
    """Return the median wall seconds of each command, run in turn so that noise affects all
    alike.
    """
    taken: list[list[float]] = [[] for _ in commands]
    for _ in range(times):
        for own, command in zip(taken, commands, strict=True):
            own.append(wall(command))
    return [statistics.median(own) for own in taken]


def noop() -> list[Row]:
    """Time `./doit certify` when everything is certified, and the cost of the wrapper."""
    wall(["./doit", "certify"])
    whole, wrapped, bare = medians(
        ["./doit", "certify"],
        ["./doit", "--version"],
        [sys.executable, "-m", "doit", "--version"],
    )
    imported = imports_of([sys.executable, "-X", "importtime", "-m", "rules", "certify"])
    wrong = sorted(imported.intersection(FORBIDDEN))
    return [
        limit("`./doit certify` with nothing to do", whole, 0.5, "s"),
        limit("`./doit` over doit itself", (wrapped - bare) * 1000, 50, "ms"),
        Row(
            what=f"imported of {', '.join(FORBIDDEN)}",
            measured=", ".join(wrong) or "none",
            target="none",
            met=not wrong,
        ),
    ]


def noop_files() -> list[Row]:
    """Time `./doit certify` with nothing to do and 10,000 input files, and DVC on the same tree."""
    with _folder() as folder:
        commands = dvc.prepare(folder)
        # The digest cache only remembers files older than its guard.
        wall(commands[0])
        certify, status, repro = medians(*commands)
    ratio = (status + repro) / certify
    return [
        limit("`./doit certify`, 10,000 files, nothing to do", certify, 0.5, "s"),
        Row(what="`dvc status` on the same files", measured=f"{status:.2f} s"),
        Row(what="`dvc repro` on the same files", measured=f"{repro:.2f} s"),
        Row(
            what="DVC's two over `./doit certify`",
            measured=f"{ratio:.1f} ×",
            target="≥ 5 ×",
            met=ratio >= 5,
        ),
    ]


def imports_of(command: Sequence[str]) -> set[str]:
    """Return the top-level modules that `command`, run with -X importtime, has imported."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        # A command that failed early has imported little, which would look like a good result.
        errors = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        raise ToolError(f"{shlex.join(command)} failed\n{chr(10).join(errors[-10:])}".rstrip())
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def verify() -> list[Row]:
    """Time `aicert verify` of a certificate without a model, as a process and in process."""
    certificate = Path("certificates", RUN, "certificate.json")
    root = Path(".aicert/ca/local.pem")
    for path in (certificate, root):
        if not path.exists():
            raise ToolError(f"cannot be measured without {path}", hint="./doit certify")
    arguments = ["verify", str(certificate), "--policy", "local", "--root", str(root)]
    process = [
        sys.executable,
        "-c",
        "import sys; from aicert.cli.main import main; sys.exit(main())",
    ]
    tool, x509 = medians(
        [*process, *arguments, "--certificate-only"],
        [sys.executable, "-c", "import cryptography.x509"],
        times=21,
    )
    inside = _verify_inside(certificate, root)
    return [
        limit("`aicert verify`, a process", tool * 1000, 120, "ms"),
        limit("that over `import cryptography.x509`", tool / x509, 1.5, "×"),
        limit("reading and appraising, in process", inside * 1000, 5, "ms"),
    ]


def _verify_inside(certificate: Path, root: Path) -> float:
    from aicert.verifier.verify import check_files

    taken = []
    for _ in range(51):
        started = time.perf_counter()
        check_files(certificate, None, policy="local", root=root)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # The folder is on the repository's disk, because /tmp may be too small, or in memory.
    Path(".aicert").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=".aicert"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _hash(folder: Path, threads: int) -> tuple[float, float]:
    """Return the wall and CPU seconds to read `folder` once."""
    started, cpu = time.perf_counter(), time.process_time()
    read_tree(folder, threads=threads)
    return time.perf_counter() - started, time.process_time() - cpu


def _readings(folder: Path, threads: Sequence[int], times: int) -> dict[int, tuple[float, float]]:
    """Return the median wall and CPU seconds by number of threads, read in turn with a warm page
    cache.
    """
    _hash(folder, threads[0])
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in threads}
    for _ in range(times):
        for count in threads:
            taken[count].append(_hash(folder, count))
    return {
        count: (statistics.median(w for w, _ in own), statistics.median(c for _, c in own))
        for count, own in taken.items()
    }


def hashing_large() -> list[Row]:
    """Time hashing 2 GiB in 8 files from the page cache."""
    with _folder() as folder:
        block = os.urandom(1 << 20)
        for number in range(8):
            with (folder / f"model-{number}.safetensors").open("wb") as file:
                for _ in range(256):
                    file.write(block)
        readings = _readings(folder, (1, 2), 5)
        peak = _peak_memory(folder)
    one, two = readings[1], readings[2]
    faster = one[0] / two[0]
    return [
        limit("2 GiB in 8 files, one thread, CPU", one[1], 1.2, "s"),
        at_least("two threads over one, wall", faster, 1.9),
        limit("memory allocated while reading, at most", peak / (1 << 20), 16, "MiB"),
    ]


def _peak_memory(folder: Path) -> int:
    tracemalloc.start()
    try:
        read_tree(folder, threads=2)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def hashing_small() -> list[Row]:
    """Time hashing 50,000 small files from the page cache."""
    with _folder() as folder:
        for shelf in range(50):
            (folder / f"{shelf:02}").mkdir()
            for number in range(1000):
                (folder / f"{shelf:02}" / f"{number:03}.json").write_bytes(b"x" * (200 + number))
        readings = _readings(folder, (2,), 5)
    return [limit("50,000 files of 200 to 1,200 bytes, CPU", readings[2][1], 0.6, "s")]


def training() -> list[Row]:
    """Compare the same training through certify and by hand."""
    with _folder() as folder:
        taken = bench_training.pairs(folder)
    ratios = [pair.certified / pair.by_hand for pair in taken]
    alone = statistics.median(pair.training / pair.by_hand for pair in taken)
    certified = statistics.median(pair.certified for pair in taken)
    by_hand = statistics.median(pair.by_hand for pair in taken)
    return [
        limit(
            f"certified over by hand, CPU, median of {bench_training.PAIRS} pairs",
            statistics.median(ratios),
            1.05,
            "×",
        ),
        limit("the trainer of it alone over by hand", alone, 1.02, "×"),
        Row(what="the pairs' ratios", measured=f"{min(ratios):.3f} to {max(ratios):.3f}"),
        Row(what="through certify, CPU", measured=f"{certified:.1f} s"),
        Row(
            what="of that, reading the rows",
            measured=f"{statistics.median(pair.reading for pair in taken):.2f} s",
        ),
        Row(
            what="of that, measuring the loss",
            measured=f"{statistics.median(pair.measuring for pair in taken):.2f} s",
        ),
        Row(what="by hand, CPU", measured=f"{by_hand:.1f} s"),
    ]


def reading() -> list[Row]:
    """Count what one `certify` of the example reads, appraises and parses on the host."""
    with _folder() as folder:
        counts = reads.measure(folder)
    return [
        limit(
            "bytes of the model read, over its size", counts["bytes"] / counts["size"], 1.05, "×"
        ),
        limit("appraisals", counts["appraisals"], 1, ""),
        limit("times that a lockfile is parsed", counts["lockfiles"], 2, ""),
    ]


def reading_rows() -> list[Row]:
    """Time converting rows of JSON to canonical form and checking them; measure the memory for
    that.
    """
    with _folder() as folder:
        measured = records.measure(folder)
    more = (measured.large.memory - measured.spaced.memory) / (1 << 20)
    size = f"{records.LARGE / 1e9:.1f} GB"
    return [
        _rate("JSON with spaces and escapes", measured.spaced.rate),
        _rate(f"the same, {size}", measured.large.rate),
        _rate("canonical, in place", measured.in_place.rate),
        _rate("canonical, but copied", measured.copied.rate),
        Row(what="memory", measured=f"{measured.spaced.memory / (1 << 20):.0f} MiB"),
        limit(f"more of it for {size}, at most", max(0.0, more), 16, "MiB"),
    ]


def _rate(what: str, rate: float) -> Row:
    return Row(
        what=f"{what}, per second of CPU",
        measured=f"{rate:.0f} MB",
        target=f"≥ {READ_RATE} MB",
        met=rate >= READ_RATE,
    )


def locking() -> list[Row]:
    """Time locking a model of 200 files and 140 GB on a simulated hub."""
    took, sent, lines = sources.lock_large_model()
    return [
        limit("locking it", took, 5, "s"),
        limit("traffic", sent / 1e6, 1, "MB"),
        Row(
            what="lines of the lockfile that a new revision changes",
            measured=str(lines),
            target="≤ 4",
            met=lines <= 4,
        ),
    ]


def audits() -> list[Row]:
    """Measure an audit of a million rows (780 MB), and proofs about them."""
    tree, beside, sorting, verifying = bench_audits.measure()
    with _folder() as folder:
        whole = bench_audits.whole(folder)
    most = {name: limit_ for name, (_, limit_) in bench_audits.QUESTIONS.items()}
    return [
        limit("tree of the rows, CPU", tree, bench_audits.TREE_SECONDS, "s"),
        *(limit(f"{name} beside it, CPU", beside[name], most[name], "s") for name in most),
        Row(what="sorting fingerprints into their tree, CPU", measured=f"{sorting:.1f} s"),
        limit("verifying that a row stood there", verifying, 1, "ms"),
        Row(
            what=f"`aicert audit` of {whole.size:.0f} MB, all questions, with reading, CPU",
            measured=f"{whole.audit.seconds:.0f} s",
        ),
        limit("its memory, at most", whole.audit.memory, bench_audits.MOST_MEMORY, "MB"),
        Row(
            what="proving that a row stood there, from all rows, and keeping their tree, CPU",
            measured=f"{whole.record.seconds:.0f} s",
        ),
        Row(what="that proof", measured=f"{whole.proof} bytes"),
        Row(
            what="proving that a text is absent, from all rows, and keeping the tree, CPU",
            measured=f"{whole.absence.seconds:.0f} s",
        ),
        limit("proving another row, from the tree that was kept", whole.again["row"], 1, "ms"),
        limit("that another passage is absent, likewise", whole.again["passage"], 1, "ms"),
    ]


def trusted_time() -> list[Row]:
    """Time what a time stamp, and a log proof with two cosignatures, add to `aicert verify`."""
    with _folder() as folder:
        without, more = bench_time.measure(folder)
    return [
        Row(what="`aicert verify`, a process, CPU", measured=f"{without:.0f} ms"),
        limit("with a time stamp and a log's proof: so much more", more, bench_time.MOST_MS, "ms"),
    ]


def logs() -> list[Row]:
    """Time searching a log of 50,000 entries of 1 kB; each search checks the whole log."""
    with _folder() as folder:
        searched, checked, proving, appending = bench_logs.measure(folder)
    least = bench_logs.FIND_RATE
    return [
        Row(
            what="entries a second that a search reads and checks, CPU",
            measured=f"{searched:,.0f}",
            target=f"≥ {least:,}",
            met=searched >= least,
        ),
        Row(what="entries a second of a check with all tiles, CPU", measured=f"{checked:,.0f}"),
        limit("proving an entry, CPU", proving, bench_logs.PROVE_MS, "ms"),
        Row(what="appending one of many, CPU", measured=f"{appending:.0f} µs"),
    ]


def serving() -> list[Row]:
    """Compare a machine that serves with its engine alone, and show the load on this computer
    meanwhile.
    """
    measured = bench_serving.measure()
    # The cost if a processor is free; other processes take part of the seconds above.
    share = 100 * measured["cpu"] / (1000 * bench_serving.TOKEN_S)
    gigabytes = measured["imageLoad"]
    return [
        Row(what="tokens/s of an engine of 10 ms a token", measured=f"{measured['bare']:.2f}"),
        Row(
            what="the same through gateway, count and TLS, to a client",
            measured=f"{measured['served']:.2f}",
        ),
        limit("CPU of gateway, count and TLS, of such a token's time", share, 1, "%"),
        limit("CPU for a streamed token", measured["cpu"], 0.05, "ms"),
        limit("connecting, attesting, judging", measured["judged"], 50, "ms"),
        Row(
            what="decrypting and hashing weights, per second of CPU",
            measured=f"{gigabytes:.2f} GB",
            target="≥ 1.2 GB",
            met=gigabytes >= 1.2,
        ),
        Row(
            what="the same in a memory file system without huge pages (machines `local`)",
            measured=f"{measured['load']:.2f} GB",
        ),
        limit("raising the meter (software TPM)", measured["tick"], 2, "ms"),
        limit("a receipt (software TPM)", measured["receipt"], 10, "ms"),
        limit("opening the lease (software TPM)", measured["open"], 150, "ms"),
        limit("from the order that revokes to the last byte", measured["revoked"], 1000, "ms"),
        limit("and to the end of the boot, signed", measured["ended"], 1000, "ms"),
        Row(what="load of this machine, by its kernel", measured=bench_serving.load_average()),
    ]


def signing() -> list[Row]:
    """Time signing and verifying models, compared with the reference implementation."""
    rows: list[Row] = []
    for what, (make, most, times) in bench_signing.MODELS.items():
        say(f"bench  signing: {what}")
        with _folder() as folder:
            model = folder / "model"
            model.mkdir()
            make(model)
            key, public = bench_signing.make_key(folder)
            pairs = bench_signing.compare(folder, model, key, public, times)
            size = (folder / "ours.sig").stat().st_size
            if what == bench_signing.LARGE:
                faster = bench_signing.one_core_over_two(folder, model, key)
        for name, pair in pairs.items():
            label = f"{what}, {name}: CPU {pair.ours:.2f} s over {pair.theirs:.2f} s"
            rows.append(limit(label, pair.ours / pair.theirs, round(most, 4), "×"))
        if what == bench_signing.LARGE:
            bare = pairs["verify"].floor / pairs["verify"].theirs
            rows.append(
                Row(
                    what=f"{what}: hashing alone (`hashlib.file_digest`) over its verify",
                    measured=f"{bare:.3f} ×",
                )
            )
        peak = max(pair.peak for pair in pairs.values()) / 2**20
        if what == bench_signing.LARGE:
            rows.append(limit(f"{what}: memory, at most", peak, 64, "MiB"))
            rows.append(at_least(f"{what}: two cores over one, wall", faster, 1.8))
        else:
            rows.append(Row(what=f"{what}: memory, at most", measured=f"{peak:.0f} MiB"))
        if what == bench_signing.MANY:
            rows.append(limit("bundle of 50,000 files, names of 10", size / 1e6, 8, "MB"))
    rows.append(limit("start-up, CPU over the reference's", bench_signing.start_up(), 0.5, "×"))
    return rows


def measured_machine() -> list[Row]:
    """Time boots of the measured machine and of a stock Debian 13, and what the image costs."""
    with _folder() as folder:
        costs = machine.measure(Path.cwd(), folder.absolute())
    how = "KVM" if costs.accelerator == "kvm" else "emulated"
    volume = costs.volume + costs.hashing
    rows = [
        limit(
            f"boot to the runner over a stock Debian 13's ({how})",
            costs.ours / costs.stock,
            0.8,
            "×",
        ),
        Row(what=f"boot to the runner ({how})", measured=f"{costs.ours:.1f} s"),
        Row(what=f"stock Debian 13 to its prompt ({how})", measured=f"{costs.stock:.1f} s"),
        limit("the image after a change of the runner", costs.layer, 30, "s"),
        Row(what="the image from its locked packages alone", measured=f"{costs.nothing:.0f} s"),
        Row(what="input volume of 1 GiB with its hash tree", measured=f"{costs.volume:.2f} s"),
        Row(what="that and hashing over plain hashing", measured=f"{volume / costs.hashing:.2f} ×"),
        *(Row(what=what, measured=f"{size:,}") for what, size in costs.sizes.items()),
    ]
    seconds = machine.training_seconds(Path.cwd())
    if seconds is not None:
        inside, outside = seconds
        what = f"tiny-alpaca's training in the machine over outside ({how})"
        ratio = f"{inside / outside:.1f} × ({inside:.0f} s, {outside:.0f} s)"
        rows.append(Row(what=what, measured=ratio))
    return rows


def hostile() -> list[Row]:
    """Measure the cost of the worst inputs that the parsers accept, each in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.worst"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ToolError(f"cannot measure the worst inputs\n{done.stderr[-1000:]}")
    costs = [json.loads(line) for line in done.stdout.splitlines()]
    slowest = max(costs, key=lambda cost: cost["seconds"])
    largest = max(costs, key=lambda cost: cost["megabytes"])
    return [
        limit(f"slowest: {slowest['target']}, {slowest['name']}", slowest["seconds"], 1, "s"),
        limit(f"largest: {largest['target']}, {largest['name']}", largest["megabytes"], 200, "MB"),
    ]


BENCHMARKS = {
    "noop": Benchmark(what="`./doit certify` with nothing to do", run=noop),
    "noop-files": Benchmark(
        what="a no-op with 10,000 input files, and DVC on the same tree", run=noop_files, slow=True
    ),
    "verify": Benchmark(what="`aicert verify` of a certificate without a model", run=verify),
    "hashing-large": Benchmark(what="hashing large files", run=hashing_large),
    "hashing-small": Benchmark(what="hashing many small files", run=hashing_small),
    "reading": Benchmark(
        what="what one certify of the example reads on the host (a short training)",
        run=reading,
        slow=True,
    ),
    "rows": Benchmark(
        what="reading rows of JSON, converting and checking them (minutes, 2 GB of disk)",
        run=reading_rows,
        slow=True,
    ),
    "locking": Benchmark(what="locking a model of 200 files and 140 GB", run=locking),
    "signing": Benchmark(
        what="model signing beside the reference implementation (minutes)", run=signing, slow=True
    ),
    "audits": Benchmark(what="audits of a million rows", run=audits, slow=True),
    "trusted-time": Benchmark(what="`aicert verify` with trusted time", run=trusted_time),
    "logs": Benchmark(what="transparency logs: searching, checking, proving", run=logs),
    "serving": Benchmark(what="serving a leased model beside its engine", run=serving, slow=True),
    "hostile": Benchmark(what="the worst inputs that parsers let in", run=hostile, slow=True),
    "machine": Benchmark(
        what="the measured machine beside a stock Debian 13 (a quarter of an hour)",
        run=measured_machine,
        slow=True,
    ),
    "training": Benchmark(
        what="a training through certify and by hand, at the same time (ten minutes)",
        run=training,
        slow=True,
    ),
}
