"""Files that are damaged, and a disk that is full."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tests.system.chaos.client import ASK_HEALTH, ASK_PREDICTION, ASK_READY, Answer, ask
from tests.system.chaos.report import Report
from tests.system.chaos.server import START_SECONDS, serve_and_fail, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.chaos.server import Server
    from tests.system.chaos.stage import Stage

__all__ = ["broken_files"]

CALLS: Final = 200
WORKERS: Final = 2
# Workers tell each other once a second.
FLUSH_SECONDS: Final = 2
FILLS: Final = 4
SCRAPES: Final = 10
FILLER: Final = "filler"
HELP: Final = "python train_and_save.py"
WRITE_ERRORS: Final = "ml_metrics_write_errors_total"
DISK: Final = "64k"


def broken_files(stage: Stage) -> Report:
    """Damaged models and full disks: a clear word, or degraded service; nothing else is lost."""
    report = Report()
    store = stage.home / "models"
    stage.faults()
    before = _checksums(store)
    said = [
        _damaged(stage, report),
        _unpicklable(stage, report),
        _unwritable(stage, report),
        _full(stage, report),
    ]
    report.require(_checksums(store) == before, "other files in the model store have changed")
    report.done = (
        "model files damaged; a model that cannot be unpickled; the metrics folder unwritable; "
        "its disk full"
    )
    report.came_back = "; ".join(filter(None, [*said, f"{len(before)} stored files intact"]))
    return report


def _damaged(stage: Stage, report: Report) -> str:
    name, _, version = stage.models["faulty"].partition(":")
    folder = stage.home / "models" / name / version
    files = ["saved_model.pkl"] if stage.quick else ["saved_model.pkl", "portable.npz"]
    messages = []
    for file in files:
        path = folder / file
        intact = path.read_bytes()
        damages = {"one byte changed": intact[:-1] + bytes([intact[-1] ^ 1]), "missing": None}
        if not stage.quick:
            damages |= {"cut off": intact[: len(intact) // 2], "empty": b""}
        for what, content in damages.items():
            stage.say(f"{file}: {what}")
            path.unlink() if content is None else path.write_bytes(content)
            message = serve_and_fail(stage.env("faulty")).strip()
            path.write_bytes(intact)
            messages.append(message)
            report.require("Traceback" not in message, f"{file} {what}: a traceback was printed")
            report.require(
                len(message.splitlines()) == 1 and HELP in message and file in message,
                f"{file} {what}: not one clear sentence but: {message[-500:]}",
            )
    report.figures["damaged"] = messages
    return f"{len(messages)} x damaged: no start, one sentence with what to do"


def _unpicklable(stage: Stage, report: Report) -> str:
    stage.say("a model that cannot be unpickled")
    with stage.serve("broken", probe=ASK_HEALTH) as server:
        pids = server.pids()

        def failed() -> bool:
            answer = ask(server.port, ASK_READY)
            return answer.status == 503 and b'"failed"' in answer.body

        report.require(
            wait_for(failed, START_SECONDS) is not None, "/health/ready did not say failed"
        )
        alive, answer = ask(server.port, ASK_HEALTH), ask(server.port, ASK_PREDICTION)
        report.require(alive.status == 200, f"/health was {alive.status}")
        report.require(
            answer.status == 503 and answer.header("retry-after"),
            f"a prediction was answered {answer.status}, not 503 with Retry-After",
        )
        report.require(server.pids() == pids, "a worker without its model was started again")
        report.require(
            stage.models["broken"] in server.log.read_text(), "the log does not name the model"
        )
    return f"unpicklable: /health {alive.status}, ready 503, predictions {answer.status}"


def _unwritable(stage: Stage, report: Report) -> str:
    stage.say("the metrics folder cannot be written")
    folder = _metrics_folder(stage)
    folder.chmod(0o500)
    try:
        if not os.access(folder, os.W_OK):
            return _degraded(stage, report)
    finally:
        folder.chmod(0o700)
    # Root may write everywhere, except where a disk is read-only.
    with _mounted(folder, "ro") as mounted:
        if not mounted:
            report.not_run.append("an unwritable metrics folder: this machine allows no mounts")
            return ""
        return _degraded(stage, report)


def _degraded(stage: Stage, report: Report) -> str:
    what = "unwritable"
    with stage.serve(workers=WORKERS) as server:
        pids = server.pids()
        _require_served(server, report, what)
        noticed = wait_for(lambda: server.metric(WRITE_ERRORS) > 0, START_SECONDS)
        errors = server.metric(WRITE_ERRORS)
        report.require(noticed is not None, f"{what}: {WRITE_ERRORS} is {errors}")
        _require_served(server, report, what)
        report.require(server.pids() == pids, f"{what}: a worker was started again")
    return f"{what}: {2 * CALLS} x 200, {errors:.0f} write errors counted"


def _full(stage: Stage, report: Report) -> str:
    stage.say("the disk of the metrics folder is full")
    folder = _metrics_folder(stage)
    with _mounted(folder, f"size={DISK}") as mounted:
        if not mounted:
            report.not_run.append("a full disk: this machine allows no mounts (root is needed)")
            return ""
        with stage.serve(workers=WORKERS) as server:
            pids = server.pids()
            counted = server.metric("ml_predictions_total")
            # Again and again: what a worker wrote meanwhile may have replaced something.
            for _ in range(FILLS):
                _fill(folder)
                time.sleep(FLUSH_SECONDS / FILLS)
            _require_served(server, report, "disk full")
            # If there was room for the figures after all, each worker knows them all.
            told = wait_for(
                lambda: server.metric(WRITE_ERRORS) or _all_know(server, counted + CALLS),
                START_SECONDS,
            )
            errors = server.metric(WRITE_ERRORS)
            report.require(told is not None, "disk full: figures are missing, and nobody is told")
            (folder / FILLER).unlink()
            _require_served(server, report, "disk with room again")
            complete = wait_for(lambda: _all_know(server, counted + 2 * CALLS), START_SECONDS)
            report.require(complete is not None, "disk with room again: figures are missing")
            settled = server.metric(WRITE_ERRORS)
            time.sleep(FLUSH_SECONDS)
            report.require(
                server.metric(WRITE_ERRORS) == settled, "disk with room again: errors go on"
            )
            report.require(server.pids() == pids, "disk full: a worker was started again")
    return f"disk full: {2 * CALLS} x 200, {errors:.0f} write errors counted"


def _all_know(server: Server, predictions: float) -> bool:
    """Whether each worker, whichever answers, counts the predictions of all."""
    return {server.metric("ml_predictions_total") for _ in range(SCRAPES)} == {predictions}


def _require_served(server: Server, report: Report, when: str) -> None:
    answers: list[Answer] = [ask(server.port, ASK_PREDICTION) for _ in range(CALLS)]
    wrong = [answer.status for answer in answers if answer.status != 200]
    report.require(not wrong, f"{when}: {len(wrong)} predictions failed: {sorted(set(wrong))}")


def _metrics_folder(stage: Stage) -> Path:
    """Return the folder for the metrics, empty: what BentoML finds in it, it deletes."""
    folder = stage.home / "prometheus_multiproc_dir"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _fill(folder: Path) -> None:
    with (folder / FILLER).open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    """Put a small disk of its own there, if that is allowed; say whether it was."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    mounted = False
    if mount and umount:
        command = [mount, "-t", "tmpfs", "-o", options, "chaos", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted and umount:
            subprocess.run([umount, "--lazy", str(folder)], check=True)


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
