"""What is installed on a host: the modules of this agent that need nothing but Python, as one archive."""

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Final

from kuberpa import reasons

PARTS: Final = ("builtin", "platform", "remote", "screen", "sdk", "worker")
_EPOCH: Final = (2020, 1, 1, 0, 0, 0)


@cache
def bundle() -> tuple[str, bytes]:
    """The archive's name, which is part of its SHA-256, and its bytes: the same ones whenever the code is the same."""
    package = Path(__file__).parents[1]
    sources = [package / "__init__.py", *(file for part in PARTS for file in sorted((package / part).glob("*.py")))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sources:
            _add(archive, f"kuberpa_agent/{source.relative_to(package).as_posix()}", source.read_bytes())
        # the only part of the shared kernel that needs nothing but Python
        _add(archive, "kuberpa/__init__.py", b"")
        _add(archive, "kuberpa/reasons.py", Path(reasons.__file__).read_bytes())
        _add(archive, "boot.py", (package / "remote" / "boot.py").read_bytes())
    data = buffer.getvalue()
    return hashlib.sha256(data).hexdigest()[:32], data


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


INSTALLER: Final = """
import hashlib,io,os,sys,zipfile,shutil
base=os.path.join(os.environ['PROGRAMDATA'],'kuberpa','agent')
name,wanted=sys.argv[1:3]
data=sys.stdin.buffer.read()
if hashlib.sha256(data).hexdigest()!=wanted: sys.exit('damaged')
if sys.version_info<(3,11): sys.exit('python '+sys.version.split()[0])
target=os.path.join(base,name)
part=target+'.'+str(os.getpid())
zipfile.ZipFile(io.BytesIO(data)).extractall(part)
try: os.rename(part,target)
except OSError: shutil.rmtree(part,ignore_errors=True)
print('installed' if os.path.isdir(target) else 'failed')
"""
"""Runs on the host as `python -c`: unpacks what it reads beside the target, and gives it its name when it is whole."""
