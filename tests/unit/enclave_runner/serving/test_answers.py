import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.serving import answers
from enclave_runner.serving.answers import EngineError, Piece, Usage, Writer
from enclave_runner.serving.requests import CHAT, COMPLETIONS
from tests.e2e.serving.stub_engine import event

LAST = b"data: [DONE]\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}


def lines(*events: bytes) -> list[bytes]:
    return [line + b"\n" for one in (*events, LAST) for line in one.split(b"\n")]


def pieces(*events: bytes, route: str = CHAT, max_bytes: int = 1000, most: int = 10) -> list[Piece]:
    return list(answers.pieces(lines(*events), route, max_bytes=max_bytes, most=most))


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS])
def test_text_reason_and_counts_are_taken_and_nothing_else(route: str) -> None:
    given = [
        event("one", route=route), b": alive", b"event: x", b"id: 5",
        event(" two", "length", route=route), event(usage=USAGE, route=route),
    ]  # fmt: skip
    assert [piece for piece in pieces(*given, route=route) if piece != Piece()] == [
        Piece(text="one"), Piece(text=" two", reason="length"), Piece(usage=(7, 2)),
    ]  # fmt: skip


def test_what_comes_after_the_last_event_is_not_read() -> None:
    assert pieces(LAST, event("more", route=CHAT)) == []


def test_a_usage_beside_no_choice_is_taken() -> None:
    assert pieces(b'data: {"choices": [], "usage": {"prompt_tokens": "x"}}') == [
        Piece(usage=("x", None))
    ]
    assert pieces(b'data: {"usage": 5}') == [Piece()]


def test_a_reason_is_one_of_two() -> None:
    (piece,) = pieces(event("x", reason="secret", route=CHAT))
    assert piece.reason == "stop"


def test_text_past_the_bound_is_cut_between_characters() -> None:
    given = pieces(
        event("ab\u20ac", route=CHAT), event("\u20accd", route=CHAT), event("e", route=CHAT),
        max_bytes=7,
    )  # fmt: skip
    assert [piece.text for piece in given] == ["ab\u20ac", "", "e"]
    # The budget leaves less than a character, and then nothing.
    given = pieces(event("ab\u20ac", route=CHAT), event("c", route=CHAT), max_bytes=2)
    assert [piece.text for piece in given] == ["ab", ""]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"data: {", "is not JSON"),
        (b"data: []", "is not an object"),
        (b'data: {"choices": [{}, {}]}', "more than one answer"),
        (b'data: {"choices": [5]}', "more than one answer"),
        (b'data: {"a": 1, "a": 2}', "repeated|twice|duplicate"),
        (b"data: " + (1 << 16) * b"x", "a line that is too long"),
        (b'data: {"x": "\\ud800"}', "surrogate"),
    ],
)
def test_an_answer_that_is_none_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        pieces(data)


@pytest.mark.parametrize(
    "choice", [{}, {"delta": 5}, {"delta": {"content": 5}}, {"delta": {"content": None}}]
)
def test_a_choice_without_text_has_none(choice: Any) -> None:
    assert pieces(b"data: " + json.dumps({"choices": [choice]}).encode()) == [Piece()]


def test_characters_that_are_escaped_as_two_are_one() -> None:
    data = b'data: {"choices": [{"delta": {"content": "\\ud83d\\ude00"}}]}'
    assert pieces(data) == [Piece(text="\U0001f600")]


def test_an_answer_may_end_after_its_counts() -> None:
    """`transformers serve` 5.16.1 ends a completion without a final marker."""
    given = [
        b'data: {"choices":[{"index":0,"text":"="}],"object":"text_completion"}\n', b"\n",
        b'data: {"choices":[{"finish_reason":"length","index":0,"text":""}],"usage":'
        + json.dumps({"completion_tokens": 5, "prompt_tokens": 4}).encode() + b"}\n",
    ]  # fmt: skip
    assert list(answers.pieces(given, COMPLETIONS, max_bytes=10, most=5)) == [
        Piece(text="="), Piece(reason="length", usage=(4, 5)),
    ]  # fmt: skip


def test_an_engine_that_never_ends_is_an_error() -> None:
    with pytest.raises(EngineError, match="ended early"):
        list(answers.pieces(lines(event("x"))[:-2], CHAT, max_bytes=10, most=1))
    endless = [b"\n"] * (2 * 1 + answers.MORE_LINES + 1)
    with pytest.raises(EngineError, match="more than was requested"):
        list(answers.pieces(endless, CHAT, max_bytes=10, most=1))


@given(st.binary(max_size=100))
def test_whatever_an_engine_sends_is_read_or_refused(data: bytes) -> None:
    try:
        given = pieces(b"data: " + data, max_bytes=10)
    except EngineError:
        return
    assert sum(len(piece.text.encode()) for piece in given) <= 10


def writer(route: str) -> Writer:
    return Writer(route=route, model="bot", name="aicert-1", created=5)


def document(data: bytes) -> Any:
    return json.loads(data.removeprefix(b"data: "))


def test_a_chat_is_written_in_the_usual_form() -> None:
    chat = writer(CHAT)
    assert document(chat.part(Piece(text="hi"))) == {
        "id": "aicert-1", "object": "chat.completion.chunk", "created": 5, "model": "bot",
        "choices": [
            {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": "hi"}}
        ],
    }  # fmt: skip
    assert document(chat.part(Piece(reason="stop")))["choices"] == [
        {"index": 0, "finish_reason": "stop", "delta": {}}
    ]
    whole = document(chat.whole("hi", "", Usage(tokens_in=7, tokens_out=2)))
    assert whole["object"] == "chat.completion"
    assert whole["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hi"},
        }
    ]
    assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def test_a_completion_is_written_in_the_usual_form() -> None:
    completion = writer(COMPLETIONS)
    part = document(completion.part(Piece(text="hi")))
    assert (part["object"], part["choices"]) == (
        "text_completion", [{"index": 0, "finish_reason": None, "text": "hi"}],
    )  # fmt: skip
    whole = document(completion.whole("hi", "length", Usage(tokens_in=7, tokens_out=2)))
    assert whole["choices"] == [{"index": 0, "finish_reason": "length", "text": "hi"}]
    counts = document(completion.counts(Usage(tokens_in=7, tokens_out=2)))
    assert (counts["choices"], counts["usage"]["total_tokens"]) == ([], 9)


def test_what_else_is_said() -> None:
    assert answers.last() == b"data: [DONE]\n\n"
    assert json.loads(answers.models("bot"))["data"][0]["id"] == "bot"
    expected = {"error": {"message": "why", "type": "budget", "code": "budget"}}
    assert json.loads(answers.error("why", "budget")) == expected
    assert document(answers.error_event("why", "budget")) == expected
