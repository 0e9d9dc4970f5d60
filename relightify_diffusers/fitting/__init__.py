"""Fit the head model to landmarks: pose, focal length, identity, expression; and the light to a texture."""

from relightify_diffusers.fitting.fitter import FittingConfig, HeadFit, fit_landmarks
from relightify_diffusers.fitting.light import LightFit, estimate_light

__all__ = ["FittingConfig", "HeadFit", "LightFit", "estimate_light", "fit_landmarks"]
