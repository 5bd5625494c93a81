#!/usr/bin/env python3
"""What `run` observed as results.json, results.md and results.svg; the standard library only.

    report.py machine                     the machine, as a line of observations
    report.py rate FILE WORK              of a work in the output of `tierlab bench -o json`: frames that it checked, Mpps, and
                                          whether the build is one with optimization
    report.py write OBSERVATIONS DIR      the results; exits with 1 if a claim is not held

Observations are JSON objects, one a line, in the order in which they were made:

    {"machine": {...}}
    {"row": ID, "title": ..., "unit": ..., "peer": NAME, "ours": NAME, "claim": RATIO or null}
    {"value": NUMBER, "row": ID, "side": "peer" or "ours", "round": N, "verified": FRAMES}
    {"taps": [rows of benches/tap/run -o json]}
    {"left_out": WHAT, "why": ...}

A rate is the median of its rounds with their range. A ratio is that of a pair measured one after the other; what counts is the
median of those, because what slows a pair down slows both sides of it.
"""
import json
import math
import os
import platform
import statistics
import sys
from pathlib import Path

# The claims of TAP rows: what benches/tap/run compares is the lab with the bare copy loop. At least, or at most.
TAP_CLAIMS = {
    "TCP": (0.90, None),
    "60-byte packets": (0.90, None),
    "connections": (0.90, None),
    "TCP request and answer": (None, 1.3),
    "ping": (None, 1.3),
}
TAP_PATHS = {
    "loop": "bare copy loop",
    "pods": "tierlab, pod to pod",
    "vip": "tierlab, client to VIP",
    "bridge": "Linux bridge (veth)",
    "dnat": "nftables DNAT (veth)",
}


def first_line(path, fallback="unknown"):
    try:
        return Path(path).read_text().strip().splitlines()[0]
    except (OSError, IndexError):
        return fallback


def field(path, name):
    """The first `name : value` of a file of /proc, or `NAME=value` of os-release."""
    try:
        for line in Path(path).read_text().splitlines():
            key, _, value = line.replace("=", ":", 1).partition(":")
            if key.strip() == name:
                return value.strip().strip('"')
    except OSError:
        pass
    return "unknown"


def machine():
    thp = first_line("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": field("/proc/cpuinfo", "model name"),
        "mhz": field("/proc/cpuinfo", "cpu MHz"),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": field("/etc/os-release", "PRETTY_NAME"),
        "memory": field("/proc/meminfo", "MemTotal"),
        "transparent_huge_pages": thp[thp.find("[") + 1 : thp.find("]")] if "[" in thp else thp,
        "reserved_huge_pages": field("/proc/meminfo", "HugePages_Total"),
        "hypervisor": "yes" if " hypervisor" in field("/proc/cpuinfo", "flags") else "no",
        "load_average": round(os.getloadavg()[0], 2),
    }


def rate(path, work):
    with open(path) as file:
        report = json.load(file)
    for row in report["rows"]:
        if row["work"] == work and row["mpps"] > 0 and row["verified_frames"] > 0:
            optimized = "optimized" if report["machine"]["optimized"] else "unoptimized"
            return f"{row['verified_frames']} {row['mpps']:.4f} {optimized}"
    skipped = "; ".join(f"{one['work']}: {one['reason']}" for one in report["skipped"])
    sys.exit(f"report.py: {path} has no rate for {work} ({skipped or 'nor says why'})")


