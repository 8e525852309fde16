"""Envelopes of WS-Management as Windows writes them."""

import base64
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape

SHELL: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CMD: Final = f"{SHELL}/cmd"
ANONYMOUS: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
NS: Final = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": SHELL,
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
}
_XMLNS: Final = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NS.items())


class FaultError(Exception):
    """A fault of the service."""

    def __init__(self, code: int, subcode: str, text: str, *, sender: bool = True, detail: str = "") -> None:
        super().__init__(text)
        self.code, self.subcode, self.text, self.sender, self.detail = code, subcode, text, sender, detail


TIMED_OUT: Final = (
    2150858793,
    "w:TimedOut",
    "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ",
)
NO_SUCH_COMMAND: Final = (
    2150858843,
    "w:InvalidSelectors",
    "The WS-Management service cannot process the request because the request contained invalid selectors. ",
)
NO_MORE_SHELLS: Final = (
    2150859173,
    "w:QuotaLimit",
    "The WS-Management service cannot process the request. The maximum number of concurrent shells is exceeded. ",
)


def text(request: ET.Element, path: str) -> str:
    """Text of an element of the request, empty when there is none."""
    return request.findtext(path, "", NS) or ""


def envelope(action: str, relates_to: str, body: str) -> bytes:
    """A whole answer."""
    header = (
        f"<a:Action>{action}</a:Action><a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<a:To>{ANONYMOUS}</a:To><a:RelatesTo>{escape(relates_to)}</a:RelatesTo>"
    )
    document = (
        f'<s:Envelope xml:lang="en-US" {_XMLNS}><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
    )
    return document.encode()


def fault(error: FaultError, relates_to: str) -> bytes:
    """The answer to what cannot be done."""
    detail = f"<w:FaultDetail>{error.detail}</w:FaultDetail>" if error.detail else ""
    text_ = escape(error.text)
    body = (
        f"<s:Fault><s:Code><s:Value>s:{'Sender' if error.sender else 'Receiver'}</s:Value><s:Subcode><s:Value>"
        f'{error.subcode}</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{text_}</s:Text></s:Reason>'
        f'<s:Detail>{detail}<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" '
        f'Code="{error.code}" Machine="peer"><f:Message>{text_}</f:Message></f:WSManFault></s:Detail>'
        "</s:Fault>"
    )
    return envelope("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", relates_to, body)


def created(shell: str, owner: str, address: str) -> str:
    """Body of the answer to Create."""
    return (
        f"<x:ResourceCreated><a:Address>{address}</a:Address><a:ReferenceParameters><w:ResourceURI>{CMD}"
        f'</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>'
        f"</a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId><rsp:ResourceUri>"
        f"{CMD}</rsp:ResourceUri><rsp:Owner>{escape(owner)}</rsp:Owner><rsp:ClientIP>127.0.0.1</rsp:ClientIP>"
        "<rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>"
        "stdout stderr</rsp:OutputStreams><rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>"
        "P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
    )


def received(command: str, output: Iterable[tuple[str, bytes]], code: int | None) -> str:
    """Body of the answer to Receive."""
    streams = "".join(
        f'<rsp:Stream Name="{name}" CommandId="{command}">{base64.b64encode(data).decode()}</rsp:Stream>'
        for name, data in output
    )
    state = f'<rsp:CommandState CommandId="{command}" State="{SHELL}/CommandState/'
    if code is None:
        return f'<rsp:ReceiveResponse>{streams}{state}Running"></rsp:CommandState></rsp:ReceiveResponse>'
    ends = "".join(
        f'<rsp:Stream Name="{name}" CommandId="{command}" End="true"></rsp:Stream>' for name in ("stdout", "stderr")
    )
    done = f'{state}Done"><rsp:ExitCode>{code}</rsp:ExitCode></rsp:CommandState>'
    return f"<rsp:ReceiveResponse>{streams}{ends}{done}</rsp:ReceiveResponse>"
