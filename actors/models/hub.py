"""Hub: the one door to huggingface_hub. What a repository holds, and its files on this machine, once per node."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from actors.errors import InputError, Problem
from actors.models.cache import one_at_a_time, refuse_changed, unwritable
from actors.models.card import VARIANTS, is_hub_id
from actors.models.registry import close_to
from actors.models.settings import WeightsSettings

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")


def is_on_hub(settings: WeightsSettings) -> bool:
    """Whether the weights are in a repository of the hub."""
    return is_hub_id(settings.model)


def commit_of(settings: WeightsSettings) -> str:
    """The commit that the revision stands for now, once the repository was seen to be usable.

    Raises `InputError`: LM1201 there is none, LM1202 it is gated, LM1204 there are only pickles, LM1207 it wants to run
    code of its own, LM1224 the hub cannot be asked.
    """
    with _told(settings):
        from huggingface_hub import HfApi, constants
    if constants.HF_HUB_OFFLINE:
        return _snapshot(settings, [settings.file] if settings.file else [*_TEXTS]).name
    with _told(settings):
        found = HfApi().model_info(settings.model, revision=settings.revision)
    _refuse_files(settings, found)
    assert found.sha is not None
    return found.sha


def _refuse_files(settings: WeightsSettings, found: "ModelInfo") -> None:
    names = [sibling.rfilename for sibling in found.siblings or ()]
    if settings.file and settings.file not in names:
        raise InputError(_missing(settings, settings.file))
    code = [name for name in names if name.endswith(".py")]
    if code and not settings.file:
        message = f"{settings.model} comes with code ({', '.join(code[:5])}), and lightmill runs none"
        action = "use a model whose pipeline class is part of diffusers"
        raise InputError(Problem("LM1207", message, value=found.sha or "", help=action))


def is_text(name: str) -> bool:
    """Whether a file of a model has no numbers in it, by its name: configs and vocabularies."""
    return any(fnmatch(name, pattern) for pattern in _TEXTS)


def download(settings: WeightsSettings) -> Path:
    """The folder of the repository, or the one file of it, on this machine: from its cache, else from the hub.

    The files are those of the revision, and each has the hash that the hub keeps of it. Raises `InputError`: LM1201
    there is no such file, LM1202 it is gated, LM1220 bytes that are not those of the hub, LM1224 they are not here and
    the hub cannot be asked.
    """
    with one_at_a_time(_name(settings)):
        path = _snapshot(settings, _patterns(settings)) / (settings.file or "")
        if not path.exists():
            raise InputError(_missing(settings, settings.file or "model_index.json"))
        _verify(settings, path)
    return path


def outline(settings: WeightsSettings) -> Path:
    """The folder of the repository without its weights: what can be said of it then is enough to plan with, and all
    that there is of a tokenizer or a config."""
    with one_at_a_time(f"outline of {_name(settings)}"):  # which does not wait for the weights
        return _snapshot(settings, [*_TEXTS])


def _snapshot(settings: WeightsSettings, patterns: list[str]) -> Path:
    with _told(settings):
        from huggingface_hub import constants, snapshot_download

        return Path(
            snapshot_download(
                settings.model,
                revision=settings.revision,
                allow_patterns=patterns,
                ignore_patterns=None if settings.file else list(VARIANTS),
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )


def _patterns(settings: WeightsSettings) -> list[str]:
    if settings.file:
        return [settings.file]
    weights = ["*.safetensors", *(["*.bin"] if settings.allow_pickle else [])]
    # `*` also stands for what has a slash in it. At the top of a pipeline, checkpoints double what its folders hold; at
    # the top of anything else lie the weights of a VAE, a LoRA or an embedding.
    is_pipeline = (_snapshot(settings, [*_TEXTS]) / "model_index.json").is_file()
    return [*_TEXTS, *(f"*/{kind}" if is_pipeline else kind for kind in weights)]


def _verify(settings: WeightsSettings, path: Path) -> None:
    """Each file of weights is stored under its hash, which is also what the hub calls it by."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        stored = file.resolve()
        if file.is_file() and _SHA256.fullmatch(stored.name):
            refuse_changed(stored, stored.name, f"{file.name} of {settings.model} is not what the hub has")


@contextmanager
def _told(settings: WeightsSettings) -> Iterator[None]:
    """The errors of huggingface_hub, in our words."""
    try:
        from huggingface_hub import errors
    except ImportError as error:  # a laptop, without what workers need
        message = f"{_name(settings)} cannot be looked up here, as {error.name} is not installed"
        help_ = "`pip install 'lightmill[worker]'`"
        raise InputError(Problem("LM1224", message, help=help_)) from error
    # The bases are OSError and whatever the HTTP client beneath raises where nobody answers.
    failures = cast("tuple[type[Exception], ...]", (errors.OfflineModeIsEnabled, *errors.HfHubHTTPError.__bases__))
    try:
        yield
    except errors.HFValidationError as error:
        message = f'"{settings.model}" is no id of the hub{_hint(settings)}'
        raise InputError(Problem("LM1201", message, help="correct the name: someone/some-model")) from error
    except PermissionError as error:
        raise InputError(unwritable(error)) from error
    except errors.GatedRepoError as error:
        message = f"{settings.model} is gated: its terms have to be accepted first"
        action = f"accept them at its page on the hub, and set HF_TOKEN where the workers run ({settings.model})"
        raise InputError(Problem("LM1202", message, help=action)) from error
    except errors.RevisionNotFoundError as error:
        message = f"{settings.model} has no revision {settings.revision}"
        raise InputError(Problem("LM1201", message, help="name a commit, tag or branch of it")) from error
    except errors.RepositoryNotFoundError as error:
        message = f'model "{settings.model}" is not on the hub, or is private{_hint(settings)}'
        raise InputError(Problem("LM1201", message, help="correct the name, or set HF_TOKEN")) from error
    except failures as error:
        _away(f"{_name(settings)} is not on this machine", error, _hint(settings))


def _name(settings: WeightsSettings) -> str:
    return f"{settings.model}@{settings.revision or 'main'}"


def _hint(settings: WeightsSettings) -> str:
    if Path(settings.model).exists():
        return f"; did you mean what is here, ./{settings.model}?"
    close = close_to(settings.model)
    return f"; did you mean {close}?" if close and close != settings.model else ""


def _away(missing: str, error: Exception, hint: str) -> NoReturn:
    from huggingface_hub import constants

    why = "HF_HUB_OFFLINE forbids asking the hub" if constants.HF_HUB_OFFLINE else "the hub does not answer"
    raise InputError(
        Problem(
            "LM1224",
            f"{missing}, and {why}{hint}",
            value=str(error).strip().partition("\n")[0][:300],
            help="download it where the hub can be reached, or fill a mirror and name it as `mirror`",
        )
    ) from error


def _missing(settings: WeightsSettings, name: str) -> Problem:
    message = f"{settings.model} has no {name} at revision {settings.revision or 'main'}"
    return Problem("LM1201", message, help="correct the name, or use another revision")
