# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decisions, without doing: values in, values out; no clock, file, socket or logger."""
