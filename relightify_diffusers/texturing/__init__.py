"""From photo to UV: which texels the photo shows, and their colors."""

from relightify_diffusers.texturing.unwrap import PartialTexture, TexturingConfig, unwrap

__all__ = ["PartialTexture", "TexturingConfig", "unwrap"]
