# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket: Varlink (varlink.org) on a unix socket, as `org.banagent.varlink` beside this file describes.

varlink ─> service ─> events
                   └> server
client                            (by itself: the standard library only)
"""

INTERFACE = "org.banagent"
# what the group may call
READING = frozenset({"Status", "Jails", "List", "History", "Events", "Why", "GetConfig", "Allowed", "Get"})
