"""The `perfect` command.

Errors are one line on stderr and an exit code: 2 for a wrong call, 1 for anything else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from perfect import __version__, sdk, session, settings, timetable
from perfect.api import PerfectAPIClient, quote
from perfect.definitions import LONGEST_NAME
from perfect.errors import (
    BackendRefused,
    BackendUnreachable,
    ConfigurationError,
    MissingExtra,
    NotFound,
    PerfectError,
)
from perfect.failures import describe
from perfect.loading import load_flows
from perfect.running import execute
from perfect.show import (
    Table,
    ago,
    ago_seconds,
    coloured,
    seconds_between,
    show_failure,
    show_schedule,
    show_state,
)
from perfect.signals import RunCancelled
from perfect.states import TaskState
from perfect.typed import read_parameters

FOLLOW = 0.5  # s between two looks at a log that is followed
CONNECT_TIMEOUT = 10.0  # s
FLUSH_TIMEOUT = 600.0  # s
MOST_LINES = 1000  # lines in one request
MOST_NAMES = 20  # of flows in one line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    action: Callable[[argparse.Namespace], int] | None = getattr(options, "action", None)
    if action is None:
        parser.print_help()
        return 2
    try:
        return action(options)
    except KeyboardInterrupt:
        return 130
    except RunCancelled as cancelled:
        return _complain(f"the run was {cancelled}")
    except BrokenPipeError:  # `perfect logs … | head`
        sys.stderr.close()
        return 0
    except BackendUnreachable as error:
        return _complain(
            f"no backend at {_settings().backend_url} ({error}); start one: perfect server"
        )
    except PerfectError as error:
        return _complain(str(error))


def _complain(message: str) -> int:
    print(f"perfect: {message.splitlines()[0]}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="perfect", description="Decorate your functions, run them anywhere, see what happened."
    )
    parser.add_argument("--version", action="version", version=f"perfect {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    def command(name: str, summary: str, action: Callable[[argparse.Namespace], int]) -> Any:
        made = commands.add_parser(name, help=summary, description=summary)
        made.set_defaults(action=action)
        return made

    demo = command("demo", "Start a backend, run the four example workflows, keep serving.", _demo)
    demo.add_argument("--port", type=_port, default=3000, help="first port to try (default 3000)")
    demo.add_argument("--db", help="SQLite file or URL (default: perfect.db in PERFECT_HOME)")
    demo.add_argument("--once", action="store_true", help="exit when the runs are stored")
    demo.add_argument("--no-browser", action="store_true", help="do not open the page")

    server = command("server", "Run the backend with its dashboard.", _server)
    server.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1)")
    server.add_argument(
        "--port", type=_port, default=3000, help="port; 0: a free one (default 3000)"
    )
    server.add_argument("--db", help="SQLite file or URL (default: perfect.db in PERFECT_HOME)")
    server.add_argument(
        "--base-path", default="", help="serve below this path, for example /perfect"
    )
    server.add_argument(
        "--access-log", action="store_true", help="write a JSON line on stdout for every request"
    )
    server.add_argument(
        "--webhook",
        metavar="URL",
        action="append",
        default=[],
        help="tell this address of runs that fail, crash or overrun; may be repeated",
    )
    server.add_argument(
        "--config",
        metavar="TOML",
        help="file with webhooks (default: server.toml in PERFECT_HOME, if it is there)",
    )
    server.add_argument(
        "--token",
        help="what everyone must show; better in PERFECT_API_KEY, where no list of processes shows it",
    )
    server.add_argument(
        "--read-token",
        help="one that can only read (default: PERFECT_READ_TOKEN)",
    )
    server.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a further host name under which it is reached, as behind a proxy",
    )
    server.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="pages of this origin (https://x.example) may send requests",
    )
    server.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a limit, for example body=1000000; a wrong one lists them",
    )
    server.add_argument(
        "--retain", metavar="AGE", help="remove runs this long after their end, for example 30d"
    )
    server.add_argument(
        "--retain-runs", type=int, metavar="N", help="keep the newest N runs of each flow"
    )

    run = command("run", "Run a flow of a file or module once.", _run)
    run.add_argument("flow", metavar="FILE:FLOW", help="for example etl.py:daily_etl")
    _takes_parameters(run)
    run.add_argument(
        "--config",
        type=_configuration,
        default="development",
        help="configuration (default development)",
    )

    listen = command("listen", "Serve every flow of a file or module until Ctrl+C.", _listen)
    listen.add_argument("source", metavar="FILE_OR_MODULE")
    listen.add_argument("--concurrency", type=int, default=4, help="runs at a time (default 4)")

    command("flows", "List the flows that the backend knows.", _flows)

    schedules = command("schedules", "List schedules, look at, pause or resume one.", _schedules)
    schedules.add_argument("name", nargs="?", metavar="NAME", help="of this flow, by name or id")
    schedules.add_argument(
        "--slots", action="store_true", help="only what became of the times that have come"
    )
    schedules.add_argument("--left-out", action="store_true", help="only those of them not run")
    schedules.add_argument("--limit", type=_limit, default=20, help="how many (default 20)")
    either = schedules.add_mutually_exclusive_group()
    either.add_argument("--pause", metavar="NAME", help="pause the schedule of this flow")
    either.add_argument("--resume", metavar="NAME", help="let it go on")

    runs = command("runs", "List runs, newest first.", _runs)
    runs.add_argument("--state", type=_state, help="only runs in this state")
    runs.add_argument("--flow", help="only runs of this flow")
    runs.add_argument("--limit", type=int, default=20, help="how many (default 20)")

    trigger = command("trigger", "Ask a connected client to run a flow.", _trigger)
    trigger.add_argument("name", metavar="NAME", help="the flow's name or id")
    _takes_parameters(trigger)
    trigger.add_argument(
        "--config",
        type=_configuration,
        default="development",
        help="configuration (default development)",
    )

    cancel = command("cancel", "Cancel a run that is not over.", _cancel)
    cancel.add_argument("run", metavar="RUN", help="the run's id, or the beginning of it")

    retry = command(
        "retry", "Run a finished run again, with its configuration and parameters.", _retry
    )
    retry.add_argument("run", metavar="RUN", help="the run's id, or the beginning of it")

    logs = command("logs", "Print a run's log.", _logs)
    logs.add_argument("run", metavar="RUN", help="the run's id, or the beginning of it")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")

    outbox = command("outbox", "Show what waits for delivery on this machine.", _outbox)
    outbox.add_argument("--flush", action="store_true", help="deliver it now")

    db = command("db", "Look after a database, also while a backend uses it.", _db)
    db.add_argument("what", choices=("check", "backup", "vacuum"))
    db.add_argument("file", nargs="?", metavar="FILE", help="backup: where the copy goes")
    db.add_argument("--db", help="SQLite file or URL (default: perfect.db in PERFECT_HOME)")

    webhooks = command(
        "webhooks", "List who is told of runs that go wrong, or send each a test.", _webhooks
    )
    webhooks.add_argument("what", choices=("list", "test"), nargs="?", default="list")
    webhooks.add_argument("--webhook", metavar="URL", action="append", default=[], help="one more")
    webhooks.add_argument(
        "--config", metavar="TOML", help="file with webhooks (default: server.toml in PERFECT_HOME)"
    )

    backend = command("backend", "Select what flows report to.", _backend)
    backend.add_argument("kind", choices=("server", "mock"))
    backend.add_argument("--url", default="http://localhost:3000", help="the server's address")
    return parser


def _takes_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p",
        dest="parameters",
        metavar="NAME=JSON",
        action="append",
        default=[],
        help="a parameter of the flow; text that is no JSON is taken as text",
    )


# --- backend -----------------------------------------------------------------------------------


def _server(options: argparse.Namespace) -> int:
    serve = _import_server()
    serve.run_server(serve.settings_of(options, options.token or _settings().api_key))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from perfect.demo import run_demo

    return run_demo(
        _import_server(),
        port=options.port,
        db=options.db,
        once=options.once,
        browser=not options.no_browser,
    )


def _db(options: argparse.Namespace) -> int:
    if (options.what == "backup") is (options.file is None):
        needs = "a FILE for the copy" if options.file is None else "no FILE"
        print(f"perfect db: {options.what} takes {needs}", file=sys.stderr)
        return 2
    _import_server()
    from perfect.server import upkeep

    return upkeep.main(options.what, options.file, options.db)


def _webhooks(options: argparse.Namespace) -> int:
    _import_server()
    from perfect.server import notify

    return notify.main(options.what, options.config, options.webhook)


def _import_server() -> Any:
    try:
        from perfect.server import serve
    except ImportError as error:
        if error.name and error.name.startswith("perfect"):
            raise
        raise MissingExtra("server", "the backend") from error
    return serve


def _backend(options: argparse.Namespace) -> int:
    home = _settings().home
    if options.kind == "mock":
        path = settings.write_config(home, mock=True)
        print(f"Flows now run in mock mode: nothing is reported ({path}).")
    else:
        settings.Settings(backend_url=options.url)  # refuses what is no URL
        path = settings.write_config(home, mock=False, backend_url=options.url)
        print(f"Flows now report to {options.url} ({path}). Start it with: perfect server")
    return 0


# --- flows of files -----------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    source, colon, name = options.flow.rpartition(":")
    if not colon:
        raise ConfigurationError("FILE:FLOW", options.flow, "names no flow, as in etl.py:daily_etl")
    flows = load_flows(source)
    if name not in flows:
        known = _names(flows)
        raise NotFound("flow", name, f"{source} has: {known}")
    flow = flows[name]
    parameters = read_parameters(options.parameters, flow.definition.parameters_schema())
    args, kwargs = flow.definition.arguments(parameters)
    try:
        if not isinstance(
            flow, sdk.Flow
        ):  # of perfect.core: it ends in a state, and raises nothing
            state = flow.run(kwargs, configuration=options.config)
            if not state.is_successful():
                return _complain(f"flow {flow.name!r} failed: {state.message}")
            print(state.message)
            return 0
        value = execute(flow.definition, options.config, args, kwargs)
        if flow.is_async:
            import asyncio

            value = asyncio.run(value)
    except PerfectError:
        raise
    except Exception as error:
        print(describe(error)["traceback"], file=sys.stderr, end="")
        return _complain(f"flow {flow.name!r} failed: {type(error).__name__}: {error}")
    if value is not None:
        print(value)
    return 0


def _listen(options: argparse.Namespace) -> int:
    registry = sdk.get_registry()
    for flow in load_flows(options.source).values():
        if flow.name not in registry.flows:  # of perfect.core, and it did not register itself
            registry.register_flow(flow.definition)
    flows = registry.flows
    if not flows:
        raise NotFound("flow", options.source, "it defines none; decorate one with @flow")
    url = _settings().backend_url
    print(f"Serving {len(flows)} flows from {url}: {_names(flows)}. Ctrl+C ends.")
    sdk.listen(options.concurrency)
    return 0


# --- what the backend knows -----------------------------------------------------------------------


def _flows(options: argparse.Namespace) -> int:
    table = Table("FLOW", "TASKS", "SCHEDULE", "CLIENT", "TAGS")
    for flow in _client().request("GET", "/api/engine/flows"):
        tags = ", ".join(f"{name}={value}" for name, value in (flow.get("tags") or {}).items())
        table.add(
            flow["name"],
            str(len(flow.get("tasks") or ())),
            show_schedule(flow.get("schedule")),
            flow.get("clientId") or "",
            tags,
        )
    return table.print("No flows yet: call one, or serve some with `perfect listen FILE`.")


def _schedules(options: argparse.Namespace) -> int:
    client = _client()
    wanted = options.pause or options.resume
    if wanted is not None:
        return timetable.print_list([timetable.pause(client, wanted, bool(options.pause))])
    if options.name is None:
        if options.slots or options.left_out:
            print("perfect schedules: name the flow whose times are wanted", file=sys.stderr)
            return 2
        return timetable.print_list(list(timetable.listed(client)))
    whole = not (options.slots or options.left_out)
    for number, one in enumerate(timetable.named(client, options.name)):
        if number:
            print()
        if whole:
            timetable.print_one(one)
        found = timetable.slots(client, one["id"], options.limit, left_out=options.left_out)
        timetable.print_slots(found)
    return 0


def _runs(options: argparse.Namespace) -> int:
    query = [f"limit={options.limit}"]
    if options.state is not None:
        query.append(f"state={options.state}")
    if options.flow is not None:
        query.append(f"flow={quote(options.flow)}")
    table = Table("RUN", "FLOW", "STATE", "PROGRESS", "STARTED", "TOOK")
    for run in _client().request("GET", f"/api/runs?{'&'.join(query)}")["runs"]:
        table.add(
            run["id"],
            run["flowName"],
            show_state(run["state"]),
            f"{round(run.get('progress') or 0)} %",
            ago(run.get("startTime")),
            seconds_between(run.get("startTime"), run.get("endTime")),
        )
    return table.print("No such runs.")


def _trigger(options: argparse.Namespace) -> int:
    client = _client()
    flows = client.request("GET", "/api/engine/flows")
    found = [flow for flow in flows if options.name in (flow["name"], flow["id"])]
    if not found:
        known = _names({flow["name"] for flow in flows})
        raise NotFound("flow", options.name, f"the backend knows: {known}")
    if len(found) > 1:
        ids = ", ".join(f"{flow['id']} of {flow.get('clientId')}" for flow in found)
        raise ConfigurationError(
            "NAME", options.name, f"several clients have it; name one by id: {ids}"
        )
    path = f"/api/engine/trigger/{quote(found[0]['id'])}"
    parameters = read_parameters(options.parameters, found[0].get("parameters"))
    body = {"configuration": options.config, "parameters": parameters}
    answer = client.request("POST", path, body)
    print(f"{answer['runId']}  {_settings().backend_url}/runs/{answer['runId']}")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    client = _client()
    run = _find_run(client, options.run)
    answer = client.request("POST", f"/api/runs/{quote(run['id'])}/cancel")
    told = "cancelling: it ends before its next task" if answer["cancelling"] else answer["state"]
    print(f"{run['id']}  {told}")
    return 0


def _retry(options: argparse.Namespace) -> int:
    client = _client()
    run = _find_run(client, options.run)
    answer = client.request("POST", f"/api/runs/{quote(run['id'])}/retry")
    print(f"{answer['runId']}  {_settings().backend_url}/runs/{answer['runId']}")
    print(f"It {answer['note']}.")
    return 0


def _logs(options: argparse.Namespace) -> int:
    client = _client()
    run = _find_run(client, options.run)
    show = coloured if sys.stdout.isatty() else str  # a file gets the lines as they are
    after = 0
    while True:
        ended = TaskState(run["state"]).is_terminal
        page = client.request("GET", f"/api/runs/{run['id']}/logs?after={after}&limit={MOST_LINES}")
        for line in page["logs"]:
            print(show(line["text"]))
        sys.stdout.flush()
        if page.get("next"):
            after = page["next"]
            continue
        if page["logs"]:
            after = page["logs"][-1]["seq"]
        if ended or not options.follow:
            break
        time.sleep(FOLLOW)
        run = client.request("GET", f"/api/runs/{run['id']}")
    if run["state"] == "FAILED":
        for text in show_failure(run).splitlines():
            print(coloured(text), file=sys.stderr)
    return 0


def _find_run(client: PerfectAPIClient, wanted: str) -> Any:
    if not wanted:  # every run begins like that
        raise ConfigurationError("RUN", wanted, "is empty")
    try:
        return client.request("GET", f"/api/runs/{quote(wanted)}")
    except BackendRefused as refusal:
        if refusal.status not in (400, 404):
            raise
    found = [
        run
        for run in client.request("GET", f"/api/runs?q={quote(wanted)}&limit=200")["runs"]
        if run["id"].startswith(wanted)
    ]
    if len(found) != 1:
        raise NotFound("run", wanted, f"{len(found)} runs begin like that" if found else "")
    return found[0]


# --- what waits here ----------------------------------------------------------------------------


def _outbox(options: argparse.Namespace) -> int:
    from perfect.spool import spools  # sqlite3, which no other command needs

    home = _settings().home
    code = 0
    if options.flush:
        for url in sorted({left.backend_url for left in spools(home) if not left.busy}):
            with session.temporary(backend_url=url, mock=False) as connection:
                if not (connection.connect(CONNECT_TIMEOUT) and connection.flush(FLUSH_TIMEOUT)):
                    code = _complain(f"{url} does not take what waits for it")
    table = Table("SESSION", "BACKEND", "CLIENT", "EVENTS", "KIB", "WRITTEN", "STATE")
    for left in spools(home):
        table.add(
            left.session,
            left.backend_url,
            left.client_id,
            str(left.events),
            str(left.size >> 10),
            ago_seconds(left.age),
            "in use" if left.busy else "waiting",
        )
    table.print("Nothing waits for delivery.")
    return code


# --- shared ---------------------------------------------------------------------------------------


def _settings() -> settings.Settings:
    return session.get_session().settings


def _client() -> PerfectAPIClient:
    chosen = _settings()
    return PerfectAPIClient(chosen.backend_url, chosen.client_id, api_key=chosen.api_key)


def _names(names: Collection[str]) -> str:
    left = len(names) - MOST_NAMES
    return (
        ", ".join(sorted(names)[:MOST_NAMES]) + (f" and {left} more" if left > 0 else "") or "none"
    )


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0-65535)")
    return int(text)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _configuration(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"has more than {LONGEST_NAME} characters")
    return text


def _state(text: str) -> TaskState:
    try:
        return TaskState(text)
    except ValueError:
        known = ", ".join(TaskState)
        raise argparse.ArgumentTypeError(f"{text!r} is no state ({known})") from None
