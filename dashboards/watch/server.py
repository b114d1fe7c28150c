"""Serves the watch page: boards, their variables, and each panel rendered from its query's rows."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path
from typing import Any

from aiohttp import web

from dashboards import build, model
from dashboards.macros import AllOf, MacroError, Range, expand
from dashboards.watch import auth
from dashboards.watch.panel_data import PanelData, RenderedPanel
from dashboards.watch.render import render
from dashboards.watch.series import millis
from dashboards.watch.theme import colour
from dashboards.watch.time_range import covering
from schemas.errors import GigawatchError, first_line

FIRST = "gigawatch-factory"
#: Seconds until a request is answered, also when the store is silent: more than the store may work on a query (30 s).
ANSWER_S = 40.0
_MOST_AT_ONCE = 4
_MOST_ROWS = 200_000
_PLAIN_WORD = re.compile(r"\w{0,32}")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class QueryTable:
    """Columns and rows of a query."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]


Ask = Callable[[str], QueryTable]


class StoreTimeout(GigawatchError):
    """The store has not answered in time; its query still runs, or waits for one that does."""


class Page:
    """`ask` runs SQL and may block; `boards` gives the boards by uid, read again each time so that a new file shows
    up; `answer_s` is how long a request waits for `ask`.
    """

    def __init__(
        self,
        ask: Ask,
        token: str = "",
        boards: Callable[[], dict[str, dict[str, Any]]] = build.load,
        alerts: Callable[[Ask], list[dict[str, str]]] | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._ask, self._boards, self._alerts, self._answer_s = ask, boards, alerts, answer_s
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self.app = web.Application(middlewares=[auth.middleware(token)], client_max_size=1 << 20)
        for path, answer in (
            ("/", self._home),
            ("/d/{uid}", self._index),
            ("/d/{uid}/{slug}", self._index),
            ("/static/{name}", self._static),
            ("/api/boards", self._list),
            ("/api/boards/{uid}", self._board),
            ("/api/alerts", self._firing),
            ("/live", self._live),
        ):
            self.app.router.add_get(path, answer)
        self.app.router.add_post("/api/boards/{uid}/panels/{id}", self._panel)

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="yes\n")

    async def _home(self, _: web.Request) -> web.Response:
        raise web.HTTPFound(f"/d/{FIRST}/factory")

    async def _index(self, _: web.Request) -> web.Response:
        return self._file("index.html")

    async def _static(self, request: web.Request) -> web.Response:
        return self._file(request.match_info["name"])

    def _file(self, name: str) -> web.Response:
        """A file of ours, or Plotly's script out of its installed package."""
        if name == "plotly.min.js":
            spec = util.find_spec("plotly")  # found, not imported: that takes half a second
            if spec is None or spec.origin is None:
                raise web.HTTPInternalServerError(text="the package plotly is not installed: pip install plotly\n")
            body = (Path(spec.origin).parent / "package_data" / name).read_bytes()
            return web.Response(
                body=body, content_type="text/javascript", charset="utf-8", headers={"Cache-Control": "max-age=86400"}
            )
        own = resources.files("dashboards.watch").joinpath("static")
        found = {f.name: f for f in own.iterdir()}.get(name)
        if found is None:
            raise web.HTTPNotFound(text=f"this page has no file {name}\n")
        return web.Response(
            body=found.read_bytes(),
            content_type=_TYPES.get(Path(name).suffix, "text/plain"),
            charset="utf-8",
            headers={"Cache-Control": "no-cache"},
        )

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {"uid": uid, "title": body["title"], "slug": uid.removeprefix("gigawatch-")}
                for uid, body in self._boards().items()
            ]
        )

    def _found(self, request: web.Request) -> dict[str, Any]:
        boards = self._boards()
        body = boards.get(request.match_info["uid"])
        if body is None:
            raise web.HTTPNotFound(text=f"no board {request.match_info['uid']!r}; there are {', '.join(boards)}")
        return body

    async def _board(self, request: web.Request) -> web.Response:
        """The board without its SQL: panels, variables with their options for this time range, annotations."""
        body, query = self._found(request), request.query
        usual = body.get("time", {})
        first, last = query.get("from") or usual.get("from", "now-30m"), query.get("to") or usual.get("to", "now")
        wanted = {key.removeprefix("var-"): query.getall(key) for key in query if key.startswith("var-")}
        try:
            over = covering(first, last, 300, dt.datetime.now(dt.UTC))
            chosen = await self._blocking(lambda: model.variables(lambda sql: self._ask(sql).rows, body, over, wanted))
        except ValueError as err:
            raise web.HTTPBadRequest(text=str(err)) from err
        except Exception as err:
            raise web.HTTPBadGateway(text=first_line(err)) from err
        return web.json_response(
            {
                "uid": body["uid"],
                "title": body["title"],
                "description": body.get("description", ""),
                "refresh": body.get("refresh", ""),
                "from": first,
                "to": last,
                "variables": [
                    {
                        "name": v.name,
                        "label": v.label,
                        "options": [{"text": t, "value": o} for t, o in v.options],
                        "chosen": list(v.chosen),
                        "multi": v.multi,
                        "hidden": v.hidden,
                        "error": v.error,
                    }
                    for v in chosen
                ],
                "annotations": await self._annotations(body, over, {v.name: v.value for v in chosen}),
                "panels": [
                    {
                        "id": p["id"],
                        "title": p.get("title", ""),
                        "description": p.get("description", ""),
                        "type": p["type"],
                        "grid": p["gridPos"],
                    }
                    for p in model.panels(body)
                ],
            }
        )

    async def _annotations(self, body: model.Body, over: Range, values: model.Values) -> list[dict[str, Any]]:
        """Returns the spans and moments that are drawn into all graphs. Annotations whose query fails are left out: a
        board is useful without them.
        """
        found: list[dict[str, Any]] = []
        for query in body.get("annotations", {}).get("list", []):
            sql = (query.get("target") or {}).get("rawSql")
            if not sql:
                continue
            try:
                table = await self._blocking(lambda sql=sql: self._ask(expand(sql, over, values)))  # type: ignore[misc]
            except Exception:  # noqa: BLE001, S112 - the panels show the error too
                continue
            for row in table.rows[:100] if "time" in table.names else ():
                one = dict(zip(table.names, row, strict=True))
                found.append(
                    {
                        "time": millis(one["time"]),
                        "end": millis(one["timeEnd"]) if one.get("timeEnd") else None,
                        "text": str(one.get("text", "")),
                        "colour": colour(query.get("iconColor")),
                    }
                )
        return found

    async def _panel(self, request: web.Request) -> web.Response:
        """Returns a rendered panel. The body has the range, the width in points and every variable's values; errors
        are rendered as the panel.
        """
        body = self._found(request)
        panel = next((p for p in model.panels(body) if str(p["id"]) == request.match_info["id"]), None)
        if panel is None:
            raise web.HTTPNotFound(text="no such panel")
        try:
            asked = await request.json()
            over = model.shown(
                panel,
                covering(str(asked["from"]), str(asked["to"]), int(asked.get("points", 300)), dt.datetime.now(dt.UTC)),
            )
            values = _values(body, asked["variables"])
        except (ValueError, KeyError, TypeError) as err:
            return web.json_response({"kind": "error", "text": f"the request is not valid: {err}"}, status=400)
        times = (round(over.first.timestamp() * 1000), round(over.last.timestamp() * 1000))
        try:
            panel_json: RenderedPanel = await self._blocking(
                lambda: self._rendered(panel, over, values, times, (str(asked["from"]), str(asked["to"])))
            )
        except MacroError as err:
            panel_json = {"kind": "error", "text": str(err)}
        except Exception as err:  # noqa: BLE001 - any error of the store is shown
            panel_json = {"kind": "error", "text": first_line(err)}
        return web.json_response(panel_json)

    def _rendered(
        self, panel: dict[str, Any], over: Range, values: model.Values, times: tuple[int, int], ends: tuple[str, str]
    ) -> RenderedPanel:
        table = self._ask(expand(panel["targets"][0]["rawSql"], over, values))
        if len(table.rows) > _MOST_ROWS:
            return {
                "kind": "error",
                "text": f"{len(table.rows)} rows are more than this page shows ({_MOST_ROWS}): choose a shorter "
                "range, or fewer racks",
            }
        return render(panel, PanelData(table.names, table.rows, times, ends, values, over.interval_s * 1000))

    async def _firing(self, _: web.Request) -> web.Response:
        if self._alerts is None:
            return web.json_response([])
        try:
            return web.json_response(await self._blocking(lambda: self._alerts(self._ask)))  # type: ignore[misc]
        except Exception as err:
            raise web.HTTPBadGateway(text=first_line(err)) from err

    async def _blocking(self, work: Callable[[], Any]) -> Any:
        """Runs `work` in a thread, a few at once; raises StoreTimeout when it takes too long. The thread then goes on
        and keeps its place until it ends, so that a silent store holds a few threads and no more.
        """
        try:
            async with asyncio.timeout(self._answer_s):
                await self._room.acquire()
                thread = asyncio.ensure_future(asyncio.to_thread(work))
                thread.add_done_callback(self._ended)
                return await asyncio.shield(thread)
        except TimeoutError as err:
            raise StoreTimeout(f"the store has not answered within {self._answer_s:g} s") from err

    def _ended(self, thread: asyncio.Future[Any]) -> None:
        self._room.release()
        if not thread.cancelled():
            thread.exception()  # read, so that an error after the timeout is no warning


def _values(body: model.Body, asked: Mapping[str, Any]) -> model.Values:
    """Returns the variables' values as the page sends them; ValueError for one that goes into SQL without quotes and is
    not a plain word.
    """
    values: model.Values = {}
    for spec in body.get("templating", {}).get("list", []):
        given = asked[spec["name"]]
        chosen, every = [str(v) for v in given["values"]], bool(given.get("all"))
        if spec.get("multi"):
            values[spec["name"]] = AllOf(chosen) if every else tuple(chosen)
        else:
            one = chosen[0] if chosen else ""
            if (spec["type"] == "custom" or spec.get("hide") == 2) and not _PLAIN_WORD.fullmatch(one):
                raise ValueError(f"{spec['name']} cannot be {one[:40]!r}")
            values[spec["name"]] = one
    return values


async def serve(page: Page, host: str, port: int) -> web.AppRunner:
    """Listens; raises OSError when it cannot."""
    runner = web.AppRunner(page.app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner
