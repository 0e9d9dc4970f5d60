"""Statistics of a synthesized set: who and what is in it, what is missing, and what depends on skin tone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SCHEMA_VERSION = 1

# Lower limits of the skin classes in degrees of individual typology angle, light to dark: Chardon et al. 1991, with
# those of Del Bino & Bernerd 2013 ("Variations in skin colour and the biological consequences of ultraviolet radiation
# exposure").
TONE_CLASSES = {
    "very light": 55.0, "light": 41.0, "intermediate": 28.0, "tan": 10.0, "brown": -30.0, "dark": -np.inf,
}  # fmt: skip
# Bins in which every set should have samples; those that have none are named as empty.
TONE_BINS = tuple(range(-60, 71, 10))
AGE_BINS = tuple(range(20, 91, 10))
OBSERVED_BINS = tuple(np.arange(0, 1.01, 0.1).round(1).tolist())
# Gender values below and above which a sample counts as female and male.
FEMALE_BELOW, MALE_ABOVE = 0.25, 0.75
ANCESTRIES = ("African", "Asian", "European")

# What the tone is correlated with: a set in which dark skin is darker lit or blurrier teaches that.
TONE_RELATIONS = ("sharpness", "light_level", "light_saturation", "age")
# Name → (column, limit): the share of samples above the limit is stated.
SHARES = {
    "shadowed": ("shadowed", 0.02),
    "clipped highlights": ("clipped", 0.001),
    "colored light": ("light_saturation", 0.15),
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NUMBERS = (
    "tone", "age", "gender", "weight", "observed_share", "mask_yaw", "exposure", "shadowed", "clipped",
    "light_saturation", "light_level", "sharpness",
)  # fmt: skip
_LISTS = ("features", "occluders")


@dataclass(frozen=True)
class Table:
    """A table to print: title, header cells and rows of cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """GitHub Markdown with aligned columns, readable as it is."""
        cells = [self.header, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"**{self.title}**", "", *lines])


