"""The parts of the pipeline, small: how many layers of what width, and the noise they learn to take away."""

import diffusers
import transformers

from training.canvas import SIDE

TOKENS = 32
TEXT_WIDTH = 128
LATENT_CHANNELS = 4
LATENT_SIDE = SIDE // 4
NOISE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

_AUTOENCODER_WIDTHS = (8, 24, 64)
_DENOISER_WIDTHS = (32, 48, 96)
_GROUPS = 8


def make_autoencoder() -> diffusers.AutoencoderKL:
    """From pixels to latents of a quarter of their side, and back."""
    return diffusers.AutoencoderKL(
        block_out_channels=_AUTOENCODER_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * len(_AUTOENCODER_WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(_AUTOENCODER_WIDTHS),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # a channel on its own would be set to mean 0 everywhere, and a flat colour be lost
        mid_block_add_attention=False,
        sample_size=SIDE,
    )


def make_denoiser(variants: int = 1) -> diffusers.UNet2DConditionModel:
    """The UNet: words are heard at 8 x 8, where most shapes are decided, and once more at 4 x 4."""
    return diffusers.UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=variants * LATENT_CHANNELS,
        block_out_channels=_DENOISER_WIDTHS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=_GROUPS,
        use_linear_projection=True,
    )


def make_text_encoder(vocabulary: int) -> transformers.CLIPTextModel:
    """The text model, for a vocabulary whose last two entries begin and end a text."""
    return transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
            projection_dim=TEXT_WIDTH,
        )
    )
