"""Asynchrony: while a pipeline of diffusers runs, the host waits for nothing on the device.

diffusers' schedulers compute with numbers that they read back from the device: DDIM 6 a step, LCM 3, PNDM 2, and each
time the host stands until the device has done all that it was given. UniPC, and whatever draws noise, send numbers to
it from memory that the device cannot read by itself, for which the host waits as well. Here the pipeline's own
`__call__` runs, with its own scheduler, and

- the timesteps stay on the host, so that all the scheduler's arithmetic on numbers is the host's;
- a number that is asked for on the device stays on the host too: it becomes an argument of the kernels that need it;
- what is more than a number goes to the device from pinned memory, for which nobody waits;
- the models themselves run as ever, but for parts that send something by themselves: what reaches them from the host
  is brought to the device first.

On a CPU nothing of that is needed, and only the first is done: every number is diffusers' own.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import diffusers
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

_OF_DATA = (torch.tensor, torch.as_tensor)
_OF_SHAPE = (torch.ones, torch.zeros, torch.full)
_SENDING = frozenset({"ChromaCombinedTimestepTextProjEmbeddings"})
"""Parts of models that send something to the device in every step."""


class Asynchrony(TorchFunctionMode):
    """As a context manager: around each call of the pipeline for which it was made."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._is_on = False
        keep_on_host(pipeline.scheduler)
        if device.type != "cpu":
            for module in _modules(pipeline):
                self._leave_alone(module)
                for part in module.modules():
                    if type(part).__name__ in _SENDING:
                        self._look_into(part)

    def __enter__(self) -> Self:
        if self._device.type != "cpu":
            self._is_on = True
            super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_on:
            self._is_on = False
            super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever the function returns
        given = dict(kwargs or {})
        if function is torch.Tensor.to:
            return self._to(*args, **given)
        if function in _OF_DATA and self._is_there(given.get("device")):
            made = function(*args, **{**given, "device": "cpu"})
            return made if made.dim() == 0 else self._sent(made)
        if function in _OF_SHAPE and self._is_there(given.get("device")) and args and args[0] == ():
            return function(*args, **{**given, "device": "cpu"})
        return function(*args, **given)

    def _to(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        copy, (device, dtype, _, layout) = _asked(*args, **kwargs)
        if tensor.device.type != "cpu" or not self._is_there(device):
            return tensor.to(*args, **kwargs)
        is_number = tensor.dim() == 0
        tensor = tensor.to(
            dtype=dtype or tensor.dtype, copy=copy and is_number, memory_format=layout or torch.preserve_format
        )
        return tensor if is_number else self._sent(tensor)

    def _is_there(self, device: Any) -> bool:  # noqa: ANN401  as torch takes it
        return device is not None and torch.device(device).type == self._device.type

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != "cpu":
            return tensor
        # torch keeps pinned memory for the next time, and gives it out again once the copy is over. `pin_memory` would
        # refuse what `expand` made: it keeps the strides, and several elements at one place cannot be written.
        pinned = torch.empty_like(tensor, pin_memory=self._device.type == "cuda").copy_(tensor)
        return pinned.to(self._device, non_blocking=True)

    def _leave_alone(self, module: torch.nn.Module) -> None:
        """To look at each of its thousands of operations takes the host a microsecond or two."""
        own = module.forward

        @functools.wraps(own)
        def forward(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if not self._is_on:
                return own(*args, **kwargs)
            self.__exit__(None, None, None)  # first, or numbers would stay on the host
            try:
                args, kwargs = tree_map_only(torch.Tensor, self._sent, (args, kwargs))
                return own(*args, **kwargs)
            finally:
                self.__enter__()

        module.forward = forward

    def _look_into(self, part: torch.nn.Module) -> None:
        """Within a model that is left alone, but for this part."""
        own = part.forward

        @functools.wraps(own)
        def forward(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with self:
                return own(*args, **kwargs)

        part.forward = forward


def _asked(*args: Any, copy: bool = False, **kwargs: Any) -> tuple[bool, tuple[Any, ...]]:  # noqa: ANN401
    """What `Tensor.to` is asked for: whether for a copy, and device, dtype, `non_blocking` and memory format."""
    if len(args) > 1 and isinstance(args[-1], bool) and isinstance(args[-2], bool):
        args, copy = args[:-1], args[-1]
    return copy, torch._C._nn._parse_to(*args, **kwargs)


def keep_on_host(scheduler: Any) -> None:  # noqa: ANN401  diffusers has no class of all schedulers
    """Let the timesteps be where the scheduler's other numbers are, wherever the pipeline asks for them."""
    own = scheduler.set_timesteps
    signature = inspect.signature(own)
    if "device" not in signature.parameters:
        return

    @functools.wraps(own)
    def set_timesteps(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        given = signature.bind(*args, **kwargs)
        given.arguments["device"] = "cpu"
        own(*given.args, **given.kwargs)

    scheduler.set_timesteps = set_timesteps


def _modules(pipeline: diffusers.DiffusionPipeline) -> Iterator[torch.nn.Module]:
    """All models of the pipeline, and of the VAE the halves, which are called by other names."""
    for part in pipeline.components.values():
        for module in (part, getattr(part, "encoder", None), getattr(part, "decoder", None)):
            if isinstance(module, torch.nn.Module):
                yield module
