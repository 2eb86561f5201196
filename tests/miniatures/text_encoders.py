"""Text encoders in small, of the true width, with few heads and layers, and the tokenizers that belong to them.

Each is a part of a pipeline by its name: `number` tells several apart, as diffusers does.
"""

import transformers

from miniatures import tokenizers
from miniatures.weights import lively

T5_XXL = 4096
CLIP_L = 768
CLIP_G = 1280
QWEN3_4B = 2560
QWEN3 = 320
"""Where three of its layers are read, which lie far apart: with 28 of the true width it would take seconds."""
QWEN25 = 64
"""Not the 3584 of Qwen2.5-VL 7B: its attention is as wide as its text, and would be a hundred megabytes."""
GEMMA2_2B = 2304


def clip_l(number, kind):
    return _clip(number, kind, CLIP_L, "quick_gelu", pad="<|endoftext|>")


def clip_g(number):
    return _clip(number, transformers.CLIPTextModelWithProjection, CLIP_G, "gelu", pad="!")


def _clip(number, kind, width, activation, pad):
    config = transformers.CLIPTextConfig(
        vocab_size=tokenizers.CLIP_SIZE,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        hidden_act=activation,
        projection_dim=width,
        bos_token_id=tokenizers.CLIP_SIZE - 2,
        eos_token_id=tokenizers.CLIP_SIZE - 1,
    )
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>"}
    settings |= {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad}
    return {
        f"tokenizer{number}": tokenizers.clip(settings),
        f"text_encoder{number}": lively(kind(config)),
    }


def t5(number, tokens):
    config = transformers.T5Config(
        vocab_size=tokenizers.T5_SIZE,
        d_model=T5_XXL,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return {
        f"tokenizer{number}": tokenizers.t5(tokens),
        f"text_encoder{number}": lively(transformers.T5EncoderModel(config)),
    }


def qwen_3(kind, layers, width):
    config = transformers.Qwen3Config(
        vocab_size=tokenizers.QWEN_SIZE,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
    )
    return {"tokenizer": tokenizers.qwen(), "text_encoder": lively(kind(config))}


def qwen_2_5():
    """That sees as well, which nobody asks of it."""
    text = {"hidden_size": QWEN25, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": tokenizers.QWEN_SIZE}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": {"mrope_section": [2, 3, 3]}}
    text |= {"bos_token_id": None, "eos_token_id": None}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": QWEN25}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    encoder = transformers.Qwen2_5_VLForConditionalGeneration(config)
    return {"tokenizer": tokenizers.qwen(), "text_encoder": lively(encoder)}


def gemma_2():
    config = transformers.Gemma2Config(
        vocab_size=tokenizers.GEMMA_SIZE,
        hidden_size=GEMMA2_2B,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
    )
    return {"tokenizer": tokenizers.gemma(), "text_encoder": lively(transformers.Gemma2Model(config))}
