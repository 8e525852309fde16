"""Exchanges of real Windows that pypsrp ships with its tests, played back, and the shape of a message."""

import json
import threading
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.support.winrm import soap
from tests.support.winrm.service import DropError, Faults

FILE = Path(__file__).with_suffix(".json")
EXCHANGES: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["exchanges"]
Shape = tuple[str, tuple[str, ...], tuple[Any, ...]]


class Replay:
    """Takes the place of the peer's service: answers are those of a recording, matched by the operation alone."""

    def __init__(self, name: str) -> None:
        self.faults = Faults()
        self.asked: list[str] = []
        self.sizes: list[int] = []
        self._lock = threading.Lock()
        self._answers: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        # Every exchange has the input that ours sends, of which recordings have none.
        for each in [*EXCHANGES[name], *EXCHANGES["send"][2:4]]:
            self._answers[each["operation"]].append((each["status"], each["response"]))

    def answer(self, data: bytes, owner: str, address: str) -> tuple[int, bytes]:
        """The next recorded answer to that operation, which relates to this request."""
        request = ET.fromstring(data)
        operation = soap.text(request, "s:Header/a:Action").rpartition("/")[2]
        if self.faults.due(self.faults.drop_before, operation):
            raise DropError
        if self.faults.raising.get(operation):
            return 500, soap.fault(self.faults.raising[operation].pop(0), soap.text(request, "s:Header/a:MessageID"))
        with self._lock:
            self.asked.append(operation)
            self.sizes.append(len(data))
            status, text = self._answers[operation].pop(0)
        answer = ET.fromstring(text)
        relates = answer.find("s:Header/a:RelatesTo", soap.NS)
        assert relates is not None
        relates.text = soap.text(request, "s:Header/a:MessageID")
        return status, ET.tostring(answer)


def shape(message: bytes | str, *, silent: bool = False) -> Shape:
    """Elements, attributes and their order; not their content. Of equal neighbours one counts.

    `silent`: without output, of which chance says how much one answer carries, and whether it carries any.
    """
    return _shape(ET.fromstring(message), silent=silent)


def _shape(element: ET.Element, *, silent: bool) -> Shape:
    inner: list[Any] = []
    for child in element:
        if child.tag.endswith("}ActivityId"):
            continue  # newer versions of Windows have it, older ones do not
        if silent and child.tag.endswith("}Stream") and child.text:
            continue
        found = _shape(child, silent=silent)
        if not inner or inner[-1] != found:
            inner.append(found)
    return element.tag, tuple(sorted(element.attrib)), tuple(inner)
