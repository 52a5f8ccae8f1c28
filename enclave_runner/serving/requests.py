"""What a gateway lets through to the engine: a closed list of routes and of what may be asked.

The engine behind it loads any path for anybody, resets itself, and counts what it is told to count;
so nothing reaches it but a request that was read here, checked and written anew. Every request is
bounded before it is served: how many tokens it may cost, how many bytes it may answer.

`read` raises RequestRefused with the HTTP status to answer; the connection is closed then, since of
a request that was not read nobody knows where the next one begins.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NoReturn, cast

from aicert.errors import AicertError, EvidenceError
from aicert.formats import strict_json
from aicert.formats.digest import is_hex
from aicert.frozen import dataclass
from aicert.lease.answer_receipts import HEADER as RECEIPT
from aicert.lease.terms import Terms
from enclave_runner.serving.meter import Reserve

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
MODELS: Final = "/v1/models"
MAX_BODY: Final = 1 << 20
MAX_MESSAGES: Final = 1024
MAX_STOPS: Final = 16
# What a template puts around a message: role, marks and line ends. A tokenizer makes at most one
# token of an octet; what it adds by itself is counted here.
AROUND_MESSAGE: Final = 64
AROUND_ALL: Final = 256
_ROLES: Final = ("assistant", "system", "user")
_METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {CHAT: "POST", COMPLETIONS: "POST", MODELS: "GET"}
)
# Beside `messages` or `prompt`, and what is looked at below.
_NUMBERS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "presence_penalty": (-2, 2),
        "frequency_penalty": (-2, 2),
    }
)
# Once in a request, or its readers differ on which one counts.
_ONCE: Final = ("content-length", "content-type", "host", "transfer-encoding", RECEIPT)


class RequestRefused(AicertError):  # noqa: N818 - says what happened
    """A request that is not served; `status` is HTTP's."""

    def __init__(self, check: str, status: int, message: str) -> None:
        super().__init__(f"{check}: {message}")
        self.check = check
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What goes to the engine. `reserve`: None where it costs nothing; `max_bytes`: of an answer's
    text; `is_streamed`: whether the client gets it in parts; `asks_usage`: and its counts in a part
    of their own. `nonce`: of a client who wants a receipt of the answer, in hex; empty without one.
    """

    route: str
    body: bytes
    reserve: Reserve | None
    max_bytes: int
    is_streamed: bool
    asks_usage: bool = False
    nonce: str = ""


def read(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    terms: Terms,
    *,
    model: str,
    engine_model: str,
    template_tokens: int,
) -> Request:
    """The request as the engine gets it. `model`: the one name that clients know, `engine_model`:
    the engine's; `template_tokens`: the most that its chat template adds beside messages.
    """
    route = _route(method, target, terms)
    nonce = _check_headers(headers, route, len(body))
    if route == MODELS:
        if body:
            _refuse(400, "a request for the list of models has no body")
        return Request(route=route, body=b"", reserve=None, max_bytes=MAX_BODY, is_streamed=False)
    asked = _json(body)
    if asked.pop("model", model) != model:
        _refuse(404, "the machine serves one model, by the name that /v1/models gives")
    return _completion(route, asked, terms, engine_model, template_tokens, nonce)


def _route(method: str, target: str, terms: Terms) -> str:
    """The route, letter for letter: no query, no other spelling, no absolute URI."""
    if target not in terms.routes or target not in _METHODS:
        raise RequestRefused("gateway.route", 404, "this lease has no such route")
    if method != _METHODS[target]:
        raise RequestRefused("gateway.route", 405, f"the route takes {_METHODS[target]}")
    return target


def _check_headers(headers: Sequence[tuple[str, str]], route: str, size: int) -> str:
    """The nonce for a receipt, if one is asked for."""
    by_name: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _ONCE and lowered in by_name:
            _refuse(400, f"header {lowered} is given twice")
        by_name[lowered] = value
    if "host" not in by_name:
        _refuse(400, "header host is missing")
    if "transfer-encoding" in by_name or "upgrade" in by_name or "expect" in by_name:
        _refuse(400, "a request has a content-length, and nothing that changes the connection")
    if "content-encoding" in by_name:
        _refuse(415, "a request is not compressed")
    length = by_name.get("content-length", "0" if route == MODELS else "")
    if not (length.isascii() and length.isdigit()) or length != str(size):
        _refuse(411, "the content-length is not that of the body")
    if size > MAX_BODY:
        _refuse(413, f"a request is larger than {MAX_BODY} bytes")
    kind = by_name.get("content-type", "").partition(";")[0].strip().lower()
    if route != MODELS and kind != "application/json":
        _refuse(415, "a request is application/json")
    nonce = by_name.get(RECEIPT, "")
    if RECEIPT in by_name and (not is_hex(nonce) or route == MODELS):
        _refuse(400, f"header {RECEIPT} is a nonce of 64 hexadecimal digits, of a counted request")
    return nonce


def _json(body: bytes) -> dict[str, object]:
    try:
        # Many clients escape characters beyond the BMP as two; 1 MiB bounds the work.
        value = strict_json.loads(body, what="the request", max_bytes=MAX_BODY, signed=True)
    except EvidenceError as error:
        _refuse(400, error.message)
    if not isinstance(value, dict):
        _refuse(400, "the request is not an object")
    return cast("dict[str, object]", value)


def _completion(
    route: str,
    asked: dict[str, object],
    terms: Terms,
    model: str,
    template_tokens: int,
    nonce: str,
) -> Request:
    left = dict(asked)
    _refuse_many(left)
    # Always in parts: an answer has one reader, whatever form the client gets.
    forwarded: dict[str, object] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if route == CHAT:
        forwarded["messages"], tokens_in = _messages(left.pop("messages", None))
        tokens_in += template_tokens
    else:
        forwarded["prompt"] = _text(left.pop("prompt", None), "prompt")
        tokens_in = most_tokens(str(forwarded["prompt"]))
    tokens_out = _tokens_out(left, terms.max_output_tokens)
    forwarded["max_tokens"] = tokens_out
    forwarded |= _numbers(left)
    if "stop" in left:
        forwarded["stop"] = _stops(left.pop("stop"))
    streamed = left.pop("stream", False)
    if type(streamed) is not bool:
        _refuse(400, "stream is true or false")
    # What was served is counted from it, so it is asked for whatever the client asks.
    options = left.pop("stream_options", None)
    asks_usage = isinstance(options, dict) and options.get("include_usage") is True
    left.pop("user", None)
    if left:
        _refuse(400, f"this gateway does not know {min(left)[:40]!a}")
    return Request(
        route=route,
        body=strict_json.dumps(forwarded),
        reserve=Reserve(tokens_in=tokens_in + AROUND_ALL, tokens_out=tokens_out),
        max_bytes=tokens_out * terms.egress_bytes_per_token,
        is_streamed=bool(streamed),
        asks_usage=bool(streamed) and asks_usage,
        nonce=nonce,
    )


def _refuse_many(left: dict[str, object]) -> None:
    """One answer a request, and no numbers beside its text."""
    for key in ("n", "best_of"):
        value = left.pop(key, None)
        if value is not None and (type(value) is not int or value != 1):
            _refuse(400, f"{key} is 1")
    for key in ("logprobs", "top_logprobs", "logit_bias", "echo", "suffix"):
        if left.pop(key, None) not in (None, False):
            _refuse(400, f"{key} is not served")


def _tokens_out(left: dict[str, object], most: int) -> int:
    given = [left.pop(key) for key in ("max_tokens", "max_completion_tokens") if key in left]
    given = [value for value in given if value is not None]
    if not given:
        return most
    if len(given) > 1 or type(given[0]) is not int or not 1 <= given[0] <= most:
        _refuse(400, f"max_tokens is from 1 to {most}")
    return given[0]


def _messages(value: object) -> tuple[list[dict[str, str]], int]:
    """The messages, and how many tokens they are at most."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        _refuse(400, f"messages is a list of 1 to {MAX_MESSAGES}")
    messages, tokens = [], 0
    for one in value:
        if not isinstance(one, dict) or set(one) != {"role", "content"}:
            _refuse(400, "a message has role and content")
        if one["role"] not in _ROLES:
            _refuse(400, f"a role is one of {', '.join(_ROLES)}")
        content = _text(one["content"], "content")
        messages.append({"role": cast("str", one["role"]), "content": content})
        tokens += most_tokens(content) + AROUND_MESSAGE
    return messages, tokens


