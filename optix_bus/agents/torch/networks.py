"""Building small networks, and describing those that NumPy can run as well."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.acting.order import is_feed_forward
from optix_bus.errors import Unsuitable
from optix_bus.types import SpaceSpec

_PLAIN: dict[type[nn.Module], str] = {
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Identity: "identity",
}


class OneHot(nn.Module):
    """Discrete observations ``[B]`` as rows of the unit matrix, ``[B, n]``."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, observations: Tensor) -> Tensor:
        """Numbers 0..n-1 of any dtype and shape ``[B]`` or ``[B, 1]``."""
        flat = observations.reshape(len(observations)).long()
        return nn.functional.one_hot(flat, self.n).to(torch.get_default_dtype())


class AppendConstant(nn.Module):
    """Numbers that do not depend on the input, behind those that do: ``[B, n]`` to ``[B, n + k]``.

    As the last layer of a Gaussian actor it holds the logarithms of the standard deviations.

    Args:
        value: ``[k]``, where training begins.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        """Append the value to each row."""
        return torch.cat([x, self.value.expand(len(x), -1)], dim=-1)


def build_mlp(
    inputs: int,
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    output_gain: float,
    generator: torch.Generator,
    one_hot: bool = False,
) -> nn.Sequential:
    """A tanh network with orthogonal weights (gain sqrt 2, the last layer ``output_gain``), zero biases.

    Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.2: a small last layer of the policy
    matters, the rest less.
    """
    layers: list[nn.Module] = [OneHot(inputs)] if one_hot else []
    sizes = [inputs, *hidden_sizes, outputs]
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        last = number == len(sizes) - 2
        # Without its own initialisation: that would draw from the global generator.
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        nn.init.orthogonal_(linear.weight, output_gain if last else math.sqrt(2.0), generator=generator)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not last:
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


def build_relu_mlp(
    inputs: int,
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    generator: torch.Generator,
    one_hot: bool = False,
) -> nn.Sequential:
    """A ReLU network with every number uniform in ``+-1 / sqrt(fan_in)``, as off-policy agents have it.

    LeCun et al. 1998, "Efficient BackProp", section 4.6, scaled as PyTorch's own layers are: what the public
    benchmark tables were made with.
    """
    layers: list[nn.Module] = [OneHot(inputs)] if one_hot else []
    for fan_in, fan_out in itertools.pairwise([inputs, *hidden_sizes, outputs]):
        # Without its own initialisation: that would draw from the global generator.
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        for parameter in (linear.weight, linear.bias):
            nn.init.uniform_(
                parameter, -1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in), generator=generator
            )
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def floating_type(module: nn.Module) -> torch.dtype:
    """The type of a network's weights, in which it expects observations."""
    first = next(module.parameters(), None)
    return first.dtype if first is not None and first.is_floating_point() else torch.float32


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """The linear layers of a network that `describe` knows, in the order in which they are applied."""
    if isinstance(module, nn.Linear):
        return [module]
    # Not ``children()``: that leaves out a layer's second use.
    return [
        layer for child in module._modules.values() if child is not None for layer in linear_layers(child)
    ]


def shape_of(
    module: nn.Module, device: torch.device, *inputs: np.ndarray[Any, Any], place: int = 0
) -> tuple[int, ...]:
    """Shape of what a module puts out, which is left as it is; empty where there is nothing in this place.

    Args:
        module: gives a tensor, or several.
        device: where it lives.
        inputs: what it is called with, e.g. observations ``[n, *obs_shape]``.
        place: which of several.
    """
    with contextlib.suppress(RuntimeError, TypeError):  # some modules cannot be copied
        module = copy.deepcopy(module).eval()  # statistics of its layers may follow what they see
    with torch.no_grad():
        dtype = floating_type(module)
        found = module(*(torch.from_numpy(np.array(each)).to(device, dtype) for each in inputs))
    several = found if isinstance(found, tuple) else (found,)
    return tuple(several[place].shape) if place < len(several) else ()


