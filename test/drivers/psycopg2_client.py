"""A Python program with psycopg2, which writes its parameters into the statement as literals.

Prints TAP. The database is the one that the PG* variables of the environment lead to.
"""

import datetime
import decimal
import uuid

import psycopg2
import psycopg2.extras

count = 0


def is_(have, want, what):
    global count
    count += 1
    good = have == want
    print(f"{'' if good else 'not '}ok {count} - {what}")
    if not good:
        print(f"#   have: {have!r}\n#   want: {want!r}")


def value(session, statement, parameters=None):
    """The one value of a query, or the SQLSTATE of an error."""
    try:
        session.execute(statement, parameters)
        return session.fetchone()[0]
    except psycopg2.Error as error:
        session.connection.rollback()
        return error.pgcode


def fails(session, code, what, statement, parameters=None):
    is_(value(session, statement, parameters), code, what)


psycopg2.extras.register_uuid()
first = psycopg2.connect("")
second = psycopg2.connect("")
first.autocommit = second.autocommit = True
a, b = first.cursor(), second.cursor()

a.execute("""
    DROP SCHEMA IF EXISTS psycopg2_client CASCADE;
    CREATE SCHEMA psycopg2_client;
    SET search_path = psycopg2_client;
    CREATE TABLE users (id int PRIMARY KEY, name text, born date, balance numeric(10, 2));
    INSERT INTO users VALUES (1, 'Ada', '1815-12-10', 1.50), (42, 'Bob', NULL, NULL);
    CREATE TABLE lines (order_id int, n int, what text, PRIMARY KEY (order_id, n));
    INSERT INTO lines VALUES (7, 2, 'tea'), (7, 3, 'milk');
    CREATE TABLE words (a text, b text, v int, PRIMARY KEY (a, b));
    INSERT INTO words VALUES ('it''s', '(1,2)', 1);
    CREATE TABLE things (u uuid PRIMARY KEY, v int);
    CREATE TABLE moments (at timestamptz PRIMARY KEY, v int);
    CREATE TABLE blobs (k bytea PRIMARY KEY, v int);
    SELECT cachekit.attach(t) FROM unnest('{users,lines,words,things,moments,blobs}'::regclass[]) AS t;
    SELECT cachekit.stat_reset()""")
b.execute("SET search_path = psycopg2_client; SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'")

# --- one document, and its types in Python ---

ada = {"id": 1, "name": "Ada", "born": "1815-12-10", "balance": 1.5}
is_(value(a, "SELECT cachekit.fetch(%s, %s)", ("users", 1)), ada, "a document is a dict")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (1,)), ada, "by int")
is_(value(a, "SELECT cachekit.fetch('users', %s)", ("1",)), ada, "by str")
is_(value(a, "SELECT cachekit.fetch('users', %s)", ("01",)), ada, "by str with a zero")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (decimal.Decimal("1.0"),)), ada, "by Decimal")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (1.0,)), ada, "by float")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (True,)), ada, "by bool")
is_(value(a, "SELECT cachekit.fetch('users', %(k)s, %(s)s)", {"k": 1, "s": "bypass"}), ada, "with a strategy")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (None,)), None, "by None")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (5,)), None, "no such row")
is_(value(a, "SELECT cachekit.key('users', %s)", ("042",)), first.info.dbname + ":users:42", "its cache key")
fails(a, "22P02", "a number with a fraction is no key", "SELECT cachekit.fetch('users', %s)", (1.4,))
fails(a, "22P02", "a word is no key", "SELECT cachekit.fetch('users', %s)", ("one",))
fails(a, "22003", "a number that is too large", "SELECT cachekit.fetch('users', %s)", (2**40,))
fails(a, "42846", "a date is no key", "SELECT cachekit.fetch('users', %s)", (datetime.date.today(),))
fails(a, "22023", "an unknown strategy", "SELECT cachekit.fetch('users', %s, %s)", (1, "x"))
fails(a, "42P01", "an unknown table", "SELECT cachekit.fetch(%s, %s)", ("nothing", 1))

a.execute("SELECT local_hits, misses FROM cachekit.stat_entities WHERE name = 'users'")
is_(a.fetchone(), (6, 2), "all but the first were answered by the cache")

# --- rows and several documents ---

a.execute("SELECT * FROM cachekit.fetch_row(NULL::users, %s)", (1,))
is_(a.fetchone(), (1, "Ada", datetime.date(1815, 12, 10), decimal.Decimal("1.50")), "a row has the types of its table")
a.execute("SELECT * FROM cachekit.fetch_row(NULL::users, %s)", (5,))
is_(a.fetchone(), (None, None, None, None), "or none")
a.execute("SELECT * FROM cachekit.fetch_many('users', %s)", ([42, 5, 1],))
is_([(k, d and d["name"]) for k, d in a.fetchall()], [("42", "Bob"), ("5", None), ("1", "Ada")], "many, by a list of int")
a.execute("SELECT * FROM cachekit.fetch_many('users', %s)", (["042", None],))
is_([(k, d and d["name"]) for k, d in a.fetchall()], [("42", "Bob"), (None, None)], "many, by a list of str")
a.execute("SELECT * FROM cachekit.fetch_many('users', %s)", ([],))
is_(a.fetchall(), [], "none, by an empty list")

# --- keys of several columns: a tuple is a row ---

