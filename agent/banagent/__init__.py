# SPDX-License-Identifier: LGPL-2.1-or-later
"""banagent reads the journal, recognises failures and bans offenders in nftables."""

__version__ = "0.1.0"
