"""A proxy on loopback that delays, swallows and resets what passes through it."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing resets the connection


class ChaosProxy:
    """Stands before one port, in a thread of its own.

    It passes bytes on unless told otherwise: `delay` seconds later in each direction, or, while
    `black_hole` is set, not at all, or, while it `says` something, that to whoever asks. While it
    is `mute` those who have subscribed hear no message. What it has taken is delivered even when
    its sender has gone.
    """

    def __init__(self, port):
        self._target = port
        self.delay = 0.0
        self.black_hole = self.mute = False
        self.says = b""
        self.on_their_way = 0  # pieces that are delayed
        self.port = 0
        self._writers, self._tasks, self._subscribers = set(), set(), set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()
        self.url = f"redis://127.0.0.1:{self.port}"

    def reset(self):
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._reset)

    def close(self):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self, ready):
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready):
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._end.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._reset()

    async def _accept(self, reader, writer):
        self._writers.add(writer)
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            self._hang_up(writer)
            return
        self._writers.add(there[1])
        for source, target in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pass_on(source, target, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader, writer, asker):
        loop, late = asyncio.get_running_loop(), asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(late, writer))
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    if self.says:
                        asker.write(self.says)
                        continue
                    if b"SUBSCRIBE" in data:
                        self._subscribers.add(asker)
                    self.on_their_way += 1
                    late.put_nowait((loop.time() + self.delay, data))
            late.put_nowait((loop.time() + self.delay, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(self, late, writer):
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                when, data = await late.get()
                await asyncio.sleep(when - loop.time())
                if not data:
                    break
                self.on_their_way -= 1
                a_hint = writer in self._subscribers and b"\r\nmessage\r\n" in data
                swallowed = self.black_hole or (self.mute and a_hint)
                if not (swallowed or writer.is_closing()):
                    writer.write(data)
        self._hang_up(writer)

    def _hang_up(self, writer):
        self._writers.discard(writer)
        self._subscribers.discard(writer)
        writer.close()

    def _reset(self):
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
            self._writers.discard(writer)
