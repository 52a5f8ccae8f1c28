"""Machine images that no policy accepts any more, by their PCR 11, with the reason.

A revoked image fails `boot.image`, whatever a policy file says and whenever the run was. Its
certificates stay readable. The list belongs to that check and not to any policy, so it is here and
not in `trust/`. PCR 11 covers the image's kernel, initrd and command line, and so the roots of its
volumes: editing a lock cannot give the same image another value.

The values are the first 8 bytes of `pcr11` (a chance match would only refuse) in the locks that
this repository's history holds:

    git rev-list --all --objects -- lockfiles/image.lock.toml lockfiles/image-gpu.lock.toml |
      awk '/lock.toml$/ {print $1}' | while read blob; do git cat-file blob $blob | grep pcr11; done
"""

from typing import Final

_PLANTED: Final = (
    "its trainer opened paths and ran templates that rows of a data set named, so it passes "
    "weights that existed before the run"
)
# Images from before the runner read the rows itself: image.lock.toml, then image-gpu.lock.toml.
_BEFORE_THE_READER_OF_ROWS: Final = """
01227b1d7e60ec61 0d09387c79e533b0 23958b0fa385ad6e 2dd84c267f29583a 34a73125198002b1
3cbcec4dc5139114 450f71bd8269af66 48f0437b4830d9fb 4c22a5ee1cdf67e5 52b4950770e79bbb
5836ca842ee2e644 afd63eb276d38bb8 da3c83cbbba81b59 f291b5cfddc05334 f475fade15f4df3e
f75367a6e79e5998 f9fd518e7d2b6e7f fd1a793b6d393520 12c3d773619ebd40 40da0ae8c01f1023
63b3b51a9bdd1960 6be6732ece873aae 9d96b7aec6683cc7 bf728713712a806b d46a8f5d6ba8db47
d7d010f35fc575dc
"""
_UNNAMED: Final = (
    "its trainer took a chat template from a path, and texts from a tokenizer that no report "
    "names, so it passes weights trained on text from no input"
)
# Images from before the runner wrote templates to its own files and named every key of a tokenizer.
_BEFORE_ALL_TEXTS_HAD_NAMES: Final = """
27d5dd589b0e23fc 4d0680f9d54ecbe7 518ea8a2df3c6dbc 51ff56f97050f82c 74b31a7851f3b9b2
7eab4de0278d25db 9f1aa9eeee2baaf3 a3892067d52cc874 cbb927d9b2ef747f d41128b615b09a5a
d68a5c84edcecb1d d98fc2da04ea4b63 e72e2a85417387b7 e9c64098258a76b1 fa28dca1f5cf81d8
1c0ce10fa7543db2 2317dfcf2075c667 3ccea8f616c61057 4077a2c3361aa965 5f2a19af24c8383f
6161b9b0bda621f2 f2f6311f780dd113
"""
_UNCHECKED: Final = (
    "its trainer opened files of a model's folder that nobody checked, so it passes an adapter "
    "that existed before the run"
)
# Images from before every file in a model's folder had a single use.
_BEFORE_FILES_HAD_ONE_USE: Final = """
254654ad2c91adbe 60900a4f3009d897 86deb354601f5977 ae358cc781019f10 e00a3560a863aefe
"""
REVOKED: Final = {
    bytes.fromhex(each): reason
    for images, reason in (
        (_BEFORE_THE_READER_OF_ROWS, _PLANTED),
        (_BEFORE_ALL_TEXTS_HAD_NAMES, _UNNAMED),
        (_BEFORE_FILES_HAD_ONE_USE, _UNCHECKED),
    )
    for each in images.split()
}


def why_revoked(pcr11: bytes) -> str | None:
    """Return why no policy accepts the image with this PCR 11; None if it may be accepted."""
    return REVOKED.get(pcr11[:8])
