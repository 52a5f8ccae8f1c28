"""Terminal output: tables that fit, no misleading colour or text, and the version."""

import importlib.metadata
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.result import Ancestor, AttestationResult
from aicert.cli import main, terminal
from aicert.cli import table as render
from aicert.trust.built_in import built_in
from tests.adversarial.forger import Scene


def test_a_terminal_gets_wrapped_details_and_a_file_does_not() -> None:
    scene = Scene()
    scene.set_pcr(14, bytes(32))
    result = scene.appraise()
    plain, narrow = render.text(result), render.text(result, columns=80)
    table = narrow.partition("FAILED    ")[0]
    assert max(map(len, plain.splitlines())) > 80
    assert max(map(len, table.splitlines())) <= 80
    assert "".join(plain.split()) == "".join(narrow.split())
    details = [line for line in table.splitlines() if line.startswith(" " * 31)]
    assert details
    assert max(map(len, render.text(result, columns=10).partition("FAILED")[0].splitlines())) < 100


def test_the_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.terminal_columns() is None
    with Path(os.devnull).open("w") as null:
        monkeypatch.setattr(sys, "stdout", null)
        assert terminal.terminal_columns() is None
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((80, 24)))
        assert terminal.terminal_columns() == 80
        assert terminal.terminal_columns(null) == 80


def test_a_full_standard_error_leaves_the_exit_code_to_say_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        terminal.complain("error: x\n")
        # Later output goes nowhere, and closing the stream raises no error.
        terminal.complain("error: y\n")
    monkeypatch.setattr(sys, "stderr", None)
    terminal.complain("error: z\n")


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    for version_of, words in ((lambda _: "1.2", "aicert 1.2\n"), (absent, "aicert (a checkout")):
        monkeypatch.setattr(importlib.metadata, "version", version_of)
        with pytest.raises(SystemExit) as ended:
            main.main(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(words)


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not terminal.use_colour()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.use_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.use_colour()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.use_colour()


def test_three_styles_and_no_more() -> None:
    scene = Scene()
    assert {render.GREEN, render.DIM} == styles(render.text(scene.appraise(), colour=True))
    scene.edit("report", lambda r: r)
    scene.set_pcr(14, bytes(32))
    assert render.RED in styles(render.text(scene.appraise(), colour=True))


def styles(text: str) -> set[str]:
    return {"\x1b" + part.split("m")[0] + "m" for part in text.split("\x1b")[1:]} - {render.PLAIN}


def test_long_details_are_cut() -> None:
    from aicert.appraisal.result import CheckResult

    check = CheckResult(id="subject.files", verdict="failed", detail="\n".join("x" * 99))
    assert render._check_lines(check, colour=False)[-1].endswith("and 86 more lines")


def test_the_verdict_line_names_the_tier() -> None:
    passed = Scene("cloud").appraise()
    assert "\nPASSED    (vtpm)\n" in render.text(passed)
    open_check = replace(passed.checks[0], verdict="not-checked")
    open_ = replace(passed, checks=(open_check, *passed.checks[1:]))
    assert "\nNO VERDICT  1 check could not be made (vtpm)\n" in render.text(open_)
    nowhere = render.text(replace(open_, tier=None))
    assert "\nNO VERDICT  1 check could not be made \n" in nowhere


def ancestor(result: AttestationResult | None) -> Ancestor:
    return Ancestor(input="model", source="run:b/m", digest="", result=result, reason=None)


def test_ancestors_that_no_audit_was_given_for_are_named() -> None:
    own = replace(Scene("local", 2).appraise(), ancestors=())
    assert own.facts is not None
    first = replace(own, run="first")
    no_rows = replace(own, run="merged", facts=replace(own.facts, records=()))
    middle = replace(no_rows, ancestors=(ancestor(first), ancestor(None)))
    # Two of its inputs come from one run.
    whole = replace(own, ancestors=(ancestor(middle), ancestor(middle), ancestor(first)))
    line = "  -       ancestor first: not audited (you gave no --evidence)\n"
    assert render.text(whole).count("not audited") == render.text(whole).count(line) == 1
    assert "not audited" not in render.text(whole, has_evidence=True)
    assert "not audited" not in render.text(own)
    more = [ancestor(replace(own, run=f"first-{number}")) for number in range(20)]
    text = render.text(replace(own, ancestors=tuple(more)))
    assert text.count("not audited") == 12
    assert "  -       and 8 more\n" in text


def test_a_checkout_that_knows_its_roots_need_not_name_one() -> None:
    scene = Scene()
    scene.put("policy", built_in("default"))
    result = scene.appraise()
    assert render.text(result).endswith("\nhint: --policy local --root PEM\n")
    assert render.text(result, has_roots=True).endswith("\nhint: --policy local\n")
