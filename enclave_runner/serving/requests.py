"""Check what a gateway lets through to the engine: a closed list of routes and parameters.

The engine itself would load any path for anybody, reset itself and count whatever it is told to
count. So nothing reaches it except a request that was parsed and checked here, then written again.
Every request is bounded before it is served: in tokens, and in bytes of its answer.

`read` raises RequestRefused with an HTTP status. The connection is then closed, because after a
request that was not parsed nobody knows where the next one begins.
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
# Characters of all stops together. An engine compares each of them with every token of its
# vocabulary, before it answers: minutes and gigabytes for a long one, for which nobody pays.
MAX_STOP_TEXT: Final = 256
# Tokens that a template puts around a message: role, markers and line ends. A tokenizer makes at
# most one token per byte; those that it adds itself are counted here.
AROUND_MESSAGE: Final = 64
AROUND_ALL: Final = 256
_ROLES: Final = ("assistant", "system", "user")
_METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {CHAT: "POST", COMPLETIONS: "POST", MODELS: "GET"}
)
# Keys accepted besides `messages`, `prompt` and those checked below.
_NUMBERS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "presence_penalty": (-2, 2),
        # The engine adds one and divides by it.
        "frequency_penalty": (-0.99, 2),
    }
)
# Headers that may appear only once, since readers may differ on which of two counts.
_ONCE: Final = ("content-length", "content-type", "host", "transfer-encoding", RECEIPT)


class RequestRefused(AicertError):  # noqa: N818 - says what happened
    """Raised for a request that is not served; `status` is the HTTP status."""

    def __init__(self, check: str, status: int, message: str) -> None:
        super().__init__(f"{check}: {message}")
        self.check = check
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for the engine.

    `reserve`: None if the request costs nothing. `max_bytes`: the most bytes of the answer's text.
    `is_streamed`: whether the client gets the answer in parts. `text_bytes`: how many bytes its
    prompt or messages have. `asks_usage`: whether counts come in one of the parts. `nonce` (hex):
    set if the client wants a receipt.
    """

    route: str
    body: bytes
    reserve: Reserve | None
    max_bytes: int
    is_streamed: bool
    text_bytes: int = 0
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
    context: int | None = None,
) -> Request:
    """Check a client's request, and return it as the engine will get it. Raises RequestRefused.

    `model`: the one name that clients know. `engine_model`: the engine's own name.
    `template_tokens`: the most tokens that its chat template adds besides messages. `context`: how
    many tokens the model reads at most, None if its files do not say.
    """
    route = _route(method, target, terms)
    nonce = _check_headers(headers, route, len(body))
    if route == MODELS:
        if body:
            _refuse(400, "a request for the list of models has no body")
        return Request(route=route, body=b"", reserve=None, max_bytes=MAX_BODY, is_streamed=False)
    parameters = _json(body)
    if parameters.pop("model", model) != model:
        _refuse(404, "the machine serves one model, by the name that /v1/models gives")
    request = _completion(route, parameters, terms, engine_model, template_tokens, nonce)
    _check_length(request, context, terms)
    return request


def _check_length(request: Request, context: int | None, terms: Terms) -> None:
    """Refuse a prompt that is surely longer than the model reads.

    An engine would compute with it for hours, or until its memory ends, and serve nobody else.
    Which tokens a text becomes is not known here, but none is longer than the terms' ceiling.
    """
    if context is None:
        return
    most = context * terms.egress_bytes_per_token
    if request.text_bytes > most:
        _refuse(400, f"the model reads at most {context} tokens: a prompt has at most {most} bytes")


def _route(method: str, target: str, terms: Terms) -> str:
    """Return the route, which must be spelled exactly as in the list: no query, no absolute URI."""
    if target not in terms.routes or target not in _METHODS:
        raise RequestRefused("gateway.route", 404, "this lease has no such route")
    if method != _METHODS[target]:
        raise RequestRefused("gateway.route", 405, f"the route takes {_METHODS[target]}")
    return target


def _check_headers(headers: Sequence[tuple[str, str]], route: str, size: int) -> str:
    """Check the headers, and return the nonce for a receipt; "" if the client sent none."""
    by_name: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _ONCE and lowered in by_name:
            _refuse(400, f"header {lowered} is given twice")
        by_name[lowered] = value
    if "host" not in by_name:
        _refuse(400, "header host is missing")
    if "transfer-encoding" in by_name or "upgrade" in by_name or "expect" in by_name:
        _refuse(400, "a request needs a content-length, and must not change the connection")
    if "content-encoding" in by_name:
        _refuse(415, "a request must not be compressed")
    length = by_name.get("content-length", "0" if route == MODELS else "")
    if not (length.isascii() and length.isdigit()) or length != str(size):
        _refuse(411, "the content-length does not match the body")
    if size > MAX_BODY:
        _refuse(413, f"a request is larger than {MAX_BODY} bytes")
    kind = by_name.get("content-type", "").partition(";")[0].strip().lower()
    if route != MODELS and kind != "application/json":
        _refuse(415, "a request must be application/json")
    nonce = by_name.get(RECEIPT, "")
    if RECEIPT in by_name and (not is_hex(nonce) or route == MODELS):
        _refuse(400, f"header {RECEIPT} must be 64 hexadecimal digits, on a counted request")
    return nonce


