"""From a photo to an avatar: the stages in order."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np

from relightify_diffusers.avatar import SCHEMA_VERSION, Avatar, Mesh
from relightify_diffusers.errors import AssetError, UnsuitableImageError, UsageError
from relightify_diffusers.fitting import HeadFit, estimate_light, fit_landmarks
from relightify_diffusers.head.model import SKIN, HeadModel
from relightify_diffusers.head.regions import region_masks, roughness_map
from relightify_diffusers.landmarks import DEFAULT_DETECTOR, get_detector, select_face
from relightify_diffusers.maps import linear_to_srgb, srgb_to_linear
from relightify_diffusers.methods import METHODS
from relightify_diffusers.photo import Photo, load_photo
from relightify_diffusers.priors.completion import Completion, complete
from relightify_diffusers.priors.gaussian import GaussianPrior
from relightify_diffusers.rendering.atlas import AtlasTexels, bake_atlas, interpolate
from relightify_diffusers.rendering.mesh import normalize, vertex_normals
from relightify_diffusers.rendering.rasterizer import EmbreeRasterizer
from relightify_diffusers.rendering.spherical_harmonics import irradiance
from relightify_diffusers.rendering.visibility import EYE_OPENNESS, radiance_transfer
from relightify_diffusers.texturing import PartialTexture, unwrap
from relightify_diffusers.texturing.detail import enlarge, merge, shrink

BUNDLED = "bundled"
PRIOR_FILE = "gaussian_prior.safetensors"
DEFAULT_STEPS, DEFAULT_MAP_RESOLUTION = 20, 512
# A fit that misses the landmarks by this share of the distance between the eyes is no fit (good ones stay below 0.02).
MAX_LANDMARK_ERROR = 0.12
# Pixels across the head of the render that measures the photometric error.
PSNR_SIDE = 256


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float]

    @contextmanager
    def stage(self, name: str):
        """Time a block under a name."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


