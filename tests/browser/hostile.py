"""What a client may send to do harm, and a program that sends it wherever something may be sent."""

from __future__ import annotations

# Each sets window.hacked if any of it is taken for more than text. The shorter ones are whole, so that they would count
# as an address, a key or a name if they were used as one.
TEXTS = {
    "markup": "</script></title></style></textarea><script>hacked=1</script><img src=x onerror=hacked=1>"
    "<svg/onload=hacked=1><a href=javascript:hacked=1>x</a>",
    "script address": "javascript:hacked=1",
    "data address": "data:text/html,<script>hacked=1</script>",
    "quotes": "\" autofocus onfocus=\"hacked=1\" x='`{{constructor.constructor('hacked=1')()}}${hacked=1}<%=hacked=1%>",
    "path": "../..//evil.example/%2e%2e%2f?a=%2541&b=1#c\\..",
    "bidi": "\u202edrowssap\u202c \u2066x\u2069 \u200b!",
    "long": "A" * 110 + "Z\u0351\u036b\u0343\u0360\u0334" * 10 + "👩‍👩‍👧‍👦🏳️‍🌈",
    "__proto__": "__proto__",
    "constructor": "constructor",
}
# Beside these, where there may be any text: control characters, and what a terminal would do.
CONTROLS = " a\x00b\x07c\x08d\x7fe \x1b]8;;javascript:hacked=1\x07click\x1b]8;;\x07 \x1b[2J\x1b[9Ax \x9b31mred \u2028 \u2029"
# What follows is for lines only, which may be long.
LINES = [
    "\x1b[" + "1;31;" * 9_000 + "mhuge escape",
    "\x1b]0;" + "title " * 9_000,
    "x" * 60_000,
    "\x1b[31m<b>\x1b[32m<img src=x onerror=hacked=1>\x1b[0m" * 300,
    "\x1b[38;2;1;2;3;url(//evil.example/x)mcolour\x1b[48;5;999m none",
    "\r\r\x1b[1Gover\rwritten\x1b[",
]
# A table's cells as a spreadsheet would read them.
CELLS = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "-5", "-2+3", "\t=1", 'a "quoted", b\r\nc', -7]
CLIENT = "<img src=x onerror=hacked=1>"

PROGRAM = """
    import json, logging
    from pathlib import Path
    from typing import Literal
    from perfect import CronSchedule, core

    given, gate = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])

    def define(name):
        text = name + given["controls"]

        @task(name=name, description=text, estimated_time=10)
        def good():
            print(text)
            print(text, file=sys.stderr)
            logging.addLevelName(35, name[:20])
            logging.getLogger(name).log(35, "%s", text)
            for line in given["lines"]:
                print(line)
            table = [{name: text, "cell": cell, "deep": {text: [text]}} for cell in given["cells"]]
            return TaskResult(passed=True, note=text, table=[*table, {"cell": text}])

        @task(name=f"{name}!"[-200:], retries=1, delay=0.01)
        def bad():
            raise type(name, (Exception,), {})(text)

        def hostile(text, choice=name, *, wait=False, **more):
            good()
            if wait:
                print("at the gate", flush=True)
            while wait and not gate.exists():
                time.sleep(0.02)
            bad()

        hostile.__annotations__ = {
            "text": str, "choice": Literal["none", name], "wait": bool, "more": str
        }
        hostile.__doc__ = f"{text}\\n\\nArgs:\\n    text: {text}\\n    choice: {text}\\n"
        flow(
            name=name,
            description=text,
            tags={name: name},
            schedule=CronSchedule("0 0 29 2 *", configuration=name, parameters={"text": text}),
        )(hostile)

    for name in given["names"]:
        define(name)

    with core.Flow("drawn <img src=x onerror=hacked=1>") as drawn:
        above = None
        for name in given["names"]:
            node = core.task(lambda above: print(name), name=name)
            above = node(above)
    drawn.register()
    connect()
    print("serving", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    listen(concurrency=4)
"""
