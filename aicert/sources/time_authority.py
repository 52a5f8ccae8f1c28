"""Ask a time authority for a time stamp of a digest (RFC 3161, 2.4, and 3.4: over HTTP).

The answer is only parsed here. The caller checks whether the token covers that digest, and who
signed it.
"""

import httpx2

from aicert.errors import ConfigError, ToolError
from aicert.formats import der
from aicert.formats.der import Der
from aicert.sources.deadline import Deadline
from aicert.sources.transfer import exchange_s, new_client, small_answer

# A token has at most 16 KiB; a refusal is a few words.
MAX_ANSWER = 1 << 16
_SHA256 = bytes.fromhex("608648016503040201")
_TRUE = der.encode(der.BOOLEAN, b"\xff")
_UTF8 = 0x0C


def ask(url: str, digest: bytes, nonce: int) -> bytes:
    """Return the token over a SHA-256 digest from the authority at `url`. Raises ToolError."""
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"not a URL of a time authority: {url[:80]!a}", hint="--tsa https://…")
    where = url[:200]
    headers = {"Content-Type": "application/timestamp-query", "Accept-Encoding": "identity"}
    deadline = Deadline()
    try:
        with (
            new_client() as client,
            deadline.within(exchange_s(MAX_ANSWER), f"the time authority {where!a}"),
            client.stream(
                "POST",
                url,
                content=request(digest, nonce),
                headers=headers,
                extensions={"trace": deadline.trace},
            ) as answer,
        ):
            if answer.status_code != 200:
                raise ToolError(f"the time authority {where!a} answers {answer.status_code}")
            data = small_answer(answer, MAX_ANSWER)
            if data is None:
                raise ToolError(f"the time authority {where!a} sent more than a time stamp")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ToolError(
            f"cannot reach the time authority {where!a}: {type(error).__name__}",
            hint="check the address and the network",
        ) from None
    return token_of(data)


def request(digest: bytes, nonce: int) -> bytes:
    """Encode a TimeStampReq: the digest, the nonce, and a request for certificates."""
    algorithm = der.encode(der.SEQUENCE, der.encode(der.OBJECT_ID, _SHA256))
    imprint = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, digest))
    return der.encode(
        der.SEQUENCE, der.encode_integer(1), imprint, der.encode_integer(nonce), _TRUE
    )


def token_of(answer: bytes) -> bytes:
    """Return the token in a TimeStampResp; ToolError with the reason if it was refused."""
    response = der.one(answer, der.SEQUENCE, "answer of the time authority")
    information = response.inside(der.SEQUENCE)
    status = information.integer()
    if status not in (0, 1):
        raise ToolError(f"the time authority refuses: status {status}{_reason(information)}")
    token = response.take(der.SEQUENCE).encoded
    response.done()
    return token


def _reason(information: Der) -> str:
    if not information.follows(der.SEQUENCE):
        return ""
    texts = information.inside(der.SEQUENCE).rest(_UTF8, 8)
    return "".join(f", {one.content[:200].decode('utf-8', 'replace')!a}" for one in texts)
