"""Joules and GPU-seconds per request from a table of measurements.

    amount = fixed + prompt_tokens * per_prompt_token + output_tokens * per_output_token

with each coefficient on a straight line in log(amount) over log(concurrency) between the rows of one (model, GPU,
number of GPUs): what a token costs falls about as a power of the batch size, eightfold and more over the usual range.
Outside the rows the nearest one counts: nothing is extrapolated.

Example:
    >>> row = {"model": "m", "gpu": "H100", "basis": "measured", "source": "mine"}
    >>> table = EnergyTable([EnergyRow(concurrency=1, per_output_token_j=4.0, **row),
    ...                      EnergyRow(concurrency=16, per_output_token_j=1.0, **row)])
    >>> table.request("m", gpu="H100", concurrency=4, prompt_tokens=0, output_tokens=100)
    RequestEnergy(joules=200.0, gpu_s=None, basis='modelled', source='mine')
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.reading.files import read_text

_log = logging.getLogger(__name__)
Basis = Literal["measured", "modelled"]
Amount = Annotated[float, msgspec.Meta(ge=0)]
_JOULES = ("fixed_j", "per_prompt_token_j", "per_output_token_j")
_GPU_S = ("fixed_gpu_s", "per_prompt_token_gpu_s", "per_output_token_gpu_s")


class EnergyRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a table.

    Attributes:
        model, gpu, num_gpus: what it was measured on. concurrency: requests served together.
        fixed_j: joules per request. per_prompt_token_j, per_output_token_j: joules per token.
        load_j: joules to load the model, None if unknown.
        fixed_gpu_s, per_prompt_token_gpu_s, per_output_token_gpu_s: the same in GPU-seconds. All None: unknown; where
            one is given the others count as 0.
        basis: "measured", or "modelled" when it was worked out. source: where the figures come from.
    """

    model: str
    gpu: str
    concurrency: Annotated[float, msgspec.Meta(gt=0)]
    basis: Basis
    source: str
    num_gpus: Annotated[int, msgspec.Meta(ge=1)] = 1
    fixed_j: Amount = 0.0
    per_prompt_token_j: Amount = 0.0
    per_output_token_j: Amount = 0.0
    load_j: Amount | None = None
    fixed_gpu_s: Amount | None = None
    per_prompt_token_gpu_s: Amount | None = None
    per_output_token_gpu_s: Amount | None = None


class RequestEnergy(NamedTuple):
    """Joules and GPU-seconds of one request; "measured" only where a measured row is met exactly.

    `gpu_s` is None unless every row between which it lies knows it.
    """

    joules: float
    gpu_s: float | None
    basis: Basis
    source: str


