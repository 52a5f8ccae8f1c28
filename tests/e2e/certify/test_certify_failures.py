"""Whatever goes wrong, the error is clear, the exit code is right, nothing incomplete is left and
no process keeps running.

The machine, the TPM and the sandbox are real; the trainer is a stand-in that fails on demand.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest
import tomlkit

from tests.e2e.conftest import LIMIT_S, Checkout, StandIn, kill_group, wait_for

WORK = ".aicert/runs/tiny-alpaca/work"
SCRATCH = f"{WORK}/scratch"
GOOD = "weights()\n"
# The base model's tensors with another header, as a training at a learning rate of 1e-30 would
# leave them.
UNTRAINED = """
data = Path("/aicert/inputs/model/model.safetensors").read_bytes()
size = int.from_bytes(data[:8], "little")
header = json.dumps(json.loads(data[8 : 8 + size]) | {"__metadata__": {"by": "us"}}).encode()
weights()
(output / "model.safetensors").write_bytes(
    len(header).to_bytes(8, "little") + header + data[8 + size :]
)
"""
FILES = "for i in range(64): (output / str(i)).write_bytes(bytes(1 << 18))\n"
# A trainer that has started, and waits until the test lets it continue.
GATE = """
say(0, 3)
Path("/aicert/scratch/started").touch()
while not Path("/aicert/scratch/go").exists():
    time.sleep(0.02)
"""
# A trainer that has written its model, and waits until the test lets it end.
LAST_GATE = """
while not Path("/aicert/scratch/end").exists():
    time.sleep(0.02)
