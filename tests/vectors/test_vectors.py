"""The corpus is up to date, and two verifiers that share no code agree with its verdicts."""

import ast
from pathlib import Path

import pytest

from aicert.appraisal.appraise import appraise
from aicert.errors import EvidenceError
from aicert.formats import certificate
from aicert.formats.digest import Digest, FileFact
from aicert.trust.policy_file import load_policy
from aicert.verifier import verify
from tests.second import chain as second_chain
from tests.second import verifier as second_verifier
from tests.vectors import generate, reading

PATHS = reading.paths()
by_name = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_regenerated_corpus_is_the_same_bytes() -> None:
    wanted = dict(generate.corpus())
    committed = {str(path.relative_to(reading.FOLDER)): path.read_bytes() for path in PATHS}
    assert sorted(committed) == sorted(wanted)
    differ = [path for path, data in wanted.items() if committed[path] != data]
    assert not differ, "python -m tests.vectors.generate"


def test_corpus_is_small_enough_to_review() -> None:
    # Half of it is for confidential machines, whose vectors carry four certificates each; the parts
    # that they share with an honest one of their kind are stored once. Audits and merges, which are
    # kinds of runs of their own, take 300 kB; audits that a policy demands, with two certificates
    # each, 240 kB; logs 220 kB, compute 250 kB, audits before a training, and texts, 200 kB,
    # evaluations 60 kB, and those that a policy demands 310 kB, on tasks another 300 kB; merges of
    # whole models 260 kB, quantisations 360 kB, tasks of the image 120 kB, conversions 270 kB.
    assert sum(path.stat().st_size for path in PATHS) < 11_750_000


@by_name
def test_aicert_judges_the_vector_as_it_says(path: Path, tmp_path: Path) -> None:
    vector = reading.read(path)
    policy = load_policy(str(reading.write_policy(vector, tmp_path)))
    if vector.verdict == "malformed":
        with pytest.raises(EvidenceError) as refused:
            certificate.parse(vector.certificate)
        assert refused.value.exit_code == vector.exit_code
        return
    model = vector.model
    result = appraise(
        certificate.parse(vector.certificate),
        None if model is None else {p: FileFact(size, sha) for p, (size, sha) in model.items()},
        verify.choose_policy(policy),
        at=vector.at,
        lockfile=None if vector.lockfile is None else Digest.parse(vector.lockfile),
        nonce=vector.nonce,
        ancestors=(
            None if vector.ancestors is None else [certificate.parse(a) for a in vector.ancestors]
        ),
        audits=(
            None
            if vector.audits is None
            else [(certificate.parse(one), results) for one, results in vector.audits]
        ),
    )
    reasons = result.failed or result.undecided
    check = reasons[0].id if reasons else None
    assert (result.verdict, check) == (vector.verdict, vector.check)
    assert result.exit_code == vector.exit_code


@by_name
def test_second_verifier_agrees(path: Path, tmp_path: Path) -> None:
    vector = reading.read(path)
    policy, roots = second_chain.read_policy(reading.write_policy(vector, tmp_path))
    question = second_verifier.Question(
        certificate=vector.certificate,
        policy=policy,
        roots=roots,
        at=vector.at,
        model=None if vector.model is None else {p: sha for p, (_, sha) in vector.model.items()},
        lockfile=vector.lockfile,
        nonce=vector.nonce,
        ancestors=vector.ancestors,
        audits=vector.audits,
    )
    assert second_verifier.judge(question) == (vector.verdict, vector.check)


SECOND = sorted(path.stem for path in (reading.FOLDER.parent / "second").glob("*.py"))


@pytest.mark.parametrize("name", SECOND)
def test_second_verifier_shares_no_code(name: str) -> None:
    file = reading.FOLDER.parent / "second" / f"{name}.py"
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    ours = {module for module in modules if module.split(".")[0] in ("aicert", "rules", "tests")}
    assert ours <= {"tests.second", *(f"tests.second.{other}" for other in SECOND)}
