"""Fit the head model to landmarks: pose, focal length, identity, expression; and the light to a texture."""

from .fitter import FittingConfig, HeadFit, fit_landmarks
from .light import LightFit, estimate_light

__all__ = ["FittingConfig", "HeadFit", "LightFit", "estimate_light", "fit_landmarks"]
