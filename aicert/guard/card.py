"""Write a block into the model card that goes to the hub: who signed the files, and how to check
it.

The block stands between the marks of `aicert card` and follows its rules: every other byte stays.
If a certificate lies beside the card, the block belongs to `aicert card`, and this writes none.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from aicert.errors import AicertError, EvidenceError
from aicert.files.atomic import write_atomically
from aicert.files.bounded import read_bounded
from aicert.guard.judge import CERTIFICATE
from aicert.model_signature.signed_by import SIGNATURE, key_text
from aicert.signing.keys import KeySigner
from aicert.text import error_lines, safe

CARD = "README.md"
# The same limit as in `aicert card`: a card is text that somebody wrote.
_MAX_CARD = 1 << 22


def write_block(folder: Path, signer: KeySigner) -> None:
    """Create or update the block in the folder's card, if there is a card.

    If the card cannot take a block, say why on stderr. What is pushed is signed either way: a card
    does not stop an upload.
    """
    place = folder / CARD
    if not place.is_file() or os.path.lexists(folder / CERTIFICATE):
        return
    try:
        before = read_bounded(place, _MAX_CARD, "model card").decode()
        after = _with_block(before, signer)
    except UnicodeDecodeError:
        _say(place, EvidenceError("it is not UTF-8"))
    except AicertError as error:
        _say(place, error)
    except ModuleNotFoundError as error:
        _say(place, EvidenceError(f"the package {error.name} is not installed"))
    else:
        if after != before:
            write_atomically(place, after.encode())


def _say(place: Path, error: AicertError) -> None:
    text = f"aicert guard: the card {safe(str(place))} was given no block: {error.message}"
    sys.stderr.write(error_lines(text, error.hint))


def _with_block(before: str, signer: KeySigner) -> str:
    # The module needs an extra, so it is loaded by name, as on the command line.
    places: Any = importlib.import_module("aicert.exports.card_places")
    mark = "\ufeff" if before.startswith("\ufeff") else ""
    text = before.removeprefix(mark)
    line = places.line_end(text)
    _, body = places.split(text)
    front = text[: len(text) - len(body)]
    block = _block(places.BEGIN, places.END, signer)
    return mark + str(places.under(front, body, block, line, above=front.count("\n")))


def _block(begin: str, end: str, signer: KeySigner) -> str:
    return f"""{begin}
## Who signed these files

`{SIGNATURE}` is a signature over all files here, this card included (OpenSSF Model Signing), with
the key `{key_text(signer.public)}`.

This text proves nothing; the signature does. Get the publisher's key from where you trust it, not
from this page, and check what you downloaded with aicert (on PyPI that name is another project's):

```sh
aicert verify-signature . --key publisher.pub
```
{end}
"""