milk = {"order_id": 7, "n": 3, "what": "milk"}
is_(value(a, "SELECT cachekit.fetch('lines', %s)", ((7, 3),)), milk, "by a tuple of int")
is_(value(a, "SELECT cachekit.fetch('lines', %s)", ("(7,3)",)), milk, "by the text of a row")
is_(value(a, "SELECT cachekit.fetch('lines', (%s, %s))", (7, 3)), milk, "by two parameters")
is_(value(a, "SELECT cachekit.fetch('lines', %s)", (("7", "3"),)), milk, "by a tuple of str")
is_(value(a, "SELECT cachekit.fetch('words', %s)", (("it's", "(1,2)"),)), {"a": "it's", "b": "(1,2)", "v": 1}, "by words that need quotes")
is_(value(a, "SELECT cachekit.fetch('lines', %s)", ((7, None),)), None, "by a tuple with None")
fails(a, "22023", "a tuple that is too short", "SELECT cachekit.fetch('lines', %s)", ((7,),))
a.execute("SELECT * FROM cachekit.fetch_many('lines', %s)", ([(7, 3), (7, 9)],))
is_(a.fetchall(), [("(7,3)", milk), ("(7,9)", None)], "many, by a list of tuples")

# --- keys of other types ---

u = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
a.execute("INSERT INTO things VALUES (%s, 1)", (u,))
is_(value(a, "SELECT cachekit.fetch('things', %s)", (u,)), {"u": str(u), "v": 1}, "by UUID")
at = datetime.datetime(2024, 7, 1, 12, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
a.execute("INSERT INTO moments VALUES (%s, 1)", (at,))
moment = {"at": "2024-07-01T10:00:00+00:00", "v": 1}
is_(value(a, "SELECT cachekit.fetch('moments', %s)", (at,)), moment, "by datetime")
is_(value(b, "SELECT cachekit.fetch('moments', %s)", (at,)), moment, "in a session in another time zone")
is_(value(b, "SELECT cachekit.fetch('moments', %s)", ("2024-07-01 15:45",)), moment, "by its own time")
b.execute("UPDATE moments SET v = 2")
is_(value(a, "SELECT cachekit.fetch('moments', %s)", (at,)), {**moment, "v": 2}, "changed from there")
a.execute("INSERT INTO blobs VALUES (%s, 1)", (b"\x00\xff%_'",))
is_(value(a, "SELECT cachekit.fetch('blobs', %s)", (b"\x00\xff%_'",)), {"k": "\\x00ff255f27", "v": 1}, "by bytes")

# --- two sessions: transactions as a program makes them ---

first.autocommit = second.autocommit = False
is_(value(b, "SELECT cachekit.fetch('users', 42)")["name"], "Bob", "the second session has it cached")
second.commit()
a.execute("UPDATE users SET name = %s WHERE id = 42", ("Robert",))
is_(value(a, "SELECT cachekit.fetch('users', 42)")["name"], "Robert", "the first one sees its own change")
is_(value(b, "SELECT cachekit.fetch('users', 42)")["name"], "Bob", "the second does not, yet")
first.commit()
is_(value(b, "SELECT cachekit.fetch('users', 42)")["name"], "Robert", "after the commit it does, in the same transaction")
second.commit()
a.execute("UPDATE users SET name = 'never' WHERE id = 42")
is_(value(a, "SELECT cachekit.fetch('users', 42)")["name"], "never", "a change that will be rolled back")
first.rollback()
is_(value(a, "SELECT cachekit.fetch('users', 42)")["name"], "Robert", "is not there afterwards")
is_(value(b, "SELECT cachekit.fetch('users', 42)")["name"], "Robert", "nor for others")
first.commit()
second.commit()
first.set_session(isolation_level="REPEATABLE READ")
is_(value(a, "SELECT cachekit.fetch('users', 42)")["name"], "Robert", "a snapshot is taken")
b.execute("UPDATE users SET name = 'Bobby' WHERE id = 42")
second.commit()
is_(value(a, "SELECT cachekit.fetch('users', 42)")["name"], "Robert", "and kept")
first.commit()
is_(value(a, "SELECT cachekit.fetch('users', 42)")["name"], "Bobby", "until the transaction ends")
first.commit()

# --- prepared statements and cursors ---

first.set_session(isolation_level="DEFAULT", autocommit=True)
a.execute("PREPARE by_id AS SELECT cachekit.fetch('users', $1)")
for key in (42, "42", "042"):
    is_(value(a, "EXECUTE by_id(%s)", (key,))["name"], "Bobby", f"prepared, by {key!r}")
first.autocommit = False
with first.cursor("named") as named:
    named.itersize = 1
    named.execute("SELECT cachekit.fetch('users', id) FROM users ORDER BY id")
    is_([d["id"] for d, in named], [1, 42], "a cursor of the server")
first.commit()
a.execute("SELECT cachekit.fetch('users', %s)", (1,))
second.autocommit = True
b.execute("UPDATE users SET name = 'Augusta' WHERE id = 1")
is_(value(a, "SELECT cachekit.fetch('users', %s)", (1,))["name"], "Augusta", "the newest one in a transaction that is open")
first.commit()

a.execute("DROP SCHEMA psycopg2_client CASCADE")
first.commit()
print(f"1..{count}")
