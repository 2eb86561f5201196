"""Imprint: what an image file says of itself: that a model made it, which one, and from what words.

Three things that others read. The IPTC digital source type, in XMP, is what platforms label images by. The text
`parameters`, first written by the AUTOMATIC1111 web UI, is what galleries and image tools show as the recipe: in a PNG
a text chunk of that name, elsewhere the EXIF field UserComment. And XMP names the model as IPTC's "AI system used".

Nothing here depends on the time or on the attempt: equal rows give equal bytes.
"""

import functools
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from xml.sax.saxutils import escape

from actors.models.card import is_hub_id
from actors.tables.values import clip

TRAINED = "trainedAlgorithmicMedia"
"""IPTC's word for a picture that a trained model made."""
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
"""For one that a trained model made from another picture."""
ALGORITHMIC = "algorithmicMedia"
"""For one that an algorithm made which has learnt nothing."""

MOST_CHARACTERS = 6_000
"""Of the prompt, and of the negative prompt: a segment of a JPEG holds 64 KiB, in which a character may take four
bytes. The row has them whole."""
MOST_OF_A_NAME = 200

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" \
xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">{}</rdf:Description></rdf:RDF></x:xmpmeta>\
<?xpacket end="r"?>"""


@dataclass(frozen=True, slots=True)
class Imprint:
    """What goes into the file of one image."""

    parameters: str
    """The prompt; `Negative prompt: ...`, if there is one; and a last line of `Steps: ..., Sampler: ..., ...`."""
    xmp: bytes
    """An XMP packet."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row of the metadata: what the row does not say is left out."""
        told = (row.get(name) for name in ("digital_source_type", "model", "model_revision", "lightmill_version"))
        return cls(_parameters(row), _packet(*told))

    @property
    def exif(self) -> bytes:
        """`parameters` as the UserComment of an EXIF block (big-endian TIFF, text in UTF-16), without `Exif` before."""
        comment = b"UNICODE\0" + self.parameters.encode("utf-16-be")
        return b"".join(
            (
                b"MM\0\x2a\0\0\0\x08",
                struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0),  # one entry: the Exif directory is at byte 26
                struct.pack(">HHHI4s", 2, 0x9000, 7, 4, b"0232"),  # the first of two: version 2.32
                struct.pack(">HHIII", 0x9286, 7, len(comment), 56, 0),  # UserComment, which is at byte 56
                comment,
            )
        )


def _parameters(row: Mapping[str, Any]) -> str:
    prompt, negative = (_text(row.get(name) or "", MOST_CHARACTERS) for name in ("prompt", "negative_prompt"))
    lines = [prompt, f"Negative prompt: {negative}"] if negative else [prompt]
    settings = ", ".join(f"{name}: {value}" for name, value in _settings(row) if value is not None)
    return "\n".join((*lines, settings))


def _settings(row: Mapping[str, Any]) -> list[tuple[str, object]]:
    guidance, sha256, version = row.get("guidance_scale"), row.get("weights_sha256"), row.get("lightmill_version")
    return [
        ("Steps", row.get("num_inference_steps")),
        ("Sampler", row.get("scheduler")),
        ("CFG scale", None if guidance is None else f"{guidance:g}"),
        ("Seed", row.get("seed")),
        ("Denoising strength", None if row.get("strength") is None else f"{row['strength']:g}"),
        ("Size", f"{row['width']}x{row['height']}" if row.get("width") and row.get("height") else None),
        ("Model hash", sha256[:10] if sha256 else None),
        ("Model", _quoted(_name(row["model"])) if row.get("model") else None),
        ("Version", f"lightmill {version or 'unknown'}"),
    ]


def _quoted(value: str) -> str:
    """As readers of `parameters` expect a value in which their separators occur."""
    return json.dumps(value, ensure_ascii=False) if re.search('[,:\n"]', value) else value


@functools.lru_cache(maxsize=64)
def _packet(source_type: str | None, model: str | None, revision: str | None, version: str | None) -> bytes:
    """The same for all images of a lane."""
    told = {
        "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPES + source_type if source_type else None,
        "Iptc4xmpExt:AISystemUsed": _name(model) if model else None,
        "Iptc4xmpExt:AISystemVersionUsed": clip(revision or "", MOST_OF_A_NAME),
        "xmp:CreatorTool": f"lightmill {version or 'unknown'}",
    }
    elements = (f"<{name}>{escape(NOT_XML.sub('?', value))}</{name}>" for name, value in told.items() if value)
    return PACKET.format("".join(elements)).encode()


def _name(model: str) -> str:
    """The model as the job names it: a hub id whole, but of any other path only the last part, as where it lay is
    nobody's business; and `fake` without the faults that it is to play."""
    if model.startswith("fake:"):
        return "fake"
    return _text(model if is_hub_id(model) else model.rstrip("/").rpartition("/")[2], MOST_OF_A_NAME)


def _text(text: str, most: int) -> str:
    """What every format can hold: not too much, without NUL, which ends a text, and without half characters."""
    return clip(text, most).replace("\0", "").encode("utf-8", "replace").decode()
