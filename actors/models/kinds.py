"""Kinds: the words by which models are sorted. They stand alone, so that the command line knows them at once."""

from typing import Literal

Tier = Literal["sfw", "general", "anime", "unrestricted", "clean"]
"""What the weights were made to draw."""
Task = Literal["text-to-image", "image-to-image", "inpainting", "depth-to-image", "upscale"]
Certainty = Literal["measured", "documented", "recalled"]
"""How sure a fact is: seen on the weights themselves, said by their makers, or not looked up."""
