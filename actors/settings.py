"""The parts of a job file that workers read, without those of a model (`actors.models.settings`). Validated once,
frozen, and the same everywhere after that."""

from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from actors.models.kinds import Tier
from actors.urls import Url

Override = Literal[
    "negative_prompt",
    "seed",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "model",
    "image",
    "mask_image",
    "depth_map",
    "strength",
    "noise_level",
]
OVERRIDES: tuple[Override, ...] = get_args(Override)
"""Columns of the table that may steer the generation, each only where the job names it."""

ImageFormat = Literal["webp", "png", "jpeg"]
Sink = Literal["webdataset", "files", "parquet"]
UNKNOWN = "unknown"
"""The tier, and the licence, of a model without a card."""
MAX_SIDE = 4096
"""Pixels. Above it the attention of a UNet at one image needs more memory than any GPU has."""


class Settings(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class EncodingSettings(Settings):
    """How an image becomes bytes. WebP and PNG are lossless; `quality` is JPEG's alone."""

    format: ImageFormat = "webp"
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    metadata: bool = True
    """Whether the file says what it is: see `actors/imprint.py`."""


class FilterSettings(Settings):
    """Which prompts are left out: their rows are promised, and become filtered ones."""

    block_list: Annotated[str, Field(min_length=1)] | None = None
    """A text file, local or `s3://`: a word or phrase a line, `#` begins a comment."""
    patterns: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Regular expressions, looked for anywhere in the prompt."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Characters."""

    @field_validator("patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        import regex

        for pattern in patterns:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"regular expressions: {error} in {pattern!r}") from None
        return patterns


class InputSettings(Settings):
    """Where input images may come from."""

    folder: Annotated[str, Field(min_length=1)] | None = None
    """To which the table's references are relative, and which they do not leave. Left out: that of the table."""
    allow: tuple[str, ...] = ()
    """Prefixes of what they may name besides: `https://HOST/PATH`, `http://HOST/PATH` or `s3://BUCKET/PREFIX`."""

    @field_validator("allow")
    @classmethod
    def _are_prefixes(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in allow:
            try:
                url = Url.parse(prefix)
            except ValueError as error:
                raise ValueError(f"prefixes such as https://HOST/PATH, and {prefix!r} is none: {error}") from None
            if url.scheme != "s3" and set("?#") & set(prefix):
                raise ValueError(f"prefixes such as https://HOST/PATH, and {prefix!r} is none: it has a query")
        return allow


class CheckSettings(Settings):
    """What happens to NaN, black and constant images: `fail` them (after one more seed), or `keep` them."""

    blank: Literal["fail", "keep"] = "fail"


class PolicySettings(Settings):
    """What the job allows, and what becomes of images that a safety checker flags."""

    tiers: tuple[Tier | Literal["unknown"], ...] | None = None
    """Content tiers that its models may have."""
    licenses: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    """Licences that they may have, by identifier."""
    commercial: bool = False
    """Whether the licences must allow commercial use."""
    safety_checker: Literal["required", "off"] | None = None
    """`required`: the model must bring one; `off`: it is not asked. Left out: it is asked where there is one."""
    flagged: Literal["keep", "drop", "fail"] = "drop"
    """`keep`: an image like any other; `drop`: a filtered row; `fail`: a failed one."""

    @property
    def limits_models(self) -> bool:
        """Whether it says anything about which models may be used."""
        return self.tiers is not None or self.licenses is not None or self.commercial


class StorageSettings(Settings):
    """How to reach the store. Credentials come from boto3's usual chain, never from here."""

    endpoint_url: str | None = None
    """Left out: AWS, or what AWS_ENDPOINT_URL_S3 says in the environment."""
    region: str | None = None
    checksums: Literal["when_required", "when_supported"] | None = None
    """botocore's own setting. Left out: `when_required` for a custom endpoint, as several answer 411 to the trailer
    that the default sends over TLS; botocore's default on AWS."""

    @field_validator("endpoint_url", mode="before")
    @classmethod
    def _is_url(cls, value: object) -> object:
        if value is not None and not (isinstance(value, str) and value.startswith(("http://", "https://"))):
            raise ValueError("a URL such as https://store.example:9000")
        if isinstance(value, str) and urlsplit(value).username is not None:
            raise ValueError(
                "a URL without a password, which would be kept in the manifest and shown; see AWS_ACCESS_KEY_ID"
            )
        return value
