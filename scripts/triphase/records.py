# SPDX-License-Identifier: Apache-2.0
"""A results file (steps.json) as checked rows in a Polars frame.

Knows the contract (results/schema.json) and nothing of plots or claims. What is refused, is refused
in one line: `BadRecords`, which every command turns into exit code 2.

Repetitions of a row become one row: the median of their numbers, the hull of their intervals where
each of them has one, and their samples, a list for each. The worst status wins, and what did not
run well has no time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jsonschema
import polars as pl

from triphase.statuses import STATUSES
from triphase.stopping import run_command

SCHEMA_PATH = Path(__file__).resolve().parents[2] / "results" / "schema.json"
SCHEMA_VERSION = 1
ON_HOST = {"onednn", "reference"}  # backends that compute on the CPU
BACKWARD = ("backward_data", "backward_weights", "recompute")

# fmt: off
_TEXT = ["name", "model", "model_name", "layer", "layer_kind", "phase", "dtype", "optimizer",
         "backend", "reason", "fused_into", "bound"]
_WHOLE = ["batch", "threads", "depth"]
_NUMBERS = ["median_s", "flop", "flop_unpadded", "flop_executed", "traffic_bytes",
            "traffic_bytes_planned", "roofline_s", "predicted_s", "arithmetic_speed",
            "above_ceiling", "ratio_flop", "ratio_flop_with_update", "ratio_time",
            "ratio_time_with_update", "first_layer_share", "parameter_count"]
_LOWS = ["ci95_low_s", "ratio_time_ci95_low", "ratio_time_with_update_ci95_low"]
_HIGHS = [low.replace("low", "high") for low in _LOWS]
# fmt: on
_FRAME_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(_TEXT, pl.String),
    **dict.fromkeys(_WHOLE, pl.Int64),
    **dict.fromkeys([*_NUMBERS, *_LOWS, *_HIGHS], pl.Float64),
    "case": pl.String,
    "shared": pl.Boolean,
    "disturbed": pl.Boolean,
    "status": pl.Enum(STATUSES),
    "samples_s": pl.List(pl.Float64),  # merged: a list for each repetition
}


class BadRecords(Exception):
    """A results file that cannot be used; the message is one line and names the file."""


class Setting(NamedTuple):
    """What a time is a time of, apart from the network: rows of two settings are never mixed."""

    backend: str
    dtype: str
    threads: int

    def __str__(self) -> str:
        computing = f", {self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.backend}, {self.dtype}{'' if self.backend == 'cuda' else computing}"

    def slug(self, without: tuple[str, ...] = ()) -> str:
        """For file names and ids; fields of `without` are left out."""
        parts = self._replace(threads=f"t{self.threads}")._asdict()
        return "-".join(part for field, part in parts.items() if field not in without).lower()


@dataclass(frozen=True)
class Case:
    """One network at one batch size and optimizer: its rows by phase, and by layer and phase."""

    model: str
    batch: int
    optimizer: str
    phases: dict[str, dict[str, Any]]
    layers: dict[str, dict[str, dict[str, Any]]]

    @property
    def step(self) -> dict[str, Any]:
        return self.phases.get("step", {})

    def __str__(self) -> str:
        return f"{self.model} batch {self.batch}"


def total(rows: dict[str, dict[str, Any]], column: str, *phases: str) -> float | None:
    """Sum of one column over those of the phases that exist; None if none of them has a value."""
    values = [rows[p][column] for p in phases if p in rows and rows[p][column] is not None]
    return sum(values) if values else None


@dataclass(frozen=True)
class Records:
    """The context and the merged rows of one file."""

    context: dict[str, Any]
    rows: pl.DataFrame

    @property
    def settings(self) -> list[Setting]:
        """Those in which something ran; if nothing did, those that were asked for."""
        ran = self.rows.filter(pl.col("median_s").is_not_null())
        rows = (self.rows if ran.is_empty() else ran).select(Setting._fields)
        return [Setting(*values) for values in rows.unique(maintain_order=True).iter_rows()]

    def split(self, across: tuple[str, ...] = ()) -> Iterator[tuple[str, Records]]:
        """Each setting's records, with a suffix for ids and file names: empty if there is one.

        Settings that differ in the fields of `across` alone stay together.
        """
        groups: dict[str, list[Setting]] = {}
        for setting in self.settings:
            groups.setdefault(setting.slug(across), []).append(setting)
        for slug, settings in groups.items():
            of_these = pl.DataFrame(settings, schema=list(Setting._fields), orient="row")
            rows = self.rows.join(of_these, on=Setting._fields, how="semi", maintain_order="left")
            yield (slug if len(groups) > 1 else ""), replace(self, rows=rows)

    @property
    def steps(self) -> pl.DataFrame:
        """One row per (model, batch, optimizer): the plain variant, of the whole step.

        Defaults are left out of names, so the shortest name is the plain one (no recomputation,
        no other axis).
        """
        key = ["model", "batch", "optimizer", "backend", "dtype", "threads"]
        return (
            self.rows.filter(pl.col("layer").is_null(), phase="step")
            .sort(pl.col("case").str.len_chars(), maintain_order=True)
            .unique(key, keep="first", maintain_order=True)
            .sort("model_name", "depth", "model", "batch", nulls_last=False)
        )

    def cases(self, model_name: str | None = None, optimizer: str | None = "sgd") -> list[Case]:
        """The plain cases of a network, by depth and batch size (names: any letter case).

        Cases that did not run are left out, unless they are all there is of the network.
        """
        steps = self.steps
        if model_name is not None:
            steps = steps.filter(pl.col("model_name").str.to_lowercase() == model_name.lower())
        if optimizer is not None:
            steps = steps.filter(pl.col("optimizer").str.to_lowercase() == optimizer.lower())
        ran = steps.filter(pl.col("median_s").is_not_null())
        steps = (steps if ran.is_empty() else ran).sort("depth", "batch", maintain_order=True)
        return [self.case(name) for name in steps["case"]]

    def case(self, name: str) -> Case:
        """The rows of one case, by the part of their names that they share."""
        phases: dict[str, dict[str, Any]] = {}
        layers: dict[str, dict[str, dict[str, Any]]] = {}
        for row in self.rows.filter(case=name).iter_rows(named=True):
            home = layers.setdefault(row["layer"], {}) if row["layer"] else phases
            home[row["phase"]] = row
        any_row = next(iter(phases.values()))
        return Case(any_row["model"], any_row["batch"], any_row["optimizer"], phases, layers)

    @property
    def not_run(self) -> pl.DataFrame:
        """Rows that were skipped or failed, one per case and reason."""
        return self.rows.filter(pl.col("status") > "unverified").unique(
            ["case", "status", "reason"], keep="first", maintain_order=True
        )

    @property
    def disturbed(self) -> list[str]:
        """Cases while which others took the processors away: no times to be trusted."""
        return self.steps.filter("disturbed")["case"].to_list()

    @property
    def unverified(self) -> list[str]:
        """Cases that were timed alone: nothing says that they compute what they should."""
        return self.steps.filter(pl.col("status") == "unverified")["case"].to_list()

    def known_machine(self, setting: Setting) -> dict[str, Any]:
        """Ceilings and calibration of this backend, as the file holds them; else empty."""
        return self.context["triphase"].get("ceilings", {}).get(setting.backend, {})

    def ceilings(self, setting: Setting) -> list[dict[str, Any]]:
        """What was measured of this backend with these threads; empty where nothing is known."""
        rates = self.known_machine(setting).get("rates", [])
        return [rate for rate in rates if rate["threads"] == setting.threads]

    @property
    def machine(self) -> str:
        """The name to print under a plot; the host's name where the processor's is unknown."""
        environment = self.context["triphase"]["environment"]
        name = environment.get("cpu") or self.context["host_name"]
        if not set(self.rows["backend"]) & ON_HOST:
            versions = self.context["triphase"]["versions"]
            name = versions.get("gpu") or versions.get("torch_gpu") or name
        return name


@functools.cache
def validator(definition: str = "") -> jsonschema.Draft202012Validator:
    """Checks steps.json, or one of the schema's $defs ("findings", "cost")."""
    schema = json.loads(SCHEMA_PATH.read_text())
    if definition:
        schema = {"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]}
    return _Validator(schema)


def _items(
    checker: jsonschema.Draft202012Validator, items: Any, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    """As the standard says; but an array of good samples, the bulk of a file, at one glance."""
    samples = items == {"type": "number", "minimum": 0} and isinstance(instance, list)
    if not samples or not all(type(x) in (int, float) and x >= 0 for x in instance):
        standard = jsonschema.Draft202012Validator.VALIDATORS["items"]
        yield from standard(checker, items, instance, schema)


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"items": _items})


