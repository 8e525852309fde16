"""Takes pictures of a screen: an X display on Linux, the desktop of this session on Windows."""

import io
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from kuberpa.reasons import Reason

if TYPE_CHECKING:
    from mss import MSS
    from PIL.Image import Image

JPEG_QUALITY: Final = 75
MAX_SIDE: Final = 16_384
"""Pixels; what claims to be larger is no screen."""
BAND: Final = 16
"""Rows that are compared at a time."""
LOOK_AGAIN: Final = 32
"""A screen may change its size, so after this many pictures its measure is taken again."""


class UncapturableError(Exception):
    """The screen cannot be shown now. `reason` is for programs, the message for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture, as the system hands it out."""

    width: int
    height: int
    pixels: bytearray
    """Rows from the top, four bytes a pixel: blue, green, red, and one that means nothing."""

    def image(self, max_width: int = 0, max_height: int = 0) -> "Image":
        """As an image, made smaller to fit where limits are given; never larger."""
        from PIL import Image  # noqa: PLC0415  only who takes pictures pays for it

        whole = Image.frombuffer("RGB", (self.width, self.height), self.pixels, "raw", "BGRX", 0, 1)
        factor = min(1.0, (max_width or self.width) / self.width, (max_height or self.height) / self.height)
        if factor == 1.0:
            return whole
        size = (max(1, round(self.width * factor)), max(1, round(self.height * factor)))
        return whole.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)

    def rows(self, top: int, bottom: int) -> "Image":
        """The part from one row to before another where it lies: its channels are blue, green, red and nothing."""
        from PIL import Image  # noqa: PLC0415  as above

        stride = 4 * self.width
        part: Any = memoryview(self.pixels)[top * stride : bottom * stride]  # any buffer will do
        size = (self.width, bottom - top)
        return Image.frombuffer("RGBX", size, part, "raw", "RGBX", 0, 1)

    def changed_rows(self, before: "Frame") -> tuple[int, int] | None:
        """First and last row (not included) of what differs from a frame of the same size, in bands; None: nothing.

        Compared where they lie, as the memory of a frame is, so that a key that shows one letter costs no more.
        """
        stride, former = 4 * self.width, memoryview(before.pixels)

        def same(top: int, bottom: int) -> bool:
            return self.pixels.startswith(former[top * stride : bottom * stride], top * stride, bottom * stride)

        tops = range(0, self.height, BAND)
        top = next((top for top in tops if not same(top, min(top + BAND, self.height))), None)
        if top is None:
            return None
        return top, next(end for end in range(self.height, top, -BAND) if not same(max(end - BAND, top), end))

    def jpeg(self, quality: int = JPEG_QUALITY, max_width: int = 0, max_height: int = 0) -> bytes:
        """As JPEG."""
        target = io.BytesIO()
        self.image(max_width, max_height).save(target, "JPEG", quality=quality)
        return target.getvalue()

    def png(self, max_width: int = 0, max_height: int = 0) -> bytes:
        """As PNG: larger, and exact."""
        target = io.BytesIO()
        self.image(max_width, max_height).save(target, "PNG", compress_level=1)
        return target.getvalue()


class Screen:
    """A connection to a screen, which belongs to the thread that opened it."""

    def __init__(self, display: str | None = None) -> None:
        """`display` names an X display (default: $DISPLAY) and means nothing on Windows. Raises UncapturableError."""
        import mss  # noqa: PLC0415  as above

        self._display = display or os.environ.get("DISPLAY")
        # Of a display that went away mss asserts that it replies.
        self._errors = (mss.ScreenShotError, OSError, AssertionError)
        if sys.platform != "win32" and not self._display:
            raise UncapturableError(Reason.NO_SESSION, "this robot has no screen: no X display is set")
        self._mss: MSS | None = self._open()
        self._left = LOOK_AGAIN

    def _open(self) -> "MSS":
        import mss  # noqa: PLC0415  as above

        try:
            return mss.MSS() if sys.platform == "win32" else mss.MSS(display=self._display)
        except self._errors as error:
            raise UncapturableError(Reason.NO_SESSION, f"the screen cannot be reached: {error}") from None

    def grab(self) -> Frame:
        """What it shows now, all monitors together. Raises UncapturableError."""
        self._left -= 1
        if self._mss is not None and self._left >= 0:
            with suppress(*self._errors):
                return self._shot(self._mss)
        self.close()
        self._mss, self._left = self._open(), LOOK_AGAIN
        try:
            return self._shot(self._mss)
        except self._errors as error:
            raise UncapturableError(Reason.CANNOT_CAPTURE, f"the screen cannot be captured: {error}") from None

    @staticmethod
    def _shot(connection: "MSS") -> Frame:
        whole = connection.monitors[0]
        if not (0 < whole["width"] <= MAX_SIDE and 0 < whole["height"] <= MAX_SIDE):
            size = f"{whole['width']} x {whole['height']}"
            raise UncapturableError(Reason.CANNOT_CAPTURE, f"a screen of {size} pixels cannot be shown")
        shot = connection.grab(whole)
        return Frame(shot.width, shot.height, shot.raw)

    def close(self) -> None:
        """Let go of the screen; once, for closing a connection twice ends the process."""
        connection, self._mss = self._mss, None
        if connection is not None:
            with suppress(*self._errors):
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
