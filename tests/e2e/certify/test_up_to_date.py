"""A teammate who pulled everything has another CA; nothing committed is replaced because of
that.
"""

import shutil
from pathlib import Path

import pytest

from rules.machines.ca import local_ca
from tests.e2e.conftest import Checkout, StandIn

RUN = "tiny-alpaca"
CHILD = f"""
[runs.child]
config = "path:child.yml"
machine = "local"
outputs = ["model"]
default = false
[runs.child.inputs]
model = "run:{RUN}/model"
alpaca = "path:examples/alpaca"
"""


def contents(root: Path) -> dict[str, bytes]:
    """Return the files that are committed, or will be, by path."""
    folders = (root / "certificates", root / "lockfiles", root / "outputs")
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def teammate(stand_in: StandIn, tmp_path: Path) -> Checkout:
    """Return a checkout with everything that a teammate certified, except that person's local
    state.
    """
    maker = stand_in("say(1, 3)\nweights()\n")
    config = (maker.root / "examples" / "tiny-alpaca.yml").read_text()
    (maker.root / "child.yml").write_text(config)
    with (maker.root / "aicert.toml").open("a") as toml:
        toml.write(CHILD)
    certified = maker.doit("certify")
    assert certified.returncode == 0, certified.stderr
    root = tmp_path / "teammate"
    shutil.copytree(
        maker.root, root, symlinks=True, ignore=lambda folder, names: {".aicert"} & set(names)
    )
    return Checkout(root=root, environment=maker.environment)


def fingerprint_told(words: str) -> str:
    return words.partition("sha256:")[2][:64]


def test_what_a_teammate_certified_is_kept_and_no_verdict_until_his_ca_is_trusted(
    teammate: Checkout,
) -> None:
    before = contents(teammate.root)
    # This holds whether or not this checkout has a CA of its own.
    for _ in range(2):
        kept = teammate.doit("certify")
        assert kept.returncode == 2, kept.stderr
        assert "no verdict: its certificate is under the CA sha256:" in kept.stderr
        hint = kept.stderr.partition("hint: ")[2]
        assert hint.startswith("./doit trust sha256:")
        assert contents(teammate.root) == before
        own = teammate.doit("verify", "--policy", "local")
        assert own.returncode == 2, own.stdout
        assert "is not trusted here" in own.stderr
        assert own.stdout == ""
        local_ca(teammate.root, "local")
    why = teammate.doit("why", RUN)
    assert why.stdout.startswith(f"{RUN}: would stop: its certificate is under the CA")

    child = teammate.doit("certify", "child", "--accept")
    assert child.returncode == 2
    assert "is not trusted here" in child.stderr
    assert "certificates/child/certificate.json" not in contents(teammate.root)

    # That the model is not here yet is no evidence either.
    moved = teammate.root / "moved"
    teammate.model.rename(moved)
    absent = teammate.doit("verify", "--policy", "local")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert "is not trusted here" in absent.stderr

    printed = teammate.doit("trust").stdout
    assert printed.startswith("own      sha256:")
    fingerprint = fingerprint_told(printed.partition("unknown")[2])
    assert fingerprint == fingerprint_told(hint)
    # Trusting an unknown fingerprint does not help.
    assert teammate.doit("trust", f"sha256:{'0' * 64}").returncode == 3
    assert teammate.doit("trust", f"sha256:{fingerprint}").returncode == 0
    assert f"trusted  sha256:{fingerprint}" in teammate.doit("trust").stdout

    absent = teammate.doit("verify", "--policy", "local")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert f"its output is not here: outputs/{RUN}/model\nhint: ./doit dvc pull" in absent.stderr
    moved.rename(teammate.model)

    current = teammate.doit("certify")
    assert current.returncode == 0, current.stderr
    assert "nothing to do" in current.stderr
    assert teammate.doit("verify", "--policy", "local").returncode == 0
    assert {k: v for k, v in contents(teammate.root).items() if k in before} == before

    assert teammate.doit("trust", f"sha256:{fingerprint}", "--remove").returncode == 0
    assert teammate.doit("verify", "--policy", "local").returncode == 2
    # A changed file is evidence, whoever vouches for the certificate.
    weights = teammate.model / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data + b" ")
    assert teammate.doit("verify", "--policy", "local").returncode == 1
    weights.write_bytes(data)

    again = teammate.doit("certify", "--again")
    assert again.returncode == 0, again.stderr
    after = contents(teammate.root)
    assert after[f"certificates/{RUN}/ca.pem"] != before[f"certificates/{RUN}/ca.pem"]
    assert teammate.doit("trust").stdout.startswith("own      sha256:")
    assert teammate.doit("verify", "--policy", "local").returncode == 0
    # A run that is up to date is repeated only on request.
    once_more = teammate.doit("certify", "--again")
    assert once_more.returncode == 0
    assert contents(teammate.root) != after


def test_a_certificate_without_its_ca_is_kept_as_well(teammate: Checkout) -> None:
    pem = teammate.root / "certificates" / RUN / "ca.pem"
    sent = teammate.root.parent / "theirs.pem"
    pem.rename(sent)
    before = contents(teammate.root)
    kept = teammate.doit("certify")
    assert kept.returncode == 2, kept.stderr
    assert "under another checkout's CA, which did not come with it" in kept.stderr
    assert contents(teammate.root) == before
    trusted = teammate.doit("trust", str(sent))
    assert trusted.returncode == 0, trusted.stderr
    assert teammate.doit("certify").returncode == 0
    assert teammate.doit("verify", "--policy", "local").returncode == 0
