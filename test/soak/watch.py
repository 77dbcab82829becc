"""watch.py - runs a load, samples the memory of all who take part, and judges it

Used by test/soak/run. libpq's variables lead to the server; what follows "--" is the load, which
makes its cache servers itself. See README.md for what is sampled and what fails.
"""
import argparse
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

import psycopg2

INTERVAL = 10           # seconds between samples, at most
WARM_UP = 0.2           # of the time is not judged
AT_REST = 60            # seconds until everything must have been given back

# What a process may grow by, from the first quarter to the last, in kB. See README.md.
BOUNDS = {'private': 1024, 'contexts': 256}

GRAND_TOTAL = re.compile(r'\[(\d+)\].*Grand total: .*; (\d+) used')


class Series:
    """The samples of one process."""

    def __init__(self, role):
        self.role = role
        self.private = []       # (seconds since the start, kB)
        self.contexts = []


class Log:
    """The server's log, of which each line is read once."""

    def __init__(self, path):
        self.file = open(path, errors='replace')
        self.file.seek(0, os.SEEK_END)

    def contexts(self):
        """(pid, bytes that its memory contexts use) of what has been written since."""
        for line in self.file:
            found = GRAND_TOTAL.search(line)
            if found:
                yield int(found.group(1)), int(found.group(2))


def private_kb(pid):
    """Memory that is the process's own: what it shares with others is fixed at the start."""
    try:
        with open(f'/proc/{pid}/status') as status:
            for line in status:
                if line.startswith('RssAnon:'):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


# --- faults: the processes of the server must outlive them ---

def say(path, words):
    """Says a line to a cache server, and returns what it answers at once."""
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(5)
        server.connect(path)
        server.sendall(words.encode() + b'\r\n')
        return server.recv(65536).decode(errors='replace')


def freeze(pid):
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(pid, signal.SIGCONT)


def cache_servers(cursor):
    """name -> (kind, path of its socket)"""
    cursor.execute("SELECT srvname, srvoptions FROM pg_foreign_server")
    servers = {}
    for name, options in cursor.fetchall():
        pairs = dict(option.split('=', 1) for option in options)
        servers[name] = (pairs['kind'], pairs.get('hosts', pairs.get('host')))
    return servers


def do_fault(cursor, chance):
    """Something happens to a cache server; returns what."""
    name, (kind, path) = chance.choice(sorted(cache_servers(cursor).items()))
    if kind == 'redis':
        what = chance.choice(['frozen', 'emptied', 'cut', 'another pool'])
        find_pid = ('INFO server', r'process_id:(\d+)')
    else:
        what = chance.choice(['frozen', 'emptied', 'another pool'])
        find_pid = ('stats', r'STAT pid (\d+)')
    if what == 'frozen':
        freeze(int(re.search(find_pid[1], say(path, find_pid[0])).group(1)))
    elif what == 'emptied':
        say(path, 'FLUSHALL' if kind == 'redis' else 'flush_all')
    elif what == 'cut':
        say(path, 'CLIENT KILL TYPE normal')
    else:
        cursor.execute(f"SELECT NOT 'connections=3' = ANY (srvoptions) FROM pg_foreign_server WHERE srvname = '{name}'")
        first = cursor.fetchone()[0]
        cursor.execute(f"SELECT bool_or(o LIKE 'connections=%') FROM pg_foreign_server, unnest(srvoptions) o WHERE srvname = '{name}'")
        verb = 'SET' if cursor.fetchone()[0] else 'ADD'
        cursor.execute(f"ALTER SERVER {name} OPTIONS ({verb} connections '{3 if first else 1}')")
    return f'{name} {what}'


# --- sampling ---

class Watch:
    def __init__(self, connection, log, samples):
        self.cursor = connection.cursor()
        self.log = Log(log)
        self.samples = open(samples, 'w')
        self.processes = {}     # pid -> Series
        self.started = time.monotonic()
        self.in_use = {}        # what of shared memory -> most of it that was in use

    def elapsed(self):
        return time.monotonic() - self.started

    def sample(self):
        at = self.elapsed()
        self.cursor.execute("""
            SELECT pid, CASE WHEN backend_type = 'client backend' THEN 'session' ELSE backend_type END,
                   pg_log_backend_memory_contexts(pid)
              FROM pg_stat_activity
             WHERE pid <> pg_backend_pid()
               AND (backend_type = 'client backend' OR backend_type LIKE 'cachekit%')""")
        for pid, role, _ in self.cursor.fetchall():
            series = self.processes.setdefault(pid, Series(role))
            kb = private_kb(pid)
            if kb is not None:
                series.private.append((at, kb))
                self.samples.write(f'{at:.0f},{pid},{role},private,{kb}\n')
        for pid, used in self.log.contexts():       # those of the sample before have come by now
            if pid in self.processes:
                self.processes[pid].contexts.append((at, used / 1024))
                self.samples.write(f'{at:.0f},{pid},{self.processes[pid].role},contexts,{used // 1024}\n')
        for name, n in self.shared().items():
            self.in_use[name] = max(n, self.in_use.get(name, 0))
        self.samples.flush()

    def shared(self):
        """What is taken of shared memory for a while."""
        self.cursor.execute('SHOW cachekit.debug_in_use')
        counts = {name: int(n) for name, n in re.findall(r'(\w+) (\d+)', self.cursor.fetchone()[0])}
        self.cursor.execute('SELECT COALESCE(sum(refreshes_pending), 0) FROM cachekit.stat_hosts')
        counts['pending'] = int(self.cursor.fetchone()[0])
        return counts


