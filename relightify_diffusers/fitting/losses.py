"""Residuals of the landmark fit with their Jacobian, all in standard deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relightify_diffusers.fitting.camera import Pose


@dataclass(frozen=True)
class PointModel:
    """The landmark points alone: mean (68, 3) and basis (K + E, 68, 3) of identity and expression."""

    mean: np.ndarray
    basis: np.ndarray

    def points(self, coefficients: np.ndarray) -> np.ndarray:
        """Points (68, 3) for coefficients (K + E,)."""
        return self.mean + np.tensordot(coefficients, self.basis, axes=1)


@dataclass(frozen=True)
class LandmarkProblem:
    """Regularized least squares over a Pose and the model's coefficients.

    target: (68, 2) pixels. precision: (68,) one over each point's standard deviation in pixels. coefficient_sigma:
    (K + E,) of the zero-mean Gaussian priors. log_distance, log_focal: (mean, standard deviation).
    """

    model: PointModel
    target: np.ndarray
    precision: np.ndarray
    coefficient_sigma: np.ndarray
    log_distance: tuple[float, float]
    log_focal: tuple[float, float]

    def residuals(self, pose: Pose, coefficients: np.ndarray) -> np.ndarray:
        """Residuals (136 + K + E + 2,): landmarks, coefficients, distance, focal length."""
        data = (pose.project(self.model.points(coefficients)) - self.target) * self.precision[:, None]
        camera = [
            (pose.log_distance - self.log_distance[0]) / self.log_distance[1],
            (pose.log_focal - self.log_focal[0]) / self.log_focal[1],
        ]
        return np.concatenate([data.ravel(), coefficients / self.coefficient_sigma, camera])

    def jacobian(self, pose: Pose, coefficients: np.ndarray) -> np.ndarray:
        """Jacobian (136 + K + E + 2, 7 + K + E) of `residuals` by the pose's increment and the coefficients."""
        count = len(coefficients)
        by_pose, by_points = pose.derivatives(self.model.points(coefficients))
        by_coefficients = np.einsum("nij,knj->nik", by_points, self.model.basis)
        data = np.concatenate([by_pose, by_coefficients], axis=2) * self.precision[:, None, None]
        prior = np.zeros((count + 2, Pose.SIZE + count))
        prior[np.arange(count), Pose.SIZE + np.arange(count)] = 1 / self.coefficient_sigma
        prior[count, 5] = 1 / self.log_distance[1]
        prior[count + 1, 6] = 1 / self.log_focal[1]
        return np.concatenate([data.reshape(-1, Pose.SIZE + count), prior])
