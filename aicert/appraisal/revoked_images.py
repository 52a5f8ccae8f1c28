"""Machine images that no policy accepts any more, by their PCR 11, with the reason.

Whatever a policy file says and whenever a run was: a revoked image fails `boot.image`. Its
certificates stay readable. The list is a part of that check and of no policy, so that it lies here
and not among what is trusted. PCR 11 has the image's kernel, initrd and command line, and with them
the roots of its volumes: no edit of a lock gives the same image another value.

The values are the first 16 bytes of `pcr11` (a chance match would only refuse) in the locks that
this repository's history holds:

    git rev-list --all --objects -- lockfiles/image.lock.toml lockfiles/image-gpu.lock.toml |
      awk '/lock.toml$/ {print $1}' | while read blob; do git cat-file blob $blob | grep pcr11; done
"""

from typing import Final

_PLANTED: Final = (
    "its trainer opened paths that rows of a data set named and ran templates that they named, so "
    "it passes weights that existed before the run"
)
# Before the runner read the rows itself: image.lock.toml, then image-gpu.lock.toml.
_BEFORE_THE_READER_OF_ROWS: Final = """
01227b1d7e60ec61978bffe97461a6db 0d09387c79e533b06b0ec24b1bc79e64 23958b0fa385ad6e0d7bf034215aa75f
2dd84c267f29583a0978c81cfadf71e9 34a73125198002b1b4c9957280cba1b8 3cbcec4dc5139114f5d2cea07163b07a
450f71bd8269af66a34cea2d9a2e019f 48f0437b4830d9fbfb59502020becd61 4c22a5ee1cdf67e51fb68a4d825fd959
52b4950770e79bbb964d538ae2a8d220 5836ca842ee2e644dbaf3743d4437c4e afd63eb276d38bb89c153ad1022b3fda
da3c83cbbba81b592b99ea93612571be f291b5cfddc053345f818c3c41c8b44f f475fade15f4df3efc1f85f8623ed961
f75367a6e79e5998fc931e38047730c4 f9fd518e7d2b6e7f6979e38a9da43ff5 fd1a793b6d393520fe03a79d0e9c0e39
12c3d773619ebd4039483c9698874e83 40da0ae8c01f102362a180d6a7bd0045 63b3b51a9bdd1960f7ef99fc9ed0c765
6be6732ece873aaebdd94510998f1a8c 9d96b7aec6683cc7a3c5d9ea64450032 bf728713712a806b46b9fb5233f67a1f
d46a8f5d6ba8db47faf015e9b2ea552e d7d010f35fc575dc620d7b64939ab8ce
"""
_UNNAMED: Final = (
    "its trainer took a chat template from a path, and texts of a tokenizer that no report names, "
    "so it passes weights trained on text of no input"
)
# Before templates were files of the runner's own and every key of a tokenizer had a name.
_BEFORE_ALL_TEXTS_HAD_NAMES: Final = """
27d5dd589b0e23fc5089d0e000c170ad 4d0680f9d54ecbe7d091f4ed3e95a634 518ea8a2df3c6dbcda2b8fd0a7941d7c
51ff56f97050f82cc2a5155b40fb76ec 74b31a7851f3b9b2ff6ad61902ab8580 7eab4de0278d25db9cbf4b6ce908c01f
9f1aa9eeee2baaf382fc6cbb4cc793b0 a3892067d52cc87493a9c7b9384fc963 cbb927d9b2ef747f4859cf46cdfad43a
d41128b615b09a5ac81ee302726a10db d68a5c84edcecb1d4d19e8dd18e4f704 d98fc2da04ea4b63bb98d98b369f153c
e72e2a85417387b7728e889f625d980c e9c64098258a76b1d8cd7dd3b1f516ed fa28dca1f5cf81d836c468b620b54e1d
1c0ce10fa7543db250f0745be1d3adab 2317dfcf2075c66784cd3840103296f8 3ccea8f616c610573efe4b75bd070f3f
4077a2c3361aa965dae75e89b5055224 5f2a19af24c8383f5a31ba4b02b4c283 6161b9b0bda621f235802ff5eeb60da9
f2f6311f780dd113495928c72f3444d3
"""
_UNCHECKED: Final = (
    "its trainer opened files of a model's folder that nobody checked, so it passes an adapter "
    "that existed before the run"
)
# Before a file in a model's folder had one use.
_BEFORE_FILES_HAD_ONE_USE: Final = """
254654ad2c91adbefbd5875eb1df3c79 60900a4f3009d897b4886ae8b208234c 86deb354601f5977c36a41efd749b13b
ae358cc781019f10c530e031dc89796c e00a3560a863aefeb84be6ef66d61b4e
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
    """Why no policy accepts the image with this PCR 11; None if it may be accepted."""
    return REVOKED.get(pcr11[:16])
