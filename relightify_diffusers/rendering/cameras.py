"""The pinhole camera and its conversions; OpenCV convention: x right, y down, z forward, pixel centers at + 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    K: (3, 3) intrinsics in pixels. world_to_camera: (3, 4) [R|t], meters. image_size: (W, H) in pixels.
    """

    K: np.ndarray
    world_to_camera: np.ndarray
    image_size: tuple[int, int]

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) rotation from the world (head) frame to the camera frame."""
        return self.world_to_camera[:, :3]

    @property
    def center(self) -> np.ndarray:
        """(3,) position of the camera in the world frame."""
        return -self.rotation.T @ self.world_to_camera[:, 3]

    @property
    def view_to_world(self) -> np.ndarray:
        """(3, 3) rotation from the view frame (x right, y up, z towards the viewer: OpenGL's, glTF's) to the world."""
        return self.rotation.T @ np.diag([1.0, -1.0, -1.0])

    def transform(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to camera coordinates (..., 3)."""
        return points @ self.rotation.T + self.world_to_camera[:, 3]

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to pixel coordinates (..., 2)."""
        projected = self.transform(points) @ self.K.T
        return projected[..., :2] / projected[..., 2:]

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Origins (H, W, 3) and unit directions (H, W, 3) in the world frame, one ray through each pixel center."""
        width, height = self.image_size
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        pixels = np.stack([x, y, np.ones_like(x)], axis=-1)
        directions = pixels @ np.linalg.inv(self.K).T @ self.rotation
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return np.broadcast_to(self.center, directions.shape), directions

    def resized(self, scale: float) -> Camera:
        """The same view with an image `scale` times as large (sizes are rounded to whole pixels)."""
        width, height = (max(1, round(side * scale)) for side in self.image_size)
        factors = np.array([width / self.image_size[0], height / self.image_size[1], 1.0])
        return Camera(self.K * factors[:, None], self.world_to_camera, (width, height))

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The view of a window of the image, in whole pixels."""
        shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
        return Camera(shift @ self.K, self.world_to_camera, (width, height))


def orbit_camera(
    vertices: np.ndarray, yaw: float = 0.0, pitch: float = 0.0, size: int = 512, distance: float = 1.2
) -> Camera:
    """A square view that frames a head and looks at the middle of its bounding box.

    vertices: (V, 3) meters, head frame. yaw: degrees, positive moves the camera to the subject's left (+X), so that
    the face turns to the left of the image. pitch: degrees, positive moves it up. size: pixels. distance: meters from
    the middle; the field of view follows from it, the same for every yaw and pitch.
    """
    lower, upper = vertices.min(axis=0), vertices.max(axis=0)
    target = (lower + upper) / 2
    radius = 1.05 * np.linalg.norm(vertices - target, axis=-1).max()  # a little air around the head
    yaw, pitch = np.radians(yaw), np.radians(pitch)
    backward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    rotation = np.stack([right, -np.cross(backward, right), -backward])
    focal = 0.5 * size * np.sqrt(distance**2 - radius**2) / radius
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    translation = -rotation @ (target + distance * backward)
    return Camera(intrinsics, np.concatenate([rotation, translation[:, None]], axis=1), (size, size))
