from typing import Annotated

from pydantic import Field

from kuberpa.model import Model, Name


class SecretRef(Model):
    """A Secret in the Robot's namespace."""

    name: Annotated[Name, Field(description="Name of the Secret.")]
