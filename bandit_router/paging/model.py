"""What paging an adapter in costs: measured tables of size, path and milliseconds, and a model that draws from them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from bandit_router.arrays import F64, Index
from bandit_router.errors import InvalidInput, InvalidProfile

MB = 1_000_000  # bytes; decimal, as file sizes are quoted
PROFILES = Path(__file__).parent / "profiles"

Certainty = Literal["measured", "found", "found_second_hand", "computed", "inferred"]


class PagingRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Load times of adapters of one size on one tier.

    Attributes:
        tier: key of the profile's `tiers`.
        quantiles_ms: load time in milliseconds at each of the profile's `probabilities`, ascending, above 0.
        size_mb: size in MB (10^6 bytes), at least 0; None where the source gives no size, which makes the tier's
            load time independent of size.
        loads: how many loads the quantiles come from, if known.
        energy_j: mean joules of one load; None where not metered.
        source, certainty: where this row departs from the profile's own.
    """

    tier: str
    quantiles_ms: tuple[float, ...]
    size_mb: float | None = None
    loads: int | None = None
    energy_j: float | None = None
    source: str | None = None
    certainty: Certainty | None = None

    def __post_init__(self) -> None:
        where = f"row of tier {self.tier!r} at size_mb {self.size_mb}"
        if self.size_mb is not None and not (self.size_mb >= 0 and math.isfinite(self.size_mb)):
            raise InvalidProfile(f"{where}: size_mb must be finite and at least 0")
        if not _ascending((0.0, *self.quantiles_ms)) or not all(q > 0 for q in self.quantiles_ms):
            raise InvalidProfile(f"{where}: quantiles_ms must be above 0 and ascending, got {self.quantiles_ms}")
        if self.energy_j is not None and not (self.energy_j > 0 and math.isfinite(self.energy_j)):
            raise InvalidProfile(f"{where}: energy_j must be above 0, got {self.energy_j}; leave it out if not metered")


class PagingProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of load times, with its source.

    Attributes:
        name, summary: what it is called, and one sentence on what it describes.
        source: paper, issue, data set or command that the numbers come from.
        certainty: "measured" by the command named; "found" read in the source; "found_second_hand" read in somebody
            else's text on the source; "computed" worked out from the source's figures; "inferred" an assumption.
        hardware: what the numbers were taken on.
        default_tier: tier used when none is named.
        tiers: what each tier moves from where to where, by tier name.
        probabilities: grid of every row's `quantiles_ms`, strictly ascending in [0, 1].
        rows: the table. Each tier has rows of distinct sizes, or one row without size.
        notes: what a reader should know before trusting a number.
    """

    name: str
    summary: str
    source: str
    certainty: Certainty
    hardware: str
    default_tier: str
    tiers: dict[str, str]
    probabilities: tuple[float, ...]
    rows: tuple[PagingRow, ...]
    notes: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "summary", "source", "hardware"):
            if not getattr(self, field).strip():
                raise InvalidProfile(f"a paging profile must state its {field}")
        grid = self.probabilities
        if not grid or not all(0 <= p <= 1 for p in grid) or not all(a < b for a, b in pairwise(grid)):
            raise InvalidProfile(f"probabilities must ascend strictly within [0, 1], got {grid}")
        if self.default_tier not in self.tiers:
            raise InvalidProfile(f"default_tier {self.default_tier!r} is not among tiers {', '.join(self.tiers)}")
        for row in self.rows:
            if row.tier not in self.tiers or len(row.quantiles_ms) != len(grid):
                raise InvalidProfile(
                    f"row of tier {row.tier!r} at size_mb {row.size_mb}: expected a tier among {', '.join(self.tiers)} "
                    f"and {len(grid)} quantiles_ms, got {len(row.quantiles_ms)}"
                )
        for tier in self.tiers:
            sizes = [row.size_mb for row in self.rows_of(tier)]
            if not sizes or len(set(sizes)) < len(sizes) or (None in sizes and len(sizes) > 1) or sizes == [0.0]:
                raise InvalidProfile(
                    f"tier {tier!r} needs rows of distinct sizes with one above 0, or one row without, got {sizes}"
                )

    def rows_of(self, tier: str) -> tuple[PagingRow, ...]:
        """The rows of one tier, smallest size first."""
        return tuple(sorted((row for row in self.rows if row.tier == tier), key=lambda row: row.size_mb or 0.0))


class PagingModel:
    """Milliseconds and joules of loading adapters of given sizes, from one tier of a profile.

    Between two sizes of the table each quantile is interpolated linearly in size. Below the smallest the smallest
    row's times hold; above the largest they grow in proportion to size (the largest row's time per byte). Both err
    on the dear side, as a fixed cost is part of either row. Outside the profile's probabilities the end quantiles
    hold. Zero bytes, an arm that is always resident, cost nothing.

    Args:
        profile: the table.
        tier: one of its tiers; default the profile's `default_tier`.

    Raises:
        InvalidInput: no such tier.

    Example:
        >>> model = PagingModel.load("peft-local")
        >>> round(float(model.expected_ms(100 * MB)), 1)
        371.2
        >>> model.expected_ms([50 * MB, 656 * MB]).round(1).tolist()
        [291.0, 1263.0]
    """

    def __init__(self, *, profile: PagingProfile, tier: str | None = None) -> None:
        self.profile, self.tier = profile, profile.default_tier if tier is None else tier
        if self.tier not in profile.tiers:
            raise InvalidInput(f"profile {profile.name!r} has no tier {tier!r}; it has {', '.join(profile.tiers)}")
        rows = profile.rows_of(self.tier)
        table = np.array([row.quantiles_ms for row in rows])
        self._sizes: F64 = np.array([(row.size_mb or 0.0) * MB for row in rows])
        self._largest = math.inf if rows[0].size_mb is None else float(self._sizes[-1])
        self._grid: F64 = np.array([0.0, *profile.probabilities, 1.0])
        self._table: F64 = np.hstack([table[:, :1], table, table[:, -1:]])
        self._means: F64 = (np.diff(self._grid) * (self._table[:, 1:] + self._table[:, :-1]) / 2).sum(axis=1)
        self._joules: F64 = np.array([math.nan if row.energy_j is None else row.energy_j for row in rows])

    @classmethod
    def load(cls, spec: str) -> Self:
        """The model of "PROFILE" or "PROFILE@TIER", where PROFILE is a shipped name or a path."""
        whole = spec in profile_names() or Path(spec).is_file()
        name, _, tier = (spec, "", "") if whole else spec.partition("@")
        return cls(profile=load_profile(name), tier=tier or None)

    def expected_ms(self, size_bytes: ArrayLike) -> F64:
        """Mean milliseconds of one load, the mean of `sample_ms` over a uniform variate.

        Args:
            size_bytes: sizes in bytes, at least 0, any shape.

        Returns:
            Milliseconds, in the shape of `size_bytes`.
        """
        return self._by_size(size_bytes, self._means)

    def energy_j(self, size_bytes: ArrayLike) -> F64:
        """Mean joules of one load, in the shape of `size_bytes`; NaN unless every row of the tier was metered."""
        metered = not np.isnan(self._joules).any()
        return self._by_size(size_bytes, self._joules if metered else np.full_like(self._joules, math.nan))

    def sample_ms(self, size_bytes: ArrayLike, uniform: ArrayLike) -> F64:
        """Milliseconds of loads whose luck is given: the empirical quantile function at `uniform`.

        Args:
            size_bytes: sizes in bytes, at least 0.
            uniform: uniform variates in [0, 1], broadcast against `size_bytes`. The same variate gives the same
                time, so policies that are compared can be given the same luck.

        Returns:
            Milliseconds, in the broadcast shape.
        """
        u = np.asarray(uniform, dtype=np.float64)
        if not ((u >= 0) & (u <= 1)).all():
            raise InvalidInput("uniform must lie in [0, 1]; draw it with Generator.random()")
        sizes, u = np.broadcast_arrays(_checked(size_bytes), u)
        row, above, share = _bracket(self._sizes, sizes)
        column, right, step = _bracket(self._grid, u)
        lower = (1 - step) * self._table[row, column] + step * self._table[row, right]
        upper = (1 - step) * self._table[above, column] + step * self._table[above, right]
        return self._beyond(sizes) * ((1 - share) * lower + share * upper)

    def _by_size(self, size_bytes: ArrayLike, values: F64) -> F64:
        sizes = _checked(size_bytes)
        return self._beyond(sizes) * np.interp(sizes, self._sizes, values)

    def _beyond(self, sizes: F64) -> F64:
        """0 where nothing is loaded, 1 inside the table, size / largest above it."""
        return np.where(sizes > 0, np.maximum(sizes / self._largest, 1.0), 0.0)


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the package."""
    return tuple(sorted(path.stem for path in PROFILES.iterdir() if path.suffix in {".toml", ".json"}))


def load_profile(name_or_path: str | Path) -> PagingProfile:
    """Read and validate a profile: a shipped one by name, or a TOML or JSON file by path.

    Raises:
        InvalidProfile: there is no such profile, or it breaks a rule of `PagingProfile`.

    Example:
        >>> load_profile("peft-local").certainty
        'computed'
    """
    shipped = {path.stem: path for path in PROFILES.iterdir()}
    path = shipped.get(str(name_or_path), Path(name_or_path))
    decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
    try:
        return decode(path.read_bytes(), type=PagingProfile)
    except OSError as error:
        raise InvalidProfile(
            f"no paging profile {str(name_or_path)!r} ({error.strerror}); shipped are {', '.join(profile_names())}, "
            "or give the path of a file that `bandit-router calibrate paging` wrote"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidProfile(f"paging profile {path}: {error}") from None


def _ascending(values: tuple[float, ...]) -> bool:
    return all(a <= b < math.inf for a, b in pairwise(values))


def _checked(size_bytes: ArrayLike) -> F64:
    sizes = np.asarray(size_bytes, dtype=np.float64)
    if not ((sizes >= 0) & np.isfinite(sizes)).all():
        raise InvalidInput("size_bytes must be finite and at least 0")
    return sizes


def _bracket(grid: F64, values: F64) -> tuple[Index, Index, F64]:
    """Positions around each value in an ascending grid, and how far along it lies; clamped to the ends."""
    position = np.interp(values, grid, np.arange(len(grid)))
    left = np.floor(position).astype(np.intp)
    return left, np.minimum(left + 1, len(grid) - 1), position - left
