# SPDX-License-Identifier: Apache-2.0
"""Do the post's claims hold here, in FLOP and in time? One finding per claim, judged by RULE.

The claims stand in claims.py and their numbers in measures.py; here are the verdict and the forms
that it is written in (JSON, Markdown, terminal).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from triphase import expectations, losses
from triphase.claims import CLAIMS, Claim
from triphase.measures import Measured
from triphase.picking import NotMeasured
from triphase.prose import percent
from triphase.records import Records, explain_invalid, load, run_main

Finding = dict[str, Any]
POST = "Hobbhahn and Sevilla 2021"
NOT_MEASURED = "not measured"
RULE = (
    "FLOP are exact: confirmed inside the claim's band, departs outside. Time is confirmed where "
    "its whole 95 % interval lies inside the band, departs where the whole lies outside, and is "
    "inconclusive where it straddles an end, or where there is none (fewer than 6 independent "
    "samples). A departure is a finding, not a failure."
)
READING = (
    "How to read a line: what *bounds* a call (compute, a level of cache, memory, latency) sets "
    "the least time that this machine's ceilings allow it, and a phase is bound by what bounds "
    "most of its time; one that takes 17 times its arithmetic takes 17 times as long as its FLOP "
    "alone, without padded taps, would at the measured peaks. *Bounds alone* is the ratio of those "
    "least times, with nothing fitted; *the prediction* is calibrated on other networks, and 90 % "
    "of the departure means that it goes nine tenths of the way from the ratio in FLOP to the "
    "ratio in time."
)
NAMED = 6  # of cases in a sentence
MISSING = 8  # claims that were not measured and are shown one by one
FULL_WIDTH = 110  # of a terminal that has room for every column
COLOURS = {"confirmed": "32", "departs": "33", "inconclusive": "36", NOT_MEASURED: "2"}


def build(records: Records) -> list[Finding]:
    """Every claim, in every setting (backend, dtype, threads) that the records hold."""
    return [examine(claim, part, suffix) for suffix, part in records.split() for claim in CLAIMS]


def examine(claim: Claim, records: Records, suffix: str = "") -> Finding:
    """One claim against the rows of one setting."""
    try:
        measured, missing = claim.measure(records), ""
    except NotMeasured as error:
        measured, missing = Measured("", None, None, None, why=""), str(error)
    low, high = claim.band
    finding = {
        "id": f"{claim.id}@{suffix}" if suffix else claim.id,
        "claim": claim.text,
        "source": f"{POST}, {claim.source}",
        "claimed": claim.claimed,
        "band": [low, None if math.isinf(high) else high],
        "unit": claim.unit,
        "case": measured.case or None,
        "setting": str(records.settings[0]),
        "flop": measured.flop,
        "flop_executed": measured.flop_executed,
        "bytes": measured.bytes,
        "time": measured.time,
        "time_ci95": None if measured.time_ci95 is None else list(measured.time_ci95),
        "verdict": NOT_MEASURED,
    }
    if measured.alternatives:
        finding["alternatives"] = measured.alternatives
    if missing:
        finding["explanation"] = f"{missing}; run `triphase_steps {claim.run}`."
        return finding
    finding["verdict"] = verdict(claim, measured)
    finding["explanation"] = f"{measured.case}: {measured.why}."
    return finding


def verdict(claim: Claim, measured: Measured) -> str:
    """By RULE: `flop: confirmed; time: departs`."""
    flop = measured.flop_executed if measured.flop is None else measured.flop
    exact = None if flop is None else (flop, flop)
    text = f"flop: {agreement(claim.band, flop, exact)}"
    if measured.timed:
        text += f"; time: {agreement(claim.band, measured.time, measured.time_ci95)}"
    return text


def agreement(
    band: tuple[float, float], value: float | None, ci95: tuple[float, float] | None
) -> str:
    if value is None:
        return NOT_MEASURED
    if ci95 is None:
        return "inconclusive"
    low, high = ci95
    if band[0] <= low and high <= band[1]:
        return "confirmed"
    return "departs" if high < band[0] or band[1] < low else "inconclusive"


def not_run(records: Records) -> list[str]:
    """A line for everything that was asked for and did not run."""
    return [
        f"{row['case']}: {row['status']}, {row['reason']}"
        for row in records.not_run.iter_rows(named=True)
    ]


def disturbed(records: Records) -> str:
    """Which cases' times are not to be trusted, in a sentence or two; empty if all are."""
    if not records.disturbed:
        return ""
    return (
        f"In {_of_those_that_ran(records.disturbed, records)} other programs took a processor "
        f"away, so that their times are not to be trusted: {_named(records.disturbed)}. Run them "
        "again when the machine is idle."
    )


