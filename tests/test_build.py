"""The id of a build."""

import re

from mmpi.runtime.build import build_id


def test_the_id_is_of_this_code() -> None:
    """Version and digest, the same each time it is asked for."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{8}", build_id())
    assert build_id() == build_id()
