"""How long the HTTP server waits for a request to begin, for its line and headers, and for its
reply to be read.
"""

import array
import asyncio
import fcntl
import logging
import socket
import struct
import termios
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.api.replies import json_text

# Kestrel and Apache ask for a few hundred; the slowest modems made 4 KB of it.
_LEAST_BYTES_S: Final = 4096
_log = logging.getLogger(__name__)


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, with an end to its patience: it waits without end for the first byte of a
    connection, for the last one of a request's headers and for a reply to be read, so that clients
    who send or take a letter now and then hold as many connections and replies as there can be.

    A connection that never sent anything is kept as long as any idle one, and closed without a
    word: browsers and proxies open some ahead. The body has a deadline of its own.
    """

    def __init__(
        self, *args: Any, header_timeout_s: float, reply_timeout_s: float, **options: Any
    ) -> None:
        """`header_timeout_s`: from a request's first byte to the end of its headers.
        `reply_timeout_s`: within which a reply that waits must get on.
        """
        super().__init__(*args, **options)
        self._header_timeout_s = header_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._reply_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        # So that writing is paused as soon as this process holds a byte, and not from 64 KiB on.
        transport.set_write_buffer_limits(high=0)
        self._be_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._unset_keepalive_if_required()
        self._unset_deadline()
        self._unset_reply_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the deadline is that of the first byte, however many follow."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._unset_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._header_timeout_s, self._give_up)

    def pause_writing(self) -> None:
        """Look whether the client reads: the kernel has taken what it can."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Nothing waits here any more; a stream that is quiet may be so."""
        super().resume_writing()
        self._unset_reply_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless its last reply is still being read."""
        if self.flow.write_paused:
            self._be_idle()
        else:
            super().timeout_keep_alive_handler()

    def _be_idle(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _watch(self) -> None:
        self._reply_deadline = self.loop.call_later(
            self._reply_timeout_s, self._judge, self._unread_bytes()
        )

    def _judge(self, before_bytes: int) -> None:
        """Give the reply up if too little was read since `before_bytes` of it were unread."""
        read_bytes = before_bytes - self._unread_bytes()
        if read_bytes >= min(before_bytes, _LEAST_BYTES_S * self._reply_timeout_s):
            self._watch()
            return
        _log.info(
            "A reply is given up: %d bytes of it were read within %g s, %d are left",
            max(0, read_bytes),
            self._reply_timeout_s,
            before_bytes - read_bytes,
        )
        # The kernel's part goes too, and the client sees that the reply is not whole.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _unread_bytes(self) -> int:
        """What this process has, and what the kernel has that the client did not confirm: it takes
        megabytes, and from a slow line makes room for more only now and then.
        """
        sent = array.array("i", [0])
        fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, sent)
        return self.transport.get_write_buffer_size() + sent[0]

    @property
    def _socket(self) -> socket.socket:
        return self.transport.get_extra_info("socket")  # type: ignore[no-any-return]

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _unset_reply_deadline(self) -> None:
        if self._reply_deadline is not None:
            self._reply_deadline.cancel()
            self._reply_deadline = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        text = f"The request did not arrive within {self._header_timeout_s:g} s"
        body = json_text({"error": text}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