def summary(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": len(values)}


def collect(lines):
    """Observations as the object that results.json holds."""
    results = {"machine": {}, "rows": [], "taps": [], "left_out": []}
    rows = {}
    for line in lines:
        if not line.strip():
            continue
        seen = json.loads(line)
        if "machine" in seen:
            results["machine"].update(seen["machine"])
        elif "value" in seen:
            row = rows[seen["row"]]
            row["values"].setdefault(seen["side"], {})[seen["round"]] = seen["value"]
            row["verified"][seen["side"]] = row["verified"].get(seen["side"], 0) + seen["verified"]
        elif "row" in seen:
            rows[seen["row"]] = seen | {"values": {}, "verified": {}}
        elif "taps" in seen:
            results["taps"] = [tap_row(tap) for tap in seen["taps"]]
        elif "left_out" in seen:
            results["left_out"].append(seen)
    for row in rows.values():
        values = row.pop("values")
        if not values:
            continue
        for side, by_round in values.items():
            row[side] = summary(by_round.values()) | {"name": row[side]}
        for side in {"peer", "ours"} - set(values):
            row[side] = {"name": row[side]}
        pairs = values.get("peer", {}).keys() & values.get("ours", {}).keys()
        ratios = [values["ours"][p] / values["peer"][p] for p in sorted(pairs)]
        row["ratio"] = summary(ratios) if ratios else None
        row["held"] = None if row["claim"] is None or not ratios else row["ratio"]["median"] >= row["claim"]
        results["rows"].append(row)
    return results


def tap_row(tap):
    least, most = TAP_CLAIMS.get(tap["metric"], (None, None)) if tap["path"] in ("pods", "vip") else (None, None)
    ratio = tap.get("ratio")
    held = None
    if ratio is not None and (least or most):
        held = (least is None or ratio >= least) and (most is None or ratio <= most)
    return tap | {"claim": f">= {least:.2f}" if least else f"<= {most:.1f}" if most else None, "held": held}


def number(value):
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def span(part, unit=""):
    if not part or "median" not in part:
        return "not measured"
    text = number(part["median"])
    if part["rounds"] > 1:
        text += f" ({number(part['least'])} to {number(part['most'])})"
    return f"{text} {unit}".strip()


def verdict(claim, held):
    if not claim:
        return ""
    return f"{claim}: " + {True: "held", False: "**not held**", None: "not measured"}[held]


def markdown(results):
    facts = results["machine"]
    out = ["# tierlab beside other switches", "", "Written by `benches/peers/run`; [docs/peers.md](../peers.md) says how to read it.", ""]
    labels = {"measured": "measured", "cpu": "CPU", "mhz": "MHz", "cores": "cores", "hypervisor": "virtual machine", "kernel": "kernel"}
    out += ["| machine | |", "|---|---|"]
    out += [f"| {labels.get(key, key.replace('_', ' '))} | {value} |" for key, value in facts.items()]
    if results["rows"]:
        out += ["", "## In memory", ""]
        out += ["Median (range) of the rounds. The ratio is the median of those of pairs, measured one after the other.", ""]
        out += ["| work | peer | its rate | tierlab | ratio | claim |", "|---|---|---|---|---|---|"]
        for row in results["rows"]:
            claim = f">= {row['claim']:g}" if row["claim"] else None
            cells = [row["title"], row["peer"]["name"], span(row["peer"], row["unit"]), span(row["ours"], row["unit"])]
            cells += [span(row["ratio"]), verdict(claim, row["held"])]
            out.append("| " + " | ".join(cells) + " |")
        frames = [f"{row['title']}: {row['verified'].get('peer', 0)} of the peer, {row['verified'].get('ours', 0)} of ours" for row in results["rows"]]
        out += ["", "Frames checked before these rates were believed, in all rounds. " + "; ".join(frames) + "."]
    if results["taps"]:
        out += ["", "## Between two network namespaces", ""]
        out += ["The ratio is to a loop of one read and one write a frame on the same TAPs, in pairs.", ""]
        out += ["| what | by | median (range) | ratio | claim |", "|---|---|---|---|---|"]
        for tap in results["taps"]:
            value = summary([tap["median"]]) | {k: tap[k] for k in ("least", "most")} | {"rounds": tap["runs"]}
            ratio = None
            if tap.get("ratio") is not None:
                ratio = {"median": tap["ratio"], "least": tap["ratioLeast"], "most": tap["ratioMost"], "rounds": tap["runs"]}
            cells = [tap["metric"], TAP_PATHS.get(tap["path"], tap["path"]), span(value, tap["unit"])]
            cells += [span(ratio) if ratio else "", verdict(tap["claim"], tap["held"])]
            out.append("| " + " | ".join(cells) + " |")
    if results["left_out"]:
        out += ["", "## Left out", ""]
        out += [f"* {one['left_out']}: {one['why']}" for one in results["left_out"]]
    return "\n".join(out) + "\n"


# The plot. Its background is its own, so that it can be read on any page; colours follow the reader's scheme.
STYLE = """
  .back { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 13px system-ui, sans-serif }
  .title { font-size: 15px; font-weight: 600 } .faint { fill: #59636e; font-size: 11px }
  .value { paint-order: stroke; stroke: #ffffff; stroke-width: 4px } .grid { stroke: #d8dee4; stroke-width: 1 } .one { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 4 3 }
  .peer { fill: #8c959f } .ours { fill: #0969da } .range { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117; stroke: #3d444d } text { fill: #f0f6fc } .faint { fill: #9198a1 } .value { stroke: #0d1117 }
    .grid { stroke: #2a313c } .one { stroke: #9198a1 } .peer { fill: #6e7681 } .ours { fill: #4493f8 } .range { stroke: #f0f6fc }
  }
"""
WIDTH, LEFT, RIGHT, BAR = 880, 300, 110, 15


def escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


class Plot:
    """Panels of horizontal bars, one below the other."""

    def __init__(self):
        self.parts = []
        self.y = 16

    def text(self, x, y, text, kind="", anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, kind):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def panel(self, title, note, groups, ticks, place):
        """Groups are (label, [(side, name, median, least, most, text)]); `place` maps a value to 0..1."""

        def x(value):
            return LEFT + (WIDTH - LEFT - RIGHT) * min(max(place(value), 0), 1)

        self.text(20, self.y + 14, title, "title")
        self.text(20, self.y + 31, note, "faint")
        top = self.y + 46
        bars = sum(len(bars) for _, bars in groups)
        bottom = top + bars * (BAR + 3) + len(groups) * 12
        for tick in ticks:
            self.line(x(tick), top, x(tick), bottom, "one" if tick == 1 and note.startswith("Ratio") else "grid")
            self.text(x(tick), bottom + 14, f"{tick:g}", "faint", "middle")
        y = top + 6
        for label, bars in groups:
            self.text(20, y + 12, label)
            if len(label) > 30:
                raise ValueError(f"'{label}' would run into the names")
            for side, name, median, least, most, text in bars:
                self.text(LEFT - 8, y + 12, name, "faint", "end")
                self.parts.append(
                    f'<rect x="{LEFT}" y="{y:.1f}" width="{max(x(median) - LEFT, 1):.1f}" height="{BAR}" class="{side}">'
                    f"<title>{escape(f'{label}, {name}: {text}')}</title></rect>"
                )
                if most > least:
                    middle = y + BAR / 2
                    self.line(x(least), middle, x(most), middle, "range")
                    for end in (least, most):
                        self.line(x(end), middle - 4, x(end), middle + 4, "range")
                self.text(max(x(median), x(most)) + 6, y + 12, text, "value")
                y += BAR + 3
            y += 12
        self.y = bottom + 34

    def svg(self):
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y:.0f}" width="{WIDTH}" height="{self.y:.0f}" role="img">\n'
            f"<title>tierlab beside other switches</title>\n<style>{STYLE}</style>\n"
            f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.y - 1:.0f}" rx="6"/>\n{body}\n</svg>\n'
        )


