"""Ray: run tasks in worker processes, and repeat those that were lost with a worker or a machine.

Everything specific to Ray is here: how it is silenced, and how its errors are worded.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_stream.batch import work
from fer_stream.batch.settings import Settings
from fer_stream.command.native_messages import native_messages
from fer_stream.errors import FerStreamError, SourceError, UsageError, one_line
from fer_stream.system.background import Background
from fer_stream.system.interrupts import handlers_kept, interrupts_deferred

ANSWER_S = 10.0  # timeout of a connection to the cluster
# RFC 9113, section 3.4: a client begins with these bytes and a frame of settings. A server answers with one.
_HTTP2_SETTINGS = b"\4"
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + b"\0\0\0\0\0"
RETRIES = 3  # of a task whose worker died; after the fourth death, the recording is considered the cause
# Tasks return a few hundred bytes, and weights take 16 MB. Ray's minimum is 75 MiB.
OBJECT_STORE_BYTES = 100 * 2**20

_INSTALL_HANDLERS = "_ZN3ray6RayLog27InstallFailureSignalHandlerEPKcb"  # of src/ray/util/logging.h
# How long an interrupted run waits for Ray to start and shut down. That takes up to 6 s on two cores, but
# a minute if the signal has also ended Ray's processes.
_INTERRUPTED_S = 15.0
_RESTORE_S = 0.02  # how often the signal handlers are put back while Ray shuts down

_WAIT = "RAY_gcs_server_port_wait_time_s"  # seconds that Ray tries to connect
_CRASH = b"Fatal Python error"  # Ray enables faulthandler in its workers

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # By default, Ray's workers run at low priority. Users who want that can run `nice fer-batch`.
    "RAY_worker_niceness": "0",
}
# By default, Ray hides the other GPUs from a worker with a variable that PyTorch reads only once. A process
# that runs several tasks would then stay on its first GPU.
_ALL_GPUS = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}

# The tasks that load the networks, and so get a GPU. Reading headers and joining tables don't.
_NEED_NETWORKS = {work.prepare, work.analyze, work.analyze_part, work.measure}


class Cluster:
    """Worker processes on this machine or on several.

    Args:
        gpu_share: Share of a GPU per task, if tasks run on GPUs.
        folder: Ray's temporary folder; None for a cluster that runs already.
    """

    def __init__(self, gpu_share: float, folder: Path | None = None) -> None:
        self._gpu_share = gpu_share
        self._folder = folder
        self._crash_folder: Path | None = None
        self._remote: dict[tuple[Any, bool], Any] = {}

    @property
    def has_gpus(self) -> bool:
        """True if the cluster has GPUs."""
        return self._resources().get("GPU", 0) > 0

    def slots(self, settings: Settings) -> int:
        """Return the number of tasks that can run at once now."""
        resources = self._resources()
        count = int(resources.get("CPU", 0))
        if settings.device == "cuda":
            count = min(count, int(resources.get("GPU", 0) / self._gpu_share + 1e-6))
        return max(1, count)

    def put(self, value: Any) -> Any:
        """Distribute a large value once. Return a reference to pass to `submit`."""
        import ray

        return ray.put(value)

    def submit(self, function: Callable[..., Any], settings: Settings, *arguments: Any) -> Any:
        """Call a function in a worker, the settings first. Return a reference to its result."""
        import ray

        on_gpu = settings.device == "cuda" and function in _NEED_NETWORKS
        settings = settings if on_gpu else replace(settings, device="cpu")
        if (function, on_gpu) not in self._remote:
            options: dict[str, Any] = {
                "num_cpus": 1,
                "num_gpus": self._gpu_share if on_gpu else 0,
                "max_calls": 0,  # by default, Ray ends a process after a call on a GPU
                "max_retries": RETRIES,
                "retry_exceptions": [work.WorkerStoppedError],
            }
            task = ray.remote(**options)(_on_gpu if on_gpu else _on_cpu)
            self._remote[function, on_gpu] = task.options(name=function.__name__)
        return self._remote[function, on_gpu].remote(function, settings, *arguments)

    def wait(self, pending: Sequence[Any], timeout_s: float) -> list[Any]:
        """Return the finished tasks, after `timeout_s` at the latest."""
        import ray

        # Take all finished ones at once, because each call of ray.wait goes through all pending ones.
        done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        if not done:
            done, _ = ray.wait(list(pending), num_returns=1, timeout=timeout_s)
        return list(done)

    def result(self, reference: Any) -> Any:
        """Return the result of a task.

        Raises:
            FerStreamError: The error that the task raised, or one that says how its worker failed.
        """
        import ray.exceptions

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FerStreamError):
                raise error.cause from None
            raise SourceError(f"{type(error.cause).__name__}: {one_line(error.cause)}") from error
        except ray.exceptions.OutOfMemoryError as error:
            raise SourceError("the worker ran out of memory; use fewer --workers") from error
        except ray.exceptions.TaskCancelledError as error:
            raise SourceError("another part of the recording failed") from error
        except ray.exceptions.RayError as error:
            raise SourceError(
                f"the worker died {RETRIES + 1} times ({type(error).__name__}); the recording may crash the "
                f"decoder or need more memory than there is{self._last_words()}"
            ) from error

    def cancel(self, reference: Any) -> None:
        """Cancel a task. A running one is interrupted as by Ctrl-C."""
        import ray

        ray.cancel(reference, force=False)

    def _last_words(self) -> str:
        """Copy the messages of crashed workers, and return the end of an error that names the copy.

        Ray's own folder is removed at the end of the run.
        """
        logs = [] if self._folder is None else self._folder.glob("session_latest/logs/worker-*.err")
        try:
            crashed = [log for log in logs if _CRASH in log.read_bytes()]
            if not crashed:
                return ""
            self._crash_folder = self._crash_folder or Path(tempfile.mkdtemp(prefix="fer-batch-crashes-"))
            for log in crashed:
                shutil.copy(log, self._crash_folder)
        except OSError:  # the error of the recording matters more
            return ""
        return f"; the output of crashed workers is in {self._crash_folder}"

    @staticmethod
    def _resources() -> dict[str, float]:
        import ray

        return ray.cluster_resources()


@contextmanager
def connected(address: str | None, workers: int, gpu_share: float) -> Iterator[Cluster]:
    """Start Ray on this machine or connect to a cluster, and shut it down at the end.

    Args:
        address: Address of a cluster, as `ray start` prints it; None for this machine.
        workers: Number of processes on this machine; unused with an address.
        gpu_share: See `Cluster`.

    Raises:
        UsageError: There is no cluster at the address, or Ray can't start here.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in (_QUIET | _ALL_GPUS).items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder: Path | None = None
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if address is None:
            _make_token()
            # A short path, because a socket's path may have only about a hundred characters.
            folder = Path(tempfile.mkdtemp(prefix="fer-ray-", dir="/tmp" if os.name == "posix" else None))
            settings |= {
                "address": "local",
                "num_cpus": workers,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": str(folder),
            }
        else:
            if not _answers(address):  # ray.init would wait for many minutes
                raise UsageError(_no_cluster(address))
            settings |= {"address": address, "runtime_env": {"env_vars": _ALL_GPUS}}
        try:
            with _started(settings) as running:
                try:
                    running.peek()
                except Exception as error:  # one of many types, and a bare one if Ray starts too slowly
                    if address is None:
                        raise UsageError(f"Ray can't start here: {one_line(error)}") from error
                    raise UsageError(_no_cluster(address, error)) from error
                with _without_death_messages():
                    yield Cluster(gpu_share, folder)
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(settings: dict[str, Any]) -> Iterator[Background[bool]]:
    """Run Ray in a thread, and shut it down at the end. The thread yields an item once Ray has started.

    If an interrupt stopped `ray.init` or `ray.shutdown` halfway, Ray would crash the process. So only the
    main thread is interrupted. It then waits until Ray has shut down, unless that takes too long or it is
    interrupted again.
    """
    with handlers_kept() as restore_handlers:
        _install_native_handlers()
        restore_handlers()
        running: Background[bool] | None = None
        try:
            with interrupts_deferred():  # otherwise, the thread could run without being assigned
                running = Background(_run_ray(settings), queue_size=1)
            yield running
        except BaseException:
            _shut_down(running, restore_handlers, _INTERRUPTED_S)
            raise
        with interrupts_deferred():
            _shut_down(running, restore_handlers)


