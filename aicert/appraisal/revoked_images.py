"""Machine images that no policy accepts any more, by their PCR 11, with the reason.

Whatever a policy file says and whenever a run was: a revoked image fails `boot.image`. Its
certificates stay readable. The list is a part of that check and of no policy, so that it lies here
and not among what is trusted. PCR 11 has the image's kernel, initrd and command line, and with them
the roots of its volumes: no edit of a lock gives the same image another value.

The values are the `pcr11` of locks that this repository's history holds:

    git rev-list --all --objects -- lockfiles/image.lock.toml lockfiles/image-gpu.lock.toml |
      awk '/lock.toml$/ {print $1}' | while read blob; do git cat-file blob $blob | grep pcr11; done

Not among them are those since the runner reads the rows itself.
"""

from typing import Final

_PLANTED: Final = (
    "its trainer opened paths that rows of a data set named and ran templates that they named, so "
    "it passes weights that existed before the run"
)
_BEFORE_THE_READER_OF_ROWS: Final = (
    # lockfiles/image.lock.toml
    "01227b1d7e60ec61978bffe97461a6db9f0c3f548e014e1d426999e1b902ae0f",
    "0d09387c79e533b06b0ec24b1bc79e64071f09d63df9641356a3d628889f6d34",
    "23958b0fa385ad6e0d7bf034215aa75fff72528a6b8bd006bbce9341658ca01c",
    "2dd84c267f29583a0978c81cfadf71e9e0c29eabd0c1716ce5f7e38826e80e2d",
    "34a73125198002b1b4c9957280cba1b89b5c3ab35f5949b2da2b3485c559dbfc",
    "3cbcec4dc5139114f5d2cea07163b07a3bb4fb714849053ef116391fac246c4b",
    "450f71bd8269af66a34cea2d9a2e019fff14b678026f349cc14a000fdde27f9a",
    "48f0437b4830d9fbfb59502020becd61e5c9008fc1476c053e50cb1aa6aabc2d",
    "4c22a5ee1cdf67e51fb68a4d825fd95927aa02a341822fa78652cc584b059f5b",
    "52b4950770e79bbb964d538ae2a8d2205567b034b9b5ba38d6d1804e511d86df",
    "5836ca842ee2e644dbaf3743d4437c4edf56f40b4638f0736344b0540ce00d62",
    "afd63eb276d38bb89c153ad1022b3fda054433869ee7baa8fffad5e83b5e65c4",
    "da3c83cbbba81b592b99ea93612571bea0311a5c62639b7ef8369342e2d33fed",
    "f291b5cfddc053345f818c3c41c8b44f789d8cb032dc78a2fd740209e6e7d7f3",
    "f475fade15f4df3efc1f85f8623ed9611628ebb90eb9dd24c12361f019cda59a",
    "f75367a6e79e5998fc931e38047730c40128cd99268e147330c160b537a4e5c1",
    "f9fd518e7d2b6e7f6979e38a9da43ff5830697c966aea1a17e8388bda504124b",
    "fd1a793b6d393520fe03a79d0e9c0e39589f5f19d4313e09d8c13b68c5c4ea26",
    # lockfiles/image-gpu.lock.toml
    "12c3d773619ebd4039483c9698874e836f81ad77c0c5651864289998fda7c787",
    "40da0ae8c01f102362a180d6a7bd00458f3cb3ace4558528bdd0784367b4a586",
    "63b3b51a9bdd1960f7ef99fc9ed0c765ca0848dae7d3ab89dd95a995dbeafd40",
    "6be6732ece873aaebdd94510998f1a8c8163c590a11156276a5e20349c4b0f1b",
    "9d96b7aec6683cc7a3c5d9ea6445003281a18d98ea3d09132befdf51cbe98c7d",
    "bf728713712a806b46b9fb5233f67a1f7abed83b1557fb66ffd383b96e7e8952",
    "d46a8f5d6ba8db47faf015e9b2ea552e63f9b8a6751b4eac9b33e05e5261276a",
    "d7d010f35fc575dc620d7b64939ab8cef08a2c6af9403717f6459900eb4c969d",
)
REVOKED: Final = {bytes.fromhex(each): _PLANTED for each in _BEFORE_THE_READER_OF_ROWS}