class EnergyTable:
    """Rows by (model, GPU, number of GPUs).

    Args:
        rows: at least one; two of the same key and concurrency are refused.
    """

    def __init__(self, rows: Iterable[EnergyRow]) -> None:
        self.rows = tuple(rows)
        if not self.rows:
            raise InvalidInput("an energy table needs at least one row")
        self._curves: dict[tuple[str, str, int], list[EnergyRow]] = {}
        for row in sorted(self.rows, key=lambda row: row.concurrency):
            curve = self._curves.setdefault((row.model, row.gpu, row.num_gpus), [])
            if curve and curve[-1].concurrency == row.concurrency:
                raise InvalidInput(f"{row.model} on {row.num_gpus} x {row.gpu} has concurrency {row.concurrency} twice")
            curve.append(row)

    def request(
        self, model: str, *, gpu: str, concurrency: float, prompt_tokens: float, output_tokens: float, num_gpus: int = 1
    ) -> RequestEnergy:
        """What one request takes. Raises InvalidInput for a model and GPU without rows, or a negative number."""
        for name, value in (("prompt_tokens", prompt_tokens), ("output_tokens", output_tokens)):
            if not 0 <= value < math.inf:
                raise InvalidInput(f"{name} must be finite and at least 0, got {value}")
        if not 0 < concurrency < math.inf:
            raise InvalidInput(f"concurrency must be finite and greater than 0, got {concurrency}")
        whole = self._curve(model, gpu, num_gpus)
        exact = [row for row in whole if row.concurrency == concurrency]
        curve, units = exact or whole, (1.0, prompt_tokens, output_tokens)
        joules, gpu_s = (
            math.fsum(n * _at(curve, name, concurrency) for n, name in zip(units, names, strict=True))
            for names in (_JOULES, _GPU_S)
        )
        return RequestEnergy(
            joules,
            gpu_s if all(map(_knows_gpu_s, curve)) else None,
            exact[0].basis if exact else "modelled",
            " + ".join(dict.fromkeys(row.source for row in curve)),
        )

    def load(self, model: str, *, gpu: str, num_gpus: int = 1) -> float | None:
        """Joules to load the model; None where no row knows."""
        return next((row.load_j for row in self._curve(model, gpu, num_gpus) if row.load_j is not None), None)

    def _curve(self, model: str, gpu: str, num_gpus: int) -> list[EnergyRow]:
        try:
            return self._curves[model, gpu, num_gpus]
        except KeyError:
            known = sorted(f"{g} x {n}" for m, g, n in self._curves if m == model)
            hint = (
                f"it has {', '.join(known)}"
                if known
                else f"models are {', '.join(sorted({r.model for r in self.rows}))}"
            )
            raise InvalidInput(f"no energy row for {model!r} on {gpu} x {num_gpus}; {hint}") from None


def _knows_gpu_s(row: EnergyRow) -> bool:
    return any(getattr(row, name) is not None for name in _GPU_S)


def _at(curve: list[EnergyRow], name: str, concurrency: float) -> float:
    """One coefficient at a concurrency; a coefficient that is 0 somewhere is joined linearly, having no logarithm."""
    values = np.array([getattr(row, name) or 0.0 for row in curve])
    x, at = np.log([row.concurrency for row in curve]), math.log(concurrency)
    if (values > 0).all():
        return float(np.exp(np.interp(at, x, np.log(values))))
    return float(np.interp(at, x, values))


def read_energy_csv(path: str | Path) -> EnergyTable:
    """A table from a CSV file whose columns are named as the fields of `EnergyRow`; lines that begin with # are notes.

    Raises:
        InvalidInput: the file is missing, a column is unknown or lacking, or a value is out of range.
    """
    return EnergyTable(_rows(Path(path), EnergyRow))


def _rows(path: Path, record: type[Any]) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidInput(f"no energy table {path}") from None
    rows = []
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for number, line in enumerate(csv.DictReader(lines), start=1):
        given = {name: value for name, value in line.items() if value not in ("", None)}
        try:
            rows.append(msgspec.convert(given, record, strict=False))
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{path.name}, row {number}: {error}") from None
    return rows


class _Configuration(msgspec.Struct):
    gpu_model: str
    num_gpus: int
    max_num_seqs: int
    energy_per_token_joules: Amount
    avg_batch_size: float | None = None
    output_throughput_tokens_per_sec: Annotated[float, msgspec.Meta(gt=0)] | None = None


class _Result(msgspec.Struct):
    model_id: str
    task: str
    configurations: list[_Configuration]


