"""Table or JSON of what `run` measured: lines of metric, path, pair and value on standard input."""

import collections
import json
import platform
import statistics
import sys

# Metric: what it is, unit, whether more is better.
METRICS = {
    "tcp": ("TCP", "Gb/s", True),
    "packets": ("60-byte packets", "Mpps", True),
    "connections": ("connections", "k/s", True),
    "ask": ("TCP request and answer", "us", False),
    "pings": ("ping", "us", False),
    "first": ("ping after idle", "us", False),
    "cpu-tcp": ("CPU: TCP", "ms/GB", False),
    "cpu-packets": ("CPU: 60-byte packets", "us", False),
    "cpu-connections": ("CPU: connections", "us", False),
    "idle": ("CPU of the idle lab", "%", False),
}


def main():
    values = collections.defaultdict(dict)
    for line in sys.stdin:
        metric, path, pair, value = line.split()
        values[metric, path][int(pair)] = float(value)
    rows = []
    for (metric, path), by_pair in values.items():
        name, unit, _ = METRICS[metric]
        loop = values.get((metric, "loop"), {})
        # Of pairs, not of medians: what slows a pair down slows both of it.
        ratios = sorted(v / loop[p] for p, v in by_pair.items() if loop.get(p)) if path != "loop" else []
        rows.append({
            "metric": name, "unit": unit, "path": path, "runs": len(by_pair),
            "median": statistics.median(by_pair.values()),
            "least": min(by_pair.values()), "most": max(by_pair.values()),
            "ratio": statistics.median(ratios) if ratios else None,
            "ratioLeast": ratios[0] if ratios else None, "ratioMost": ratios[-1] if ratios else None,
        })
    order = list(METRICS.values())
    paths = ["loop", "pods", "vip", "bridge", "dnat"]
    rows.sort(key=lambda r: ([n for n, _, _ in order].index(r["metric"]), paths.index(r["path"])))
    if sys.argv[1] == "json":
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    print(f"{platform.system()} {platform.release()}, {platform.machine()}; ratio: median of pairs, to the loop\n")
    print(f"{'METRIC':<24}{'PATH':<8}{'RUNS':>4}{'MEDIAN':>10}{'RANGE':>22}  {'UNIT':<6}{'RATIO':>8}{'RANGE':>16}")
    for r in rows:
        span = f"{r['least']:.3g} to {r['most']:.3g}"
        ratio = f"{r['ratio']:.3f}" if r["ratio"] else ""
        ratios = f"{r['ratioLeast']:.2f} to {r['ratioMost']:.2f}" if r["ratio"] and r["runs"] > 1 else ""
        print(f"{r['metric']:<24}{r['path']:<8}{r['runs']:>4}{r['median']:>10.4g}{span:>22}  {r['unit']:<6}{ratio:>8}{ratios:>16}")


main()
