"""Weights that all networks of a space share: the store behind a supernet.

Nothing here knows a space. Two parameters of two networks are the same weight when they have the same name and belong
to layers of the same sort in a part of the same sort (types, kernel sizes, grouping; not widths). Where widths differ,
the narrower one is the corner of the widest, as in Yu et al., "Slimmable neural networks", 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


class SharedWeights:
    """Weights by their key, as large as the largest that was seen.

    Args:
        networks: Say what there is and how large; the values of the first that has a weight in full size, or values
            drawn like its own, are its start.

    Attributes:
        tensors: The weights, leaves that collect gradients.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self.tensors: dict[str, Tensor] = {}
        for network in networks:
            for key, _, parameter in keyed_parameters(network):
                self.tensors[key] = _grown(self.tensors.get(key), parameter.detach())
        for tensor in self.tensors.values():
            tensor.requires_grad_()

    def lent_to(self, network: nn.Module) -> dict[str, Tensor]:
        """Return what a network's parameters are here, by name: views through which gradients flow.

        A parameter that is unknown here, or larger, is left out: the network keeps its own.
        """
        lent = {}
        for key, name, parameter in keyed_parameters(network):
            shared = self.tensors.get(key)
            if shared is not None and _fits(parameter, shared):
                lent[name] = shared[_corner(parameter.shape)]
        return lent

    def copy_into(self, network: nn.Module) -> None:
        """Give a network the values of now."""
        parameters = dict(network.named_parameters())
        with torch.no_grad():
            for name, value in self.lent_to(network).items():
                parameters[name].copy_(value)

    def values(self) -> dict[str, Tensor]:
        """Return a copy of the values of now, in host memory, by key."""
        return {key: tensor.detach().cpu().clone() for key, tensor in self.tensors.items()}

    def load(self, values: Mapping[str, Tensor]) -> int:
        """Take over values by key, where widths differ as far as they go; return how many weights got any."""
        taken = 0
        with torch.no_grad():
            for key, value in values.items():
                tensor = self.tensors.get(key)
                if tensor is not None and tensor.dim() == value.dim():
                    common = tuple(slice(min(a, b)) for a, b in zip(tensor.shape, value.shape, strict=True))
                    tensor[common] = value[common].to(tensor)
                    taken += 1
        return taken


def keyed_parameters(network: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Yield the key, the name and the value of each parameter."""
    modules = dict(network.named_modules())
    for name, parameter in network.named_parameters():
        path, _, _ = name.rpartition(".")
        parent = path.rpartition(".")[0]
        yield f"{name} of {_sort(modules[path])} in {_sorts(modules[parent])}", name, parameter


def _sorts(module: nn.Module) -> str:
    return f"{_sort(module)}({', '.join(_sort(child) for child in module.children())})"


def _sort(module: nn.Module) -> str:
    """Return what a layer is, but for its widths."""
    kernel, groups = getattr(module, "kernel_size", None), getattr(module, "groups", 1)
    size = "" if kernel is None else "x".join(map(str, kernel if isinstance(kernel, tuple) else (kernel,)))
    return f"{type(module).__name__}{size}{' grouped' if groups != 1 else ''}"


def _grown(known: Tensor | None, own: Tensor) -> Tensor:
    """Return a weight that holds both: what is known stays, what is new is drawn like the network's own values."""
    if known is None:
        return own.clone()
    if _fits(own, known):
        return known
    shape = tuple(max(a, b) for a, b in zip(own.shape, known.shape, strict=True))
    if own.dim() < 2:  # biases and norms start with one value
        grown = own.flatten()[:1].expand(shape).clone()
    else:
        grown = torch.randn(shape, dtype=own.dtype, device=own.device) * own.std()
    grown[_corner(own.shape)] = own
    grown[_corner(known.shape)] = known
    return grown


def _fits(own: Tensor, shared: Tensor) -> bool:
    return own.dim() == shared.dim() and all(a <= b for a, b in zip(own.shape, shared.shape, strict=True))


def _corner(shape: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in shape)
