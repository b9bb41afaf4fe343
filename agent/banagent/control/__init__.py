# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket: Varlink (varlink.org) on a unix socket, as `org.banagent.varlink` beside this file describes."""