def output_size(module: nn.Module) -> int | None:
    """Numbers that a feed-forward network puts out; None where it is no network that `describe` knows."""
    if describe(module, "") is None:
        return None
    return linear_layers(module)[-1].out_features + sum(len(each.value) for each in constants(module))


def constants(module: nn.Module) -> list[AppendConstant]:
    """The `AppendConstant` at the end of a network, if there is one."""
    return [layer for layer in module.modules() if isinstance(layer, AppendConstant)]


def check_networks(
    actor: nn.Module, critic: nn.Module, spaces: SpaceSpec, outputs: int | None = None
) -> None:
    """Raise `Unsuitable` unless actor and critic take the observations and give the outputs they should.

    ``outputs`` are those of the actor, by default one for each discrete action.
    """
    wanted = {"actor": (actor, spaces.action.n if outputs is None else outputs), "critic": (critic, 1)}
    device = next(actor.parameters()).device
    example = torch.zeros((2, *spaces.observation.shape), device=device)
    for name, (module, size) in wanted.items():
        check_network(name, module, example, size, spaces.environment)


def check_network(
    name: str, module: nn.Module, example: Tensor, outputs: int, environment: str, why: str = ""
) -> None:
    """Raise `Unsuitable` unless a network takes observations and gives so many numbers for each.

    Args:
        name: of the network, for errors.
        module: is called once.
        example: two observations, ``[2, *obs_shape]``.
        outputs: numbers that are expected.
        environment: its name, for errors.
        why: said behind what is expected.
    """
    try:
        with torch.no_grad():
            found = list(module(example).shape)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        shape = list(example.shape[1:])
        raise Unsuitable(
            f"the {name} does not take observations of {environment}, shape {shape}: {reason}"
        ) from error
    if found != [2, outputs]:
        raise Unsuitable(
            f"the {name} gives {found} for 2 observations of {environment}, expected [2, {outputs}]{why}"
        )


def describe(module: nn.Module, prefix: str) -> list[dict[str, Any]] | None:
    """The layers of a feed-forward network for `optix_bus.agents.acting`, or None where it is something else.

    Only exact layer types without hooks and with float32 weights count: a subclass may compute anything.

    Args:
        module: a layer or a (nested) ``nn.Sequential`` of layers.
        prefix: of its parameters' names, e.g. ``actor``.
    """
    layers: list[dict[str, Any]] = []
    if not collect(module, prefix, layers):
        return None
    return layers if is_feed_forward(layers) else None


def collect(module: nn.Module, prefix: str, layers: list[dict[str, Any]]) -> bool:
    """Append the layers of a module, in whatever order; False where one of them is unknown."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return False
    kind = type(module)
    if kind is nn.Sequential:
        children = module._modules.items()
        return all(
            child is not None and collect(child, f"{prefix}.{name}", layers) for name, child in children
        )
    layer = _layer(module, prefix)
    if layer is None:
        return False
    layers.append(layer)
    return True


def _layer(module: nn.Module, prefix: str) -> dict[str, Any] | None:
    kind = type(module)
    if kind is nn.Linear:
        assert isinstance(module, nn.Linear)
        if module.weight.dtype is not torch.float32:
            return None
        bias = None if module.bias is None else f"{prefix}.bias"
        return {"op": "linear", "weight": f"{prefix}.weight", "bias": bias}
    if kind in _PLAIN:
        return {"op": _PLAIN[kind]}
    if isinstance(module, OneHot):
        return {"op": "one_hot", "n": module.n}
    if kind is AppendConstant:
        assert isinstance(module, AppendConstant)
        if module.value.dtype is not torch.float32:
            return None
        return {"op": "append_constant", "value": f"{prefix}.value"}
    if kind is nn.Flatten and module.start_dim == 1 and module.end_dim == -1:
        return {"op": "flatten"}
    if kind is nn.ELU:
        return {"op": "elu", "parameter": float(module.alpha)}  # type: ignore[arg-type]
    if kind is nn.LeakyReLU:
        return {"op": "leaky_relu", "parameter": float(module.negative_slope)}  # type: ignore[arg-type]
    if kind is nn.GELU:
        return {"op": "gelu_tanh" if module.approximate == "tanh" else "gelu"}
    return None
