"""Schedulers by the names people know, and what each means to diffusers. No torch: the laptop reads this, too."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A class of diffusers, and the settings that make it what its name says."""

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)


_UNCLIPPED = {"clip_sample": False}
"""Latents are not confined to [-1, 1], which these classes presume unless told otherwise."""
_PNDM = Scheduler("PNDMScheduler", {"skip_prk_steps": True})
"""Without it, PNDM needs more steps than many jobs take, and then fails."""

PLAIN = {
    "ddim": Scheduler("DDIMScheduler", _UNCLIPPED),
    "ddpm": Scheduler("DDPMScheduler", _UNCLIPPED),
    "deis": Scheduler("DEISMultistepScheduler"),
    "dpm++ 2m": Scheduler("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++ 2m sde": Scheduler("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++ 2s": Scheduler("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm2": Scheduler("KDPM2DiscreteScheduler"),
    "dpm2 a": Scheduler("KDPM2AncestralDiscreteScheduler"),
    "euler": Scheduler("EulerDiscreteScheduler"),
    "euler a": Scheduler("EulerAncestralDiscreteScheduler"),
    "heun": Scheduler("HeunDiscreteScheduler", _UNCLIPPED),
    "lcm": Scheduler("LCMScheduler", _UNCLIPPED),
    "lms": Scheduler("LMSDiscreteScheduler"),
    "pndm": _PNDM,
    "plms": _PNDM,
    "tcd": Scheduler("TCDScheduler", _UNCLIPPED),
    "unipc": Scheduler("UniPCMultistepScheduler"),
}
SIGMAS = {"karras": {"use_karras_sigmas": True}, "exponential": {"use_exponential_sigmas": True}}
"""Where the steps lie; for the schedulers that let one choose."""
_WITH_SIGMAS = (
    "deis",
    "dpm++ 2m",
    "dpm++ 2m sde",
    "dpm++ 2s",
    "dpm2",
    "dpm2 a",
    "euler",
    "heun",
    "lms",
    "unipc",
)
SCHEDULERS: Mapping[str, Scheduler] = {
    **PLAIN,
    **{
        f"{name} {where}": Scheduler(PLAIN[name].class_name, {**PLAIN[name].options, **options})
        for name in _WITH_SIGMAS
        for where, options in SIGMAS.items()
    },
    **{
        # By its class, a scheduler is as diffusers has it, but for what would only fail.
        scheduler.class_name: Scheduler(
            scheduler.class_name,
            {name: scheduler.options[name] for name in ("clip_sample", "skip_prk_steps") if name in scheduler.options},
        )
        for scheduler in PLAIN.values()
    },
}
FLOW = {"euler": "FlowMatchEulerDiscreteScheduler", "heun": "FlowMatchHeunDiscreteScheduler"}
"""What a name means to a model that was trained to follow a flow (SD3, FLUX, Qwen-Image); it has no other scheduler."""


def scheduler_name(said: str) -> str:
    """The name in `SCHEDULERS` that is meant. Raises ValueError, with the nearest one.

    `DPM++ 2M Karras`, `dpm++_2m_karras`, `k_euler_ancestral` are all understood.
    """
    if said in SCHEDULERS:
        return said
    name = re.sub(r"[\s_-]+", " ", said.strip().lower()).removeprefix("k ")
    name = re.sub(r"\bancestral\b", "a", name.replace("dpmpp", "dpm++").replace("dpm++2", "dpm++ 2"))
    if name in SCHEDULERS:
        return name
    by_class = {key.lower(): key for key in SCHEDULERS if key.endswith("Scheduler")}
    if name in by_class:
        return by_class[name]
    close = difflib.get_close_matches(name, [*PLAIN, *SCHEDULERS, *by_class], n=1, cutoff=0.5)
    known = f"did you mean {by_class.get(close[0], close[0])}?" if close else f"known are {', '.join(PLAIN)}"
    raise ValueError(f"the name of a scheduler: {known}")
