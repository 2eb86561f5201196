"""Pictures: from latents to bytes on the host. The VAE in its own batch size, and the way back, which nobody waits for.

A batch is decoded where it was denoised, on the same stream: both want the whole GPU, and side by side they would only
take the memory of both. The copy to the host needs none of it: it goes from a stream of its own, while the next batch
is denoised.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import diffusers
import torch

DECODED_PIXELS = 4 * 1024**2
"""Of all images that a VAE decodes at once on a GPU: its largest activations take 256 channels of each. More images
than that keep no GPU busier, and from 2**31 elements on some kernels fail (huggingface/diffusers#3643)."""


class Decoder:
    """The VAE of a pipeline, which goes on calling it as ever."""

    def __init__(self, pipeline: diffusers.DiffusionPipeline, device: torch.device, begun: Callable[[], None]) -> None:
        """`begun` is called when it is asked for pictures."""
        self._begun = begun
        self._finite: list[torch.Tensor] = []
        vae = getattr(pipeline, "vae", None)
        if vae is None:
            return
        self._scale = int(getattr(pipeline, "vae_scale_factor", 8))
        self._in_parts = device.type == "cuda"
        self._own = vae.decode
        vae.decode = self._decode
        decoder = getattr(vae, "decoder", None)
        if decoder is not None:
            decoder.register_forward_hook(self._look_at_decoded)

    def clear(self) -> None:
        """Another batch begins."""
        self._finite.clear()

    def finite(self, images: torch.Tensor) -> torch.Tensor:
        """Which of the batch's images are."""
        finite = torch.isfinite(images).flatten(1).all(dim=1)
        if sum(map(len, self._finite)) == len(images):
            finite &= torch.cat(self._finite)
        return finite

    def _decode(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as the VAE has it
        self._begun()
        pixels = latents.shape[-1] * latents.shape[-2] * self._scale**2
        most = max(1, DECODED_PIXELS // pixels)
        if not self._in_parts or len(latents) <= most or kwargs.get("return_dict", True):
            return self._own(latents, *args, **kwargs)
        parts = [self._own(part, *args, **kwargs)[0] for part in torch.split(latents, most)]
        return (torch.cat(parts),)

    def _look_at_decoded(self, _module: torch.nn.Module, _inputs: object, decoded: object) -> None:
        """Infinity has to be looked for here: what the pipeline hands out is cut off at 1, which is white."""
        if isinstance(decoded, torch.Tensor):
            self._finite.append(torch.isfinite(decoded).flatten(1).all(dim=1))


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """uint8 `[n, height, width, 3]`, the very bytes of diffusers' PIL images, from floats in [0, 1].

    Converted on the device: what is copied to the host is then a quarter of the floats. What is not finite has no
    colour and is black here.
    """
    scaled = images.float().nan_to_num(0.0, 0.0, 0.0).mul(255).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class Copies:
    """The way from one device to the host."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        # Not that of the copies, which by then may wait for the end of the next batch.
        self._aside = torch.cuda.Stream(device, priority=-1) if on_gpu else None  # type: ignore[no-untyped-call]

    def of(self, *tensors: torch.Tensor) -> Callable[[], tuple[torch.Tensor, ...]]:
        """Begin to copy them; what is returned waits for it.

        torch gives out pinned memory from a pool, and takes it back once nobody has it any more: the ring of buffers,
        as large as what the encoders have not come to yet.
        """
        if self._stream is None:
            return lambda: tensors
        self._stream.wait_stream(torch.cuda.current_stream(tensors[0].device))
        with torch.cuda.stream(self._stream):
            copies = tuple(torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in tensors)
            for copy, tensor in zip(copies, tensors, strict=True):
                copy.copy_(tensor, non_blocking=True)
                tensor.record_stream(self._stream)
            # Blocking: no core spins meanwhile.
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record()

        def wait() -> tuple[torch.Tensor, ...]:
            done.synchronize()
            return copies

        return wait

    def aside(self) -> AbstractContextManager[object]:
        """While this lasts, what is asked of the device goes before the next batch, which has been given already."""
        return nullcontext() if self._aside is None else torch.cuda.stream(self._aside)
