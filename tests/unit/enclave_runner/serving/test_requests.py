import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.frozen import replace
from aicert.lease.terms import ROUTES
from enclave_runner.serving import requests
from enclave_runner.serving.requests import (
    AROUND_ALL,
    AROUND_MESSAGE,
    CHAT,
    COMPLETIONS,
    MAX_BODY,
    MODELS,
    Request,
    RequestRefused,
)
from tests.vectors.leases import agreed

TERMS = agreed()
MESSAGES = [{"role": "user", "content": "hello"}]


def read(
    body: Any = None, *, target: str = CHAT, method: str = "POST", headers: Any = None,
    raw: bytes | None = None, terms: Any = TERMS, context: int | None = None,
) -> Request:  # fmt: skip
    data = raw if raw is not None else json.dumps(body).encode()
    usual = [("Host", "machine"), ("Content-Type", "application/json")]
    usual.append(("Content-Length", str(len(data))))
    return requests.read(
        method, target, usual if headers is None else headers, data, terms, model="bot",
        engine_model="/model", template_tokens=100, context=context,
    )  # fmt: skip


def chat(**more: Any) -> Request:
    return read({"messages": MESSAGES, **more})


def test_a_chat_is_written_anew_and_bounded() -> None:
    request = chat(model="bot", max_tokens=50, temperature=0.5, seed=7, stop="\n", user="me")
    assert json.loads(request.body) == {
        "model": "/model", "messages": MESSAGES, "max_tokens": 50, "temperature": 0.5, "seed": 7,
        "stop": ["\n"], "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert request.reserve is not None
    assert request.reserve.tokens_in == 5 + AROUND_MESSAGE + 100 + AROUND_ALL
    assert (request.reserve.tokens_out, request.max_bytes) == (50, 50 * 16)


def test_usage_is_asked_for_whatever_the_client_asks() -> None:
    request = chat(stream=True, stream_options={"include_usage": False})
    assert json.loads(request.body)["stream_options"] == {"include_usage": True}
    assert request.is_streamed


def test_a_completion_and_the_list_of_models() -> None:
    request = read({"prompt": "text"}, target=COMPLETIONS)
    assert json.loads(request.body) == {
        "model": "/model", "prompt": "text", "max_tokens": TERMS.max_output_tokens,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    listed = read(target=MODELS, method="GET", raw=b"", headers=[("Host", "m")])
    assert (listed.body, listed.reserve) == (b"", None)


def test_texts_in_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = read({"messages": [{"role": "user", "content": parts}]})
    assert json.loads(request.body)["messages"] == [{"role": "user", "content": "ab"}]


@pytest.mark.parametrize(
    "target",
    ["/load_model", "/reset", "/slots", "/tokenize", "/", "", "*", "/v1", "/v1/models/",
     "/v1/models?x", "/v1/models#x", "/V1/models", "//v1/models", "/v1/./models",
     "/v1/../v1/models", "/v1/%6dodels", "http://machine/v1/models", "/v1/responses",
     "/v1/audio/transcriptions", "/v1/load_lora_adapter", "/v1/chat/completions\0",
     " /v1/models", "/v1/models;a"],
)  # fmt: skip
def test_gateway_route_of_another_name_or_spelling(target: str) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(RequestRefused) as refused:
            read({"messages": MESSAGES}, target=target, method=method)
        assert (refused.value.check, refused.value.status) == ("gateway.route", 404)


def test_gateway_route_that_the_terms_do_not_have() -> None:
    fewer = replace(TERMS, routes=(COMPLETIONS,))
    with pytest.raises(RequestRefused, match=r"^gateway\.route"):
        read({"messages": MESSAGES}, terms=fewer)
    # This holds even for terms that no custodian could have written.
    more = replace(TERMS, routes=(*ROUTES, "/reset"))
    with pytest.raises(RequestRefused, match=r"^gateway\.route"):
        read({}, target="/reset", terms=more)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "CONNECT", "post", ""])