def _shut_down(
    running: Background[bool] | None, restore_handlers: Callable[[], None], limit_s: float = math.inf
) -> None:
    ends_s = time.monotonic() + limit_s
    while running is not None and not running.close(_RESTORE_S) and time.monotonic() < ends_s:
        restore_handlers()  # ray.shutdown resets the handler of SIGTERM, a second before it ends


def _run_ray(settings: dict[str, Any]) -> Iterator[bool]:
    """Start Ray and yield once. Shut Ray down when this is closed.

    One thread must do both: Ray asks Linux to kill its processes when the thread that started them ends.
    """
    import ray

    connecting = nullcontext() if settings["address"] == "local" else _connecting()
    try:
        with _without_command_line(), connecting:
            ray.init(**settings)
        yield True
    finally:
        ray.shutdown()


def _install_native_handlers() -> None:
    """Let Ray install its native signal handlers now, so that `ray.init` doesn't.

    The one for SIGTERM ends the process with a stack trace. `ray.init` would install it and then hold
    Python's lock for half a second, so ours could not be put back in time.
    """
    import ray._raylet

    install = getattr(ctypes.CDLL(ray._raylet.__file__), _INSTALL_HANDLERS, None)
    if install is not None:  # another version of Ray may not have it
        install(None, False)


def _make_token() -> None:
    """Make the token that protects the cluster, if Ray can't store one in the home folder."""
    folder = Path(os.path.expanduser("~/.ray"))  # noqa: PTH111 (there may be no home folder)
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _answers(address: str) -> bool:
    """Return whether a server at HOST:PORT speaks HTTP/2, on which Ray's own protocol, gRPC, is built.

    Ray's dashboard, for example, speaks HTTP/1. What can't be asked this way counts as answered: an address
    of another form, and a cluster with encryption.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal() or os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
        return True
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as connection:
            connection.sendall(_HTTP2_HELLO)
            kind = connection.recv(4)[3:]  # after three bytes of length
    except (OSError, OverflowError, UnicodeError):
        return False
    return kind == _HTTP2_SETTINGS


def _no_cluster(address: str, error: Exception | None = None) -> str:
    if error is not None and "AuthenticationError" in "".join(traceback.format_exception(error)):
        return (
            f"the Ray cluster at {address} asks for its token: copy ~/.ray/auth_token from the machine "
            "that ran `ray start --head`, and set RAY_AUTH_MODE=token"
        )
    return f"no Ray cluster answers at {address}; give the address that `ray start --head` printed"


@contextmanager
def _connecting() -> Iterator[None]:
    """Let Ray try for 5 s to connect to a cluster, and hide its warnings if that fails.

    By default, it tries for 20 s, even if the cluster refuses the token. `_answers` has checked the address.
    """
    before = os.environ.get(_WAIT)
    os.environ[_WAIT] = "5"
    try:
        with native_messages(shown=False):
            yield
    finally:
        if before is None:
            del os.environ[_WAIT]
        else:
            os.environ[_WAIT] = before


@contextmanager
def _without_command_line() -> Iterator[None]:
    """Give Ray the name of the command instead of its command line.

    Ray keeps the line for its dashboard, and fails if a name in it is not valid Unicode.
    """
    import ray._private.utils as utils

    original = getattr(utils, "get_entrypoint_name", None)
    if original is None:
        yield
        return
    utils.get_entrypoint_name = lambda: "fer-batch"
    try:
        yield
    finally:
        utils.get_entrypoint_name = original


@contextmanager
def _without_death_messages() -> Iterator[None]:
    """Suppress Ray's message about each dead worker. Ray has no setting for that."""
    import ray._private.worker as driver

    original = getattr(driver, "print_to_stdstream", None)
    if original is None:
        yield
        return
    driver.print_to_stdstream = lambda *_arguments, **_options: None
    try:
        yield
    finally:
        driver.print_to_stdstream = original


def _on_cpu(function: Callable[..., Any], settings: Settings, *arguments: Any) -> Any:
    return function(settings, *arguments)


def _on_gpu(function: Callable[..., Any], settings: Settings, *arguments: Any) -> Any:
    import ray

    identity = str(ray.get_gpu_ids()[0])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    index = visible.split(",").index(identity) if visible else int(identity)
    return function(replace(settings, device=f"cuda:{index}"), *arguments)
