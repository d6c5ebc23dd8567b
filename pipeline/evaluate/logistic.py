"""Logistic: logistic regression with an L2 penalty, by L-BFGS on torch; scikit-learn's optimum.

Shapes: N images, D width, K classes or labels. The objective is scikit-learn's: C times the summed
loss, and half the squared weights; intercepts are not penalised. Two further things make it fast.
Logits are linear in the weights, so that a step is tried without a product of matrices. And the
first guess at the curvature is the features' own covariance, whose inverse for any C is cheap once
its eigenvectors are known: badly scaled features and weak penalties take few steps more.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_ITERATIONS = 1000
"""CLIP, appendix A.3."""
_MEMORY = 20
"""Steps that L-BFGS remembers."""
_PER_WIDTH = 8
"""Rows for each column of features that their covariance is taken from, at most."""
_TRIES = 12
_REFRESH = 50
"""Steps after which the logits are computed anew, for what rounding has added up."""

Loss = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Fitted:
    """Weights for features as they came."""

    weight_DK: Tensor
    bias_K: Tensor
    has_converged: bool
    iterations: int

    def logits(self, features_ND: Tensor) -> Tensor:
        return features_ND.to(self.weight_DK) @ self.weight_DK + self.bias_K


class Regression:
    """One set of features and targets, to be fitted with several penalties."""

    def __init__(self, features_ND: Tensor, targets_NK: Tensor, loss: Loss) -> None:
        """`targets_NK` has a 1 where an image is of a class: one in a row for softmax."""
        self._loss = loss
        self._targets_NK = targets_NK.to(features_ND)
        # An intercept makes up for any shift of the features, and small numbers are exact.
        self._mean_D = features_ND.mean(0)
        centred_ND = features_ND - self._mean_D
        # With fewer rows than columns the weights lie in the space of the rows.
        self._basis_DR: Tensor | None = None
        if len(centred_ND) < centred_ND.shape[1]:
            self._basis_DR, triangle_RN = torch.linalg.qr(centred_ND.T)
            centred_ND = triangle_RN.T.contiguous()
        self._x_NR = centred_ND
        every = max(1, len(centred_ND) // (_PER_WIDTH * centred_ND.shape[1]))
        some = centred_ND[::every]
        curvature, self._axes_RR = torch.linalg.eigh(some.T @ some / len(some))
        self._curvature_R = curvature.clamp_min(0)

    def fit(self, strength: float, start: Fitted | None = None, tolerance: float = 1e-10) -> Fitted:
        """The weights for C = `strength`; from those of another C they are found sooner.

        Ends when a step promises less than `tolerance` of the objective.
        """
        x_NR = self._x_NR
        rows, classes = self._targets_NK.shape
        penalty = 1.0 / (strength * rows)
        w = torch.zeros(x_NR.shape[1] + 1, classes, dtype=x_NR.dtype, device=x_NR.device)
        if start is None:
            w[-1] = self._prior()
        else:
            weight = start.weight_DK.to(x_NR)
            w[-1] = start.bias_K.to(x_NR) + self._mean_D @ weight
            w[:-1] = weight if self._basis_DR is None else self._basis_DR.T @ weight
        z_NK = self._products(w)
        value, residual_NK = self._value(z_NK, w, penalty)
        gradient = self._gradient(residual_NK, w, penalty)
        scale_R, scale = self._scales(z_NK, penalty)
        steps: list[tuple[Tensor, Tensor, float]] = []
        iteration, has_converged = 0, False
        for iteration in range(MAX_ITERATIONS):
            direction = self._direction(gradient, steps, scale_R, scale)
            slope = float((gradient * direction).sum())
            if slope >= -max(tolerance * value, _ROUNDING[x_NR.dtype] * _LEAST):
                has_converged = True
                break
            along_NK = self._products(direction)
            found = self._step(z_NK, along_NK, w, direction, value, slope, penalty)
            if found is None:
                # Rounding hides what is left to gain.
                has_converged = slope >= -_ROUNDING[x_NR.dtype] * value
                break
            step, value, residual_NK = found
            moved = step * direction
            w = w + moved
            z_NK += step * along_NK
            if iteration % _REFRESH == _REFRESH - 1:
                z_NK = self._products(w)
                value, residual_NK = self._value(z_NK, w, penalty)
            before, gradient = gradient, self._gradient(residual_NK, w, penalty)
            bend = gradient - before
            product = float((moved * bend).sum())
            if product > 0:
                steps = [*steps[-_MEMORY + 1 :], (moved, bend, 1.0 / product)]
        weight = w[:-1] if self._basis_DR is None else self._basis_DR @ w[:-1]
        bias = w[-1] - self._mean_D @ weight
        return Fitted(weight, bias, has_converged, iteration)

    def objective(self, found: Fitted, strength: float) -> float:
        """What scikit-learn would have least: C times the loss, and half the squared weights."""
        w = torch.cat([found.weight_DK, (found.bias_K + self._mean_D @ found.weight_DK)[None]])
        if self._basis_DR is not None:
            w = torch.cat([self._basis_DR.T @ w[:-1], w[-1:]])
        penalty = 1.0 / (strength * len(self._x_NR))
        return self._value(self._products(w), w, penalty)[0] * strength * len(self._x_NR)

    def _prior(self) -> Tensor:
        """Intercepts that give each class its share."""
        share_K = self._targets_NK.mean(0).clamp(1e-6, 1 - 1e-6)
        return share_K.log() if self._loss == "softmax" else torch.logit(share_K)

    def _products(self, w: Tensor) -> Tensor:
        return torch.addmm(w[-1], self._x_NR, w[:-1])

    def _value(self, z_NK: Tensor, w: Tensor, penalty: float) -> tuple[float, Tensor]:
        """The objective over C and N, and the loss's derivative by the logits."""
        loss, residual_NK = self._loss_at(z_NK)
        squares = float(w[:-1].square().sum(dtype=torch.float64))
        return loss + 0.5 * penalty * squares, residual_NK

    def _loss_at(self, z_NK: Tensor) -> tuple[float, Tensor]:
        y_NK = self._targets_NK
        if self._loss == "softmax":
            log_p_NK = F.log_softmax(z_NK, 1)
            loss = -(log_p_NK * y_NK).sum(dtype=torch.float64)
            residual_NK = log_p_NK.exp_().sub_(y_NK)
        else:
            loss = (F.softplus(z_NK) - z_NK * y_NK).sum(dtype=torch.float64)
            residual_NK = torch.sigmoid(z_NK).sub_(y_NK)
        return float(loss) / len(y_NK), residual_NK

    def _gradient(self, residual_NK: Tensor, w: Tensor, penalty: float) -> Tensor:
        found = penalty * w
        found[:-1] += self._x_NR.T @ residual_NK / len(residual_NK)
        found[-1] = residual_NK.mean(0)
        return found

    def _scales(self, z_NK: Tensor, penalty: float) -> tuple[Tensor, float]:
        """The inverse of the curvature along each axis of the features, and of the intercepts."""
        p_NK = torch.softmax(z_NK, 1) if self._loss == "softmax" else torch.sigmoid(z_NK)
        mean = max(float((p_NK * (1 - p_NK)).mean()), 1e-6)
        return 1 / (mean * self._curvature_R + penalty), 1 / mean

    def _direction(
        self,
        gradient: Tensor,
        steps: list[tuple[Tensor, Tensor, float]],
        scale_R: Tensor,
        scale: float,
    ) -> Tensor:
        """Nocedal and Wright, algorithm 7.4."""
        q = -gradient
        shares = []
        for moved, bend, inverse in reversed(steps):
            share = inverse * (moved * q).sum()
            q = q - share * bend
            shares.append(share)
        q = self._scaled(q, scale_R, scale)
        if steps:
            moved, bend, inverse = steps[-1]
            q *= 1 / (inverse * (bend * self._scaled(bend, scale_R, scale)).sum())
        for (moved, bend, inverse), share in zip(steps, reversed(shares), strict=True):
            q = q + (share - inverse * (bend * q).sum()) * moved
        return q

    def _scaled(self, q: Tensor, scale_R: Tensor, scale: float) -> Tensor:
        inner = self._axes_RR @ (scale_R[:, None] * (self._axes_RR.T @ q[:-1]))
        return torch.cat([inner, scale * q[-1:]])

    def _step(
        self,
        z_NK: Tensor,
        along_NK: Tensor,
        w: Tensor,
        direction: Tensor,
        value: float,
        slope: float,
        penalty: float,
    ) -> tuple[float, float, Tensor] | None:
        """How far to go, and the objective and the residuals there: Wolfe's conditions, by secants
        within a bracket. None where no step is seen to gain anything."""
        cross = float((w[:-1] * direction[:-1]).sum())
        square = float(direction[:-1].square().sum())
        base = 0.5 * penalty * float(w[:-1].square().sum(dtype=torch.float64))
        low, low_slope, high, high_slope, step = 0.0, slope, 0.0, 0.0, 1.0
        best: tuple[float, float, Tensor] | None = None
        for _ in range(_TRIES):
            there, residual_NK = self._loss_at(z_NK + step * along_NK)
            there += base + penalty * (step * cross + 0.5 * step * step * square)
            inner = float((residual_NK * along_NK).sum(dtype=torch.float64)) / len(z_NK)
            inner += penalty * (cross + step * square)
            is_lower = there <= value + 1e-4 * step * slope
            if is_lower and abs(inner) <= -0.9 * slope:
                return step, there, residual_NK
            if is_lower and inner < 0:
                low, low_slope, best = step, inner, (step, there, residual_NK)
            else:
                high, high_slope = step, inner
            if not high:
                step *= 4.0
                continue
            middle = 0.5 * (low + high)
            if high_slope > 0:
                secant = low - low_slope * (high - low) / (high_slope - low_slope)
                edge = 0.1 * (high - low)
                middle = min(max(secant, low + edge), high - edge)
            step = middle
        return best


_ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
_LEAST = 0.1
"""Of it, in a loss an image: less than this no step is seen to gain, however small the objective.
Without it a weak penalty on images that a plane divides took most of a search's time."""
