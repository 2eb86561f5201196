"""Flags of Kubernetes, said once for every command that writes a manifest."""

from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import Problem, UsageError

if TYPE_CHECKING:
    from cluster.kubernetes.pods import Place

_KUBERNETES = "Kubernetes"
Image = Annotated[
    str | None,
    typer.Option(help="That of docker/Dockerfile, from your registry.", rich_help_panel=_KUBERNETES),
]
Secret = Annotated[
    str | None, typer.Option(help="Name of a Secret with the store's credentials.", rich_help_panel=_KUBERNETES)
]
Namespace = Annotated[str | None, typer.Option(help="Left out: that of kubectl.", rich_help_panel=_KUBERNETES)]


def place_of(image: str | None, secret: str | None, namespace: str | None) -> "Place":
    """What these flags say. Raises `UsageError` where there is no image."""
    from cluster.kubernetes.pods import Place

    if image is None:
        action = "--image REGISTRY/lightmill:TAG, made from docker/Dockerfile"
        raise UsageError(Problem("LM1103", "Kubernetes needs an image", help=action))
    return Place(image=image, secret=secret, namespace=namespace)