"""


def started(checkout: Checkout) -> bool:
    return (checkout.root / SCRATCH / "started").exists()


def go_on(checkout: Checkout, gate: str = "go") -> None:
    """Open the gate. A run that has ended has no scratch folder any more."""
    with contextlib.suppress(FileNotFoundError):
        (checkout.root / SCRATCH / gate).touch()


def verdict(checkout: Checkout) -> tuple[int, list[str]]:
    done = checkout.doit("verify", "--policy", "local", "--format", "json")
    checks = json.loads(done.stdout)["checks"]
    return done.returncode, [c["id"] for c in checks if c["verdict"] == "failed"]


def set_machine(checkout: Checkout, key: str, value: str) -> None:
    """Set a key of the machine `local`, as a person who edits the file would."""
    path = checkout.root / "aicert.toml"
    document = tomlkit.parse(path.read_text())
    document["machines"]["local"][key] = tomlkit.value(value)
    path.write_text(tomlkit.dumps(document))


def assert_clean(checkout: Checkout) -> None:
    """Assert that no process is left, and that no result is incomplete."""
    wait_for(lambda: not checkout.processes(), "processes to end")
    assert not (checkout.root / ".aicert/runs/tiny-alpaca/work").exists()
    for folder in (checkout.certificate.parent, checkout.model.parents[1]):
        names = {p.name for p in folder.rglob("*")} if folder.exists() else set()
        assert not {n for n in names if n.startswith(".")}


@pytest.mark.parametrize(
    ("trainer", "check", "words"),
    [
        ("print('no luck today'); sys.exit(1)\n", "outputs.exit", "no luck today"),
        ("weights(); sys.exit(3)\n", "outputs.exit", "3"),
        ("os.kill(os.getpid(), 9)\n", "outputs.exit", "signal:9"),
        ("os.abort()\n", "outputs.exit", "signal:6"),
        ("pass\n", "outputs.nonempty", "holds no file"),
        ("tell(counters={'steps': 0, 'tokens': 0}); (output / 'a').write_text('x')\n",
         "outputs.trained", ""),
        (UNTRAINED, "outputs.trained", "no tensor changed: all 21 are in the inputs"),
    ],
)  # fmt: skip
def test_a_failed_training_is_certified_as_failed(
    stand_in: StandIn, trainer: str, check: str, words: str
) -> None:
    checkout = stand_in(trainer)
    done = checkout.doit("certify")
    assert done.returncode == 1, done.stderr
    assert check in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    code, failed = verdict(checkout)
    assert code == 1
    assert failed[0] == check
    assert checkout.doit("certify").returncode == 1
    assert_clean(checkout)


def test_a_failed_run_ends_with_its_error_and_is_not_trained_again_for_nothing(
    stand_in: StandIn,
) -> None:
    checkout = stand_in("print('a step'); raise ValueError('no such optimizer')\n")
    first = checkout.doit("certify")
    assert first.returncode == 1, first.stderr
    assert first.stdout == ""
    assert first.stderr.splitlines()[-2:] == [
        "certificates/tiny-alpaca/training.log ends with:", "ValueError: no such optimizer",
    ]  # fmt: skip
    before = checkout.certificate.read_bytes()

    bare = checkout.doit("certify")
    assert bare.returncode == 1
    assert "nothing has changed since, so it is not trained again" in bare.stderr
    alone = "nothing has changed since: only ./doit certify tiny-alpaca trains it again"
    assert f"it failed, and {alone}\n" in checkout.doit("why").stdout
    assert "hint: ./doit certify tiny-alpaca" in bare.stderr
    assert checkout.certificate.read_bytes() == before

    # The lockfile does not contain the limit, but the limit may be why the run failed.
    set_machine(checkout, "time-limit", '"31 min"')
    assert "not trained again" not in checkout.doit("certify").stderr
    changed = checkout.certificate.read_bytes()
    assert changed != before
    assert "not trained again" not in checkout.doit("certify", "tiny-alpaca").stderr
    assert checkout.certificate.read_bytes() != changed
    assert_clean(checkout)


@pytest.mark.parametrize(
    ("limit", "trainer", "words"),
    [
        ('scratch = "1 MiB"', "weights(bytes(64 << 20)); time.sleep(60)\n", "File too large"),
        ('scratch = "1 MiB"', FILES + "time.sleep(60)\n", "signal:9"),
        ('time-limit = "1 s"', "time.sleep(60)\n", "timeout"),
        ('memory = "64 MiB"', "x = bytearray(400 << 20); time.sleep(60)\n", "memory"),
    ],
)
def test_a_limit_ends_a_training_and_is_named(
    stand_in: StandIn, limit: str, trainer: str, words: str
) -> None:
    checkout = stand_in(trainer)
    key, value = limit.split(" = ")
    set_machine(checkout, key, value)
    done = checkout.doit("certify")
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    if key != "scratch" or words == "signal:9":
        assert f"hint: raise machines.local.{key} in aicert.toml" in done.stderr
    assert verdict(checkout) == (1, ["outputs.exit", "outputs.nonempty", "outputs.trained"])
    assert_clean(checkout)


def test_a_link_in_the_output_gives_no_certificate(stand_in: StandIn) -> None:
    checkout = stand_in("weights(); (output / 'x').symlink_to('/etc/hostname')\n")
    done = checkout.doit("certify")
    assert done.returncode == 2
    assert "symbolic link" in done.stderr
    assert not checkout.certificate.exists()
    assert_clean(checkout)


@pytest.mark.parametrize(
    ("path", "text", "code", "words"),
    [
        ("examples/tiny-alpaca.yml", "\nlearning_rtae: 3\n", 2, "stale"),
        ("aicert.toml", "\n[machines.local.more]\n", 3, "unknown key machines.local.more"),
        ("aicert.toml", "\n[runs.tiny-alpaca]\n", 3, "aicert.toml is not TOML"),
        ("lockfiles/tiny-alpaca.lock.toml", "\n", 2, "canonical"),
        ("lockfiles/tiny-alpaca/alpaca.sha256", "\n", 2, "does not match its lockfile"),
    ],
)
def test_what_was_edited_is_named_with_what_to_do(
    stand_in: StandIn, path: str, text: str, code: int, words: str
) -> None:
    checkout = stand_in(GOOD)
    with (checkout.root / path).open("a") as file:
        file.write(text)
    done = checkout.doit("certify")
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "\nhint: " in done.stderr
    assert not checkout.certificate.exists()


def test_a_config_key_that_axolotl_would_ignore_is_refused_once_locked(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    with (checkout.root / "examples/tiny-alpaca.yml").open("a") as file:
        file.write("\nlearning_rtae: 3\n")
    lockfile = checkout.root / "lockfiles/tiny-alpaca.lock.toml"
    before = lockfile.read_bytes()
    done = checkout.doit("lock")
    assert done.returncode == 3
    assert "learning_rtae" in done.stderr
    assert "learning_rate" in done.stderr
    assert lockfile.read_bytes() == before
    # What resolves inputs again refuses it too.
    for words in (("update",), ("add", "tiny-alpaca", "alpaca", "path:examples/alpaca")):
        done = checkout.doit(*words)
        assert (done.returncode, "learning_rtae" in done.stderr) == (3, True), done.stderr
        assert lockfile.read_bytes() == before


def test_a_later_failure_keeps_the_model_that_passed(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    assert checkout.doit("certify").returncode == 0
    passed = checkout.certificate.read_bytes()
    main = next(Path(checkout.environment["AICERT_CACHE"]).rglob("cli/main.py"))
    main.write_text(main.read_text().replace(GOOD, "sys.exit(7)\n"))
    with (checkout.root / "examples/tiny-alpaca.yml").open("a") as file:
        file.write("\n# another lockfile\n")
    assert checkout.doit("lock").returncode == 0
    done = checkout.doit("certify")
    assert done.returncode == 1
    assert "kept in .aicert/kept/tiny-alpaca" in done.stderr
    why = checkout.doit("why", "tiny-alpaca").stdout
    assert "would run: the certificate does not pass: outputs.exit" in why
    kept = checkout.root / ".aicert/kept/tiny-alpaca"
    assert (kept / "certificate.json").read_bytes() == passed
    words = [str(kept / "certificate.json"), str(kept / "outputs/model")]
    words += ["--policy", "local", "--root", str(checkout.root / ".aicert/ca/local.pem")]
    command = [sys.executable, "-m", "aicert", "verify", *words]
    again = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout


def test_cpus_is_what_the_trainer_is_told(stand_in: StandIn) -> None:
    checkout = stand_in("print('threads', os.environ['OMP_NUM_THREADS']); sys.exit(1)\n")
    set_machine(checkout, "cpus", "3")
    assert "threads 3" in checkout.doit("certify").stderr


def test_an_input_that_changes_while_the_run_reads_it(stand_in: StandIn) -> None:
    checkout = stand_in(GATE + GOOD)
    with checkout.start("certify") as process:
        wait_for(lambda: started(checkout), "the trainer")
        data = checkout.root / "examples/alpaca/train.jsonl"
        data.write_bytes(data.read_bytes())
        go_on(checkout)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "changed while the run was reading it" in errors
    assert not checkout.certificate.exists()


def test_a_tpm_that_dies_mid_run(stand_in: StandIn) -> None:
    checkout = stand_in(GATE + GOOD)
    with checkout.start("certify") as process:
        wait_for(lambda: started(checkout), "the trainer")
        pids = subprocess.run(
            ["pgrep", "-f", f"swtpm.*{checkout.root}"], capture_output=True, text=True, check=True
        )
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        go_on(checkout)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert not checkout.certificate.exists()
    assert_clean(checkout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(stand_in: StandIn, number: signal.Signals) -> None:
    checkout = stand_in(GATE)
    with checkout.start("certify") as process:
        wait_for(lambda: started(checkout), "the trainer")
        process.send_signal(number)
        _, errors = process.communicate(timeout=600)
    assert process.returncode in (128 + number, -number), errors
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert errors.endswith("will start over\nhint: ./doit certify\n")
    assert not checkout.certificate.exists()
    assert_clean(checkout)


# What a run makes, in order; the test kills it as soon as each exists. Until here the trainer waits
# or has not begun, so certify cannot overtake the kill.
BEFORE_THE_TRAINER = (f"{WORK}/tpm", f"{WORK}/tpm/tpm.sock", f"{WORK}/out", f"{SCRATCH}/started")
IN_THE_TRAINER = f"{SCRATCH}/output/model.safetensors"
# From here on, certify may have ended before anybody looked.
AFTER_THE_TRAINER = (
    f"{WORK}/out/outputs/model",
    f"{WORK}/out/certificate.json",
    "outputs/tiny-alpaca/model/model.safetensors",
    "certificates/tiny-alpaca/training.log",
)


def start_gated(checkout: Checkout) -> AbstractContextManager["subprocess.Popen[str]"]:
    """Start certify. A marker left by a killed run is not mistaken for the new run's."""
    (checkout.root / SCRATCH / "started").unlink(missing_ok=True)
    return checkout.start("certify")


