"""The public names exist, and importing the package alone pulls in nothing heavy."""

import subprocess
import sys

import pytest

import ltx2


@pytest.mark.parametrize("name", ltx2.__all__)
def test_public_names(name):
    found = getattr(ltx2, name)
    assert name == "__version__" or found.__doc__, f"{name} says nothing about itself"


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ltx2.nothing  # noqa: B018


def test_importing_the_package_is_cheap():
    code = "import sys, ltx2; assert not {'torch', 'transformers', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
