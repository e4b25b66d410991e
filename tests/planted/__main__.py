"""`python -m tests.planted`; see `run`."""

import sys

from tests.planted.run import main

sys.exit(main())
