"""What an image's cache key depends on: the code that runs in it, and never an empty list."""

from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.image import cache_key
from tests.unit.code_tree import IN_ROOMS, OUTSIDE, code_tree


@pytest.mark.parametrize("name", OUTSIDE)
def test_code_that_the_machine_does_not_run_makes_no_new_image(tmp_path: Path, name: str) -> None:
    code_tree(tmp_path)
    before = cache_key.code_facts(tmp_path)
    (tmp_path / name).write_bytes(b"changed")
    assert cache_key.code_facts(tmp_path) == before


@pytest.mark.parametrize("name", IN_ROOMS)
def test_code_that_the_machine_runs_makes_a_new_image(tmp_path: Path, name: str) -> None:
    code_tree(tmp_path)
    before = cache_key.key(cache_key.code_facts(tmp_path))
    (tmp_path / name).write_bytes(b"changed")
    assert cache_key.key(cache_key.code_facts(tmp_path)) != before


def test_files_are_named_by_place_and_content(tmp_path: Path) -> None:
    (tmp_path / "inner/__pycache__").mkdir(parents=True)
    (tmp_path / "inner/a.py").write_bytes(b"a")
    (tmp_path / "inner/__pycache__/a.pyc").write_bytes(b"b")
    before = cache_key.file_facts(tmp_path)
    assert [fact.partition(" ")[0] for fact in before] == ["inner/a.py"]
    (tmp_path / "inner/a.py").rename(tmp_path / "inner/b.py")
    assert cache_key.file_facts(tmp_path) != before


@pytest.mark.parametrize("pattern", ["**/*", "image_*.py", "init.c"])
def test_a_key_of_nothing_is_an_error(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/init.c").touch()
    (tmp_path / "cache_key.py").touch() if pattern != "**/*" else None
    with pytest.raises(ToolError, match="holds no file like"):
        cache_key.file_facts(tmp_path, pattern)