def kill_at(checkout: Checkout, stage: str) -> None:
    """Kill certify and everything that it started, as soon as `stage` exists."""
    for result in ("outputs", "certificates"):
        shutil.rmtree(checkout.root / result, ignore_errors=True)
    with start_gated(checkout) as process:
        if stage not in BEFORE_THE_TRAINER:
            # A run that had finished when it was killed is put in place without another training.
            wait_for(lambda: started(checkout) or process.poll() is not None, "the trainer")
            go_on(checkout)
        if stage in AFTER_THE_TRAINER:
            go_on(checkout, "end")
        reached = checkout.root / stage
        wait_for(lambda: reached.exists() or process.poll() is not None, stage)
        kill_group(process)
        process.communicate(timeout=600)
    wanted = (-signal.SIGKILL, 0) if stage in AFTER_THE_TRAINER else (-signal.SIGKILL,)
    assert process.returncode in wanted, stage


def test_kill_at_any_point_leaves_the_next_certify_working(stand_in: StandIn) -> None:
    checkout = stand_in(GATE + GOOD + LAST_GATE)
    for stage in (*BEFORE_THE_TRAINER, IN_THE_TRAINER, *AFTER_THE_TRAINER):
        kill_at(checkout, stage)
        wait_for(lambda: not checkout.processes(), "processes to die with their parent")
        code, failed = (2, []) if not checkout.certificate.exists() else verdict(checkout)
        assert (code, failed) in ((0, []), (2, [])), stage
    with start_gated(checkout) as process:
        wait_for(lambda: started(checkout) or process.poll() is not None, "the trainer")
        go_on(checkout)
        go_on(checkout, "end")
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert verdict(checkout) == (0, [])
    assert_clean(checkout)


