# SPDX-License-Identifier: Apache-2.0
"""Everything that one run says: findings, plots, and where they are.

Reads RUN_DIR/steps.json and writes beside it findings.json, findings.md and each plot as PNG, SVG
and HTML. Exit code 2 and one line where steps.json cannot be used; a claim that departs, or a plot
with nothing to show, is no error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triphase import charts, findings
from triphase.files import write_atomic
from triphase.plot import PLOTS, across
from triphase.records import BadRecords, Records, load, run_main


def write(records: Records, folder: Path) -> tuple[list[findings.Finding], list[Path | str]]:
    """The findings, and the files that were written (or why one was not)."""
    for name in ("findings.json", "findings.md"):  # before any is replaced
        if (folder / name).is_dir():
            raise BadRecords(f"{folder / name}: expected a file to replace, found a folder")
    found = findings.build(records)
    written: list[Path | str] = [
        write_atomic(folder / "findings.json", findings.to_json(found)),
        write_atomic(folder / "findings.md", findings.markdown(found, records)),
    ]
    for name, plot in PLOTS.items():
        written += charts.draw(name, plot.build, records, folder, across=across(plot))
    return found, written


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/report", description="Writes the findings and plots of a run."
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder that holds steps.json")
    folder = parser.parse_args().run
    if not folder.is_dir():
        raise BadRecords(f"{folder}: expected the folder of a run, which holds its steps.json")
    records = load(folder / "steps.json")
    found, written = write(records, folder)
    print(f"{records.machine}, {records.context['date']}\n")
    print(findings.terminal_table(found), end="\n\n")
    for heading, text in findings.doubts(records):
        print(f"{heading} {text}\n")
    for line in findings.not_run(records):
        print(f"not run  {line}")
    for line in written:
        print(f"wrote    {line}" if isinstance(line, Path) else f"no plot  {line}")
    return 0


if __name__ == "__main__":
    run_main(main)
