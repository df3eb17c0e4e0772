"""From a request to its answer, whatever carried it: the route's handler, then one form for answers and errors."""

import logging

from node.interface import routes
from node.interface.problems import MISTAKE, Problem, problem_of
from node.interface.reply import Rendered, Reply, Stream, render, render_problem
from node.interface.request import ClientGone, Request, parse_any_query, parse_query
from replication.errors import Refused

log = logging.getLogger("atoll.interface")


async def dispatch(asked: Request, place: routes.Place, query: bytes) -> Rendered | Stream:
    """Answer a request. What is wrong with it, or with this node, is an answer too."""
    try:
        route, name = routes.find(asked.method, place)
        asked.name = name
        asked.query = parse_any_query(query) if route.query is None else parse_query(query, route.query)
        asked.form = route.form(asked.headers.get("accept"))  # a write must not be done and then not be answered
        answer = await route.handler(asked)
        if isinstance(answer, Reply):
            return render(answer, asked.form, asked.headers.get("if-none-match"))
    except ClientGone:
        raise
    except Problem as problem:
        return render_problem(problem)
    except Refused as refusal:
        return render_problem(problem_of(refusal))
    except Exception:  # our own mistake: say so, in the one form that errors have
        log.exception("%s %r failed", asked.method, asked.path)
        return render_problem(Problem("internal", MISTAKE))
    return answer
