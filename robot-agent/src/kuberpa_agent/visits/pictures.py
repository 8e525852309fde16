"""What is sent of a screen: the part that changed, as well as the link carries it. No clock, no socket."""

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kuberpa_agent.screen.capture import Frame

if TYPE_CHECKING:
    from PIL.Image import Image

HEAD: Final = struct.Struct(">I6H")
"""Number, then x, y, width, height of the part and width, height of the screen, in pixels of the screen."""
LEVELS: Final = ((85, 1.0), (70, 1.0), (50, 1.0), (40, 0.75), (30, 0.5))
"""JPEG quality and scale, the best first."""
SLOW_SECONDS: Final = 0.5
QUICK_SECONDS: Final = 0.2
PATIENCE: Final = 5
"""Quick pictures in a row before a better one is tried."""
WHOLE_SIDE: Final = 3840
"""Wider screens are sent smaller, so that one picture of an 8K screen does not stop everything else."""


@dataclass(slots=True)
class Pace:
    """How good pictures may be, by how long they take to be shown."""

    level: int = 1
    quick: int = 0

    def shown_after(self, seconds: float) -> None:
        """A picture was on the person's screen so long after it was taken."""
        if seconds > SLOW_SECONDS:
            self.level, self.quick = min(self.level + 1, len(LEVELS) - 1), 0
        elif seconds < QUICK_SECONDS:
            self.quick += 1
            if self.quick >= PATIENCE:
                self.level, self.quick = max(self.level - 1, 0), 0
        else:
            self.quick = 0


class Canvas:
    """What one person's page shows of a screen."""

    def __init__(self) -> None:
        self._shown: Frame | None = None
        self._number = 0
        self.blurred = False
        """Whether something on it was sent at less than the best quality."""

    def patch(self, frame: Frame, level: int) -> bytes | None:
        """A message with what changed; None when nothing did."""
        former, self._shown = self._shown, frame
        if former is frame:
            return None
        if former is None or (former.width, former.height) != (frame.width, frame.height):
            return self._said(frame.image(), (0, 0), frame, level)
        rows = frame.changed_rows(former)
        if rows is None:
            return None
        from PIL import Image, ImageChops  # noqa: PLC0415  only who is looked at pays for it

        strip = frame.rows(*rows)
        box = ImageChops.difference(former.rows(*rows), strip).getbbox()
        if box is None:
            return None
        part = strip.crop(box)
        colours = Image.frombytes("RGB", part.size, part.tobytes(), "raw", "BGRX")
        return self._said(colours, (box[0], rows[0] + box[1]), frame, level)

    def again(self) -> bytes | None:
        """The whole picture once more at the best quality; None when there is none."""
        if self._shown is None:
            return None
        self.blurred = False
        return self._message(self._shown.image(), (0, 0), self._shown, 0)

    def _said(self, part: "Image", at: tuple[int, int], frame: Frame, level: int) -> bytes:
        self.blurred = self.blurred or level > 0
        return self._message(part, at, frame, level)

    def _message(self, part: "Image", at: tuple[int, int], frame: Frame, level: int) -> bytes:
        from PIL.Image import Resampling  # noqa: PLC0415  as above

        quality, scale = LEVELS[level]
        place = (*at, *part.size)
        scale *= min(1.0, WHOLE_SIDE / max(frame.width, frame.height))
        if scale < 1.0:
            size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
            part = part.resize(size, Resampling.BILINEAR, reducing_gap=2.0)
        target = io.BytesIO()
        part.save(target, "JPEG", quality=quality)
        self._number += 1
        return HEAD.pack(self._number, *place, frame.width, frame.height) + target.getvalue()
