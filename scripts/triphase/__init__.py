# SPDX-License-Identifier: Apache-2.0
"""Reads what triphase measured and answers questions about it; measures nothing itself.

records   loads and checks a steps.json     plot_*    one question each, as a picture
findings  the post's claims against rows    report    all of it, for one run directory

The exceptions are peers*, which times the same steps in PyTorch beside ours (scripts/peers), and
gate*, which measures two binaries in turns (scripts/track ab).
"""
