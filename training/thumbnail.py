"""Where the autoencoder starts: its latents are a thumbnail of the picture, and all that it has to learn is edges.

Left as diffusers makes it, so small an autoencoder takes hundreds of steps before it tells one colour from another.
Its normalization sets every picture to mean 0 and deviation 1, so that a flat colour is lost but for the ratios between
channels. Here every second channel carries a constant +3 and every other one -3: beside them a picture hardly counts,
and normalization divides by nearly the same number whatever is drawn. That also makes a crop as good as the whole.
"""

import diffusers
import torch
from torch import nn

_OFFSET = 3.0
_LINEAR = 2.0  # where SiLU is nearly a straight line: silu(2 + x) is about 1.76 + x
_LOG_VARIANCE = -4.6  # a deviation of 0.1
_RANDOM = 0.3  # how much of the random weights is left beside the path that carries the picture


@torch.no_grad()
def start_as_thumbnail(model: diffusers.AutoencoderKL) -> None:
    """Set the weights of a new model so that colours pass through it, shrunk on the way in and enlarged on the way out.

    The model normalizes in one group, and all widths but those of pixels and latents are even.
    """
    for path, layer in model.named_modules():
        name = path.rpartition(".")[2]
        if isinstance(layer, nn.GroupNorm):
            nn.init.constant_(layer.weight, _OFFSET)
            layer.bias.copy_(-_offsets(layer.num_channels) + (_LINEAR if name == "conv_norm_out" else 0.0))
        elif isinstance(layer, nn.Conv2d):
            _set_convolution(layer, name)
    quant = model.quant_conv
    quant.weight[quant.out_channels // 2 :] = 0
    quant.bias[quant.out_channels // 2 :] = _LOG_VARIANCE


def _set_convolution(layer: nn.Conv2d, name: str) -> None:
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    if name == "conv2":  # ends a residual block, which adds nothing at first
        nn.init.zeros_(layer.weight)
        return
    if name == "conv1":
        layer.bias.copy_(_offsets(layer.out_channels))
        return
    outer = name in {"conv_in", "conv_out", "quant_conv", "post_quant_conv"}
    if not outer:  # the offsets of what comes in add up to nothing, at the border of the picture too
        signs = (_offsets(layer.in_channels) / _OFFSET)[None, :, None, None]
        layer.weight.sub_((layer.weight * signs).mean(dim=1, keepdim=True) * signs)
    layer.weight.mul_(_RANDOM)
    through = torch.arange(min(layer.in_channels, layer.out_channels))
    layer.weight[through, through] = 0
    middle = layer.kernel_size[0] // 2
    layer.weight[through, through, middle, middle] = 1
    if name == "conv_in":
        layer.bias.copy_(_offsets(layer.out_channels))
    elif name == "conv_out":
        layer.bias.fill_(_SILU_OF_LINEAR)
    elif not outer:
        layer.bias[len(through) :] = _offsets(layer.out_channels)[len(through) :]


def _offsets(channels: int) -> torch.Tensor:
    return torch.tensor([_OFFSET, -_OFFSET]).repeat(channels // 2)


_SILU_OF_LINEAR = -float(nn.functional.silu(torch.tensor(_LINEAR)))
