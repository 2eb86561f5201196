"""The families that denoise with a transformer, in small: few heads and layers, and all else as it is.

True are the channels of the latents and the VAE's factor, the width of all but two text encoders and which of their
layers are read, whether guidance is embedded, and the scheduler. Configs are those of the models' own repositories.
"""

import diffusers
import transformers

from miniatures import text_encoders
from miniatures.weights import lively


def stable_diffusion_3(dual_attention_layers):
    """3.5: three text encoders; `medium` has blocks that attend twice, `large` has none."""
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=text_encoders.T5_XXL,
        pooled_projection_dim=text_encoders.CLIP_L + text_encoders.CLIP_G,
        pos_embed_max_size=192,
        dual_attention_layers=dual_attention_layers,
        qk_norm="rms_norm",
    )
    return {
        "transformer": lively(transformer),
        "vae": _vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        **text_encoders.clip_l("", transformers.CLIPTextModelWithProjection),
        **text_encoders.clip_g("_2"),
        **text_encoders.t5("_3", 256),
    }


def flux(*, distilled_in_steps):
    """FLUX.1: `schnell` was distilled to few steps and has no guidance, which `dev` is told as a number."""
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text_encoders.T5_XXL,
        pooled_projection_dim=text_encoders.CLIP_L,
        guidance_embeds=not distilled_in_steps,
        axes_dims_rope=(4, 6, 6),
    )
    shifts = {"shift": 1.0} if distilled_in_steps else {"shift": 3.0, "use_dynamic_shifting": True}
    return {
        "transformer": lively(transformer),
        "vae": _vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**shifts),
        **text_encoders.clip_l("", transformers.CLIPTextModel),
        **text_encoders.t5("_2", 256 if distilled_in_steps else 512),
    }


def chroma():
    """A FLUX whose modulation one small network approximates, with true guidance and T5 alone."""
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text_encoders.T5_XXL,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=64,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return {
        "transformer": lively(transformer),
        "vae": _vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        **text_encoders.t5("", 512),
    }


def flux_2_klein():
    """Three layers of Qwen3, side by side; latents of 32 channels in patches of four, normalised as a batch."""
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=128,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * text_encoders.QWEN3,
        timestep_guidance_channels=256,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = diffusers.AutoencoderKLFlux2(block_out_channels=(4, 8, 16, 16), norm_num_groups=4)
    shifts = {"shift": 3.0, "use_dynamic_shifting": True, "time_shift_type": "exponential"}
    return {
        "transformer": lively(transformer),
        "vae": lively(vae),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**shifts),
        "is_distilled": True,
        **text_encoders.qwen_3(transformers.Qwen3ForCausalLM, layers=28, width=text_encoders.QWEN3),
    }


def z_image(shift):
    """Text and picture in one row; `turbo` was distilled with another shift."""
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=text_encoders.QWEN3_4B,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 512, 512],
    )
    return {
        "transformer": lively(transformer),
        "vae": _vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=shift),
        **text_encoders.qwen_3(transformers.Qwen3Model, layers=2, width=text_encoders.QWEN3_4B),
    }


def qwen_image():
    """A language model that sees as well, and a VAE that was made for films."""
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text_encoders.QWEN25,
        axes_dims_rope=(4, 6, 6),
    )
    shifts = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192}
    shifts |= {"shift": 1.0, "shift_terminal": 0.02, "time_shift_type": "exponential"}
    return {
        "transformer": lively(transformer),
        "vae": lively(diffusers.AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1)),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**shifts),
        **text_encoders.qwen_2_5(),
    }


def sana():
    """Linear attention over latents of 32 channels, of which one is 32 pixels wide."""
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=32,
        out_channels=32,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=text_encoders.GEMMA2_2B,
        sample_size=16,  # 512 pixels, cut down to the 64 that are asked for: of no smaller ones it knows the sides
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=32,
        attention_head_dim=4,
        encoder_block_types=(*["ResBlock"] * 3, *["EfficientViTBlock"] * 3),
        decoder_block_types=(*["ResBlock"] * 3, *["EfficientViTBlock"] * 3),
        encoder_block_out_channels=(4, 4, 8, 8, 16, 32),
        decoder_block_out_channels=(4, 4, 8, 8, 16, 32),
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        scaling_factor=0.41407,
    )
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return {
        "transformer": lively(transformer),
        "vae": lively(vae),
        "scheduler": diffusers.DPMSolverMultistepScheduler(**flow),
        **text_encoders.gemma_2(),
    }


def pixart_sigma():
    """T5 alone, and the VAE of Stable Diffusion XL; beside the noise it predicts a variance, which is not used."""
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=32,  # as with Sana: 256 pixels
        caption_channels=text_encoders.T5_XXL,
        interpolation_scale=2,
        use_additional_conditions=False,
    )
    return {
        "transformer": lively(transformer),
        "vae": _vae(4, scaling_factor=0.13025),
        "scheduler": diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        **text_encoders.t5("", 300),
    }


def _vae(latent_channels, **config):
    """Of factor 8."""
    return lively(
        diffusers.AutoencoderKL(
            block_out_channels=(4, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=latent_channels,
            norm_num_groups=4,
            **config,
        )
    )