def read_mlenergy(paths: str | Path | Iterable[str | Path], *, task: str) -> EnergyTable:
    """A table from result files of the ML.ENERGY leaderboard (JSON, one per model and task; version 3).

    Their joules per output token contain the prompt's share, so the rows hold for prompts like those of `task`. The
    concurrency is the measured mean batch size, or the configured largest one where that is missing. Of repeated
    measurements the first counts. GPU-seconds per output token are GPUs over output tokens a second.

    Args:
        paths: files of any tasks, or folders as published: of these every .json file, and those of another form are
            left out, with a warning in the log that names them. task: the one to read, for instance "lm-arena-chat".

    Raises:
        InvalidInput: a named file breaks the format, or none is of this task.

    Source: Chung et al. 2025, "The ML.ENERGY Benchmark", NeurIPS Datasets and Benchmarks. The data states no licence:
    read your own copy.
    """
    rows: dict[tuple[Any, ...], EnergyRow] = {}
    for path, published in _results([paths] if isinstance(paths, (str, Path)) else paths):
        try:
            result = _result(path)
        except InvalidInput as error:
            if not published:
                raise
            _log.warning("left out: %s", error)
            continue
        for found in result.configurations if result.task == task else ():
            concurrency = found.avg_batch_size or float(found.max_num_seqs)
            rate = found.output_throughput_tokens_per_sec
            row = EnergyRow(
                model=result.model_id,
                gpu=found.gpu_model,
                num_gpus=found.num_gpus,
                concurrency=concurrency,
                per_output_token_j=found.energy_per_token_joules,
                per_output_token_gpu_s=None if rate is None else found.num_gpus / rate,
                basis="measured",
                source=f"ML.ENERGY {task}",
            )
            rows.setdefault((row.model, row.gpu, row.num_gpus, concurrency), row)
    if not rows:
        raise InvalidInput(f"no ML.ENERGY result of task {task!r} among the files")
    return EnergyTable(rows.values())


def _results(paths: Iterable[str | Path]) -> Iterator[tuple[Path, bool]]:
    """Files, and whether one was found in a folder rather than named."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path, False
            continue
        for file in sorted(path.rglob("*")):
            if ".json" in file.suffixes and file.is_file():
                yield file, True


def _result(path: Path) -> _Result:
    try:
        return msgspec.json.decode(read_text(path)[0], type=_Result)
    except (OSError, InvalidInput, msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidInput(f"{path.name} is not an ML.ENERGY result: {error}") from None


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whole-benchmark figures of one model of GreenServ's pool.

    Attributes:
        accuracy: mean normalised accuracy over 2,500 queries of five benchmarks.
        total_wh: GPU energy for those queries, Wh. mean_j: joules per query.
        latency_median_ms, latency_mean_ms, latency_max_ms: milliseconds.
        certainty: how sure it is that accuracy and energy belong to this model: "exact" from published result files,
            "matched" from an unlabelled figure, "matched_swappable" where two models may be exchanged.
    """

    model: str
    accuracy: float
    total_wh: float
    mean_j: float
    latency_median_ms: float
    latency_mean_ms: float
    latency_max_ms: float
    certainty: Literal["exact", "matched", "matched_swappable"]


GREENSERV_SOURCE = "Ziller et al., GreenServ, ICPE 2026, arXiv 2601.17551"


def greenserv_models() -> list[ModelFigures]:
    """The 16 models of GreenServ: accuracy, energy and latency on one A100 80 GB, bf16, one request at a time.

    Source: T. Ziller, S. Ilager, A. Tundo, E. Bartocci, L. Mariani, I. Brandic, "GreenServ: Energy-Efficient
    Context-Aware Dynamic Routing for Multi-Model LLM Inference", ICPE 2026, arXiv 2601.17551; latency from its table 4,
    accuracy and energy read from its figure and result files.
    """
    return _rows(_profiles() / "greenserv.csv", ModelFigures)


def greenserv_table() -> EnergyTable:
    """Those models as an energy table: joules and GPU-seconds (mean latency) per query of that mixture of tasks."""
    return EnergyTable(
        EnergyRow(
            model=figures.model,
            gpu="A100",
            concurrency=1,
            fixed_j=figures.mean_j,
            fixed_gpu_s=figures.latency_mean_ms / 1000.0,
            basis="measured",
            source=f"{GREENSERV_SOURCE} ({figures.certainty})",
        )
        for figures in greenserv_models()
    )


def _profiles() -> Path:
    return Path(str(files("bandit_router.energy") / "measured"))
