"""Cameras, rasterizers, lights, BRDF and shading."""
