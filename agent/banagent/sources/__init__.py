# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where entries come from, and what is known of the host they come from."""
