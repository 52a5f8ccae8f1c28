"""Parse the engine's answers as hostile input, and write them again for the client.

The engine sends server-sent events. Only the text, the finish reason and `usage` are taken from
each, and the client receives them in the format it asked for. An answer therefore carries its text
and nothing else: its size in bytes is bounded (`egress-bytes-per-token`), and whatever else the
engine sends stays in the machine.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from aicert.errors import AicertError, EvidenceError
from aicert.formats import strict_json
from aicert.frozen import dataclass
from enclave_runner.serving.requests import CHAT

MAX_LINE: Final = 1 << 16
# Events allowed on top of those with text: roles, the finish reason, usage and keep-alives.
MORE_LINES: Final = 4096
_DATA: Final = b"data:"
_LAST: Final = b"[DONE]"
_REASONS: Final = ("stop", "length")


class EngineError(AicertError):
    """Raised if the engine sends nothing, or something that no engine sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The content of one event: text, a finish reason, or the engine's token counts.

    The counts are not checked here; `meter` judges them.
    """

    text: str = ""
    reason: str = ""
    usage: tuple[object, object] | None = None


def pieces(lines: Iterable[bytes], route: str, *, max_bytes: int, most: int) -> Iterator[Piece]:
    """Yield the pieces of an answer. Raises EngineError if it has no proper end.

    It must end with the engine's last event, or after the counts if the engine then closes the
    stream, as `transformers serve` does for a completion. Text beyond `max_bytes` is dropped.
    `most`: the largest number of pieces with text.
    """
    left, number, is_counted = max_bytes, 0, False
    for line in lines:
        number += 1
        if number > 2 * most + MORE_LINES:
            raise EngineError("the engine sent more than was requested")
        data = _data(line)
        if data == _LAST:
            return
        if not data:
            continue
        piece = _piece(data, route)
        text = _cut(piece.text, left)
        left -= len(text.encode())
        is_counted = is_counted or piece.usage is not None
        yield Piece(text=text, reason=piece.reason, usage=piece.usage)
    if not is_counted:
        raise EngineError("the engine's answer ended early")


def _data(line: bytes) -> bytes:
    """Return the data field of an event; empty for blank lines, comments and other fields."""
    if len(line) > MAX_LINE:
        raise EngineError("the engine sent a line that is too long")
    return line[len(_DATA) :].strip() if line.startswith(_DATA) else b""


def _piece(data: bytes, route: str) -> Piece:
    try:
        # Characters beyond the BMP may be escaped as surrogate pairs; the line limit bounds the
        # work.
        event = strict_json.loads(data, what="the engine's answer", max_bytes=MAX_LINE, signed=True)
    except EvidenceError as error:
        raise EngineError(error.message) from None
    if not isinstance(event, dict):
        raise EngineError("the engine's answer is not an object")
    usage = event.get("usage")
    counts = None
    if isinstance(usage, dict):
        counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices:
        return Piece(usage=counts)
    choice = choices[0]
    if len(choices) > 1 or not isinstance(choice, dict):
        raise EngineError("the engine sent more than one answer")
    reason = choice.get("finish_reason")
    return Piece(
        text=_text(choice, route),
        reason=reason if reason in _REASONS else ("stop" if reason else ""),
        usage=counts,
    )


def _text(choice: dict[str, object], route: str) -> str:
    source: object = choice
    if route == CHAT:
        source = choice.get("delta")
    if not isinstance(source, dict):
        return ""
    text = source.get("content" if route == CHAT else "text")
    return text if isinstance(text, str) else ""


def _cut(text: str, most: int) -> str:
    """Return the longest prefix of `text` that fits into `most` bytes."""
    data = text.encode()
    return text if len(data) <= most else data[:most].decode(errors="ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The token counts of one answer."""

    tokens_in: int
    tokens_out: int

    def document(self) -> dict[str, int]:
        """Return the counts in the form that clients expect."""
        return {
            "prompt_tokens": self.tokens_in,
            "completion_tokens": self.tokens_out,
            "total_tokens": self.tokens_in + self.tokens_out,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes one answer. `name` is the answer's id, `created` is in seconds since 1970."""

    route: str
    model: str
    name: str
    created: int

    def part(self, piece: Piece) -> bytes:
        """Write an event with text or a finish reason."""
        choice: dict[str, object] = {"index": 0, "finish_reason": piece.reason or None}
        if self.route == CHAT:
            delta = {"role": "assistant", "content": piece.text} if piece.text else {}
            choice["delta"] = delta
        else:
            choice["text"] = piece.text
        return _event(self._document("chat.completion.chunk", [choice]))

    def counts(self, usage: Usage) -> bytes:
        """Write the last event before the end, for clients that ask for usage."""
        document = self._document("chat.completion.chunk", [])
        return _event(document | {"usage": usage.document()})

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        """Write the whole answer as one document."""
        choice: dict[str, object] = {"index": 0, "finish_reason": reason or "stop"}
        if self.route == CHAT:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        document = self._document("chat.completion", [choice])
        return _json(document | {"usage": usage.document()})

    def _document(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self.name,
            "object": kind if self.route == CHAT else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def last() -> bytes:
    """Return the event that ends a stream."""
    return _DATA + b" " + _LAST + b"\n\n"


def models(model: str) -> bytes:
    """Write the list of models, which has one entry."""
    entry = {"id": model, "object": "model", "created": 0, "owned_by": "lease"}
    return _json({"object": "list", "data": [entry]})


def error(message: str, kind: str) -> bytes:
    """Write a body that says why there is no answer."""
    return _json({"error": {"message": message, "type": kind, "code": kind}})


def error_event(message: str, kind: str) -> bytes:
    """Write an error as an event within a stream."""
    return _DATA + b" " + error(message, kind) + b"\n\n"


def _event(document: dict[str, object]) -> bytes:
    return _DATA + b" " + _json(document) + b"\n\n"


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode("ascii")
