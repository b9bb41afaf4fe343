# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python tests/bench`: all figures of one machine in one run."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "agent")]

from bench.run import main  # noqa: E402 - it is found by the path above

sys.exit(main())
