"""``python -m ltx2`` is the ``ltx2`` command."""

import sys

from .cli import main

sys.exit(main())
