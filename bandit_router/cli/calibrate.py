"""`bandit-router calibrate`: measure this machine, so that simulations use its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandit_router.cli.common import (
    FAILED,
    INTERRUPTED,
    INVALID_DATA,
    USAGE,
    fail,
    invalid_as,
    print_json,
    progress_bar,
    writing,
)
from bandit_router.cli.tables import print_table

if TYPE_CHECKING:
    from bandit_router.paging.adapter_files import AdapterFile
    from bandit_router.paging.adapter_library import BaseShape
    from bandit_router.paging.model import PagingProfile, PagingRow

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def paging(
    base: Annotated[
        str, typer.Option(help="Shape of the base model: qwen2.5-7b, tiny, or HIDDEN,MLP,LAYERS,KV_WIDTH.")
    ] = "qwen2.5-7b",
    ranks: Annotated[str, typer.Option(help="LoRA ranks of the adapters to make.")] = "8,16,32,64",
    dtype: Annotated[str, typer.Option(help="float16 (the bytes of bfloat16) or float32.")] = "float16",
    adapters: Annotated[Path | None, typer.Option(help="Measure the safetensors adapters in this folder.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder on the storage to measure; adapters are made there.")] = Path(),
    loads: Annotated[int, typer.Option(min=20, help="Timed loads of each adapter on each tier.")] = 20,
    out: Annotated[Path, typer.Option(help="Profile to write; `--paging` takes it.")] = Path("paging-profile.json"),
    json: Annotated[bool, typer.Option("--json", help="The profile as JSON on stdout, nothing else.")] = False,
) -> None:
    """Time real page-ins from storage, cold and warm, to host memory, through PEFT, and to a GPU where there is one.

    Cold means evicted from the operating system's page cache, which needs no rights and is verified for each load.
    Dropping all caches, or those of a hypervisor or a device, would need rights this command does not ask for.
    An interrupt writes the rows that are complete.
    """
    import tempfile

    from bandit_router.paging.adapter_files import find_adapters, make_adapters

    if out.suffix != ".json" or not out.parent.is_dir():
        fail(f"--out must end in .json, in a folder that exists, got {str(out)!r}", USAGE)
    settings = f"bandit-router calibrate paging --loads {loads}"
    if adapters is not None:
        with invalid_as(INVALID_DATA):
            files = find_adapters(adapters)
        profile = _measure(files, adapters, loads, out, f"{settings} --adapters DIR")
    else:
        shape = _shape(base)
        if not storage.is_dir():
            fail(f"--storage must be a folder, got {str(storage)!r}", USAGE)
        with writing(storage):
            temporary = tempfile.TemporaryDirectory(prefix="bandit-router-", dir=storage)
        with temporary as folder:
            with invalid_as(USAGE), writing(storage):
                files = make_adapters(Path(folder), shape=shape, ranks=_numbers("--ranks", ranks), dtype=dtype)
            settings = f"{settings} --base {base} --ranks {ranks} --dtype {dtype}"
            profile = _measure(files, storage, loads, out, settings)
    if json:
        print_json(profile)
    else:
        _print(profile)


def _measure(files: list[AdapterFile], storage: Path, loads: int, out: Path, command: str) -> PagingProfile:
    """Measure, write what is complete, and leave with 130 if it was interrupted."""
    from bandit_router.paging import calibrate
    from bandit_router.paging.page_in import available_tiers

    with invalid_as(USAGE):
        tiers, missing = available_tiers()
    load_at_start = calibrate.load_average()
    rows: list[PagingRow] = []
    interrupted = False
    try:
        with invalid_as(INVALID_DATA), progress_bar(len(files) * len(tiers), "page-ins") as advance:
            for row in calibrate.measure(files, tiers, loads=loads, skipped=missing.append):
                rows.append(row)
                advance(f"{row.tier}, {row.size_mb:.0f} MB")
    except KeyboardInterrupt:
        interrupted = True
        missing.append("interrupted")
    for reason in missing:
        typer.echo(f"not measured: {reason}", err=True)
    if not rows:
        fail("nothing was measured; no profile was written", INTERRUPTED if interrupted else FAILED)
    profile = calibrate.profile_of(
        rows,
        tiers,
        name=out.stem,
        command=command,
        hardware=calibrate.describe_hardware(storage),
        notes=" ".join(
            [calibrate.describe_conditions(load_at_start), *(f"Not measured: {reason}." for reason in missing)]
        ),
    )
    with writing(out):
        calibrate.write_profile(profile, out)
    typer.echo(f"wrote {out}", err=True)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    return profile


def _shape(base: str) -> BaseShape:
    from bandit_router.paging.adapter_library import BASE_SHAPES, BaseShape

    if base in BASE_SHAPES:
        return BASE_SHAPES[base]
    widths = _numbers("--base", base)
    if len(widths) != 4:
        fail(f"--base must be {', '.join(BASE_SHAPES)} or HIDDEN,MLP,LAYERS,KV_WIDTH, got {base!r}", USAGE)
    with invalid_as(USAGE):
        return BaseShape(id=base, hidden=widths[0], mlp=widths[1], layers=widths[2], kv_width=widths[3])


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        fail(f"{option} must be whole numbers separated by commas, got {text!r}", USAGE)


def _print(profile: PagingProfile) -> None:
    from bandit_router.paging.model import MB, PagingModel

    place = {probability: i for i, probability in enumerate(profile.probabilities)}
    rows = []
    for tier in profile.tiers:
        model = PagingModel(profile=profile, tier=tier)
        for row in profile.rows_of(tier):
            size = row.size_mb or 0.0
            low, median, high, top = (row.quantiles_ms[place[p]] for p in (0.0, 0.5, 0.95, 1.0))
            mean = float(model.expected_ms(size * MB))
            joules = "-" if row.energy_j is None else f"{row.energy_j:.2f}"
            rows.append((tier, f"{size:.1f}", *(f"{ms:.1f}" for ms in (low, median, mean, high, top)), joules))
    title = f"Milliseconds per load, {profile.hardware}"
    print_table(title, ("tier", "MB", "min", "median", "mean", "95 %", "max", "J"), rows)
