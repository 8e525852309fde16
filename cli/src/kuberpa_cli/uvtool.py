import shutil

from uv import find_uv_bin

from kuberpa_cli.errors import KuberpaError


def find_uv() -> str:
    """The path of uv: the one that came with this installation, else the one on PATH."""
    try:
        return str(find_uv_bin())
    except FileNotFoundError:
        if found := shutil.which("uv"):
            return found
    raise KuberpaError("uv is missing: `pip install uv`, or see https://docs.astral.sh/uv")
