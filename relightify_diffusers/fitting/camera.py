"""The camera as the fit sees it: a rotation and four numbers, with analytic derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from relightify_diffusers.rendering.cameras import Camera


@dataclass(frozen=True)
class Pose:
    """Pose and focal length.

    rotation: (3, 3), head to camera. offset: (2,), the head's origin in the image over the focal length. log_distance:
    of the origin along the optical axis, meters. log_focal: pixels. center: (2,) principal point in pixels.
    """

    rotation: np.ndarray
    offset: np.ndarray
    log_distance: float
    log_focal: float
    center: np.ndarray

    # Degrees of freedom: a left rotation increment (3), offset (2), log distance, log focal length.
    SIZE = 7

    @property
    def translation(self) -> np.ndarray:
        """(3,) position of the head's origin in the camera frame, meters."""
        return np.array([*self.offset, 1.0]) * np.exp(self.log_distance)

    def updated(self, step: np.ndarray) -> Pose:
        """The pose after an increment (7,)."""
        rotation = Rotation.from_rotvec(step[:3]).as_matrix() @ self.rotation
        return Pose(
            rotation, self.offset + step[3:5], self.log_distance + step[5], self.log_focal + step[6], self.center
        )

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head points (N, 3) to pixels (N, 2)."""
        camera_points = points @ self.rotation.T + self.translation
        return np.exp(self.log_focal) * camera_points[:, :2] / camera_points[:, 2:] + self.center

    def derivatives(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `project`: by the increment of `updated` (N, 2, 7) and by the points (N, 2, 3)."""
        rotated = points @ self.rotation.T
        x, y, z = (rotated + self.translation).T
        focal = np.exp(self.log_focal)
        zero = np.zeros_like(x)
        by_camera = (
            focal
            / z[:, None, None]
            * np.stack([np.stack([zero + 1, zero, -x / z], -1), np.stack([zero, zero + 1, -y / z], -1)], axis=1)
        )
        # d(exp(w) p)/dw at w = 0 is w x p, whose matrix has the rows e_i x p transposed.
        by_rotation = np.cross(np.eye(3)[None], rotated[:, None]).transpose(0, 2, 1)
        depth = np.exp(self.log_distance)
        by_offset = np.broadcast_to(depth * np.eye(3)[:, :2], (len(points), 3, 2))
        by_distance = np.broadcast_to(self.translation[:, None], (len(points), 3, 1))
        by_pose = by_camera @ np.concatenate([by_rotation, by_offset, by_distance], axis=2)
        by_focal = focal * np.stack([x / z, y / z], axis=-1)[..., None]
        return np.concatenate([by_pose, by_focal], axis=2), by_camera @ self.rotation

    def camera(self, image_size: tuple[int, int]) -> Camera:
        """The Camera of this pose for an image of (W, H)."""
        focal = np.exp(self.log_focal)
        K = np.array([[focal, 0, self.center[0]], [0, focal, self.center[1]], [0, 0, 1.0]])
        return Camera(K, np.c_[self.rotation, self.translation], image_size)


def initial_pose(points: np.ndarray, pixels: np.ndarray, focal: float, center: np.ndarray) -> Pose:
    """Scaled-orthographic pose from correspondences (the POS step of DeMenthon & Davis 1995).

    points: (N, 3). pixels: (N, 2). focal: in pixels.
    """
    design = np.c_[points, np.ones(len(points))]
    affine = np.linalg.lstsq(design, pixels - center, rcond=None)[0].T  # (2, 4)
    scale = np.linalg.norm(affine[:, :3], axis=1).mean()
    u, _, vt = np.linalg.svd(affine[:, :3], full_matrices=False)
    rows = u @ vt
    rotation = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    return Pose(rotation, affine[:, 3] / focal, float(np.log(focal / scale)), float(np.log(focal)), center)