def unverified(records: Records) -> str:
    """Which cases were never compared with float64, in a sentence; empty if all were."""
    if not records.unverified:
        return ""
    return (
        f"In {_of_those_that_ran(records.unverified, records)} no result was compared with "
        f"float64, as `--verify=off` asks: {_named(records.unverified)}."
    )


def _of_those_that_ran(cases: list[str], records: Records) -> str:
    return f"{len(cases)} of {records.steps['median_s'].count()} cases"


def _named(cases: list[str]) -> str:
    return ", ".join(cases[:NAMED]) + (", ..." if len(cases) > NAMED else "")


def doubts(records: Records) -> list[tuple[str, str]]:
    """What is to be known before a verdict is believed: a heading and its sentences each."""
    told = (
        ("The machine was busy.", disturbed(records)),
        ("Not all was verified.", unverified(records)),
    )
    return [(heading, text) for heading, text in told if text]


# ---- rendering


def number(value: float | None) -> str:
    """Up to three decimals; two where there is much before the point."""
    return "–" if value is None else f"{value:z.{3 if abs(value) < 10 else 2}f}"


def time_text(finding: Finding) -> str:
    if finding["time"] is None or finding["time_ci95"] is None:
        return number(finding["time"])
    low, high = finding["time_ci95"]
    return f"{finding['time']:.2f} [{low:.2f}, {high:.2f}]"


def worth_showing(findings: list[Finding]) -> tuple[list[Finding], str]:
    """Those to show, and a sentence on the others: most, where a run is of own networks."""
    measured = [finding for finding in findings if finding["verdict"] != NOT_MEASURED]
    missing = len(findings) - len(measured)
    if missing <= MISSING:
        return findings, ""
    return measured, (
        f"{missing} of {len(findings)} claims are about networks or batch sizes that did not run "
        "here; `triphase_steps --suite=quick` measures them."
    )


def band_text(finding: Finding) -> str:
    """What counts as agreement, both ends included."""
    low, high = finding["band"]
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def markdown(findings: list[Finding], records: Records) -> str:
    """findings.md: numbers and verdicts, then a sentence for each, then what did not run."""
    context = records.context
    settings = dict.fromkeys(finding["setting"] for finding in findings)
    parts = {str(part.settings[0]): part for _, part in records.split()}
    lines = [
        "# Findings",
        "",
        f"Claims of {POST}, as measured on {records.machine}, {context['date']}. {RULE}",
    ]
    for heading, text in doubts(records):
        lines += ["", f"**{heading}** {text}"]
    for setting in settings:
        some, left_out = worth_showing([f for f in findings if f["setting"] == setting])
        lines += ["", f"## {setting}", "", *([left_out, ""] if left_out else [])]
        lines += [
            "| claim | claimed | band | FLOP | executed | bytes | time [95 %] | verdict |",
            "|---|--:|--:|--:|--:|--:|--:|---|",
        ]
        lines += [
            f"| {f['claim']} | {f['claimed']} | {band_text(f)} | {number(f['flop'])} "
            f"| {number(f['flop_executed'])} | {number(f['bytes'])} | {time_text(f)} "
            f"| {f['verdict']} |"
            for f in some
        ]
        lines += ["", "### Why", ""]
        if any("its arithmetic" in f["explanation"] for f in some):
            lines += [READING, ""]
        lines += [f"- **{f['claim']}** ({f['unit']}). {f['explanation']}" for f in some]
        lines += losses.section(parts[setting])
        lines += expectations_section(parts[setting])
    if missing := not_run(records):
        lines += ["", "## Not run", "", *(f"- {line}" for line in missing)]
    return "\n".join(lines) + "\n"


