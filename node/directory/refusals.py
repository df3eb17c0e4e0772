"""What the node refuses, as SCIM says it: the same status and words, and a scimType where one fits."""

from collections.abc import Iterator
from contextlib import contextmanager

from scim2_models import Error, SCIMException

from node.interface.problems import Problem, problem_of
from replication.errors import Invalid, Refused, TooLarge


def scim_error_of(refusal: Refused) -> SCIMException:
    """The SCIM error that a refusal is answered as."""
    problem = problem_of(refusal)
    kind = "invalidValue" if isinstance(refusal, Invalid) else None
    return SCIMException.from_error(Error(status=problem.status, detail=_detail(problem), scim_type=kind))


def search_error_of(refusal: TooLarge) -> SCIMException:
    """The same, of a search that found too much."""
    return SCIMException.from_error(Error(status=400, detail=str(refusal), scim_type="tooMany"))


def _detail(problem: Problem) -> str:
    missing = problem.extra.get("missing")
    if not missing:
        return problem.detail
    named = ", ".join(f"{origin}.{one['wanted']} (held: {one['held']})" for origin, one in sorted(missing.items()))
    return f"{problem.detail}; missing: {named}"


@contextmanager
def refusals() -> Iterator[None]:
    """Have refusals inside the block be SCIM errors. Raises: SCIMException."""
    try:
        yield
    except Refused as refusal:
        raise scim_error_of(refusal) from None
