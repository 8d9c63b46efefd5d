"""Commands of these tests load the demonstration model once: what it makes is looked at here, not how it is read."""

import pytest

from ..loaded import loaded_once


@pytest.fixture(autouse=True, scope="module")
def loaded():
    with loaded_once():
        yield
