"""Fixtures of unit tests: a cache of their own, and small models that several files load.

Imports wait until a model is asked for: most tests need no torch.
"""

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Where `tiny` is made, once: nothing is left with whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """`tiny` as a folder of the user's."""
    from actors.models.tiny import tiny_folder
    from pipelines import copy_of_tiny

    return copy_of_tiny(tiny_folder(), tmp_path_factory.mktemp("models") / "sd1")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, folder):
    """Folders of each architecture, and the same weights in single files."""
    from actors.models.tiny import tiny_folder
    from checkpoints import save_checkpoint
    from pipelines import save_v2, save_xl

    place = tmp_path_factory.mktemp("checkpoints")
    folders = {
        "sd1": folder,
        "sd2": save_v2(tiny_folder(), place / "sd2-folder", "epsilon"),
        "sdxl": save_xl(tiny_folder(), place / "sdxl-folder", width=48),
    }
    for name, source in folders.items():
        save_checkpoint(source, place / f"{name}.ckpt")
        save_checkpoint(source, place / f"{name}.safetensors")
    return place, folders
