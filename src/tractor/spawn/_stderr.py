"""Catching what a child says on stderr before it is configured, and passing it on."""

from __future__ import annotations

import os

import trio

from tractor.process._at_fork import close_in_child
from tractor.process._proc import OUT_OF_RESOURCES
from tractor.process._stdio import dup_above_stdio, has_stream, write_and_close

TAIL_SIZE = 16 * 1024
"""Bytes of stderr kept for the error that reports a child's early death."""

_CHUNK = 64 * 1024
_DRAIN_TIMEOUT = 0.2
_DUPLICATE_RETRY = 0.05


class StderrCapture:
    """The parent's side of one child's stderr.

    ``write_fd`` becomes the child's fd 2, ``real_fd`` is the duplicate of our own stderr that the
    child gets beside it and moves there once it is configured, which ends the capture.

    Raises:
        OSError: Out of descriptors.
    """

    def __init__(self) -> None:
        if has_stream(2):
            self.real_fd = dup_above_stdio(2)
        else:
            # Without a stderr of our own the child has none either.
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                self.real_fd = dup_above_stdio(null)
            finally:
                os.close(null)
        try:
            self._read_fd, self.write_fd = os.pipe()
        except OSError:
            os.close(self.real_fd)
            raise
        os.set_blocking(self._read_fd, False)  # type: ignore[attr-defined, unused-ignore]
        self._tail = bytearray()
        self._scope = trio.CancelScope()
        self._relayed: trio.Event | None = None
        self._ended = False
        self._closed = False

    def close_child_ends(self) -> None:
        """Close what only the child should hold; call as soon as it was started or could not be."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to relay.  Raises ``RuntimeError`` when the nursery takes no more tasks."""
        # Not before: until then the one that is forked is this child.
        close_in_child(self)
        relayed = trio.Event()
        nursery.start_soon(self._relay, relayed, name="tractor.spawn stderr relay")
        self._relayed = relayed

    def tail(self) -> str:
        """The last :data:`TAIL_SIZE` bytes captured so far."""
        return self._tail.decode(errors="replace")

    async def drain(self) -> None:
        """Wait for the end of file, at most 0.2 s."""
        if self._relayed is not None:
            with trio.move_on_after(_DRAIN_TIMEOUT):
                await self._relayed.wait()
        # The relay may have been cancelled with its nursery before it saw everything.
        self._read_ready()

    async def aclose(self) -> None:
        """End the relay and close every descriptor.  Idempotent."""
        self._scope.cancel()
        if self._relayed is not None:
            with trio.CancelScope(shield=True):
                await self._relayed.wait()
        self.close()

    def close(self) -> None:
        """Close every descriptor; only when no relay runs.  Idempotent."""
        if not self._closed:
            self._closed = True
            self.close_child_ends()
            os.close(self._read_fd)
            os.close(self.real_fd)

    @trio.lowlevel.enable_ki_protection
    async def _relay(self, relayed: trio.Event) -> None:
        try:
            with self._scope:
                while not self._ended:
                    await trio.lowlevel.wait_readable(self._read_fd)
                    if data := self._read_ready():
                        # In a thread, because our stderr may block; with a duplicate of its own,
                        # because the thread may outlive this relay and so its descriptor.
                        await self._write_in_thread(data)
        finally:
            relayed.set()

    async def _write_in_thread(self, data: bytes) -> None:
        """Write to the real stderr; waits for a thread to become free."""
        while True:
            fd = await self._duplicate()
            try:
                # A reader of our stderr that is gone is not the child's fault.
                await trio.to_thread.run_sync(write_and_close, fd, data, abandon_on_cancel=True)
                return
            except RuntimeError:
                # No thread can be started, so nothing has used the descriptor.
                os.close(fd)
            await trio.sleep(_DUPLICATE_RETRY)

    async def _duplicate(self) -> int:
        """Another descriptor of the real stderr; waits for one to become free."""
        while True:
            try:
                return dup_above_stdio(self.real_fd)
            except OSError as exc:
                if exc.errno not in OUT_OF_RESOURCES:
                    raise
            await trio.sleep(_DUPLICATE_RETRY)

    def _read_ready(self) -> bytes:
        """Take what is there without waiting."""
        if self._closed or self._ended:
            return b""
        try:
            data = os.read(self._read_fd, _CHUNK)
        except BlockingIOError:
            return b""
        self._ended = not data
        self._tail += data
        del self._tail[:-TAIL_SIZE]
        return data
