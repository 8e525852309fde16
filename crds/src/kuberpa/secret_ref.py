from typing import Annotated

from pydantic import Field

from kuberpa.model import Model, Name


class SecretRef(Model):
    """A Secret in the namespace of the object that names it."""

    name: Annotated[Name, Field(description="Name of the Secret.")]
