"""A real RabbitMQ for tests: in a folder of its own, on free loopback ports, ended by process id.

`RABBITMQ_ROOT` names the root of another system in which RabbitMQ is installed, such as the one
that scripts/rabbitmq4.py makes; brokers are then started there. `AMQP_URL` names a broker that runs
already; that one is neither stopped nor killed.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# The package's own scripts: the wrapper on the path insists on its own user and on systemd.
SCRIPTS = Path("/usr/lib/rabbitmq/bin")
THIS_SYSTEM = Path("/")
HOW_TO_GET_IT = "apt-get install rabbitmq-server, or set AMQP_URL"
_UP_WITHIN = 120.0  # seconds: a watchdog, it takes about five
_CONFIG = """
loopback_users = none
collect_statistics_interval = 500
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
disk_free_limit.absolute = 50MB
"""
_TICKS = "[{rabbit, [{quorum_tick_interval, 500}]}]."  # milliseconds: how old its figures may be
# Runs a command in another system, as the same process. The server reads /proc; it is mounted for
# this process and its children only, and is gone with them.
_ENTER = ["unshare", "--mount", "sh", "-c", 'mount --bind /proc "$0/proc" && exec chroot "$0" "$@"']


class Broker:
    """A RabbitMQ server and its epmd; `url` is where to find it, from the first start to the end.

    What it is told to keep stays in its folder: it may be killed and started again.

    Args:
        settings: More lines for its `rabbitmq.conf`.
        root: Of the system in which it is installed.
    """

    def __init__(self, settings="", root=THIS_SYSTEM):
        self._root = root
        temporary = None if root == THIS_SYSTEM else root / "tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="rabbitmq-", dir=temporary))
        self._epmd = self._server = None
        names = ("amqp", "distribution", "epmd", "prometheus", "tool")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.url = f"amqp://guest:guest@127.0.0.1:{self._ports['amqp']}/"
        self._write_settings(settings)

    def _write_settings(self, more):
        ports, folder = self._ports, self._folder
        (folder / "rabbitmq.conf").write_text(_CONFIG.format(**ports) + more)
        (folder / "advanced.config").write_text(_TICKS)
        (folder / "plugins").write_text("[rabbitmq_prometheus].\n")
        folder = THIS_SYSTEM / folder.relative_to(self._root)  # as the server sees it
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # where Erlang keeps its cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(ports["tool"]),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(ports["tool"]),
            "RABBITMQ_DIST_PORT": str(ports["distribution"]),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": str(folder / "server.log"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": f"rabbit{ports['amqp']}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(ports["amqp"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Or its script stays, as the parent of the server that it would leave behind.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    # Its life

    def start(self):
        """Start it, the first time or again in the same folder, and wait until it is up."""
        if self._epmd is None:
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._ports["epmd"])]
            self._epmd = self._run(command)
            wait_until(lambda: answers(self._ports["epmd"]), "epmd")
        self._server = self._run([SCRIPTS / "rabbitmq-server"])
        try:
            wait_until(self._is_up, "RabbitMQ")
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self):
        """End it in good order; persistent messages stay."""
        self._end(signal.SIGTERM)

    def kill(self):
        """Kill it on the spot (SIGKILL)."""
        self._end(signal.SIGKILL)

    def settle(self):
        """Wait until a new quorum queue would come back after a kill.

        RabbitMQ 3.10 writes down its server some time after it has declared the queue. One that is
        killed before never answers again: neither get nor consume.
        """
        time.sleep(3)

    @property
    def running(self):
        return self._server is not None and self._server.poll() is None

    def close(self):
        """End it and epmd, and remove the folder."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, command):
        with (self._folder / "output").open("ab") as output:
            return subprocess.Popen(
                self._in_its_system(command),
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C is for the tests
            )

    def _in_its_system(self, command):
        return command if self._root == THIS_SYSTEM else [*_ENTER, self._root, *command]

    def _end(self, how):
        if self.running:
            self._server.send_signal(how)
            self._server.wait(_UP_WITHIN)

    def _is_up(self):
        if not self.running:
            raise RuntimeError(f"RabbitMQ ended at once:\n{(self._folder / 'output').read_text()}")
        return answers(self._ports["amqp"], b"AMQP\x00\x00\x09\x01")

    # What can be asked

    def ctl(self, *arguments):
        """Run rabbitmqctl, which takes a second or two, and give what it prints."""
        command = self._in_its_system([SCRIPTS / "rabbitmqctl", "-q", *arguments])
        with subprocess.Popen(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=_UP_WITHIN)
            except BaseException:
                # With the Erlang below the script, which would start an epmd of its own later on.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output, errors)
        return output

    def figures(self):
        """Count, over all queues, what the server has done since it was started.

        For example `messages_delivered_total`, `messages_redelivered_total`,
        `messages_acknowledged_total`, `messages_dead_lettered_rejected_total` and so on.
        """
        counts = {}
        for name, _, value in self._metrics("/metrics"):
            if name.startswith("rabbitmq_global_"):
                short = name.removeprefix("rabbitmq_global_")
                counts[short] = counts.get(short, 0) + int(float(value))
        return counts

    def queues(self):
        """Give {queue: (ready, unacked)}, up to a second old.

        A quorum queue appears only after somebody has used it since the server was started.
        """
        found = {}
        for name, labels, value in self._metrics("/metrics/detailed?family=queue_coarse_metrics"):
            queue = re.search(r'queue="([^"]*)"', labels)
            if queue and name.endswith(("_messages_ready", "_messages_unacked")):
                found.setdefault(queue[1], {})[name.rpartition("_")[2]] = int(float(value))
        return {queue: (seen["ready"], seen["unacked"]) for queue, seen in found.items()}

    def _metrics(self, path):
        url = f"http://127.0.0.1:{self._ports['prometheus']}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        return re.findall(r"^(\w+)(\{[^}]*\})? (\S+)$", text, re.MULTILINE)


