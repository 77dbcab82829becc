"""A Python program with pylibmc, which reads from Memcached what cachekit has put there.

Three hosts of its own make one server. It finds every document at the host where it looks for it:
libmemcached tells both of them where that is.

Prints TAP. The database is the one that the PG* variables of the environment lead to.
"""

import os
import socket
import subprocess
import time

import psycopg2
import pylibmc

KEYS = 500
LIMIT = int(os.environ.get("PG_TEST_TIMEOUT_DEFAULT", "180"))
count = 0


def is_(have, want, what):
    global count
    count += 1
    good = have == want
    print(f"{'' if good else 'not '}ok {count} - {what}")
    if not good:
        print(f"#   have: {have!r:.200}\n#   want: {want!r:.200}")


class Memcached:
    """One on a free port, until the program ends."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        self.process = subprocess.Popen(
            ["memcached", "-l", "127.0.0.1", "-p", self.address.split(":")[1], "-U", "0", *user])

    def end(self):
        self.process.kill()
        self.process.wait()


def value(session, statement, parameters=None):
    """The one value of a query."""
    session.execute(statement, parameters)
    return session.fetchone()[0]


def poll(condition):
    """Ask until it is so; False when it never was."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def check(session, hosts, distribution, behaviors):
    addresses = [host.address for host in hosts]
    client = pylibmc.Client(addresses, behaviors=behaviors)
    session.execute(f"""
        CREATE SERVER ring FOREIGN DATA WRAPPER cachekit
            OPTIONS (kind 'memcached', hosts '{",".join(addresses)}', {distribution} namespace 'app',
                     command_timeout '10s');
        SELECT cachekit.attach('users', servers => '{{ring}}', local => false)""")
    is_(poll(lambda: value(session, "SELECT count(*) FROM cachekit.stat_hosts WHERE state = 'ready'") == 3), True,
        f"{behaviors}: ready")
    session.execute("SELECT cachekit.key('users', id), to_jsonb(u)::text FROM users AS u")
    documents = dict(session.fetchall())

    def filled():
        session.execute("SELECT count(cachekit.fetch('users', id)) FROM users")
        # what is empty is the place for a document
        return sum(len([v for v in single.get_multi(list(documents)).values() if v])
                   for single in singles) >= KEYS

    singles = [pylibmc.Client([address]) for address in addresses]
    is_(poll(filled), True, f"{behaviors}: all documents are there")
    found = client.get_multi(list(documents))
    is_(len(found), KEYS, f"{behaviors}: each of them is where this client looks for it")
    is_({key: bytes_.decode() if isinstance(bytes_, bytes) else bytes_
         for key, bytes_ in found.items()} == documents, True,
        f"{behaviors}: and is what the table says")
    is_(min(len(single.get_multi(list(documents))) for single in singles) > KEYS / 10, True,
        f"{behaviors}: each host has its part")

    # What it deletes is deleted, and what cachekit deletes is gone for it.
    gone = list(documents)[:10]
    is_([client.delete(key) for key in gone], [True] * 10, f"{behaviors}: it deletes at the same places")
    session.execute("UPDATE users SET name = name || '!'")
    is_(value(session, "SELECT cachekit.wait_for_delivery('60s')"), True, f"{behaviors}: a change arrives")
    is_(client.get_multi(list(documents)), {}, f"{behaviors}: and it finds nothing any more")

    session.execute("SET client_min_messages = warning; DROP SERVER ring CASCADE")
    is_(poll(lambda: value(session, "SELECT count(*) FROM cachekit.server_states()") == 0), True,
        f"{behaviors}: the server is dropped")


connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()
cursor.execute(f"""
    DROP SCHEMA IF EXISTS pylibmc_client CASCADE;
    CREATE SCHEMA pylibmc_client;
    SET search_path = pylibmc_client;
    SET cachekit.fetch_timeout = '10s';
    CREATE TABLE users (id int PRIMARY KEY, name text);
    INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, {KEYS}) AS g""")
ring = [Memcached() for _ in range(3)]
try:
    check(cursor, ring, "", {"ketama": True})
    check(cursor, ring, "distribution 'ketama',", {"ketama": True})
    check(cursor, ring, "distribution 'ketama_weighted',", {"ketama_weighted": True})
finally:
    for host in ring:
        host.end()
cursor.execute("DROP SCHEMA pylibmc_client CASCADE")
print(f"1..{count}")
