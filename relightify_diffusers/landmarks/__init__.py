"""Faces and their 68 landmarks on a photo, from any detector behind one protocol."""

from relightify_diffusers.landmarks.base import (
    ASSET_NOTE,
    DEFAULT_DETECTOR,
    LANDMARK_COUNT,
    MIN_FACE_SIZE,
    Face,
    LandmarkDetector,
    available_detectors,
    get_detector,
    select_face,
)

__all__ = [
    "ASSET_NOTE",
    "DEFAULT_DETECTOR",
    "LANDMARK_COUNT",
    "MIN_FACE_SIZE",
    "Face",
    "LandmarkDetector",
    "available_detectors",
    "get_detector",
    "select_face",
]