def test_a_run_that_cannot_be_put_in_place_is_kept_and_not_trained_again(
    stand_in: StandIn,
) -> None:
    checkout = stand_in(GATE + GOOD)
    with checkout.start("certify") as process:
        wait_for(lambda: started(checkout), "the trainer")
        # A file now occupies the certificate's folder, which nobody could foresee.
        folder = checkout.certificate.parent
        folder.parent.mkdir(exist_ok=True)
        folder.write_text("mine\n")
        go_on(checkout)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 2, errors
    assert "kept in .aicert/finished/tiny-alpaca" in errors
    assert folder.read_text() == "mine\n"
    folder.unlink()
    # The disk fails for a while: reading this file is an I/O error for everybody.
    finished = checkout.root / ".aicert/finished/tiny-alpaca/certificate.json"
    finished.rename(finished.with_name("whole"))
    finished.symlink_to("/proc/self/mem")
    unread = checkout.doit("certify")
    assert unread.returncode == 2, unread.stderr
    assert "an earlier finished run cannot be read, so it is kept" in unread.stderr
    assert "Input/output error" in unread.stderr
    finished.with_name("whole").replace(finished)
    again = checkout.doit("certify")
    assert again.returncode == 0, again.stderr
    assert "putting an earlier finished run in place" in again.stderr
    assert verdict(checkout) == (0, [])
    assert_clean(checkout)


