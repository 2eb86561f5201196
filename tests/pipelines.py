"""Small diffusers folders of several kinds, with random weights, for tests of what a worker loads."""

import json
import shutil

import diffusers
import torch
import transformers


def copy_of_tiny(tiny_folder, folder, **index):
    """The built-in pipeline in another place, with other entries in its model_index.json."""
    shutil.copytree(tiny_folder, folder)
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
    return folder


def safety_checker(threshold):
    """The parts of a pipeline that flags every image (threshold -2) or none (+2)."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**vision, "image_size": 30, "patch_size": 15, "projection_dim": 16}, projection_dim=16
    )
    torch.manual_seed(0)
    checker = diffusers.pipelines.stable_diffusion.StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(threshold)
    size = {"height": 30, "width": 30}
    extractor = transformers.CLIPImageProcessorPil(size=size, crop_size=size)
    return {"safety_checker": checker, "feature_extractor": extractor, "requires_safety_checker": True}


def save_with_safety_checker(tiny_folder, folder, threshold):
    """`tiny` with a safety checker."""
    parts = safety_checker(threshold)
    diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder), **parts).save_pretrained(str(folder))
    return folder


def save_latent_consistency(tiny_folder, folder):
    """A pipeline whose `__call__` takes no negative prompt."""
    torch.manual_seed(0)
    base = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder))
    unet = diffusers.UNet2DConditionModel.from_config({**base.unet.config, "time_cond_proj_dim": 16}).eval()
    diffusers.LatentConsistencyModelPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=unet,
        scheduler=diffusers.LCMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(str(folder))
    return folder


def save_v2(tiny_folder, folder, prediction_type):
    """Stable Diffusion 2 in small: OpenCLIP's text encoder, a UNet with linear projections."""
    torch.manual_seed(0)
    base = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder))
    heads = {"attention_head_dim": (2, 4), "use_linear_projection": True, "upcast_attention": True}
    config = transformers.CLIPTextConfig.from_dict({**base.text_encoder.config.to_dict(), "hidden_act": "gelu"})
    diffusers.StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=transformers.CLIPTextModel(config).eval(),
        tokenizer=base.tokenizer,
        unet=diffusers.UNet2DConditionModel.from_config({**base.unet.config, **heads}).eval(),
        scheduler=diffusers.DDIMScheduler.from_config(base.scheduler.config, prediction_type=prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(str(folder))
    return folder


def save_xl(tiny_folder, folder, width=32):
    """SDXL in small: two text encoders, the second `width` wide, zeros in the place of an empty negative prompt."""
    torch.manual_seed(0)
    base = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder))
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32 + width,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        norm_num_groups=2,
    )
    own = {"hidden_size": width, "projection_dim": 32, "hidden_act": "gelu"}
    config = transformers.CLIPTextConfig.from_dict({**base.text_encoder.config.to_dict(), **own})
    diffusers.StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        text_encoder_2=transformers.CLIPTextModelWithProjection(config).eval(),
        tokenizer=base.tokenizer,
        tokenizer_2=base.tokenizer,
        unet=unet.eval(),
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading"),
        add_watermarker=False,
    ).save_pretrained(str(folder))
    return folder


def save_inpainting(tiny_folder, folder):
    """A UNet of nine channels: the latents, the mask, and what the mask leaves of the picture."""
    torch.manual_seed(0)
    base = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder))
    unet = diffusers.UNet2DConditionModel.from_config({**base.unet.config, "in_channels": 9}).eval()
    parts = {**base.components, "unet": unet}
    diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False).save_pretrained(str(folder))
    return folder


def save_depth(tiny_folder, folder):
    """A UNet of five channels, and a depth estimator."""
    torch.manual_seed(0)
    base = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder))
    config = transformers.DPTConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        backbone_out_indices=(0, 1, 2, 3),
        num_attention_heads=2,
        intermediate_size=16,
        is_hybrid=False,
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
    )
    size = {"height": 32, "width": 32}
    diffusers.StableDiffusionDepth2ImgPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=diffusers.UNet2DConditionModel.from_config({**base.unet.config, "in_channels": 5}).eval(),
        scheduler=base.scheduler,
        depth_estimator=transformers.DPTForDepthEstimation(config).eval(),
        feature_extractor=transformers.DPTImageProcessorPil(size=size, keep_aspect_ratio=False, ensure_multiple_of=1),
    ).save_pretrained(str(folder))
    return folder


def save_upscaler(tiny_folder, folder):
    """A UNet of seven channels that is told the noise level, a VAE of factor 4, v-prediction."""
    torch.manual_seed(0)
    base = diffusers.StableDiffusionPipeline.from_pretrained(str(tiny_folder))
    unet = {"in_channels": 7, "num_class_embeds": 1000, "sample_size": 16, "only_cross_attention": (True, False)}
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.08333,
    ).eval()
    diffusers.StableDiffusionUpscalePipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=diffusers.UNet2DConditionModel.from_config({**base.unet.config, **unet}).eval(),
        low_res_scheduler=diffusers.DDPMScheduler(),
        scheduler=diffusers.DDIMScheduler.from_config(base.scheduler.config, prediction_type="v_prediction"),
        max_noise_level=350,
    ).save_pretrained(str(folder))
    return folder
