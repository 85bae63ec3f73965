#!/usr/bin/env python3
"""Drive a mail relay end to end: load -> relay -> sink, and print the figures.

    relay_bench.py --peer postfix-opendkim --peer exim-dkim --runs 3
    relay_bench.py --target waypost=127.0.0.1:2525 --sink-port 2526 --pid 1234
    relay_bench.py --direct                        the load tools' own ceiling (no relay)
    relay_bench.py --peer NAME --check             a few messages, signatures verified (dkimpy)

A run: start the peer, send --warmup messages, then time --messages messages. Peers are
interleaved (run 1 of each, then run 2 ...), the median of the runs is printed, and every
run goes to --out as one JSON line. A run counts only when the sink has got every message.

  rate      messages / (start of the load -> last delivery at the sink)
  accept    messages / (start of the load -> the load tool's end)
  cpu/1k    CPU seconds of the relay (its cgroup, children included) per 1,000 messages
  PSS       memory of all its processes, sampled while the load runs
  other     CPU seconds per second used by anything else but relay, load and sink (the
            kernel's own threads are in it), steal: taken by the hypervisor; a run where
            these are high was disturbed

--driver tools (default) is Postfix's smtp-source and smtp-sink, --driver py is smtp_load.py:
slower tools, but with acceptance latency and a check that each message arrived exactly once.
"""
import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import peers

HERE = pathlib.Path(__file__).resolve().parent
WORDS = ("waypost relays mail that people asked for and tells the sender what became of it "
         "so that nobody has to guess").split()


