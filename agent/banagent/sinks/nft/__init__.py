# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's nftables: bans as elements with timeouts, so that the kernel itself lifts each ban."""

from banagent.sinks.nft.changes import Change
from banagent.sinks.nft.firewall import Firewall
from banagent.sinks.nft.skeleton import Ports, is_jail

__all__ = ["Change", "Firewall", "Ports", "is_jail"]
