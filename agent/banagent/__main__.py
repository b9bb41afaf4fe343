# SPDX-License-Identifier: LGPL-2.1-or-later
"""`python -m banagent`."""

import sys

from banagent.cli import main

sys.exit(main())