def explain_invalid(data: object, definition: str = "") -> str | None:
    """Where and how the data leave the contract, in one line; None if they keep it."""
    error = jsonschema.exceptions.best_match(validator(definition).iter_errors(data))
    if error is None:
        return None
    message = " ".join(error.message.split())
    return f"{error.json_path}: {message if len(message) <= 160 else message[:157] + '...'}"


def load(path: Path) -> Records:
    """The checked records of a file; BadRecords if it is missing, cut short, newer or foreign."""
    data = _read_json(path)
    context = data.get("context") if isinstance(data, dict) else None
    ours = context.get("triphase") if isinstance(context, dict) else None
    if not isinstance(ours, dict):
        raise BadRecords(f"{path}: not a triphase result (it has no context.triphase)")
    version = ours.get("schema")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BadRecords(
            f"{path}: written by a newer triphase (schema {version}; this one reads "
            f"{SCHEMA_VERSION}): update, or draw it with the version that wrote it"
        )
    if complaint := explain_invalid(data):
        raise BadRecords(f"{path}: {complaint}")
    if not data["benchmarks"]:
        raise BadRecords(f"{path}: holds no rows")
    for row in data["benchmarks"]:
        if not row["name"].isprintable():
            raise BadRecords(
                f"{path}: expected names of printable characters, found {row['name']!r}"
            )
    if twice := _first_twice(data["benchmarks"]):
        raise BadRecords(f"{path}: expected each row once, found twice: {twice}")
    if any("op" in row for row in data["benchmarks"]):
        raise BadRecords(f"{path}: holds kernels alone, of triphase_kernels; expected whole steps")
    return build(data)


