# SPDX-License-Identifier: Apache-2.0
"""What became of a row: checked against a reference, not checked, not run, or wrong."""

from __future__ import annotations

STATUSES = ("ok", "unverified", "skipped", "failed")  # from best to worst
RAN = STATUSES[:2]  # those of a row that has a time
