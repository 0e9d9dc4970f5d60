"""Fit pose, focal length, identity and expression to 68 landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.fitting.camera import Pose, initial_pose
from relightify_diffusers.fitting.losses import LandmarkProblem, PointModel
from relightify_diffusers.head.model import HeadModel
from relightify_diffusers.photo import FULL_FRAME_DIAGONAL_MM
from relightify_diffusers.rendering.cameras import Camera

CONTOUR = slice(0, 17)
OUTER_EYE_CORNERS = (36, 45)


@dataclass(frozen=True)
class FittingConfig:
    """Scales of the terms; each residual is divided by its scale, so that all are in standard deviations.

    inner_sigma, contour_sigma: landmark noise as a share of the inter-ocular distance. expression_sigma: spread of
    expression weights, which stay in [0, 1]. distance_m, distance_sigma: log-normal prior on the camera's distance.
    focal_sigma, exif_focal_sigma: of the logarithm of the focal length, around a normal lens or the EXIF value.
    rounds: refits, each with new contour points and robust weights. iterations: at most, per round.
    """

    inner_sigma: float = 0.018
    contour_sigma: float = 0.05
    identity_sigma: float = 1.0
    expression_sigma: float = 0.3
    distance_m: float = 1.2
    distance_sigma: float = 0.35
    focal_sigma: float = 0.6
    exif_focal_sigma: float = 0.05
    rounds: int = 6
    iterations: int = 15


@dataclass(frozen=True)
class HeadFit:
    """A fitted head.

    identity: (K,) standard deviations. expression: (E,) weights in [0, 1]. vertices: (V, 3) in the head frame. camera:
    of the photo. landmarks: (68, 2) pixels of the fitted model's points. landmark_error_iod: mean distance to the
    given points over the distance of the outer eye corners. focal_from_exif: whether the focal length started from
    EXIF.
    """

    identity: np.ndarray
    expression: np.ndarray
    vertices: np.ndarray
    camera: Camera
    landmarks: np.ndarray
    landmark_error_iod: float
    focal_from_exif: bool


def fit_landmarks(
    head: HeadModel,
    landmarks: np.ndarray,
    image_size: tuple[int, int],
    focal_35mm: float | None = None,
    config: FittingConfig = FittingConfig(),
) -> HeadFit:
    """Fit the head to iBUG landmarks (68, 2) in pixels of an image of (W, H).

    Regularized nonlinear least squares with expression weights bounded to [0, 1]; jaw-line points slide along the
    occluding contour between rounds, and points that disagree lose weight (Huber 1964). focal_35mm: 35 mm equivalent
    from EXIF, whose frame is taken to be the whole image.
    """
    iod = float(np.linalg.norm(np.subtract(*landmarks[list(OUTER_EYE_CORNERS)])))
    if focal_35mm:
        focal, focal_sigma = focal_35mm / FULL_FRAME_DIAGONAL_MM * np.hypot(*image_size), config.exif_focal_sigma
    else:
        # What a camera at the expected distance needs for a face of this size.
        spread = np.linalg.norm(np.subtract(*head.landmarks(head.template)[list(OUTER_EYE_CORNERS)]))
        focal, focal_sigma = config.distance_m * iod / spread, config.focal_sigma
    pose = initial_pose(head.landmarks(head.template)[17:], landmarks[17:], focal, np.array(image_size) / 2)
    identities, expressions = len(head.identity_basis), len(head.expression_basis)
    coefficients = np.zeros(identities + expressions)
    prior = np.repeat([config.identity_sigma, config.expression_sigma], [identities, expressions])
    lower = np.repeat([-np.inf, 0.0], [identities, expressions])
    upper = np.repeat([np.inf, 1.0], [identities, expressions])
    sigma = np.where(np.arange(68) < CONTOUR.stop, config.contour_sigma, config.inner_sigma)
    embedding = head.landmark_triangles, head.landmark_barycentrics
    weights = np.ones(68)
    for _ in range(config.rounds):
        problem = LandmarkProblem(
            model=_point_model(head, *embedding),
            target=landmarks,
            precision=weights / (sigma * iod),
            coefficient_sigma=prior,
            log_distance=(np.log(config.distance_m), config.distance_sigma),
            log_focal=(np.log(focal), focal_sigma),
        )
        pose, coefficients = _minimize(problem, pose, coefficients, lower, upper, config.iterations)
        vertices = head.vertices(coefficients[:identities], coefficients[identities:])
        camera = pose.camera(image_size)
        embedding = _slide_contour(head, vertices, camera)
        fitted = camera.project(np.einsum("nk,nkd->nd", embedding[1], vertices[head.triangles[embedding[0]]]))
        distance = np.linalg.norm(fitted - landmarks, axis=1) / iod
        weights = np.minimum(1, 2.0 * sigma / np.maximum(distance, 1e-9)) ** 0.5
    return HeadFit(
        identity=coefficients[:identities],
        expression=coefficients[identities:],
        vertices=vertices,
        camera=camera,
        landmarks=fitted,
        landmark_error_iod=float(distance.mean()),
        focal_from_exif=bool(focal_35mm),
    )


def _minimize(
    problem: LandmarkProblem,
    pose: Pose,
    coefficients: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    iterations: int,
) -> tuple[Pose, np.ndarray]:
    """Levenberg-Marquardt with bounds by projection: coefficients that a step pushes out of bounds stay on them."""
    damping, residuals = 1e-3, problem.residuals(pose, coefficients)
    for _ in range(iterations):
        jacobian = problem.jacobian(pose, coefficients)
        gradient, hessian = jacobian.T @ residuals, jacobian.T @ jacobian
        blocked = ((coefficients <= lower) & (gradient[Pose.SIZE :] > 0)) | (
            (coefficients >= upper) & (gradient[Pose.SIZE :] < 0)
        )
        free = np.r_[np.ones(Pose.SIZE, bool), ~blocked]
        step = np.zeros(len(free))
        damped = hessian + damping * np.diag(np.diag(hessian))
        step[free] = np.linalg.solve(damped[np.ix_(free, free)], -gradient[free])
        new_pose = pose.updated(step[: Pose.SIZE])
        new_coefficients = np.clip(coefficients + step[Pose.SIZE :], lower, upper)
        new_residuals = problem.residuals(new_pose, new_coefficients)
        gain = residuals @ residuals - new_residuals @ new_residuals
        if gain > 0:
            converged = gain < 1e-5 * (residuals @ residuals)
            pose, coefficients, residuals = new_pose, new_coefficients, new_residuals
            damping = max(damping / 5, 1e-7)
            if converged:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    return pose, coefficients


def _point_model(head: HeadModel, triangles: np.ndarray, barycentrics: np.ndarray) -> PointModel:
    corners = head.triangles[triangles]

    def pick(values):
        return np.einsum("nk,...nkd->...nd", barycentrics.astype(np.float64), values[..., corners, :])

    return PointModel(pick(head.template), np.concatenate([pick(head.identity_basis), pick(head.expression_basis)]))


def _slide_contour(head: HeadModel, vertices: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Landmark embedding whose jaw-line points lie on the occluding contour: of each point's candidates, the outermost
    in the image, seen from the base of the nose."""
    corners = vertices[head.triangles[head.contour_triangles]]
    candidates = camera.project(np.einsum("nck,nckd->ncd", head.contour_barycentrics, corners))  # (17, C, 2)
    nose = camera.project(head.landmarks(vertices)[33])
    outward = candidates[:, 0] - nose
    best = np.einsum("ncd,nd->nc", candidates - nose, outward).argmax(axis=1)
    triangles, barycentrics = head.landmark_triangles.copy(), head.landmark_barycentrics.copy()
    rows = np.arange(17)
    triangles[CONTOUR] = head.contour_triangles[rows, best]
    barycentrics[CONTOUR] = head.contour_barycentrics[rows, best]
    return triangles, barycentrics