class StrangersBroker:
    """A RabbitMQ that somebody else runs: it can be used, and nothing else."""

    def __init__(self, url):
        self.url = url

    def close(self):
        """Leave it alone."""


def system():
    """Return the root of the system in which brokers are started."""
    return Path(os.environ.get("RABBITMQ_ROOT") or THIS_SYSTEM).resolve()


def is_installed():
    """Whether its scripts are there, and the Erlang that they look for on the path."""
    if (root := system()) == THIS_SYSTEM:
        return (SCRIPTS / "rabbitmq-server").exists() and shutil.which("erl") is not None
    return (root / SCRIPTS.relative_to(THIS_SYSTEM) / "rabbitmq-server").exists()


def is_there():
    return bool(os.environ.get("AMQP_URL")) or is_installed()


def open_broker():
    """Give the broker that tests share."""
    if url := os.environ.get("AMQP_URL"):
        return StrangersBroker(url)
    return started_broker()


def started_broker(settings=""):
    """Start a broker that a test may kill."""
    broker = Broker(settings, system())
    try:
        return broker.start()
    except BaseException:
        broker.close()
        raise


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(port, greeting=b""):
    """Tell whether somebody takes connections there, and says something when greeted."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            if not greeting:
                return True
            connection.sendall(greeting)
            return bool(connection.recv(1))
    except OSError:
        return False


def wait_until(condition, what, seconds=_UP_WITHIN):
    """Wait in a process that has nothing else to do."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} is not there after {seconds:g} s")
        time.sleep(0.05)


def main():
    """Run a broker until Ctrl-C."""
    if not is_installed():
        sys.exit("there is no RabbitMQ (apt-get install rabbitmq-server)")
    broker = started_broker()
    try:
        version = broker.ctl("version").strip()
        print(f"RabbitMQ {version} runs until Ctrl-C: AMQP_URL={broker.url}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print()
    finally:
        broker.close()


if __name__ == "__main__":
    # An end by SIGTERM is as orderly as one by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