def plot(results):
    page = Plot()
    groups = []
    for row in results["rows"]:
        if row["unit"] != "Mpps":
            continue
        bars = []
        for side in ("peer", "ours"):
            part = row[side]
            if "median" in part:
                name = part["name"] if side == "peer" else "tierlab"
                times = f" ({number(row['ratio']['median'])}×)" if side == "ours" and row["ratio"] else ""
                bars.append((side, name, part["median"], part["least"], part["most"], number(part["median"]) + times))
        groups.append((row.get("label", row["title"]), bars))
    values = [v for _, bars in groups for bar in bars for v in bar[2:5] if v > 0]
    if values:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        high = max(high, low + 1)
        ticks = [d * 10**e for e in range(low, high) for d in (1, 2, 5)] + [10**high]
        note = "Million packets a second on one core, 64-octet frames, both directions; logarithmic. Bar: median, line: range."
        page.panel("In memory", note, groups, ticks, lambda v: (math.log10(v) - low) / (high - low) if v > 0 else 0)
    groups = {}
    for tap in results["taps"]:
        if tap.get("ratio") is not None and tap["metric"] in TAP_CLAIMS:
            side = "ours" if tap["path"] in ("pods", "vip") else "peer"
            name = {"pods": "tierlab, pods", "vip": "tierlab, VIP", "bridge": "Linux bridge", "dnat": "nftables DNAT"}.get(tap["path"], tap["path"])
            better = " ↓" if tap["unit"] == "us" else ""
            text = f"{tap['ratio']:.2f}"
            groups.setdefault(tap["metric"] + better, []).append((side, name, tap["ratio"], tap["ratioLeast"], tap["ratioMost"], text))
    if groups:
        most = max(bar[4] for bars in groups.values() for bar in bars)
        step = next(s for s in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if most / s <= 10)
        end = step * math.ceil(most / step)
        ticks = [step * i for i in range(round(end / step) + 1)]
        note = "Ratio to a loop that copies from one TAP to the other with the same offloads. ↓: less is better."
        page.panel("Between two network namespaces", note, list(groups.items()), ticks, lambda v: v / end)
    facts = results["machine"]
    page.text(20, page.y, f"{facts.get('cpu', '')}, {facts.get('kernel', '')}; {facts.get('tierlab', '')}; {facts.get('measured', '')}", "faint")
    page.y += 16
    return page.svg()


def write(observations, directory):
    with open(observations) as file:
        results = collect(file)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    (directory / "results.md").write_text(markdown(results))
    (directory / "results.svg").write_text(plot(results))
    missed = [r["title"] for r in results["rows"] if r["held"] is False]
    missed += [f"{t['metric']} ({t['path']})" for t in results["taps"] if t["held"] is False]
    for one in missed:
        print(f"not held: {one}", file=sys.stderr)
    return 1 if missed else 0


def main():
    match sys.argv[1:]:
        case ["machine"]:
            print(json.dumps({"machine": machine()}))
        case ["rate", path, work]:
            print(rate(path, work))
        case ["write", observations, directory]:
            sys.exit(write(observations, directory))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