def test_gateway_route_takes_one_method(method: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read({"messages": MESSAGES}, method=method)
    assert refused.value.status == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Content-Type", "application/json"), ("Content-Length", "{}")], 400),
        ([("Host", "a"), ("host", "b"), ("Content-Type", "application/json"),
          ("Content-Length", "{}")], 400),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "{}"),
          ("Content-Length", "{}")], 400),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "{}"),
          ("Transfer-Encoding", "chunked")], 400),
        ([("Host", "a"), ("Content-Type", "application/json"),
          ("Transfer-Encoding", "chunked")], 400),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "{}"),
          ("Upgrade", "h2c")], 400),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "{}"),
          ("Expect", "100-continue")], 400),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "{}"),
          ("Content-Encoding", "gzip")], 415),
        ([("Host", "a"), ("Content-Type", "text/plain"), ("Content-Length", "{}")], 415),
        ([("Host", "a"), ("Content-Type", "application/json")], 411),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "+{}")], 411),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "0{}")], 411),
        ([("Host", "a"), ("Content-Type", "application/json"), ("Content-Length", "1")], 411),
    ],
)  # fmt: skip
def test_gateway_request_that_two_readers_could_cut_differently(
    headers: list[tuple[str, str]], status: int
) -> None:
    data = json.dumps({"messages": MESSAGES}).encode()
    filled = [(name, value.replace("{}", str(len(data)))) for name, value in headers]
    with pytest.raises(RequestRefused) as refused:
        read(raw=data, headers=filled)
    assert (refused.value.check, refused.value.status) == ("gateway.request", status)


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2}, {"n": 128}, {"n": True}, {"n": 1.0}, {"best_of": 5}, {"logprobs": True},
        {"top_logprobs": 5}, {"logit_bias": {"1": 1}}, {"echo": True}, {"max_tokens": 0},
        {"max_tokens": -1}, {"max_tokens": 10**9}, {"max_tokens": 4097}, {"max_tokens": True},
        {"max_tokens": "5"}, {"max_tokens": 5, "max_completion_tokens": 6},
        {"max_completion_tokens": 10**9}, {"temperature": -1}, {"temperature": "0"},
        {"temperature": True}, {"top_p": 2}, {"seed": -1}, {"seed": 1.5}, {"seed": 1 << 32},
        {"stop": 5}, {"stop": [""]}, {"stop": ["a"] * 17}, {"stop": "a" * 257},
        {"stop": ["a" * 129, "b" * 128]}, {"frequency_penalty": -1}, {"stream": "yes"},
        {"stream": 1}, {"tools": []}, {"generation_config": "{}"}, {"functions": []},
        {"adapter": "x"},
        {"messages": []}, {"messages": "hello"}, {"messages": None}, {"messages": [{}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "x", "name": "y"}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
        {"messages": [{"role": "user", "content": "x"}] * 1025},
    ],
)  # fmt: skip
def test_gateway_request_for_what_is_not_served(more: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        chat(**more)
    assert (refused.value.check, refused.value.status) == ("gateway.request", 400)


def test_gateway_request_for_another_model() -> None:
    for name in ("other", "/models/other", "bot@main", None, 5):
        with pytest.raises(RequestRefused) as refused:
            chat(model=name)
        assert refused.value.status == 404


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b"\xff", b'{"messages": [], "messages": []}', b'{"n": NaN}', b"5",
     b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", b'"\\ud800"'],
)  # fmt: skip
def test_gateway_request_that_is_not_one_object(raw: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        read(raw=raw)
    assert (refused.value.check, refused.value.status) == ("gateway.request", 400)


def test_gateway_request_that_is_too_large() -> None:
    with pytest.raises(RequestRefused) as refused:
        read(raw=b" " * (MAX_BODY + 1))
    assert refused.value.status == 413
    with pytest.raises(RequestRefused, match="has no body"):
        read(target=MODELS, method="GET", raw=b"{}")


@given(st.text(max_size=200))
def test_a_text_is_bounded_however_a_tokenizer_reads_it(text: str) -> None:
    import unicodedata

    try:
        most = requests.most_tokens(text)
    except UnicodeEncodeError:
        # A lone surrogate, which cannot come from JSON that was parsed here.
        return
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert len(unicodedata.normalize(form, text).encode()) <= most
    assert len(text.encode()) <= most


def test_gateway_request_that_is_longer_than_the_model_reads() -> None:
    """An engine would compute for hours, and serve nobody else meanwhile."""
    longest = "x" * (8 * TERMS.egress_bytes_per_token)
    assert read({"prompt": longest}, target=COMPLETIONS, context=8).text_bytes == len(longest)
    assert read({"prompt": longest * 2}, target=COMPLETIONS).text_bytes == 2 * len(longest)
    messages = [{"role": "user", "content": longest}, {"role": "user", "content": "y"}]
    for target, body in ((COMPLETIONS, {"prompt": longest + "y"}), (CHAT, {"messages": messages})):
        with pytest.raises(RequestRefused, match="reads at most 8 tokens") as refused:
            read(body, target=target, context=8)
        assert (refused.value.check, refused.value.status) == ("gateway.request", 400)


def test_gateway_request_without_a_prompt() -> None:
    bodies: tuple[dict[str, Any], ...] = ({}, {"prompt": ""}, {"prompt": []}, {"prompt": None})
    for body in bodies:
        with pytest.raises(RequestRefused) as refused:
            read(body, target=COMPLETIONS)
        assert (refused.value.check, refused.value.status) == ("gateway.request", 400)


def test_stops_may_be_as_long_as_markers_are() -> None:
    stops = ["\nUser:", "x" * 250]
    assert json.loads(chat(stop=stops).body)["stop"] == stops


def test_one_character_can_be_many_octets() -> None:
    assert requests.most_tokens("\ufdfa" * 10) == 330


KEYS = ("n", "max_tokens", "stream", "stop", "temperature", "messages", "model", "x", "seed")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_whatever_is_asked_is_refused_or_bounded(asked: dict[str, Any]) -> None:
    status = 200
    try:
        request = read({"messages": MESSAGES, **asked})
    except RequestRefused as error:
        status = error.status
    if status != 200:
        assert 400 <= status < 500
        return
    forwarded = json.loads(request.body)
    assert request.reserve is not None
    assert 1 <= forwarded["max_tokens"] == request.reserve.tokens_out <= TERMS.max_output_tokens
    assert forwarded["model"] == "/model"
    assert set(forwarded) <= {
        "model", "messages", "max_tokens", "temperature", "top_p", "presence_penalty",
        "frequency_penalty", "seed", "stop", "stream", "stream_options",
    }  # fmt: skip
