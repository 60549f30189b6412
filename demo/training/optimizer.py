"""Muon for matrices, AdamW for the rest; float32 masters of bfloat16 weights; gradients averaged over processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

MOMENTUM = 0.95
WEIGHT_DECAY = 0.01
NOT_MATRICES = ("embed", "lm_head", "head.", "position")


def orthogonalise(gradients: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices of [K, rows, columns], rows <= columns, by five Newton-Schulz steps."""
    matrices = gradients.bfloat16()
    matrices = matrices / (matrices.float().flatten(1).norm(dim=1)[:, None, None].bfloat16() + 1e-7)
    for _ in range(5):
        square = matrices @ matrices.mT
        matrices = 3.4445 * matrices + (-4.775 * square + 2.0315 * (square @ square)) @ matrices
    result: Tensor = matrices.float()
    return result


class MuonAdam:
    """One optimizer over named bfloat16 parameters. Masters are float32 and shared between phases by name."""

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        masters: dict[str, Tensor],
        learning_rate: float,
        muon_rate: float,
        rank: int,
        processes: int,
    ) -> None:
        self._parameters = list(parameters)
        self._masters = masters
        self._muon_rate, self._learning_rate = muon_rate, learning_rate
        self._rank, self._processes = rank, processes
        matrices = [
            (name, p) for name, p in self._parameters if p.ndim == 2 and not any(k in name for k in NOT_MATRICES)
        ]
        self._matrices = sorted(matrices, key=lambda item: tuple(item[1].shape))
        names = {name for name, _ in matrices}
        self._momenta = {name: torch.zeros_like(masters[name]) for name, _ in self._matrices}
        self._adam_names = [name for name, _ in self._parameters if name not in names]
        self._adam_parameters = [nn.Parameter(masters[name]) for name in self._adam_names]
        for name, parameter in zip(self._adam_names, self._adam_parameters, strict=True):
            masters[name] = parameter.data
        self._adam = torch.optim.AdamW(
            self._adam_parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY, fused=True
        )

    def step(self, factor: float) -> None:
        """Average gradients, clip them to norm 1, move the masters at ``factor`` times the rates, copy them back."""
        gradients = self._gradients()
        for name, parameter in zip(self._adam_names, self._adam_parameters, strict=True):
            parameter.grad = gradients[name]
        self._adam.param_groups[0]["lr"] = self._learning_rate * factor
        self._adam.step()
        updates = self._muon_updates(gradients)
        for name, parameter in self._matrices:
            scale = max(1, parameter.shape[0] / parameter.shape[1]) ** 0.5
            master = self._masters[name].mul_(1 - self._muon_rate * factor * WEIGHT_DECAY)
            master.add_(updates[name], alpha=-self._muon_rate * factor * scale)
        with torch.no_grad():
            for name, parameter in self._parameters:
                parameter.copy_(self._masters[name])

    def state(self) -> dict[str, Tensor]:
        """Momenta and Adam's moments, by name."""
        tensors = {f"momentum.{name}": value for name, value in self._momenta.items()}
        for name, parameter in zip(self._adam_names, self._adam_parameters, strict=True):
            tensors |= {f"adam.{key}.{name}": value for key, value in self._adam.state[parameter].items()}
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, momentum in self._momenta.items():
            momentum.copy_(tensors[f"momentum.{name}"])
        for name, parameter in zip(self._adam_names, self._adam_parameters, strict=True):
            self._adam.state[parameter] = {
                key: tensors[f"adam.{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
            }

    def _gradients(self) -> dict[str, Tensor]:
        flat = torch.cat(
            [(torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1).float()) for _, p in self._parameters]
        )
        if self._processes > 1:
            dist.all_reduce(flat)
            flat /= self._processes
        norm = flat.norm().item()
        if norm > 1:
            flat /= norm + 1e-6
        gradients, offset = {}, 0
        for name, parameter in self._parameters:
            gradients[name] = flat[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
            parameter.grad = None
        return gradients

    def _muon_updates(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, momentum in self._momenta.items():
            momentum.mul_(MOMENTUM).add_(gradients[name], alpha=1 - MOMENTUM)
        groups: dict[tuple[int, ...], list[tuple[str, bool, Tensor]]] = {}
        # each process orthogonalises its share of the matrices; a sum over processes then gives all to all
        for name, _ in self._matrices[self._rank :: self._processes]:
            update = gradients[name] * (1 - MOMENTUM) + self._momenta[name] * MOMENTUM
            tall = update.shape[0] > update.shape[1]
            update = update.T if tall else update
            groups.setdefault(tuple(update.shape), []).append((name, tall, update))
        updates: dict[str, Tensor] = {}
        for group in groups.values():
            solved = orthogonalise(torch.stack([update for _, _, update in group]))
            updates |= {name: (one.T if tall else one) for (name, tall, _), one in zip(group, solved, strict=True)}
        if self._processes == 1:
            return updates
        flat = torch.cat(
            [updates[n].reshape(-1) if n in updates else torch.zeros(p.numel()) for n, p in self._matrices]
        )
        dist.all_reduce(flat)
        shared, offset = {}, 0
        for name, parameter in self._matrices:
            shared[name] = flat[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
        return shared