class FaceReconstructor:
    """Photo to relightable head: detection, fit, texturing, completion, light.

    head: HeadModel. prior: GaussianPrior, warm start and instant mode. model: folder or Hub id of a
    RelightifyInpaintPipeline, loaded on first need. detector: a LandmarkDetector.
    """

    def __init__(self, head: HeadModel, prior: GaussianPrior, model: str, detector, device: str = "cpu"):
        self.head, self.prior, self.model, self.detector, self.device = head, prior, model, detector, device

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, device: str = "cpu", detector: str = DEFAULT_DETECTOR
    ) -> FaceReconstructor:
        """Load the bundled weights, or those of a folder or Hub id; raises AssetError when they cannot be loaded."""
        assets = Path(str(files("relightify_diffusers") / "assets"))
        prior_path = assets / PRIOR_FILE
        if model is not None:
            local = Path(model)
            if local.exists() and not (local / "model_index.json").exists():
                raise AssetError(f"{model} is not a pipeline folder: it has no model_index.json")
            if not local.exists() and (local.is_absolute() or str(model).count("/") != 1):
                raise AssetError(f"there is no model folder {model}; give a folder or a Hub id (owner/name)")
            if (local / PRIOR_FILE).exists():
                prior_path = local / PRIOR_FILE
        head, prior = HeadModel.bundled(), GaussianPrior.load(prior_path)
        return cls(head, prior, str(model or BUNDLED), get_detector(detector), device)

    @cached_property
    def pipeline(self):
        """The RelightifyInpaintPipeline; loading it takes the seconds that importing diffusers takes."""
        from relightify_diffusers.pipelines.relightify_inpaint import RelightifyInpaintPipeline

        bundled = files("relightify_diffusers") / "assets" / "pipeline"
        source = str(bundled) if self.model == BUNDLED else self.model
        try:
            pipeline = RelightifyInpaintPipeline.from_pretrained(source).to(self.device)
        except Exception as error:  # diffusers, huggingface_hub and safetensors each raise their own
            raise AssetError(f"cannot load the model {source}: {error}") from error
        pipeline.unet.float()
        pipeline.set_progress_bar_config(desc="sampling", leave=False)
        return pipeline

    def __call__(
        self,
        photo: str | Path | Photo,
        seed: int = 0,
        num_inference_steps: int | None = None,
        map_resolution: int | None = None,
        method: str | None = None,
        strength: float | None = None,
        face: int | None = None,
    ) -> Avatar:
        """Reconstruct the head on a photo.

        photo: a path, or a loaded Photo. map_resolution: side of the maps in texels (512). method: "default"
        (diffusion from a warm start), "gaussian" (closed form, no network) or "replace" (diffusion from noise).
        strength: of the warm start, in (0, 1]. face: which one, 0 being the largest. The same seed gives the same
        avatar. Raises NoFaceError, UnsuitableImageError, UsageError or AssetError.
        """
        method = method or "default"
        if method not in METHODS:
            raise UsageError(f"there is no method {method!r}; available: {', '.join(METHODS)}")
        size = map_resolution or DEFAULT_MAP_RESOLUTION
        if size < self.prior.resolution:
            raise UsageError(
                f"the map resolution must be at least {self.prior.resolution}, the model's own; got {size}"
            )
        steps = num_inference_steps or DEFAULT_STEPS
        watch = Stopwatch({})

        # 1. The photo and the face on it.
        with watch.stage("landmarks"):
            photo = photo if isinstance(photo, Photo) else load_photo(photo)
            found, notes = select_face(self.detector.detect(photo.image), face)
            warnings = [*photo.warnings, *notes]
        # 2. Pose, focal length, identity, expression.
        with watch.stage("fitting"):
            height, width = photo.image.shape[:2]
            fit = fit_landmarks(self.head, found.landmarks, (width, height), photo.focal_35mm)
            if fit.landmark_error_iod > MAX_LANDMARK_ERROR:
                raise UnsuitableImageError(
                    f"the head model does not fit this face (landmark error {fit.landmark_error_iod:.2f} of the "
                    "distance between the eyes); use a photo with less occlusion or a smaller turn of the head"
                )
        # 3. What the photo shows of the atlas.
        with watch.stage("texturing"):
            texels = bake_atlas(self.head.atlas.uv, self.head.atlas.uv_triangles, size)
            masks = region_masks(self.head, size, texels)
            normals = vertex_normals(fit.vertices, self.head.triangles)
            rasterizer = EmbreeRasterizer(fit.vertices, self.head.triangles)
            transfer = radiance_transfer(fit.vertices, normals, rasterizer)
            partial = unwrap(photo.image, fit.camera, fit.vertices, self.head, texels, masks, transfer)
            warnings += _coverage_warnings(partial)
        # 4. The rest of the texture, and the reflectance.
        if method != "gaussian":
            with watch.stage("loading"):
                self._check_resolution()
        with watch.stage("completion"):
            coarse = shrink(partial.texture, partial.observed, self.prior.resolution)
            completion = complete(
                coarse.texture,
                coarse.observed,
                self.prior,
                None if method == "gaussian" else self.pipeline,
                method,
                strength,
                steps,
                seed,
            )
        # 5. Maps at full resolution, light, and the error of the whole.
        with watch.stage("maps"):
            maps = self._full_maps(completion, partial, texels, masks, normals)
            light = self._light(maps, partial, texels, transfer)
            seen_eyes = partial.observed & (masks["eyes"] > 0)
            maps["diffuse_albedo"][seen_eyes] = eye_albedo(
                maps["texture"][seen_eyes], interpolate(normals, self.head.triangles, texels)[seen_eyes], light
            )
        mesh = Mesh(
            fit.vertices.astype(np.float32),
            self.head.triangles,
            self.head.atlas.uv,
            self.head.atlas.uv_triangles,
            self.head.atlas.triangle_regions,
        )
        avatar = Avatar(mesh, maps, fit.camera, light.astype(np.float32), photo.image)
        with watch.stage("check"):
            psnr = photometric_psnr(avatar)
        fitted = {
            "landmark_error_iod": fit.landmark_error_iod,
            "photometric_psnr": psnr,
            "observed_fraction": partial.observed_fraction,
            "focal_length": "exif" if fit.focal_from_exif else "estimated",
            "warnings": warnings,
        }
        record = self._record(fit, fitted, completion, method, steps, seed, watch)
        return Avatar(mesh, maps, fit.camera, avatar.light_sh, photo.image, record)

    def _check_resolution(self) -> None:
        size = self.pipeline.unet.config.sample_size
        if size != self.prior.resolution:
            raise AssetError(
                f"the model {self.model} works at {size} texels and its Gaussian prior at {self.prior.resolution}; "
                f"put a {PRIOR_FILE} of the same resolution beside the model"
            )

    def _full_maps(
        self, completion: Completion, partial: PartialTexture, texels: AtlasTexels, masks: dict, normals: np.ndarray
    ) -> dict[str, np.ndarray]:
        resolution = self.prior.resolution
        coarse_inside = bake_atlas(self.head.atlas.uv, self.head.atlas.uv_triangles, resolution).inside
        mesh_normals = normalize(interpolate(normals, self.head.triangles, texels))
        sharp = np.clip(masks["eyes"] + masks["brows"] + masks["lips"] + masks["lids"], 0, 1)
        maps = merge(completion.maps, coarse_inside, partial.texture, partial.observed, mesh_normals, sharp)
        std = enlarge(completion.albedo_std[..., None], coarse_inside, len(partial.texture))[..., 0]
        maps["roughness"] = roughness_map(masks)
        maps["observed"] = partial.observed.astype(np.float32)
        maps["uncertainty"] = (std * texels.inside).astype(np.float32)
        return maps

    def _light(self, maps: dict, partial: PartialTexture, texels: AtlasTexels, transfer: np.ndarray) -> np.ndarray:
        skin = self.head.atlas.triangle_regions[texels.triangle] == SKIN
        used = partial.observed & skin & (partial.cosine > 0.4)
        light = estimate_light(
            srgb_to_linear(maps["texture"][used].astype(np.float64)),
            srgb_to_linear(maps["diffuse_albedo"][used].astype(np.float64)),
            interpolate(transfer, self.head.triangles, texels)[used],
            partial.cosine[used],
        )
        return light.sh

    def _record(self, fit: HeadFit, fitted, completion, method, steps, seed, watch) -> dict:
        names = self.head.expression_names
        return {
            "schema_version": SCHEMA_VERSION,
            "expression": {name: round(float(w), 5) for name, w in zip(names, fit.expression)},
            "identity": [round(float(x), 5) for x in fit.identity],
            "fit": fitted,
            "model": {
                "id": self.model,
                "resolution": self.prior.resolution,
                "steps": 0 if method == "gaussian" else steps,
                "unet_calls": completion.unet_calls,
                "strength": completion.strength,
                "method": method,
            },
            "seed": seed,
            "seconds": watch.seconds,
            "assets": [
                {"name": self.head.provenance["source"], "licence": self.head.provenance["license"]},
                {"name": f"{self.model} model and Gaussian prior of relightify_diffusers", "licence": "Apache-2.0"},
                dict(self.detector.asset_note),
            ],
        }


