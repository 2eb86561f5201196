"""The catalogue in small: the cards that ship, unchanged but for where their weights lie, and the models they name.

A model is made when a test first asks for it, with the structure of its family, and in the form that the real one has:
a folder, with pickles or a safety checker where that has them, or a checkpoint in the layout of the original code.
"""

from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
import yaml
from safetensors.torch import load_file

from actors.models import registry
from actors.models.folder import read_json
from actors.models.tiny import tiny_folder
from actors.models.trust import weights_sha256
from checkpoints import ldm_vae, save_checkpoint
from miniatures import dits, unets
from pipelines import safety_checker

CARDS = {card.name: card for card in registry.shipped_cards()}
SD2 = ("stable-diffusion-2", "stable-diffusion-2-1")
STRUCTURES = {
    **dict.fromkeys(("stable-diffusion-1-4", "stable-diffusion-1-5", "waifu-diffusion-1-3"), "sd1"),
    "unstable-photoreal-0-5": "sd1",
    "stable-diffusion-1-5-inpainting": "sd1-inpainting",
    **dict.fromkeys((f"{name}-base" for name in SD2), "sd2-base"),
    **dict.fromkeys(("waifu-diffusion-1-4", "waifu-diffusion-1-4-ckpt", "clean-diffusion-2-0"), "sd2-base"),
    **dict.fromkeys(("commoncanvas-s-c", "mitsua-diffusion-one"), "sd2-base"),
    **dict.fromkeys((*SD2, *(f"waifu-diffusion-1-5-{beta}" for beta in ("beta", "beta2", "beta3"))), "sd2-v"),
    "stable-diffusion-2-inpainting": "sd2-base-inpainting",
    "stable-diffusion-2-depth": "sd2-depth",
    "stable-diffusion-x4-upscaler": "x4-upscaler",
    **dict.fromkeys(("stable-diffusion-xl", "sdxl-turbo", "sdxl-lightning", "commoncanvas-xl-c"), "sdxl"),
    **dict.fromkeys(("animagine-xl-4", "illustrious-xl", "pony-diffusion-v6", "noobai-xl-v-pred"), "sdxl"),
    "stable-diffusion-3-5-medium": "sd3-medium",
    "stable-diffusion-3-5-large": "sd3-large",
    "flux-1-dev": "flux-dev",
    "flux-1-schnell": "flux-schnell",
    **{name: name for name in ("flux-2-klein", "z-image", "z-image-turbo", "qwen-image", "sana", "pixart-sigma")},
    **{name: name for name in ("chroma", "demo", "demo-v", "tiny")},
}
"""By the names of the cards. The scheduler is that of the structure: where a model has another, its card says so."""
DITS = {
    "sd3-medium": lambda: dits.stable_diffusion_3(dual_attention_layers=(0,)),
    "sd3-large": lambda: dits.stable_diffusion_3(dual_attention_layers=()),
    "flux-dev": lambda: dits.flux(distilled_in_steps=False),
    "flux-schnell": lambda: dits.flux(distilled_in_steps=True),
    "flux-2-klein": dits.flux_2_klein,
    "z-image": lambda: dits.z_image(shift=6.0),
    "z-image-turbo": lambda: dits.z_image(shift=3.0),
    "qwen-image": dits.qwen_image,
    "sana": dits.sana,
    "pixart-sigma": dits.pixart_sigma,
    "chroma": dits.chroma,
}


@dataclass(frozen=True)
class Catalogue:
    """`cards` and `models` that are there once they were asked for, and all `configs`."""

    top: Path

    @classmethod
    def in_folder(cls, top):
        unets.save_configs(top / "configs")
        (top / "cards").mkdir()
        return cls(top)

    def card(self, name):
        """Write the card, and make all that it names; this is where it then is."""
        card, path = CARDS[name], self.top / "cards" / f"{name}.yaml"
        if path.exists():
            return path
        words = yaml.safe_load((Path(registry.__file__).with_name("cards") / f"{name}.yaml").read_text("utf-8"))
        if card.file:
            words["id"] = str(self.checkpoint(name, Path(card.file).suffix).parent)
        elif card.id:
            words["id"] = str(self.folder(name))
        if card.vae:
            words["vae"]["id"] = words["id"]
        for place, weights in ((words, card), (words.get("vae"), card.vae)):
            if weights and weights.sha256:
                place["sha256"] = weights_sha256(Path(words["id"]) / weights.file)
        if card.tokenizer:
            self.card(words["tokenizer"])
        path.write_text(yaml.safe_dump(words), encoding="utf-8")
        return path

    def folder(self, name):
        """The model as diffusers saves it; that of a checkpoint has the same weights."""
        card = CARDS[name]
        return self._folder(STRUCTURES[name], card.pipeline, card.safety_checker, card.pickle and not card.file)

    def checkpoint(self, name, suffix):
        """The model in one file, named as its card says, or `model` where the card's is a folder."""
        file = Path(CARDS[name].file or "model").with_suffix(suffix)
        path = (self.top / "models" / name if CARDS[name].file else self.folder(name)) / file
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(self._checkpoint(self.folder(name), suffix))
        if CARDS[name].vae:
            self._save_vae(path.parent / CARDS[name].vae.file)
        return path

    def _save_vae(self, path):
        """That which takes the place of the model's own."""
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            vae = unets.vae(read_json(self.top / "configs" / "sd2-base" / "vae" / "config.json"), seed=1)
            torch.save({"state_dict": ldm_vae(vae)}, path)

    def _checkpoint(self, folder, suffix):
        path = self.top / f"{folder.name}{suffix}"
        return path if path.exists() else save_checkpoint(folder, path)

    def _folder(self, structure, pipeline, checked, pickled):
        if structure == "tiny":
            return tiny_folder()
        if structure in {"demo", "demo-v"}:
            return Path(registry.__file__).with_name(structure)
        folder = self.top / "models" / f"{structure}{'-checked' * checked}{'-pickled' * pickled}"
        if folder.exists():
            return folder
        parts = self._parts(structure) | (safety_checker(2.0) if checked else {})
        getattr(diffusers, pipeline)(**parts).save_pretrained(str(folder))
        if pickled:
            _as_pickles(folder)
        return folder

    def _parts(self, structure):
        if structure in DITS:
            return DITS[structure]()
        configs = self.top / "configs"
        if structure == "x4-upscaler":
            return unets.upscaler(configs / "sd2-v")
        if structure == "sd2-depth":
            return unets.parts(configs / "sd2-base", in_channels=5) | unets.depth_estimator()
        if structure.startswith("sdxl"):
            return unets.parts(configs / structure) | {"add_watermarker": False}
        config = structure.removesuffix("-inpainting")
        more = {} if structure == config else {"in_channels": 9}
        return unets.parts(configs / config, **more) | unets.WITHOUT_CHECKER


def _as_pickles(folder):
    """As older repositories have their weights."""
    for path in folder.glob("*/*.safetensors"):
        name = "pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()
