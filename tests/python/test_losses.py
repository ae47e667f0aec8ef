# SPDX-License-Identifier: Apache-2.0
"""Where the time goes: the longest and the worst row of each case, and how findings.md tells it."""

from __future__ import annotations

import pytest

from fake_steps import case_rows, document, expected
from triphase import findings, losses
from triphase.records import build


def records(*groups):
    return build(document(*groups))


def test_the_longest_row_and_the_one_that_loses_most_are_told_of_each_case():
    rows = expected(case_rows("OneNet", 4, noise=0))
    for row in rows:
        if (row.get("layer"), row["phase"]) == ("fc3", "update"):
            row["roofline_s"] = row["median_s"] / 1e3
        elif "roofline_s" in row:
            row["roofline_s"] = row["median_s"]
    timed = [row for row in rows if "layer" in row and "median_s" in row]
    longest = max(timed, key=lambda row: row["median_s"])
    (found,) = losses.largest(records(rows))
    assert found.case == "OneNet batch 4, sgd"
    assert (found.longest["layer"], found.longest["phase"]) == (longest["layer"], longest["phase"])
    assert (found.loses_most["layer"], found.loses_most["phase"]) == ("fc3", "update")
    lost = 0.999 * found.loses_most["median_s"]
    assert losses.lost_s(found.loses_most) == pytest.approx(lost)


def test_without_ceilings_nothing_is_said_of_losses():
    (found,) = losses.largest(records(case_rows("OneNet", 4)))
    assert found.loses_most is None
    assert losses.section(records(case_rows("OneNet", 4)))[-1].endswith("| – | – | – |")


def test_the_longest_cases_come_first_and_few_are_shown():
    groups = [case_rows("OneNet", batch) for batch in range(1, losses.CASES + 4)]
    found = losses.largest(records(*groups))
    assert len(found) == losses.CASES
    assert [one.step_s for one in found] == sorted((one.step_s for one in found), reverse=True)


def test_without_rows_of_layers_there_is_no_section():
    assert losses.section(records(case_rows("OneNet", 4, layer_rows=False))) == []


def test_findings_of_own_networks_leave_out_the_claims_on_others():
    own = case_rows("OneNet", 4)
    for row in own:
        row["model"] = row["model_name"] = "Own"
        row["name"] = row["name"].replace("OneNet", "Own")
    found = findings.build(records(own))
    text = findings.markdown(found, records(own))
    missing = sum(finding["verdict"] == "not measured" for finding in found)
    assert f"{missing} of {len(found)} claims are about networks or batch sizes" in text
    assert text.count("| not measured |") == 0
    assert "### Where the time goes" in text
    assert "| Own batch 4, sgd |" in text
    assert f"{missing} of {len(found)} claims" in findings.terminal_table(found)