def eye_albedo(texture: np.ndarray, normals: np.ndarray, light_sh: np.ndarray) -> np.ndarray:
    """Albedo (P, 3), sRGB-encoded, of observed eye texels (P, 3): their color divided by the light on them.

    The prior resolves an eye with six texels, too few to tell an iris from its surroundings. normals: (P, 3).
    """
    white = np.maximum(EYE_OPENNESS / np.pi * irradiance(light_sh, normalize(normals)), 0.05)
    return linear_to_srgb(np.clip(srgb_to_linear(texture.astype(np.float64)) / white, 0.01, 0.8)).astype(np.float32)


def photometric_psnr(avatar: Avatar) -> float:
    """Peak signal-to-noise ratio in dB between the photo and the avatar rendered from its camera under its own light,
    over the pixels that show observed texels, at PSNR_SIDE pixels across the head."""
    if avatar.photo is None:
        raise ValueError("the photometric error needs an avatar with its photo")
    from relightify_diffusers.export.images import resize
    from relightify_diffusers.rendering.environment import EnvironmentLight
    from relightify_diffusers.rendering.shading import Scene
    from relightify_diffusers.rendering.views import render

    extent = np.ptp(avatar.camera.project(np.asarray(avatar.mesh.vertices, np.float64)), axis=0).max()
    camera = avatar.camera.resized(min(1.0, PSNR_SIDE / extent))
    scene = Scene(avatar.mesh, avatar.maps)
    view = render(scene, camera, [EnvironmentLight.from_sh(avatar.light_sh)], supersampling=1)
    photo = resize(avatar.photo, camera.image_size)
    observed = render(scene, camera, aov="observed", supersampling=1).straight[..., 0]
    seen = (view.alpha > 0.99) & (observed > 0.9)
    if not seen.any():
        return 0.0
    error = linear_to_srgb(np.clip(view.straight[seen], 0, 1)) - photo[seen]
    return float(-10 * np.log10(np.mean(error**2) + 1e-12))


def _coverage_warnings(partial: PartialTexture) -> list[str]:
    share = partial.observed_fraction
    visible = float(partial.observed.sum() / max(partial.visible.sum(), 1))
    warnings = []
    if share < 0.15:
        warnings.append(f"only {share:.0%} of the face's texels were observed: most of the result is invented")
    if visible < 0.55:
        warnings.append(
            f"{1 - visible:.0%} of the visible face looks like hair, glasses or background and was not used"
        )
    return warnings
