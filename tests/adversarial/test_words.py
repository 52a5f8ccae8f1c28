from tests.adversarial.words import FILE, words


def test_what_is_said_is_what_was_reviewed() -> None:
    """After a change of the words: `python -m tests.adversarial.words`, and read the diff."""
    assert words() == FILE.read_text(encoding="ascii")
