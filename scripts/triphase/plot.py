# SPDX-License-Identifier: Apache-2.0
"""Draws a plot, by name, from any steps.json: python -m triphase.plot NAME steps.json [--out DIR]

Each plot is a module of its own with a NAME, a pure build(records) and a docstring that says what
it asks; one that compares settings also names the fields ACROSS which it does. PLOTS is the list of
them.
"""

from __future__ import annotations

import argparse
from types import ModuleType

from triphase import (
    charts,
    plot_predicted,
    plot_ratio_by_batch,
    plot_ratio_by_depth,
    plot_ratio_by_share,
    plot_roofline,
    plot_speedup_by_dtype,
    plot_time_by_phase_and_layer,
)
from triphase.records import run_main

PLOTS = {
    module.NAME: module
    for module in (
        plot_ratio_by_batch,
        plot_ratio_by_depth,
        plot_ratio_by_share,
        plot_time_by_phase_and_layer,
        plot_speedup_by_dtype,
        plot_roofline,
        plot_predicted,
    )
}


def across(plot: ModuleType) -> tuple[str, ...]:
    """The fields of a setting that this plot compares; none where each setting stands alone."""
    return getattr(plot, "ACROSS", ())


def main() -> int:
    questions = "\n".join(
        f"  {name:26}{module.__doc__.splitlines()[0]}" for name, module in PLOTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="triphase.plot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draws plots from a steps.json as PNG, SVG and HTML (offline, one file each).",
        epilog=f"plots:\n{questions}\n  {'all':26}each of them\n\n"
        "further options: --out DIR, --format png,svg,html",
    )
    parser.add_argument("name", choices=[*PLOTS, "all"], metavar="NAME")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="steps.json [options]")
    options = parser.parse_args()
    chosen = PLOTS.values() if options.name == "all" else [PLOTS[options.name]]
    return max(
        charts.main(m.NAME, m.build, m.__doc__, options.rest, across=across(m)) for m in chosen
    )


if __name__ == "__main__":
    run_main(main)
