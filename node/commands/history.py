"""`atoll history` and `atoll conflicts`: who changed what, when and where, what lost, and what waits to be mended."""

import json
from typing import Annotated, Any

from cyclopts import Parameter

from node.commands.asking import NODE, asking
from node.commands.tables import print_table
from node.errors import CommandFailed
from replication.errors import Invalid
from replication.stream_name import check_name, format_path

Json = Annotated[bool, Parameter(name="--json", negative=())]


async def history(stream: str, /, *, node: str = NODE, json_output: Json = False) -> None:
    """Print the events of a stream, or of everything below a prefix, in the order in which they were stamped.

    Parameters
    ----------
    stream
        Such as users/4, or a prefix with its final slash.
    node
        The node to ask.
    json_output
        Print one JSON object a line, as the node answers it.
    """
    path = f"/events/{_path(stream, 'stream')}?limit=1000"
    rows: list[tuple[str, ...]] = []
    async with asking(node) as asked:
        async for event in asked.pages(path, "events"):
            if json_output:
                print(json.dumps(event, sort_keys=True))
            else:
                what = (
                    describe_event(event)
                    if not stream.endswith("/")
                    else f"{event['stream']}: {describe_event(event)}"
                )
                lost = ", ".join(event.get("lost", ()))
                rows.append((event["timestamp"], event["region"], event.get("actor", "?"), what, lost))
    if not json_output:
        print_table(("when", "where", "who", "what", "lost"), rows)


def _path(name: str, argument: str) -> str:
    try:
        return format_path(check_name(name, argument))
    except Invalid as error:
        raise CommandFailed(str(error)) from None


def describe_event(event: dict[str, Any]) -> str:
    """What an event does, in one line."""
    if event.get("unknown"):
        return "(of a newer version)"
    said = [f"{field} = {json.dumps(value, ensure_ascii=False)}" for field, value in event.get("set", {}).items()]
    said += [f"{field} + {element}" for field, elements in event.get("add", {}).items() for element in elements]
    said += [f"{field} - {element}" for field, elements in event.get("remove", {}).items() for element in elements]
    return "; ".join(said) or "delete"


async def conflicts(prefix: str = "", /, *, node: str = NODE, json_output: Json = False) -> None:
    """List what waits to be mended: writes that lost, values that two users claim, fields written after a split.

    Parameters
    ----------
    prefix
        Only below this prefix, such as users/.
    node
        The node to ask.
    json_output
        Print one JSON object a line, as the node answers it.
    """
    rows: list[tuple[str, ...]] = []
    path = f"/conflicts?limit=1000&prefix={_path(prefix, 'prefix')}"
    async with asking(node) as asked:
        async for item in asked.pages(path, "conflicts"):
            if json_output:
                print(json.dumps(item, sort_keys=True))
            else:
                rows += _rows(item)
    if rows:
        print_table(("stream", "what", "holds", "lost, or waits", "mend it by"), rows)
    elif not json_output:
        print("nothing waits to be mended")


def _rows(item: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    rows: list[tuple[str, str, str, str, str]] = []
    for field, writes in item.get("fields", {}).items():
        said = [(json.dumps(one["value"], ensure_ascii=False), one) for one in writes["lost"]]
        lost = "; ".join(f"{value} ({one['region']}, {one['author']})" for value, one in said)
        value = json.dumps(writes["value"], ensure_ascii=False)
        rows.append((item["stream"], field, value, lost, "writing the field"))
    if "claim" in item:
        claim = item["claim"]
        waiting = "; ".join(f"{one['stream']} ({one['region']})" for one in claim["waits"])
        what = f"{claim['attribute']} {claim['value']}"
        rows.append((item["stream"], what, claim["holds"]["stream"], waiting, "renaming one of them"))
    if "strays" in item:
        names = ", ".join([*item["strays"]["registers"], *item["strays"]["sets"]])
        rows.append((item["stream"], "written after a split", "-", names, "splitting again"))
    return rows
