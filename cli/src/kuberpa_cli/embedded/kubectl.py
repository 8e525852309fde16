import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from kuberpa_cli.errors import KuberpaError


class KubectlError(KuberpaError):
    """A command line tool for Kubernetes refused; the message holds its own words."""


@dataclass(frozen=True)
class Tool:
    """A command line tool that reads KUBECONFIG: kubectl or helm; `kubeconfig` None leaves the user's own."""

    binary: str | Path
    kubeconfig: Path | None = None

    async def __call__(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Its standard output; raises KubectlError when it fails or is missing."""
        env = dict(os.environ)
        if self.kubeconfig:
            env["KUBECONFIG"] = str(self.kubeconfig)
        try:
            process = await asyncio.create_subprocess_exec(
                str(self.binary),
                *(str(argument) for argument in arguments),
                env=env,
                stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError:
            raise KubectlError(f"{self.binary} is not installed or not on PATH") from None
        try:
            output, errors = await process.communicate(stdin.encode() if stdin is not None else None)
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            name = Path(self.binary).name
            raise KubectlError(f"{name} {arguments[0]} failed: {errors.decode(errors='replace').strip()}")
        return output.decode()

    async def apply(self, manifests: str, *extra: str) -> str:
        """Server-side apply of a stream of YAML documents."""
        flags = ("--server-side", "--force-conflicts", "--field-manager=kuberpa")
        return await self("apply", *flags, *extra, "-f", "-", stdin=manifests)
