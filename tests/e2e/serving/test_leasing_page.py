"""Follow docs/leasing.md line by line: a custodian, a borrower and a consumer, each in a folder of
their own.

They type what the page says, with free ports and a stand-in for the model's trainer. A command that
the page starts in a terminal of its own runs until the end.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.conftest import REPOSITORY, StandIn, kill_group
from tests.e2e.lease import broker_process
from tests.e2e.repository import own_repository
from tests.e2e.repository.own_repository import Person
from tests.e2e.serving.test_serve import free_port
from tests.oracles import environment as oracles

person = own_repository.person
# Who types each block of the page, in its order.
CUSTODIAN, BORROWER, CONSUMER = "custodian", "borrower", "consumer"
BLOCKS = (
    "everybody", CUSTODIAN, BORROWER, CUSTODIAN, CUSTODIAN, BORROWER, BORROWER, CONSUMER, CONSUMER,
    CONSUMER, CUSTODIAN, BORROWER, BORROWER, CUSTODIAN,
)  # fmt: skip
# What the page starts in a terminal of its own, and what that prints when it is ready.
READY = {
    "aicert lease broker": "listening on",
    "./doit serve bot --token": "serving at",
    "aicert connect": "OPENAI_BASE_URL",
}
# The trainer changes one bit of a weight of the base model, in place of hours of training.
TRAINER = """
import shutil
for file in Path(config["base_model"]).iterdir():
    shutil.copyfile(file, output / file.name)
changed = bytearray((output / "model.safetensors").read_bytes())
changed[-1] ^= 1
(output / "model.safetensors").write_bytes(changed)
say(1, 1)
tell(counters={"steps": 3, "tokens": 30, "losses": [[1, 2.0]]})
"""


def blocks(checkout: Path) -> Iterator[str]:
    """Yield the blocks to paste, with the paths and ports of this computer."""
    text = (REPOSITORY / "docs" / "leasing.md").read_text()
    for port in ("8443", "8444", "8080"):
        text = text.replace(port, str(free_port()))
    # The port that the machine listens on is a setting with a default.
    (serving,) = set(re.findall(r"aicert connect https://127\.0\.0\.1:([0-9]+)", text))
    setting = f"sed -i 's/^driver *= \"local\".*/&\\nport = {serving}/' aicert.toml"
    text = text.replace("git init -q && aicert init", f"git init -q && aicert init && {setting}")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield block.replace("CHECKOUT", str(checkout))


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A command in a terminal of its own, and everything that it has printed."""

    process: "subprocess.Popen[str]"

    def until(self, words: str) -> None:
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if words in line:
                return
        raise AssertionError("".join(lines))

    def rest(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()


@contextmanager
def terminal(who: Person, line: str) -> Iterator[Terminal]:
    with subprocess.Popen(
        ["bash", "-euc", f"exec {line}"],
        cwd=who.root,
        env=who.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Terminal(process=process)
        finally:
            kill_group(process)


@pytest.mark.slow
def test_two_people_and_a_consumer_do_what_the_page_says(
    person: Person, stand_in: StandIn, tmp_path: Path
) -> None:
    checkout = stand_in(TRAINER)
    packages = next(Path(person.environment["VIRTUAL_ENV"]).glob("lib/python3*/site-packages"))
    # The packages that the three of them install are here already.
    serving = oracles.python(oracles.SERVING, "serving").parents[1]
    theirs = [broker_process.uvicorn_folder(), *serving.glob("lib/python3*/site-packages")]
    (packages / "more.pth").write_text("".join(f"{folder}\n" for folder in theirs))
    home = tmp_path / "home"
    home.mkdir()
    everybody = replace(person, root=home, environment=person.environment | {"HOME": str(home)})
    people = {
        CUSTODIAN: replace(everybody, root=checkout.root),
        BORROWER: replace(everybody, root=home / "borrower"),
        CONSUMER: replace(everybody, root=home / "consumer"),
    }
    pages = list(blocks(checkout.root))
    assert len(pages) == len(BLOCKS)
    install = pages[0].splitlines()[1]
    install = re.sub(r"'\./(.*?)'", r"'\1'", install)
    everybody.install(install.replace(str(checkout.root), str(REPOSITORY)))
    certify, _, pages[1] = pages[1].partition("\n")
    assert certify == "./doit certify"
    certified = checkout.doit("certify")
    assert certified.returncode == 0, certified.stderr

    printed: list[str] = []
    running: dict[str, Terminal] = {}
    with ExitStack() as stack:
        for name, block in list(zip(BLOCKS, pages, strict=True))[1:]:
            who = people[name] if people[name].root.is_dir() else everybody
            begin = next((begin for begin in READY if block.startswith(begin)), None)
            if begin is not None:
                running[name] = stack.enter_context(terminal(who, block))
                running[name].until(READY[begin])
            elif block == "./doit serve bot\n":
                # The receipt after the order is the last one; starting again is refused.
                rest = running[BORROWER].rest()
                assert (running[BORROWER].process.wait(), "ended: revoke" in rest) == (0, True)
                again = who.run(block)
                assert (again.returncode, "the lease is revoked" in again.stderr) == (2, True)
            else:
                printed.append(who.done(block))
        running[CONSUMER].process.send_signal(signal.SIGINT)
        assert running[CONSUMER].process.wait() == 0
    asked, revoked, added, status = printed[-4:]
    assert asked.strip()
    assert "revoked   1 grant" in revoked
    assert "answers   1 receipt that clients hold" in added
    assert "ended     by order revoke" in added
    assert "revoked, obeyed" in status
    assert "<figcaption>" in (checkout.root / "leases/status.html").read_text()
    assert oct(os.stat(checkout.root / "leases/bot.keys").st_mode & 0o777) == "0o600"
