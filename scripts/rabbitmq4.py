"""Make a Debian 13 with RabbitMQ 4.0 in a folder, and run a command that starts brokers in it.

    python scripts/rabbitmq4.py               makes it, and prints the folder
    python scripts/rabbitmq4.py COMMAND...    runs the command with RABBITMQ_ROOT set to the folder

It takes a minute the first time, and needs Debian's debootstrap and root. What is there already is
not made again. These variables change what it does:

    RABBITMQ4_ROOT    the folder; by default .rabbitmq4 in the project
    DEBIAN_MIRROR     where the packages come from; by default Debian's own mirror

Everything in the project that uses RabbitMQ also takes AMQP_URL, the URL of any other broker.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SUITE, PACKAGE = "trixie", "rabbitmq-server"
SERVER = Path("usr/lib/rabbitmq/bin/rabbitmq-server")
MIRROR = "http://deb.debian.org/debian"
LONGEST = 1200.0  # seconds


def make_root(root: Path) -> None:
    """Make the system, unless it is there already.

    Args:
        root: Its folder. While it is being made, another folder next to it is used.
    """
    unfinished = root.with_name(f"{root.name}.unfinished")
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Somebody else may be making it.
        if (root / SERVER).is_file():
            return
        check_machine()
        for folder in (root, unfinished):
            if folder.exists():
                shutil.rmtree(folder)
        started = time.monotonic()
        print(f"rabbitmq4: making a Debian {SUITE} in {root} (once, about 1 min)", file=sys.stderr)
        bootstrap(unfinished)
        unfinished.rename(root)
        print(f"rabbitmq4: ready after {time.monotonic() - started:.0f} s", file=sys.stderr)


def check_machine() -> None:
    """Exit with a sentence if the machine cannot make the system."""
    if os.geteuid() != 0:
        sys.exit("rabbitmq4: debootstrap and chroot need root")
    for program, package in (("debootstrap", "debootstrap"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            sys.exit(f"rabbitmq4: this machine has no {program} (apt-get install {package})")


def bootstrap(folder: Path) -> None:
    """Run debootstrap for a limited time; end all of it if it takes longer, or is interrupted.

    Args:
        folder: A folder that does not exist.
    """
    # What it mounts is mounted for its own processes only.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={PACKAGE}"]
    command += [SUITE, str(folder), os.environ.get("DEBIAN_MIRROR") or MIRROR]
    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = process.wait(LONGEST)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if code:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        sys.exit(f"rabbitmq4: debootstrap failed with exit code {code}:\n{end}")
    log.unlink()


def main(command: list[str]) -> None:
    """Make the system; then become the command, or print where the system is."""
    root = Path(os.environ.get("RABBITMQ4_ROOT") or PROJECT / ".rabbitmq4").resolve()
    make_root(root)
    if not command:
        print(root)
        return
    # The same process: a Ctrl-C leaves the command the time that it needs to end its servers.
    environment = {**os.environ, "RABBITMQ_ROOT": str(root)}
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is needed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like a Ctrl-C
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("rabbitmq4: interrupted")
    except subprocess.TimeoutExpired:
        sys.exit(f"rabbitmq4: debootstrap has not finished within {LONGEST:g} s")
