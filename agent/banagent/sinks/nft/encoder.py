# SPDX-License-Identifier: LGPL-2.1-or-later
"""pyroute2's messages of nf_tables, without the rest of pyroute2.

The package's own `__init__` imports all of its 165 modules: a quarter of the agent's memory, and a third of what its
imports take. So the package is there, but not executed, while the submodules that are wanted are imported.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec

_spec = None if "pyroute2" in sys.modules else find_spec("pyroute2")
if _spec is not None:
    sys.modules["pyroute2"] = module_from_spec(_spec)
try:
    from pyroute2.netlink.nfnetlink.nftsocket import (
        nft_chain_msg,
        nft_rule_msg,
        nft_set_elem_list_msg,
        nft_set_msg,
        nft_table_msg,
    )
    from pyroute2.nftables.expressions import genex
finally:
    if _spec is not None:
        del sys.modules["pyroute2"]

__all__ = ["genex", "nft_chain_msg", "nft_rule_msg", "nft_set_elem_list_msg", "nft_set_msg", "nft_table_msg"]
