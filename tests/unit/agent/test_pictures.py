import io

import pytest
from PIL import Image

from kuberpa_agent.screen.capture import Frame
from kuberpa_agent.visits.pictures import HEAD, LEVELS, QUICK_SECONDS, SLOW_SECONDS, Canvas, Pace


def frame(width: int = 200, height: int = 100, *, white: tuple[int, int, int, int] | None = None) -> Frame:
    """A black screen, with a white box where one is given."""
    image = Image.new("RGBX", (width, height))
    if white is not None:
        image.paste((255, 255, 255, 0), white)
    return Frame(width, height, bytearray(image.tobytes()))


def read(message: bytes | None) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Head of a picture, and the size of its JPEG."""
    assert message is not None
    with Image.open(io.BytesIO(message[HEAD.size :])) as image:
        return HEAD.unpack_from(message), image.size


def test_the_first_picture_is_the_whole_screen_and_an_equal_one_is_not_sent() -> None:
    canvas = Canvas()
    assert read(canvas.patch(frame(), 0)) == ((1, 0, 0, 200, 100, 200, 100), (200, 100))
    assert canvas.patch(frame(), 0) is None


def test_only_what_changed_is_sent_with_its_place() -> None:
    canvas = Canvas()
    canvas.patch(frame(), 0)
    head, size = read(canvas.patch(frame(white=(30, 40, 50, 48)), 0))
    assert head == (2, 30, 40, 20, 8, 200, 100)
    assert size == (20, 8)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (199, 99, 200, 100), (7, 15, 9, 17), (0, 50, 200, 51), (3, 0, 4, 100)])
def test_a_change_anywhere_is_found_as_it_is_and_in_its_colours(box: tuple[int, int, int, int]) -> None:
    canvas, blue = Canvas(), frame()
    canvas.patch(frame(), 0)
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            blue.pixels[4 * (200 * y + x)] = 255  # the first byte of a pixel is blue
    message = canvas.patch(blue, 0)
    assert read(message)[0] == (2, box[0], box[1], box[2] - box[0], box[3] - box[1], 200, 100)
    assert message is not None
    with Image.open(io.BytesIO(message[HEAD.size :])) as image:
        red, green, shown = image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    assert (shown > 200, red < 80, green < 80) == (True, True, True)
    assert canvas.patch(blue, 0) is None


def test_another_size_of_the_screen_is_sent_whole() -> None:
    canvas = Canvas()
    canvas.patch(frame(), 0)
    assert read(canvas.patch(frame(300, 200), 0))[0][1:] == (0, 0, 300, 200, 300, 200)


def test_a_coarse_picture_is_smaller_than_its_place_and_is_sent_sharp_later() -> None:
    canvas = Canvas()
    head, size = read(canvas.patch(frame(white=(0, 0, 99, 99)), len(LEVELS) - 1))
    assert (head[3:5], size) == ((200, 100), (100, 50))
    assert canvas.blurred
    assert read(canvas.again())[1] == (200, 100)
    assert not canvas.blurred


def test_an_8k_screen_is_sent_no_wider_than_the_limit() -> None:
    head, size = read(Canvas().patch(frame(7680, 4320), 0))
    assert (head[5:], size) == ((7680, 4320), (3840, 2160))


def test_the_pace_goes_down_at_once_and_up_with_patience() -> None:
    pace = Pace(level=1)
    pace.shown_after(SLOW_SECONDS + 0.1)
    assert pace.level == 2
    for _ in range(4):
        pace.shown_after(QUICK_SECONDS / 2)
    assert pace.level == 2
    pace.shown_after(QUICK_SECONDS / 2)
    assert pace.level == 1
    for _ in range(50):
        pace.shown_after(9)
    assert pace.level == len(LEVELS) - 1