def expectations_section(records: Records) -> list[str]:
    """How far the prediction may be believed, and what bounds each phase; none without ceilings."""
    errors = {error["phase"]: error for error in expectations.errors(records)}
    shares = expectations.bound_shares(records)
    if not errors and not shares:
        return []
    fit = records.known_machine(records.settings[0]).get("calibration")
    text = (
        "Error is |predicted / measured − 1| of whole networks. Bounds have their share of a "
        "phase's measured time, layer by layer, every case counting alike."
    )
    if above := expectations.above_ceiling(records):
        rows, most = above
        one = rows == 1
        phases = "phase of a layer ran above its" if one else "phases of layers ran above their"
        text += (
            f" {rows} {phases} ceiling, by up to {percent(most - 1)}: the "
            "machine was faster at the time than is known, or bytes came from nearer than is taken."
        )
    if fit:
        text += (
            f" The prediction was fitted to {fit['rows']} rows of {fit['cases']} cases made for it "
            f"(there: median {percent(fit['median_error'])}, 90th percentile "
            f"{percent(fit['p90_error'])})."
        )
    lines = ["", "### Predictions and bounds", "", text, ""]
    lines += [
        "| phase | predicted | median error | 90th percentile | bound by |",
        "|---|--:|--:|--:|---|",
    ]
    for phase in expectations.PHASES:
        if phase in errors or phase in shares:
            error = errors.get(phase)
            cells = (
                [str(error["rows"]), percent(error["median"]), percent(error["p90"])]
                if error
                else ["0", "–", "–"]
            )
            of = sorted(shares.get(phase, {}).items(), key=lambda item: -item[1])
            bounds = ", ".join(f"{bound} {percent(share)}" for bound, share in of if share >= 0.005)
            lines.append(f"| {phase} | {' | '.join(cells)} | {bounds or '–'} |")
    return lines


def table(findings: list[Finding], *, width: int, colour: bool) -> str:
    """For a terminal: the claim takes what width the numbers leave, and wraps."""
    all_settings = dict.fromkeys(f["setting"] for f in findings)
    parts = {s: worth_showing([f for f in findings if f["setting"] == s]) for s in all_settings}
    findings = [finding for some, _ in parts.values() for finding in some]
    left_out = [f"[{setting}] {text}" for setting, (_, text) in parts.items() if text]
    heads = ["claim", "claimed", "FLOP", "executed", "bytes", "time [95 %]", "flop", "time"]
    rows = []
    for f in findings:
        flop, _, time = f["verdict"].partition("; time: ")
        counted = (number(f[key]) for key in ("flop", "flop_executed", "bytes"))
        flop = flop.removeprefix("flop: ")
        time = time or (flop if flop == NOT_MEASURED else "")
        rows.append([f["claim"], f["claimed"], *counted, time_text(f), flop, time])
    for least in ("bytes", "executed"):  # what a narrow terminal goes without
        if width < FULL_WIDTH:
            at = heads.index(least)
            for cells in (heads, *rows):
                del cells[at]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    widths[0] = min(widths[0], max(12, width - sum(widths[1:]) - 2 * (len(heads) - 1)))
    lines, setting = [line(heads, widths, colour=False), "  ".join("-" * w for w in widths)], None
    several = len({f["setting"] for f in findings}) > 1
    for finding, row in zip(findings, rows, strict=True):
        if several and finding["setting"] != setting:
            setting = finding["setting"]
            lines.append(f"[{setting}]")
        first, *more = textwrap.wrap(row[0], widths[0]) or [""]
        lines += [line([first, *row[1:]], widths, colour=colour), *(f"  {rest}" for rest in more)]
    return "\n".join([*(lines if rows else []), *left_out])


def line(cells: list[str], widths: list[int], *, colour: bool) -> str:
    """Numbers to the right, words to the left; verdicts coloured where the terminal may show it."""
    last = len(cells) - 2
    padded = [
        cell.rjust(w) if 0 < i < last else cell.ljust(w)
        for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
    ]
    if colour:
        padded[last:] = [
            f"\033[{COLOURS[cell]}m{text}\033[0m" if cell in COLOURS else text
            for cell, text in zip(cells[last:], padded[last:], strict=True)
        ]
    return "  ".join(padded).rstrip()


def terminal_table(findings: list[Finding]) -> str:
    """The table for the terminal that stdout is: plain when it is none, or when NO_COLOR is set."""
    colour = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return table(findings, width=shutil.get_terminal_size((120, 24)).columns, colour=colour)


def to_json(findings: list[Finding]) -> str:
    if complaint := explain_invalid(findings, "findings"):
        raise AssertionError(f"findings leave their own contract: {complaint}")
    return json.dumps(findings, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="triphase.findings", description="Checks the post's claims against a steps.json."
    )
    parser.add_argument("steps", type=Path, metavar="steps.json")
    parser.add_argument("--format", choices=["table", "markdown", "json"], default="table")
    options = parser.parse_args()
    records = load(options.steps)
    findings = build(records)
    forms = {"table": terminal_table, "json": to_json, "markdown": lambda f: markdown(f, records)}
    print(forms[options.format](findings))
    if options.format == "table":
        for heading, text in doubts(records):
            print(f"\n{heading} {text}")
    return 0


if __name__ == "__main__":
    run_main(main)