def compute_statistics(parts: Iterable[Path]) -> dict:
    """Statistics of all rows of these parquet files as plain, finite numbers for JSON; images are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["subject", "light_kind", "ancestry", *_NUMBERS, *_LISTS]
    table = pa.concat_tables([pq.read_table(path, columns=names) for path in parts])
    numbers = {name: table[name].to_numpy().astype(np.float64) for name in _NUMBERS}
    subjects = table["subject"].to_numpy()
    ancestry = np.array(table["ancestry"].to_pylist())
    tone, gender = numbers["tone"], numbers["gender"]
    dominant = Counter(ANCESTRIES[i] for i in ancestry.argmax(axis=1))
    lists = {name: table[name].to_pylist() for name in _LISTS}
    return {
        "schema_version": SCHEMA_VERSION,
        "samples": len(table),
        "subjects": len(np.unique(subjects)),
        "tone_classes": tone_classes(tone),
        "tone": histogram(tone, TONE_BINS),
        "age": histogram(numbers["age"], AGE_BINS),
        "gender": {
            "female": int((gender < FEMALE_BELOW).sum()),
            "between": int(((gender >= FEMALE_BELOW) & (gender <= MALE_ABOVE)).sum()),
            "male": int((gender > MALE_ABOVE).sum()),
        },
        "ancestry": {name: dominant[name] for name in ANCESTRIES},
        "light_kinds": _counts(table["light_kind"].to_pylist()),
        **{name: _counts(item for items in values for item in set(items)) for name, values in lists.items()},
        "without": {name: sum(not items for items in values) for name, values in lists.items()},
        "observed_share": histogram(numbers["observed_share"], OBSERVED_BINS),
        "shares": {name: float((numbers[column] > limit).mean()) for name, (column, limit) in SHARES.items()},
        "tone_correlations": {name: correlation(tone, numbers[name], subjects) for name in TONE_RELATIONS},
        "quantiles": {name: np.quantile(values, QUANTILES).round(5).tolist() for name, values in numbers.items()},
    }


def tone_classes(tone: np.ndarray) -> dict[str, int]:
    """How many typology angles (n,) in degrees fall in each of TONE_CLASSES; a limit belongs to the darker one."""
    result, rest = {}, np.ones(len(tone), bool)
    for name, lower in TONE_CLASSES.items():
        inside = rest & (tone > lower)
        result[name] = int(inside.sum())
        rest &= ~inside
    return result


def histogram(values: np.ndarray, edges: Sequence[float]) -> dict:
    """Counts of values (n,) between edges, an upper one of the last bin included, and of those outside.

    Returns edges, counts, below, above and empty: the bins without a value, as "low to high".
    """
    counts = np.histogram(values, edges)[0]
    return {
        "edges": list(edges),
        "counts": counts.tolist(),
        "below": int((values < edges[0]).sum()),
        "above": int((values > edges[-1]).sum()),
        "empty": [f"{low:g} to {high:g}" for low, high, n in zip(edges, edges[1:], counts) if n == 0],
    }


def correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict | None:
    """Pearson correlation of x and y (n,) with a 95 % interval that knows that samples of a group go together.

    The standard error is that of the correlation's influence function z_x z_y - r (z_x^2 + z_y^2) / 2 with the
    sum over each group as the unit (Liang & Zeger 1986); the interval is taken on Fisher's scale, artanh r. groups:
    (n,) labels. None where it is not defined: fewer than 4 groups, or a constant.
    """
    count = len(np.unique(groups))
    if count < 4 or np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9:
        return None
    zx, zy = ((values - values.mean()) / values.std() for values in (x, y))
    r = float(np.clip((zx * zy).mean(), -0.999999, 0.999999))
    influence = zx * zy - r * (zx**2 + zy**2) / 2
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], influence)
    error = np.sqrt((sums**2).sum() * count / (count - 1)) / len(x)
    margin = 1.96 * error / (1 - r**2)
    low, high = np.tanh(np.arctanh(r) + np.array([-margin, margin]))
    return {"r": round(r, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _counts(items: Iterable[str]) -> dict[str, int]:
    """Counts of names, the most frequent first."""
    return dict(sorted(Counter(items).items(), key=lambda item: (-item[1], item[0])))


def tables(statistics: dict) -> list[Table]:
    """The statistics as tables for the terminal and for the card."""
    total = statistics["samples"]

    def shares(title: str, column: str, counts: dict[str, int]) -> Table:
        rows = ((name, str(n), f"{n / total:.1%}") for name, n in counts.items())
        return Table(title, (column, "samples", "share"), tuple(rows))

    classes = {f"{name} ({_limits(name)})": n for name, n in statistics["tone_classes"].items()}
    return [
        shares("Skin tone, classes of the individual typology angle in degrees", "class", classes),
        shares("Skin tone", "degrees", _bins(statistics["tone"])),
        _relations(statistics["tone_correlations"]),
        shares("Age", "years", _bins(statistics["age"])),
        shares("Gender", "", statistics["gender"]),
        shares("Largest share of ancestry", "", statistics["ancestry"]),
        shares("Light", "kind", statistics["light_kinds"]),
        shares("Painted features", "feature", statistics["features"] | {"none": statistics["without"]["features"]}),
        shares("Occluders", "occluder", statistics["occluders"] | {"none": statistics["without"]["occluders"]}),
        shares("Observed share of the atlas", "share", _bins(statistics["observed_share"])),
        Table(
            "Samples with ...",
            ("", "limit", "share"),
            tuple(
                (name, f"{SHARES[name][0]} > {SHARES[name][1]:g}", f"{share:.1%}")
                for name, share in statistics["shares"].items()
            ),
        ),
        Table(
            "Quantiles",
            ("column", *(f"{level:.0%}" for level in QUANTILES)),
            tuple((name, *(f"{v:.4g}" for v in values)) for name, values in statistics["quantiles"].items()),
        ),
    ]


def summary(statistics: dict) -> str:
    """All tables and the empty bins as one text."""
    return "\n\n".join([*map(str, tables(statistics)), empty_bins(statistics)])


def empty_bins(statistics: dict) -> str:
    """One line that names the bins of tone and age that no sample falls in."""
    found = [
        f"{name} {', '.join(statistics[key]['empty'])}"
        for key, name in (("tone", "skin tone"), ("age", "age"))
        if statistics[key]["empty"]
    ]
    return f"Bins without a sample: {'; '.join(found) if found else 'none'}."


def _limits(name: str) -> str:
    names = list(TONE_CLASSES)
    lower, position = TONE_CLASSES[name], names.index(name)
    if position == 0:
        return f"> {lower:g}"
    upper = TONE_CLASSES[names[position - 1]]
    return f"<= {upper:g}" if np.isinf(lower) else f"{lower:g} to {upper:g}"


def _bins(data: dict) -> dict[str, int]:
    """A histogram as label → count; the outer ones appear where they are not empty."""
    edges = data["edges"]
    inner = {f"{low:g} to {high:g}": n for low, high, n in zip(edges, edges[1:], data["counts"])}
    below = {f"below {edges[0]:g}": data["below"]} if data["below"] else {}
    return below | inner | ({f"above {edges[-1]:g}": data["above"]} if data["above"] else {})


def _relations(correlations: dict[str, dict | None]) -> Table:
    rows = [
        (name, f"{c['r']:+.3f}", f"{c['low']:+.3f} to {c['high']:+.3f}") if c else (name, "not defined", "")
        for name, c in correlations.items()
    ]
    return Table("Correlation of the skin tone with ...", ("", "r", "95 % interval"), tuple(rows))