def test_what_no_certificate_names_is_kept(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    assert checkout.doit("certify").returncode == 0
    (checkout.model / "README.md").write_text("my notes\n")
    again = checkout.doit("certify", "--nonce", "ab" * 32, "tiny-alpaca")
    assert again.returncode == 0, again.stderr
    assert "kept  .aicert/kept/tiny-alpaca" in again.stderr
    kept = checkout.root / ".aicert/kept/tiny-alpaca/outputs/model/README.md"
    assert kept.read_text() == "my notes\n"


def test_a_disk_that_fills_during_training_says_nothing_about_the_model_that_passed(
    stand_in: StandIn, tmp_path: Path
) -> None:
    checkout = stand_in(GATE + "(output / 'model.safetensors').write_bytes(bytes(64 << 20))\n")
    outcome = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", FILLED.format(root=checkout.root)],
        capture_output=True,
        text=True,
        env=checkout.environment,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


# The folder for runs' work is on a small disk of its own; the trainer may continue at once.
FILLED = """
mkdir -p {root}/.aicert && mount -t tmpfs -o size=8m tmpfs {root}/.aicert
cd {root}
(while [ ! -e .aicert/runs/tiny-alpaca/work/scratch/started ]; do sleep 0.05; done
 touch .aicert/runs/tiny-alpaca/work/scratch/go) &
code=0; ./doit certify 2> words || code=$?
grep -q 'is full' words || {{ cat words; exit 9; }}
test $code = 2
test ! -e certificates/tiny-alpaca/certificate.json
"""


def test_two_at_once_wait_for_each_other_and_train_once(stand_in: StandIn) -> None:
    checkout = stand_in(GATE + GOOD)
    for folder in ("examples/alpaca", "examples/tiny-llama"):
        shutil.rmtree(checkout.root / folder, ignore_errors=True)
    with checkout.start("certify") as first, checkout.start("certify") as second:
        wait_for(lambda: started(checkout), "the trainer")
        waiting = next(
            line
            for line in lines_of(first.stderr, second.stderr)
            if "is being certified by another process: waiting" in line
        )
        assert "run tiny-alpaca" in waiting
        go_on(checkout)
        texts = [process.communicate(timeout=LIMIT_S)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], texts
    assert verdict(checkout) == (0, [])
    assert_clean(checkout)


def lines_of(*streams: "IO[str] | None") -> Iterator[str]:
    """Yield the lines that the processes write, as they arrive; the rest can be read later."""
    with selectors.DefaultSelector() as selector:
        for stream in filter(None, streams):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                yield from data.decode().splitlines()


def test_tampered_results_are_noticed_and_made_again(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    assert checkout.doit("certify").returncode == 0
    weights = checkout.model / "model.safetensors"
    good = weights.read_bytes()
    before = weights.stat()
    weights.write_bytes(good[:-1] + b" ")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checkout.doit("certify").returncode == 0
    assert weights.read_bytes() == good
    certificate = checkout.certificate.read_bytes()
    checkout.certificate.write_bytes(certificate.replace(b'"nonce":"', b'"nonce":"0', 1))
    assert checkout.doit("certify").returncode == 0
    assert verdict(checkout) == (0, [])


def test_an_unreadable_and_a_missing_input(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    assert checkout.doit("certify").returncode == 0
    folder = checkout.root / "examples/alpaca"
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").symlink_to("/etc/hostname")
    done = checkout.doit("certify")
    assert done.returncode == 2
    assert "input alpaca: 'train.jsonl' is a symbolic link" in done.stderr
    shutil.rmtree(folder)
    (checkout.root / "examples/tiny-alpaca.yml").unlink()
    done = checkout.doit("certify")
    assert done.returncode == 2
    assert "input config: path:examples/tiny-alpaca.yml does not exist" in done.stderr


def test_a_nonce_makes_a_fresh_certificate(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    nonce = "ab" * 32
    assert checkout.doit("certify").returncode == 0
    assert checkout.doit("certify", "tiny-alpaca", "--nonce", nonce).returncode == 0
    assert "nothing to do" in checkout.doit("certify", "tiny-alpaca", "--nonce", nonce).stderr
    right = checkout.doit("verify", "--policy", "local", "--nonce", nonce)
    assert right.returncode == 0
    assert "not fresh" not in right.stdout
    assert checkout.doit("verify", "--policy", "local", "--nonce", "cd" * 32).returncode == 1
    assert checkout.doit("certify", "--nonce", "xyz").returncode == 3


def test_a_path_with_spaces_and_of_great_length(stand_in: StandIn, tmp_path: Path) -> None:
    checkout = stand_in(GOOD)
    long = tmp_path / "a path with spaces" / ("d" * 120)
    long.parent.mkdir()
    shutil.move(checkout.root, long)
    moved = Checkout(root=long, environment=checkout.environment)
    done = moved.doit("certify")
    assert done.returncode == 0, done.stderr