def build(data: dict[str, Any]) -> Records:
    """Records of a checked document."""
    frame = pl.DataFrame([_flat(row) for row in data["benchmarks"]], schema=_FRAME_SCHEMA)
    ceilings = data["context"]["triphase"].get("ceilings", {})
    return Records(data["context"], _with_arithmetic(_merge_repetitions(frame), ceilings))


def _first_twice(rows: list[dict[str, Any]]) -> str | None:
    """The name of a row that stands twice in the same repetition; None if there is none."""
    seen = set()
    for row in rows:
        key = (row["name"], row.get("repetition_index", 0))
        if key in seen:
            return row["name"]
        seen.add(key)
    return None


def _read_json(path: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise BadRecords(f"{path}: not JSON (RFC 8259): it contains {constant}")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise BadRecords(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRecords(f"{path}: not UTF-8 text") from error
    except RecursionError as error:
        raise BadRecords(f"{path}: nested too deeply to be a result") from error
    except json.JSONDecodeError as error:
        raise BadRecords(
            f"{path}: not whole JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A benchmark row as the frame's columns; null where a key is absent."""
    name, _, spec = row["model"].partition(":")
    parameters = row.get("model_parameters") or dict(
        part.split("=", 1) for part in spec.split(",") if "=" in part
    )
    flat = {column: row.get(column) for column in _FRAME_SCHEMA}
    layer = f"/layer:{row['layer']}" if "layer" in row else ""
    flat["case"] = row["name"].removesuffix(f"{layer}/{row['phase']}/real_time")
    flat["model_name"] = row.get("model_name", name)
    flat["depth"] = int(parameters["depth"]) if "depth" in parameters else None
    flat["disturbed"] = bool(row.get("disturbed"))
    flat["shared"] = str(parameters.get("share_weights", "")).lower() in ("true", "1")
    flat["arithmetic_speed"] = row.get("machine_speed", {}).get("arithmetic")
    for column in [*_NUMBERS, *_LOWS, *_HIGHS]:
        flat[column] = None if flat[column] is None else float(flat[column])
    return flat


def _merge_repetitions(frame: pl.DataFrame) -> pl.DataFrame:
    special = {"status", "samples_s", "name", "disturbed", *_NUMBERS, *_LOWS, *_HIGHS}
    others = [column for column in frame.columns if column not in special]

    def each_has(end: str) -> pl.Expr:
        return pl.col(end).is_not_null().all()

    merged = frame.group_by("name", maintain_order=True).agg(
        pl.col("status").max(),
        pl.col("disturbed").any(),
        pl.col(_NUMBERS).median(),
        *(pl.when(each_has(low)).then(pl.col(low).min()) for low in _LOWS),
        *(pl.when(each_has(high)).then(pl.col(high).max()) for high in _HIGHS),
        pl.col("samples_s"),
        pl.col(others).drop_nulls().first(),
    )
    ran = pl.col("status") <= "unverified"
    times = ["median_s", "ratio_time", "ratio_time_with_update", *_LOWS, *_HIGHS]
    return merged.with_columns(pl.when(ran).then(pl.col(times)))


_PEAK_OF = ["kernel", "computes_in", "backend", "threads"]


def _with_arithmetic(rows: pl.DataFrame, ceilings: dict[str, Any]) -> pl.DataFrame:
    """Adds `arithmetic_s`: the seconds that a row's FLOP, without padded taps, take at their peak.

    As in roofline_s that is the peak of convolutions or of gemm in the row's dtype (of updates in
    f32), at the speed that the machine had. A network's phase is the sum of its layers'; null where
    there are none, as of `backward` and `step`, or no ceilings.
    """
    update, layer, arithmetic_s = pl.col("phase") == "update", pl.col("layer"), "arithmetic_s"
    convolution = (pl.col("layer_kind") == "conv2d") & ~update
    speed = pl.col("arithmetic_speed").drop_nulls().first().over("case").fill_null(1.0)
    of_layer = pl.col("flop_unpadded") / pl.col("peak") / speed
    each_has = (pl.count(arithmetic_s) == layer.count()) & (layer.count() > 0)
    of_network = pl.when(each_has).then(pl.sum(arithmetic_s)).over("case", "phase")
    return (
        rows.with_columns(
            kernel=pl.when(convolution).then(pl.lit("convolution")).otherwise(pl.lit("gemm")),
            computes_in=pl.when(update).then(pl.lit("f32")).otherwise("dtype"),
        )
        .join(_peaks(ceilings), on=_PEAK_OF, how="left", maintain_order="left")
        .with_columns(pl.when(layer.is_not_null()).then(of_layer).alias(arithmetic_s))
        .with_columns(pl.col(arithmetic_s).fill_null(of_network))
        .drop("kernel", "computes_in", "peak")
    )


def _peaks(ceilings: dict[str, Any]) -> pl.DataFrame:
    """What was measured of each kernel, dtype, backend and number of threads."""
    rates = [
        (rate["kernel"], rate.get("dtype"), backend, rate["threads"], float(rate["value"]))
        for backend, known in ceilings.items()
        for rate in known["rates"]
    ]
    schema = dict(zip(_PEAK_OF, [*3 * [pl.String], pl.Int64], strict=True)) | {"peak": pl.Float64}
    return pl.DataFrame(rates, schema=schema, orient="row").unique(_PEAK_OF, keep="first")


def run_main(main: Callable[[], int]) -> NoReturn:
    """Runs a command's main: bad input is one line on stderr and exit code 2."""
    raise SystemExit(run_command("triphase", main, (BadRecords,), "standard output"))
