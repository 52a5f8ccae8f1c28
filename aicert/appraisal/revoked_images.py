"""Machine images that no policy accepts any more, by the digest of their lock, with the reason.

Whatever a policy file says and whenever a run was: a revoked image fails `boot.image`. Its
certificates stay readable. The list is a part of that check and of no policy, so that it lies here
and not among what is trusted.

Generated. Each is the SHA-256 of a lock that this repository's history holds:

    git rev-list --all --objects -- lockfiles/image.lock.toml lockfiles/image-gpu.lock.toml |
      awk '/lock.toml$/ {print $1}' | while read blob; do git cat-file blob $blob | sha256sum; done

But for the locks of today, whose images have the runner that reads the rows itself.
"""

from typing import Final

from aicert.formats.digest import Digest

_PLANTED: Final = (
    "its trainer opened paths that rows of a data set named and ran templates that they named, so "
    "it passes weights that existed before the run"
)
_BEFORE_THE_READER_OF_ROWS: Final = (
    # lockfiles/image.lock.toml
    "03c3997124c5db4c09529131bcea92f5ca2b494fd61addceb05c41047f46fd18",
    "0dbfa6e844daac6cbed60f44e8f54898f1b1552bded8f9e2c0461dc3c3a4de5c",
    "65f317447be791a08133fb16e00a0ee75366551e2c81d689907c6a01a2a604a1",
    "68a2fa48440899c498ed32a5fa23352e6007fef205bb9f7714b7b469cf5741b6",
    "7f32e2e97601274536179584e8f3d322d7cf0a100ea9a660911da5cf6c412384",
    "84dacd23adc86fc6846d4fe099c2fd163a2ff0bbf2c6c00c280d3a14a0fd8910",
    "8b999e58b62fb1c8853f5ab894e563e919373239c7d3a3a3aed9539b4f40ebbf",
    "95c69abcf2565b6527d6e9a8752567f78fd51620309135c549fd09440ccf1ad7",
    "9c956443950f0ba1064f571c76ce675674ea65f2878d2d10518ad9cd2d591ec3",
    "a0c4aeefff9ddbdc0d9df76eb9c6b2983d866ed6466d51446c2c4aa2d9ee92a8",
    "b4dc8013389a9ff416100f7445b962d39b3888949f9071125bc6f2133224b10f",
    "b5d4b34183a36aa9d34ce106caa9b23972ce0375e9ff9338e96aa42f16dc4b7c",
    "b7d37e765ea2bd425c12924b702ed06c21d5386dc0e7132af07ff2c6f324e41b",
    "c7cfd3798b8bf86e2d703d9206c8f0e4bb324d8bbc8d716ca0ddae02dc148f0a",
    "d4ea818ac4867e99573e58615997cb37b6eba1018a32efe06e0beb29437e6a30",
    "d9b0f356cc4e24722b3257f2b8f77d76e0f2382c76e91db1f2112c0c04188081",
    "e1b10c52aaadb44c6f9d3ee7cb8be8bf3bc6eed55b450a2eebf5491224be9299",
    "ec03dea1039e2ce5346a004f3e037a1879e42300474807bb3054755c2f672985",
    "f16f8117c6900a8a99dbda0b2623d03da67b5db8a3fa67d0ebd9b88be027ca91",
    "f24a99909dd18d19a999abfa58bc0619510a546460e9d668085fe2517bcd6ade",
    # lockfiles/image-gpu.lock.toml
    "286e4fa25e48f7d6561eefe3320a2ef15e17b540b4d055f6149cd8a536feb32d",
    "2ec41c7dab83107589ad6b9aff7fcf6e5d3c8d46c693067f01f3345bb00589ee",
    "3b1fd6bf69149dbd6e208209d6438f6ac8ad0c02528cd568b16683e1a6ba38dc",
    "3d619aed3d0f86cdd31c92ea883d47823f6d4d5099e36484e4b58a2e4049a003",
    "42cd3578d49cba283683d6aeae0f7b48309e2a2a7ec46effb946ee89c2d730ac",
    "5edeac2d4024beb47b2dc65d8685ad44fb5cabaa06ee2015d8bf686fb78a1235",
    "a77e481f5989c5e125bbca3ce744e78c86fecccac67ef32d982e76618ab97866",
    "b7a79aae8dc0570765bdf0ac88630a4b5bb7d61583ff463a46e25b78e10a6910",
)
REVOKED: Final = {Digest("sha256", each): _PLANTED for each in _BEFORE_THE_READER_OF_ROWS}