def _json(body: bytes) -> dict[str, object]:
    try:
        # Many clients escape characters beyond the BMP as surrogate pairs; 1 MiB bounds the work.
        value = strict_json.loads(body, what="the request", max_bytes=MAX_BODY, signed=True)
    except EvidenceError as error:
        _refuse(400, error.message)
    if not isinstance(value, dict):
        _refuse(400, "the request is not an object")
    return cast("dict[str, object]", value)


def _completion(
    route: str,
    parameters: dict[str, object],
    terms: Terms,
    model: str,
    template_tokens: int,
    nonce: str,
) -> Request:
    left = dict(parameters)
    _refuse_many(left)
    # The engine always streams, so that one parser reads every answer, whatever the client gets.
    forwarded: dict[str, object] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if route == CHAT:
        messages, tokens_in = _messages(left.pop("messages", None))
        forwarded["messages"] = messages
        texts = [message["content"] for message in messages]
        tokens_in += template_tokens
    else:
        texts = [_text(left.pop("prompt", None), "prompt")]
        (forwarded["prompt"],) = texts
        if not texts[0]:
            _refuse(400, "a prompt must not be empty")
        tokens_in = most_tokens(texts[0])
    tokens_out = _tokens_out(left, terms.max_output_tokens)
    forwarded["max_tokens"] = tokens_out
    forwarded |= _numbers(left)
    if "stop" in left:
        forwarded["stop"] = _stops(left.pop("stop"))
    streamed = left.pop("stream", False)
    if type(streamed) is not bool:
        _refuse(400, "stream must be true or false")
    # The engine is always asked for usage, which is counted, whatever the client asks for.
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
        text_bytes=sum(len(text.encode()) for text in texts),
        asks_usage=bool(streamed) and asks_usage,
        nonce=nonce,
    )


def _refuse_many(left: dict[str, object]) -> None:
    """Refuse more than one answer per request, and numbers besides its text."""
    for key in ("n", "best_of"):
        value = left.pop(key, None)
        if value is not None and (type(value) is not int or value != 1):
            _refuse(400, f"{key} must be 1")
    for key in ("logprobs", "top_logprobs", "logit_bias", "echo", "suffix"):
        if left.pop(key, None) not in (None, False):
            _refuse(400, f"{key} is not served")


def _tokens_out(left: dict[str, object], most: int) -> int:
    given = [left.pop(key) for key in ("max_tokens", "max_completion_tokens") if key in left]
    given = [value for value in given if value is not None]
    if not given:
        return most
    if len(given) > 1 or type(given[0]) is not int or not 1 <= given[0] <= most:
        _refuse(400, f"max_tokens must be from 1 to {most}")
    return given[0]


def _messages(value: object) -> tuple[list[dict[str, str]], int]:
    """Check the messages; return them, and the most tokens that they can have."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        _refuse(400, f"messages must be a list of 1 to {MAX_MESSAGES}")
    messages, tokens = [], 0
    for one in value:
        if not isinstance(one, dict) or set(one) != {"role", "content"}:
            _refuse(400, "a message must have exactly role and content")
        if one["role"] not in _ROLES:
            _refuse(400, f"a role must be one of {', '.join(_ROLES)}")
        content = _text(one["content"], "content")
        messages.append({"role": cast("str", one["role"]), "content": content})
        tokens += most_tokens(content) + AROUND_MESSAGE
    return messages, tokens


def most_tokens(text: str) -> int:
    """Return the most tokens that a text can have.

    A tokenizer that normalises text may see more bytes than were sent (3 can become 33), and makes
    at most one token of each byte.
    """
    forms = (form for one in (text, text.lower()) for form in _normalised(one))
    return max(len(form.encode()) for form in forms)


def _normalised(text: str) -> Iterator[str]:
    yield text
    if not text.isascii():
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            yield unicodedata.normalize(form, text)


def _text(value: object, name: str) -> str:
    """Return a text, or several text parts joined; images and addresses are refused."""
    if isinstance(value, list):
        parts = []
        for part in value:
            if not isinstance(part, dict) or set(part) != {"type", "text"}:
                _refuse(400, f"{name} must be text")
            if part["type"] != "text" or type(part["text"]) is not str:
                _refuse(400, f"{name} must be text")
            parts.append(part["text"])
        return "".join(parts)
    if type(value) is not str:
        _refuse(400, f"{name} must be text")
    return value


def _numbers(left: dict[str, object]) -> dict[str, object]:
    forwarded: dict[str, object] = {}
    for key, (low, high) in _NUMBERS.items():
        value = left.pop(key, None)
        if value is None:
            continue
        if type(value) not in (int, float) or not low <= cast("float", value) <= high:
            _refuse(400, f"{key} must be from {low} to {high}")
        forwarded[key] = value
    seed = left.pop("seed", None)
    if seed is not None:
        if type(seed) is not int or not 0 <= seed < 1 << 32:
            _refuse(400, "seed must be from 0 to 4294967295")
        forwarded["seed"] = seed
    return forwarded


def _stops(value: object) -> list[str]:
    stops = [value] if type(value) is str else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        _refuse(400, f"stop must be a text or a list of at most {MAX_STOPS}")
    if not all(type(stop) is str and stop for stop in stops):
        _refuse(400, "stop must be a text or a list of texts")
    texts = cast("list[str]", stops)
    if sum(map(len, texts)) > MAX_STOP_TEXT:
        _refuse(400, f"stop must have at most {MAX_STOP_TEXT} characters in all")
    return texts


def _refuse(status: int, message: str) -> NoReturn:
    raise RequestRefused("gateway.request", status, message)
