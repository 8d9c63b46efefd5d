"""Models for the tests of files that ask for ``loaded_once``: those whose commands are looked at for what they make."""

import pytest

from .. import loaded


@pytest.fixture
def loaded_once(tmp_path):
    with loaded.loaded_once(but=str(tmp_path)):
        yield
