"""One HTML file about one run: a space-time diagram, how far regions lagged, and what broke, if anything did.

Regions are lines, time runs to the right, messages are arrows between the lines (Lamport 1978, "Time, clocks, and
the ordering of events", figure 1). Faults are bands on the lines of those they hit. The file needs no network.
"""

from collections.abc import Iterable
from html import escape
from itertools import pairwise

from simulations.checkers.model import Happened
from simulations.checkers.violation import Violation
from simulations.history import History
from simulations.plans.plan import dump
from simulations.world.run import Outcome

LEFT, TOP, ROW, BOTTOM = 70, 30, 90, 30
SECOND_MIN, WIDTH_MIN = 24.0, 1250
LAG_HEIGHT = 120
COLOURS = {
    "partition": "#d1495b", "isolation": "#d1495b", "one-way-cut": "#d1495b", "flapping": "#e07a8b",
    "loss": "#edae49", "damage": "#edae49", "duplication": "#c8b273", "reordering": "#c8b273", "slow-link": "#c8b273",
    "kill": "#3d3d3d", "power-loss": "#3d3d3d", "restore": "#3d3d3d", "rollback": "#3d3d3d", "move": "#3d3d3d",
    "disk-full": "#8d6b94", "disk-failure": "#8d6b94", "slow-disk": "#b79fbd",
    "clock-offset": "#00798c", "clock-drift": "#00798c", "clock-jump": "#00798c",
}  # fmt: skip
LANES = 5
ARROW = (
    "<defs><marker id='arrow' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='5' markerHeight='5' orient='auto'>"
    "<path d='M0,1 L8,4 L0,7 z' fill='#4a6fa5'/></marker></defs>"
)

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:24px;color:#222;background:#fff;max-width:1500px}
h1{font-size:20px;margin:0 0 4px}h2{font-size:15px;margin:24px 0 6px}
.bad{border-left:4px solid #d1495b;padding:8px 14px;background:#fdf1f3;margin:8px 0}
.good{border-left:4px solid #3a7d44;padding:8px 14px;background:#eff7f0;margin:8px 0}
.scroll{overflow-x:auto;border:1px solid #ddd;background:#fcfcfc}
code,pre{font:12px/1.4 ui-monospace,monospace}pre{overflow-x:auto;background:#f6f6f6;padding:8px}
table{border-collapse:collapse}td,th{padding:2px 10px 2px 0;text-align:left;vertical-align:top;font-size:13px}
svg text{font:11px system-ui,sans-serif;fill:#333}.key span{display:inline-block;margin-right:14px}
svg{display:block}.key i{display:inline-block;width:12px;height:12px;margin-right:4px;vertical-align:-2px}
"""
SCRIPT = """
const zoom=document.getElementById('zoom');
zoom.oninput=()=>{for(const svg of document.querySelectorAll('svg')){
const box=svg.viewBox.baseVal;svg.setAttribute('width',box.width*zoom.value);
svg.setAttribute('height',box.height*zoom.value)}};
"""


def write_report(outcome: Outcome, fidelity: str) -> str:
    """The report of a run, as HTML."""
    plan, history = outcome.plan, outcome.history
    end = max([outcome.simulated_seconds, plan.duration])
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>Atoll simulation, seed {plan.seed}</title><style>{STYLE}</style>",
        f"<h1>Simulation of seed {plan.seed}: {'all held' if outcome.ok else 'a promise was broken'}</h1>",
        f"<p>{len(plan.regions)} regions, {plan.duration:g} s of operations and faults and then "
        f"{max(0.0, end - plan.duration):.1f} s to settle, {len(plan.operations)} operations, "
        f"{history.exchanges} exchanges, {fidelity} fidelity, trace <code>{history.trace}</code></p>",
        _verdict(outcome),
        "<h2>Space and time</h2>",
        _key(history),
        "<p><label>zoom <input id='zoom' type='range' min='0.5' max='8' step='0.1' value='1'></label> "
        "rest the pointer on anything to see what it is</p>",
        f"<div class='scroll'>{_diagram(outcome, end)}{_lag(outcome, end)}</div>",
        "<h2>Situations met</h2>",
        _table((f"{count}", situation) for situation, count in sorted(outcome.sometimes.items())),
        "<h2>To see it again</h2><p>Save the plan below as <code>case.json</code>, then "
        f"<code>atoll simulate --replay case.json{' --fidelity http' if fidelity == 'http' else ''}</code></p>",
        f"<details><summary>the plan</summary><pre>{escape(dump(plan))}</pre></details>",
        f"<script>{SCRIPT}</script></html>",
    ]
    return "\n".join(parts)


def _verdict(outcome: Outcome) -> str:
    if outcome.ok:
        return (
            "<div class='good'>Every region ended with the same events and gave the same bytes; nothing that was "
            f"acknowledged is missing; {outcome.verified} events were verified on disk.</div>"
        )
    return "".join(_violation(violation, outcome.history) for violation in outcome.violations[:5])


def _violation(violation: Violation, history: History) -> str:
    where = violation.region or "the cluster"
    text = (
        f"<b>{escape(violation.checker)}</b> at {violation.at:.3f} s in {escape(where)}: {escape(violation.detail)}"
    )
    return f"<div class='bad'>{text}{_explain(violation, history)}</div>"


def _explain(violation: Violation, history: History) -> str:
    """The events of a violation: what each does, what its writer had seen, and when it came to whom."""
    reached: dict[bytes, list[str]] = {}
    events: dict[bytes, Happened] = {}
    for commit in history.commits:
        for event in commit.events:
            if event.dot in violation.dots:
                events[event.chain] = event
                reached.setdefault(event.chain, []).append(f"{commit.region} {commit.at:.3f} s")
    if not events:
        return ""
    rows = [("event", "had seen, of its stream", "committed")]
    for chain, event in events.items():
        context = " ".join(f"{origin}.{seq}" for origin, seq in sorted(event.context.items())) or "nothing"
        rows.append((str(event), context, ", ".join(reached[chain])))
    return _table(rows)


def _table(rows: Iterable[Iterable[str]]) -> str:
    return (
        "<table>"
        + "".join(f"<tr>{''.join(f'<td>{escape(one)}</td>' for one in row)}</tr>" for row in rows)
        + "</table>"
    )


def _key(history: History) -> str:
    kinds = sorted({band.kind for band in history.bands})
    shown = "".join(f"<span><i style='background:{COLOURS[kind]}'></i>{kind}</span>" for kind in kinds)
    return (
        f"<p class='key'>{shown}<span><i style='background:#4a6fa5'></i>message that brought events</span>"
        "<span><i style='background:#cfd6e0'></i>other message</span>"
        "<span><i style='background:#d1495b'></i>lost</span>"
        "<span><i style='background:#3a7d44;border-radius:6px'></i>commit</span></p>"
    )


def _diagram(outcome: Outcome, end: float) -> str:
    regions, history = outcome.plan.regions, outcome.history
    scale = _scale(end)
    width, height = LEFT + end * scale + 20, TOP + ROW * len(regions) + BOTTOM
    line = {region: TOP + ROW * place + ROW / 2 for place, region in enumerate(regions)}
    drawn = [
        f"<svg width='{width:.0f}' height='{height}' viewBox='0 0 {width:.0f} {height}'>",
        ARROW,
        *_grid(scale, end, height),
        *_bands(scale, history, line),
        *(f"<text x='8' y='{y - 6:.0f}'>{region}</text><line x1='{LEFT}' x2='{width:.0f}' y1='{y}' y2='{y}' "
          "stroke='#555'/>" for region, y in line.items()),
        *_messages(scale, history, line),
        *_commits(scale, history, line),
        *_answers(scale, history, line),
        *_marks(scale, outcome, line, height),
        "</svg>",
    ]  # fmt: skip
    return "".join(drawn)


def _scale(end: float) -> float:
    """How wide a second is: a short run fills the page."""
    return max(SECOND_MIN, WIDTH_MIN / max(end, 0.1))


def _x(scale: float, at: float) -> str:
    return f"{LEFT + at * scale:.2f}"


def _grid(scale: float, end: float, height: float) -> Iterable[str]:
    step = 5 if end <= 200 else 60
    for second in range(0, int(end) + 1, step):
        x = _x(scale, second)
        yield f"<line x1='{x}' x2='{x}' y1='{TOP - 8}' y2='{height - BOTTOM}' stroke='#eee'/>"
        yield f"<text x='{x}' y='16'>{second} s</text>"


def _bands(scale: float, history: History, line: dict[str, float]) -> Iterable[str]:
    """Each fault on the line of every region it hits, in lanes so that those at one time stand beside each other."""
    lanes: dict[str, list[float]] = {region: [0.0] * LANES for region in line}
    for band in sorted(history.bands):
        for region in band.regions or tuple(line):
            lane = min(range(LANES), key=lambda one: (lanes[region][one] > band.began, one))  # used at once
            lanes[region][lane] = band.until
            y = line[region] - 34 + lane * 14
            width = max(2.0, (band.until - band.began) * scale)
            title = f"{band.kind} {band.detail} {'-'.join(band.regions)}, {band.began:.2f} to {band.until:.2f} s"
            yield (
                f"<rect x='{_x(scale, band.began)}' y='{y:.0f}' width='{width:.1f}' height='13' rx='2' opacity='.45' "
                f"fill='{COLOURS[band.kind]}'><title>{escape(title)}</title></rect>"
            )


def _messages(scale: float, history: History, line: dict[str, float]) -> Iterable[str]:
    brought = {(commit.region, round(commit.at, 2)) for commit in history.commits}
    for message in history.messages:
        lost = message.arrived is None
        until = message.sent + 0.15 if message.arrived is None else message.arrived
        y, z = line[message.caller], line[message.callee]
        fruitful = not lost and any((message.callee, round(until + 0.01 * k, 2)) in brought for k in (0, 1))
        colour = "#d1495b" if lost else "#4a6fa5" if fruitful else "#cfd6e0"
        to = (y + z) / 2 if lost else z
        head = " marker-end='url(#arrow)'" if fruitful else ""
        title = f"{message.kind} {message.caller} to {message.callee}, {message.bytes} bytes, {message.sent:.3f} s"
        yield (
            f"<line x1='{_x(scale, message.sent)}' x2='{_x(scale, until)}' y1='{y}' y2='{to}' "
            f"stroke='{colour}' stroke-width='{1 if fruitful or lost else 0.6}'{head}><title>{title}</title></line>"
        )


def _commits(scale: float, history: History, line: dict[str, float]) -> Iterable[str]:
    for commit in history.commits:
        title = "; ".join(map(str, commit.events[:8]))
        yield (
            f"<circle cx='{_x(scale, commit.at)}' cy='{line[commit.region]}' r='2.6' fill='#3a7d44'>"
            f"<title>{commit.at:.3f} s {escape(title)}</title></circle>"
        )


def _answers(scale: float, history: History, line: dict[str, float]) -> Iterable[str]:
    for answer in history.answers:
        colour = "#999" if answer.status < 500 and answer.status else "#d1495b"
        when = f"{answer.asked:.3f} to {answer.at:.3f} s"
        title = f"client {answer.client}: {answer.what} -> {answer.status or 'no answer'}, {when}"
        y = line[answer.region]
        yield (
            f"<line x1='{_x(scale, answer.at)}' x2='{_x(scale, answer.at)}' y1='{y}' y2='{y + 9}' stroke='{colour}'>"
            f"<title>{escape(title)}</title></line>"
        )


def _marks(scale: float, outcome: Outcome, line: dict[str, float], height: float) -> Iterable[str]:
    x = _x(scale, outcome.plan.duration)
    yield f"<line x1='{x}' x2='{x}' y1='{TOP - 8}' y2='{height - BOTTOM}' stroke='#3a7d44' stroke-dasharray='4 3'/>"
    yield f"<text x='{x}' y='{height - 10}' text-anchor='end'>everything heals</text>"
    for violation in outcome.violations[:5]:
        x, y = _x(scale, violation.at), line.get(violation.region)
        yield f"<line x1='{x}' x2='{x}' y1='{TOP - 8}' y2='{height - BOTTOM}' stroke='#d1495b' stroke-width='1.5'/>"
        if y is not None:
            yield f"<circle cx='{x}' cy='{y}' r='7' fill='none' stroke='#d1495b' stroke-width='2.5'/>"


def _lag(outcome: Outcome, end: float) -> str:
    """How many events some region still lacked, over time."""
    regions = len(outcome.plan.regions)
    held: dict[bytes, set[str]] = {}
    steps: list[tuple[float, int]] = [(0.0, 0)]
    lagging = 0
    for commit in outcome.history.commits:
        for event in commit.events:
            having = held.setdefault(event.chain, set())
            lagging += not having
            lagging -= len(having | {commit.region}) == regions and commit.region not in having
            having.add(commit.region)
        steps.append((commit.at, lagging))
    steps.append((end, lagging))
    most = max(1, *(count for _, count in steps))
    scale, rise = _scale(end), (LAG_HEIGHT - 30) / most
    points = " ".join(
        f"{_x(scale, at)},{LAG_HEIGHT - 10 - before * rise:.1f} {_x(scale, at)},{LAG_HEIGHT - 10 - count * rise:.1f}"
        for (_, before), (at, count) in pairwise(steps)
    )
    width = LEFT + end * scale + 20
    return (
        f"<svg width='{width:.0f}' height='{LAG_HEIGHT}' viewBox='0 0 {width:.0f} {LAG_HEIGHT}'>"
        f"<text x='8' y='20'>events that some region lacks (at most {most})</text>"
        f"<polyline points='{points}' fill='none' stroke='#4a6fa5' stroke-width='1.5'/></svg>"
    )