def most_tokens(text: str) -> int:
    """How many tokens a text is at most: a tokenizer that normalises it may see more octets than
    were sent (one of three can become thirty-three), and makes at most one token of each.
    """
    forms = (form for one in (text, text.lower()) for form in _normalised(one))
    return max(len(form.encode()) for form in forms)


def _normalised(text: str) -> Iterator[str]:
    yield text
    if not text.isascii():
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            yield unicodedata.normalize(form, text)


def _text(value: object, name: str) -> str:
    """A text; of texts in parts, all of them. Pictures and addresses are not fetched."""
    if isinstance(value, list):
        parts = []
        for part in value:
            if not isinstance(part, dict) or set(part) != {"type", "text"}:
                _refuse(400, f"{name} is text")
            if part["type"] != "text" or type(part["text"]) is not str:
                _refuse(400, f"{name} is text")
            parts.append(part["text"])
        return "".join(parts)
    if type(value) is not str:
        _refuse(400, f"{name} is text")
    return value


def _numbers(left: dict[str, object]) -> dict[str, object]:
    forwarded: dict[str, object] = {}
    for key, (low, high) in _NUMBERS.items():
        value = left.pop(key, None)
        if value is None:
            continue
        if type(value) not in (int, float) or not low <= cast("float", value) <= high:
            _refuse(400, f"{key} is from {low} to {high}")
        forwarded[key] = value
    seed = left.pop("seed", None)
    if seed is not None:
        if type(seed) is not int or not 0 <= seed < 1 << 32:
            _refuse(400, "seed is from 0 to 4294967295")
        forwarded["seed"] = seed
    return forwarded


def _stops(value: object) -> list[str]:
    stops = [value] if type(value) is str else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        _refuse(400, f"stop is a text, or at most {MAX_STOPS}")
    if not all(type(stop) is str and stop for stop in stops):
        _refuse(400, "stop is a text, or some")
    return cast("list[str]", stops)


def _refuse(status: int, message: str) -> NoReturn:
    raise RequestRefused("gateway.request", status, message)
