# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where decisions go: the kernel's nftables and the history."""