def make_message(size):
    """A multipart/alternative message of about `size` bytes, the HTML part with 20 links."""
    def text(n, sep):
        out, length, i = [], 0, 0
        while length < n:
            line = " ".join(WORDS[(i + k) % len(WORDS)] for k in range(11))
            out.append(line)
            length += len(line) + len(sep)
            i += 7
        return out
    head = ("From: Bench <b@bench.example>\r\nTo: Reader <u@rcpt.example>\r\nSubject: A message of "
            f"{size} bytes\r\nDate: Fri, 21 Nov 2025 10:00:00 +0000\r\nMessage-ID: <bench@bench.example>\r\n"
            "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n")
    rest = size - len(head) - 20 * 70 - 200
    plain = text(max(rest // 5, 100), "\r\n")
    html = text(max(rest * 4 // 5 - len(plain), 200), "\r\n")
    step = max(1, len(html) // 20)
    for i in range(20):
        html[min(i * step, len(html) - 1)] += (
            f"\r\n<a href=\"https://www.example.com/landing/{i}?id=12345\">read {i}</a>")
    return (head + "--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "\r\n".join(plain)
            + "\r\n--b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>\r\n"
            + "\r\n".join(html) + "\r\n</body></html>\r\n--b1--\r\n").encode()


class Sink:
    """The sink process; wait() gives the time of the last delivery."""

    def __init__(self, driver, port, messages, sessions, timeout):
        self.driver, self.messages, self.timeout = driver, messages, timeout
        self.before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if driver == "tools":
            self.cmd = peers.tool("smtp-sink") + ["-u", "nobody", "-M", str(messages), f"127.0.0.1:{port}", "1000"]
        else:
            self.cmd = [sys.executable, str(HERE / "smtp_load.py"), "sink", f"127.0.0.1:{port}",
                        "--messages", str(messages), "--timeout", str(timeout)]
        self.proc = subprocess.Popen(self.cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if driver == "py":
            self.proc.stdout.readline()
        else:
            for _ in range(200):        # smtp-sink answers on a port once it listens; no session used up
                if port_open(port):
                    break
                time.sleep(0.01)
        self.ended = None
        self.thread = threading.Thread(target=self._reap, daemon=True)
        self.thread.start()

    def _reap(self):
        self.out, self.err = self.proc.communicate()
        self.ended = time.time()

    def wait(self, timeout):
        self.thread.join(timeout)
        if self.thread.is_alive():
            self.proc.terminate()
            self.thread.join()
            return None, {}
        if self.driver == "py":
            r = json.loads(self.out)
            return (r["last"] if r["delivered"] >= self.messages else None), r
        return self.ended, {"delivered": self.messages}

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        self.thread.join()


def port_open(port):
    hexport = f"0100007F:{port:04X}"
    return any(hexport in line.split()[1] and line.split()[3] == "0A"
               for line in open("/proc/net/tcp").readlines()[1:])


def load(driver, port, messages, sessions, path, reconnect):
    if driver == "tools":
        cmd = peers.tool("smtp-source") + ([] if reconnect else ["-d"]) + [
            "-s", str(sessions), "-m", str(messages), "-F", str(path), "-N",
            "-f", "b@bench.example", "-t", "u@rcpt.example", f"127.0.0.1:{port}"]
        start = time.time()
        r = subprocess.run(cmd, capture_output=True, text=True)
        end = time.time()
        if r.returncode or "fatal" in r.stderr:
            return {"error": (r.stderr or r.stdout).strip()[-300:], "start": start, "seconds": end - start}
        return {"start": start, "seconds": end - start}
    r = subprocess.run([sys.executable, str(HERE / "smtp_load.py"), "send", f"127.0.0.1:{port}",
                        "--messages", str(messages), "--sessions", str(sessions), "--file", str(path)],
                       capture_output=True, text=True)
    if r.returncode:
        return {"error": r.stderr[-300:], "start": 0, "seconds": 0}
    out = json.loads(r.stdout)
    if out["errors"]:
        out["error"] = f"{out['errors']} refused: {out['first_error']}"
    return out


def machine_cpu():
    f = [int(x) for x in open("/proc/stat").readline().split()[1:8]]
    return (sum(f) - f[3] - f[4]) / os.sysconf("SC_CLK_TCK")


def machine_steal():
    return int(open("/proc/stat").readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def tree_cpu(pids):
    """CPU seconds of the processes and their living descendants (a server of ours)."""
    ppid, used, tick = {}, {}, os.sysconf("SC_CLK_TCK")
    for p in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            f = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            ppid[int(p)] = int(f[1])
            used[int(p)] = sum(int(x) for x in f[11:15]) / tick
    want, todo = set(), list(pids)
    while todo:
        p = todo.pop()
        if p in used and p not in want:
            want.add(p)
            todo += [c for c, q in ppid.items() if q == p]
    return sum(used[p] for p in want)


@contextlib.contextmanager
def lock(path):
    if not path:
        yield
        return
    with open(path, "a") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def one_run(a, name, address, sink_port, cpu, pss, sessions, size, path):
    n = a.count_for(name, sessions, size)
    warm = min(a.warmup, n)
    if warm:
        sink = Sink(a.driver, sink_port, warm, sessions, 60)
        load(a.driver, address, warm, min(sessions, warm), path, a.reconnect)
        sink.wait(60)
        sink.stop()
        time.sleep(0.5)
    # smtp-sink -M ends without answering the last message: a relay keeps it, smtp-source would fail
    direct = name == "direct" and a.driver == "tools"
    sink = Sink(a.driver, sink_port, n * 2 if direct else n, sessions, a.timeout)
    child0, m0, c0 = resource.getrusage(resource.RUSAGE_CHILDREN), machine_cpu(), cpu()
    steal0 = machine_steal()
    t0 = time.time()
    memory = []
    timer = threading.Timer(1.0, lambda: memory.append(pss()))
    timer.start()
    result = load(a.driver, address, n, sessions, path, a.reconnect)
    if direct:
        last, got = result["start"] + result["seconds"], {}
    else:
        last, got = sink.wait(a.timeout if "error" not in result else 10)
    sink.stop()
    timer.cancel()
    if not memory:
        memory.append(pss())
    wall = time.time() - t0
    used = cpu() - c0
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    tools = child.ru_utime + child.ru_stime - child0.ru_utime - child0.ru_stime
    row = {"name": name, "driver": a.driver, "reconnect": a.reconnect, "sessions": sessions,
           "bytes": len(path.read_bytes()), "messages": n, "ok": last is not None and "error" not in result,
           "error": result.get("error", "" if last else "not every message arrived"), **{k: v for k, v in got.items() if k != "last"}}
    if last:
        row["rate"] = round(n / (last - result["start"]), 1)
    if result["seconds"]:
        row["accept"] = round(n / result["seconds"], 1)
    row.update({"cpu_per_1k": round(used / n * 1000, 3), "tools_cpu_per_1k": round(tools / n * 1000, 3),
                "other_cpu": round(max(0, machine_cpu() - m0 - used - tools) / wall, 2),
                "steal": round((machine_steal() - steal0) / wall, 2),
                "pss_mib": round(memory[0][0]), "processes": memory[0][1]})
    for k in ("transaction_ms", "dot_ms"):
        if k in result:
            row[k] = result[k]
    return row


def measure(a, kind, what, sessions, path, sink_port):
    """One run under the lock, of a peer started for it, a running target, or the tools alone."""
    args = (sessions, int(path.name), path)
    with lock(a.lock):
        if kind == "peer":
            try:
                with peers.Peer(what, next_hop=("127.0.0.1", sink_port)) as p:
                    return one_run(a, what, p.port, sink_port, lambda: peers.cgroup_cpu(p.cgroup) or 0,
                                   lambda: peers.cgroup_pss(p.cgroup), *args)
            except RuntimeError as e:
                return {"name": what, "sessions": sessions, "bytes": path.stat().st_size, "ok": False, "error": str(e)}
        if kind == "target":
            name, address = what.split("=")
            return one_run(a, name, int(address.rsplit(":", 1)[1]), sink_port,
                           lambda: tree_cpu(a.pid), lambda: (0, len(a.pid)), *args)
        return one_run(a, "direct", sink_port, sink_port, lambda: 0, lambda: (0, 0), *args)


def check(name):
    """Send three messages, and verify what arrives with dkimpy."""
    import dkim
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        (tmp / "m").write_bytes(make_message(4096))
        port = peers.free_port()
        s = subprocess.Popen([sys.executable, str(HERE / "smtp_load.py"), "sink", f"127.0.0.1:{port}",
                              "--messages", "3", "--timeout", "30", "--dump", str(tmp)],
                             stdout=subprocess.PIPE, text=True)
        s.stdout.readline()
        with peers.Peer(name, next_hop=("127.0.0.1", port)) as p:
            sent = load("py", p.port, 3, 1, tmp / "m", False)
            got = json.loads(s.communicate()[0])
            txt = b"v=DKIM1; k=rsa; p=" + "".join(p.public_key.splitlines()[1:-1]).encode()
        good = [dkim.verify(f.read_bytes(), dnsfunc=lambda *_, **__: txt) for f in sorted(tmp.glob("*.eml"))]
        sample = next(tmp.glob("*.eml"), None)
        heads = [l.split(b":")[0].decode() for l in sample.read_bytes().split(b"\r\n\r\n")[0].split(b"\r\n")
                 if l[:1].isalpha()] if sample else []
    print(f"{name}: sent {sent.get('accepted')} {sent.get('error', '')} got {got}, signatures good {good}; {heads}")


def show(rows, max_disturbed):
    """Medians of the good runs; of the undisturbed ones alone where there are two or more."""
    print(f"{'server':24}{'sess':>5}{'bytes':>7}{'msgs':>7}{'rate/s':>9}{'(min-max)':>15}{'accept/s':>10}"
          f"{'cpu/1k':>8}{'PSS':>6}{'proc':>5}{'other':>6}{'steal':>6}  latency p50/p99 ms (transaction; dot)")
    groups = {}
    for r in rows:
        groups.setdefault((r["name"], r["sessions"], r["bytes"]), []).append(r)
    for (name, sessions, size), rs in groups.items():
        good = [r for r in rs if r["ok"]]
        if not good:
            print(f"{name:24}{sessions:5}{size:7}  FAILED: {rs[0]['error']}")
            continue
        calm = [r for r in good if r["steal"] + r["other_cpu"] <= max_disturbed]
        used = calm if len(calm) > 1 else good
        med = lambda k: statistics.median(r[k] for r in used)                       # noqa: E731
        lat = "; ".join("/".join(f"{statistics.median(r[k][q] for r in used):.1f}" for q in ("p50", "p99"))
                        for k in ("transaction_ms", "dot_ms") if k in used[0])
        rates = [r["rate"] for r in used]
        print(f"{name:24}{sessions:5}{size:7}{good[0]['messages']:7}{med('rate'):9.0f}"
              f"{f'({min(rates):.0f}-{max(rates):.0f})':>15}{med('accept'):10.0f}{med('cpu_per_1k'):8.2f}"
              f"{med('pss_mib'):6.0f}{med('processes'):5.0f}{med('other_cpu'):6.2f}{med('steal'):6.2f}  {lat}"
              + f"  [{len(used)} of {len(rs)} runs{'' if used is calm else ', disturbed'}]", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("--peer", action="append", default=[], help="a peer of peers.py, started for each run")
    ap.add_argument("--target", action="append", default=[], metavar="NAME=HOST:PORT",
                    help="a running server that relays to 127.0.0.1:--sink-port")
    ap.add_argument("--pid", type=int, action="append", default=[], help="process whose CPU is the target's")
    ap.add_argument("--direct", action="store_true", help="load straight into the sink")
    ap.add_argument("--sink-port", type=int, default=0)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--messages", type=int, default=5000)
    ap.add_argument("--sessions", default="1,20,100")
    ap.add_argument("--sizes", default="4096,40960")
    ap.add_argument("--slow", type=float, default=1.0, help="factor on --messages where sessions is 1")
    ap.add_argument("--warmup", type=int, default=300)
    ap.add_argument("--reconnect", action="store_true", help="a new connection for each message")
    ap.add_argument("--driver", choices=("tools", "py"), default="tools")
    ap.add_argument("--timeout", type=float, default=240)
    ap.add_argument("--lock", default=os.environ.get("WAYPOST_BENCH_LOCK"),
                    help="file to hold an exclusive flock on during each run")
    ap.add_argument("--max-disturbed", type=float, default=0.3,
                    help="steal + other, in CPUs, above which a run is repeated, --retries times at most")
    ap.add_argument("--retries", type=int, default=0)
    ap.add_argument("--out", type=pathlib.Path)
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--show", type=pathlib.Path, nargs="+", help="print the table of earlier --out files")
    a = ap.parse_args()
    if a.show:
        return show([json.loads(line) for f in a.show for line in open(f)], a.max_disturbed)
    if a.check:
        for name in a.peer:
            check(name)
        return
    a.count_for = lambda name, s, size: max(100, int(a.messages * (a.slow if s == 1 else 1)))
    sink_port = a.sink_port or peers.free_port()
    rows = []
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="waypost-bench-load-"))
    sizes = []
    for size in map(int, a.sizes.split(",")):
        sizes.append(tmp / str(size))
        # smtp-source ends each line of its file with CRLF: with CRs in the file it sends bare ones,
        # which a strict server refuses (RFC 5321 2.3.8).
        message = make_message(size)
        sizes[-1].write_bytes(message.replace(b"\r\n", b"\n") if a.driver == "tools" else message)
    try:
        for run in range(a.runs):
            for path in sizes:
                for sessions in map(int, a.sessions.split(",")):
                    for kind, what in ([("peer", p) for p in a.peer] + [("target", t) for t in a.target]
                                       + ([("direct", "direct")] if a.direct else [])):
                        for _ in range(a.retries + 1):
                            row = measure(a, kind, what, sessions, path, sink_port)
                            if row.get("steal", 0) + row.get("other_cpu", 0) <= a.max_disturbed:
                                break
                        row["run"] = run
                        rows.append(row)
                        if a.out:
                            with open(a.out, "a") as f:
                                f.write(json.dumps(row) + "\n")
                        print(f"  run {run + 1}: {row['name']} {sessions}x{path.name} "
                              f"{row.get('rate', '-')}/s {row['error']}", file=sys.stderr, flush=True)
    finally:
        for path in sizes:
            path.unlink()
        tmp.rmdir()
    show(rows, a.max_disturbed)


if __name__ == "__main__":
    main()