# --- judgement ---

def slope(points):
    """kB per hour, by least squares."""
    times = [t for t, _ in points]
    values = [v for _, v in points]
    middle, mean = statistics.fmean(times), statistics.fmean(values)
    spread = sum((t - middle) ** 2 for t in times)
    return 3600 * sum((t - middle) * (v - mean) for t, v in points) / spread if spread else 0.0


def judge(watch, seconds):
    """Prints a line for each process; returns how many have grown, and whether enough was seen."""
    begin = WARM_UP * seconds
    quarter = (seconds - begin) / 4
    grown = 0
    judged = set()

    print(f'{"":36} {"first":>8} {"last":>8}  medians of the first and the last quarter,')
    print(f'{"process":24} {"memory":11} {"quarter":>8} {"quarter":>8} {"growth":>8} {"kB/hour":>8}')
    for pid, series in sorted(watch.processes.items(), key=lambda item: (item[1].role, item[0])):
        for kind, bound in BOUNDS.items():
            points = [point for point in getattr(series, kind) if point[0] >= begin]
            first = [v for t, v in points if t < begin + quarter]
            last = [v for t, v in points if t >= seconds - quarter]
            if len(first) < 3 or len(last) < 3:
                continue        # it did not live that long
            judged.add(series.role)
            before, after = statistics.median(first), statistics.median(last)
            too_much = after - before > bound
            grown += too_much
            print(f'{series.role + " " + str(pid):24} {kind:11} {before:8.0f} {after:8.0f}'
                  f' {after - before:+8.0f} {slope(points):+8.0f}{"  GROWN" if too_much else ""}')
    return grown, judged


def rest(watch):
    """Waits until what was taken of shared memory has been given back; returns what has not."""
    until = time.monotonic() + AT_REST
    while True:
        left = {name: n for name, n in watch.shared().items() if n > 0}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--log', required=True)
    parser.add_argument('--samples', required=True)
    parser.add_argument('--seconds', type=int, required=True)
    parser.add_argument('--faults', type=int, required=True)
    parser.add_argument('load', nargs='+')
    options = parser.parse_args()
    chance = random.Random(0)

    connection = psycopg2.connect('')
    connection.autocommit = True
    load = subprocess.Popen(options.load)
    watch = Watch(connection, options.log, options.samples)
    while True:                 # until the load has made its entities
        watch.cursor.execute("SELECT count(*) FROM pg_extension WHERE extname = 'cachekit'")
        if watch.cursor.fetchone()[0] and len(cache_servers(watch.cursor)) == 2:
            break
        if load.poll() is not None:
            sys.exit('the load has ended')
        time.sleep(0.2)
    next_fault = options.faults or options.seconds + 1
    happened = []
    interval = min(INTERVAL, options.seconds / 60)
    while load.poll() is None and watch.elapsed() < options.seconds - interval:
        watch.sample()
        if watch.elapsed() >= next_fault:
            happened.append(do_fault(watch.cursor, chance))
            next_fault += options.faults
        time.sleep(interval - watch.elapsed() % interval)
    status = load.wait()

    print()
    grown, judged = judge(watch, options.seconds)
    print(f'bounds: {", ".join(f"{kind} {kb} kB" for kind, kb in BOUNDS.items())}')
    print(f'faults: {len(happened)}', *(f'\n  {what}: {happened.count(what)}' for what in sorted(set(happened))), sep='')
    left = rest(watch)
    print('most of shared memory in use: ' + ', '.join(f'{name} {n}' for name, n in watch.in_use.items()))
    print('left at rest: ' + (', '.join(f'{name} {n}' for name, n in left.items()) or 'nothing'))
    missing = {'session', 'cachekit launcher'} - judged
    if not any(role.startswith('cachekit sender') for role in judged):
        missing.add('cachekit sender')
    if not any(role.startswith('cachekit refresher') for role in judged):
        missing.add('cachekit refresher')
    for role in sorted(missing):
        print(f'not long enough there to be judged: {role}')
    if status != 0:
        print(f'the load ended with status {status}')
    print('flat' if not (grown or left or missing or status) else 'FAILED')
    sys.exit(1 if grown or left or missing or status else 0)


if __name__ == '__main__':
    main()
