# SPDX-License-Identifier: Apache-2.0
"""Reads what triphase measured and answers questions about it; measures nothing itself.

records   loads and checks a steps.json     plot_*    one question each, as a picture
findings  the post's claims against rows    report    all of it, for one run directory

The exception is peers*, which times the same steps in PyTorch beside ours (scripts/peers).
"""
