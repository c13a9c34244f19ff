"""A canary secret goes wherever user code can put one, and is found nowhere that perfect writes."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfect.redaction import MASK
from perfect.spool import spools
from tests.support.backend import BackendProcess
from tests.support.processes import Script, await_line, poll_until, tell

pytestmark = pytest.mark.e2e

LEAKING = """
    import json, logging, multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from perfect.redaction import Secret

    canary = sys.argv[1]
    secret = Secret(canary)
    key = Secret(f"-----BEGIN KEY-----\\n{canary}-line-1\\n{canary}-line-2\\n-----END KEY-----")
    log = logging.getLogger("app")

    def in_a_child(number):
        own = Secret(f"{number}-{canary[::-1]}")  # made where the parent does not see it
        print("child says", own.get(), canary)

    @task
    def says():
        print("visible", secret, repr(secret), canary)
        sys.stderr.write(f"to stderr {canary}\\n")
        log.warning("logged %s", canary)
        log.error("an object %s", {"connection": canary, "bytes": canary.encode()})
        sys.stdout.write("in " + canary[:7])
        sys.stdout.write(canary[7:] + " pieces\\n")
        print(key.get())
        print("x" * 65400 + canary * 20)
        print(json.dumps({"nested": [canary]}))

    @task
    def patterns():
        look = f"look-{canary}"
        print(f"password={look}")
        print(f"PASSWORD: '{look}'")
        print(json.dumps({"api_key": look, "user": "visible user"}))
        print(f"postgres://user:{look}@host/db")
        print(f"Authorization: Bearer {look}")
        print(f"https://host/?access_key={look}&visible=1")

    @task(crucial_pass=False)
    def raises():
        try:
            raise KeyError(canary)
        except KeyError as error:
            raise ValueError(f"visible message {canary}") from error

    @task
    def results():
        return TaskResult(
            True,
            f"visible note {canary}",
            [{"row": canary, canary: "key"}, {"password": "look-" + canary}, canary, [canary]],
        )

    @task
    def in_children():
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            list(pool.map(in_a_child, range(2)))

    @flow(name="leaking", description=f"visible description {canary}", tags={"tag": canary})
    def leaking(given, plain, options):
        says()
        patterns()
        raises()
        results()
        in_children()
        print("ready")
        sys.stdin.readline()
        raise RuntimeError(f"the end {canary}")

    leaking(
        secret,
        canary,
        {"password": "look-" + canary, "deep": [canary], "long": "y" * 990 + canary, "seen": "visible"},
    )
"""


def needles(canary: str) -> list[bytes]:
    """No piece of it that is long enough to be one."""
    return [piece.encode() for piece in (canary, canary[::-1], canary[:12], canary[-12:])]


def leaks(folder: Path, canary: str) -> list[str]:
    """Files below a folder, whatever they are, that hold the canary."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [f"{path.name}: {piece!r}" for piece in needles(canary) if piece in content]
    return found


def said_by(backend: BackendProcess, run_id: str) -> dict[str, str]:
    """Everything that the backend shows of a run, and of all runs."""
    run = backend.get(f"/api/runs/{run_id}")
    paths = [
        *("/api/engine/flows", "/api/engine/runs", "/api/runs", f"/api/runs/{run_id}", "/"),
        *(f"/api/runs/{run_id}/logs?limit=1000", "/api/statistics", f"/runs/{run_id}"),
        *(f"/api/reports/run/{run_id}", run["reportPath"], "/api/clients", "/api/health"),
    ]
    return {path: str(backend.request("GET", path)[1]) for path in paths}


@pytest.mark.parametrize("ending", ["by itself", "killed"])
def test_a_canary_in_spool_and_backend(
    absent: BackendProcess,
    write_script: Callable[..., Script],
    figures: Callable[..., None],
    ending: str,
) -> None:
    """Offline first: what waits on disk is as clean as what arrives."""
    canary = f"c4n4ry-{secrets.token_hex(16)}"
    script = write_script("leaking", LEAKING, backend_url=absent.url, api_key=f"key-{canary}")
    home = Path(os.environ["PERFECT_HOME"])
    with script.started(canary) as process:
        await_line(process, "ready")
        poll_until(lambda: [left for left in spools(str(home)) if left.events > 20])
        time.sleep(0.3)  # the write-ahead log has everything now
        assert leaks(home, canary) == []
        spooled = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
        assert b"visible" in spooled and MASK.encode() in spooled
        if ending == "by itself":
            tell(process, "go on")
            process.communicate(timeout=30)
            assert process.returncode == 1
        else:
            process.kill()
            process.wait(10)
    assert leaks(home, canary) == []
    with absent:
        other = write_script("connecting", "assert connect(20)", backend_url=absent.url).run()
        assert (other.returncode, other.stderr) == (0, "")
        (found,) = poll_until(absent.runs)
        if ending == "by itself":
            answers = said_by(absent, found["id"])
            for path, text in answers.items():
                assert not any(piece.decode() in text for piece in needles(canary)), path
        assert leaks(absent.folder, canary) == []
        said = "\n".join(absent.lines(found["id"]))
        for seen in ("visible", "in ", "pieces", "logged", "visible user", "child says"):
            assert seen in said
        run = absent.get(f"/api/runs/{found['id']}")
        assert run["parameters"]["plain"] == run["parameters"]["given"] == MASK
        assert run["parameters"]["options"]["seen"] == "visible"
        assert run["tasks"][2]["error"]["message"] == f"visible message {MASK}"
        assert run["tasks"][3]["result"]["note"] == f"visible note {MASK}"
        if ending == "by itself":
            assert run["error"]["message"] == f"the end {MASK}"
        assert absent.stop() == 0
    assert leaks(absent.folder, canary) == []
    figures(masks=said.count(MASK), lines=said.count("\n") + 1, canary_found=0)


def test_a_canary_that_a_served_flow_carries(
    own_backend: BackendProcess, write_script: Callable[..., Script], figures: Callable[..., None]
) -> None:
    """Registrations and live delivery go other ways than a spool; they are no less clean."""
    canary = f"c4n4ry-{secrets.token_hex(16)}"
    script = write_script("leaking", LEAKING, backend_url=own_backend.url)
    with script.started(canary) as process:
        await_line(process, "ready")
        tell(process, "go on")
        process.communicate(timeout=30)
    found = own_backend.wait_for_run(lambda run: run["state"] == "FAILED")
    flows = own_backend.get("/api/engine/flows")
    assert flows and "visible description" in flows[0]["description"]
    answers = said_by(own_backend, found["id"])
    for path, text in answers.items():
        assert not any(piece.decode() in text for piece in needles(canary)), path
    assert (
        leaks(own_backend.folder, canary) == leaks(Path(os.environ["PERFECT_HOME"]), canary) == []
    )
    figures(answers=len(answers), canary_found=0)
