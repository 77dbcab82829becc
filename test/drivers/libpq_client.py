"""A program that talks to libpq as most drivers do: parameters apart from the statement, with or
without types, as text or binary, in statements that are prepared or not.

Prints TAP. The database is the one that the PG* variables of the environment lead to.
"""

import ctypes
import json
import struct

pq = ctypes.CDLL("libpq.so.5")
for name, result, arguments in (
    ("PQconnectdb", ctypes.c_void_p, [ctypes.c_char_p]),
    ("PQstatus", ctypes.c_int, [ctypes.c_void_p]),
    ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p]),
    ("PQdb", ctypes.c_char_p, [ctypes.c_void_p]),
    ("PQexec", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    ("PQexecParams", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int] + [ctypes.c_void_p] * 4 + [ctypes.c_int]),
    ("PQprepare", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]),
    ("PQexecPrepared", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int] + [ctypes.c_void_p] * 3 + [ctypes.c_int]),
    ("PQdescribePrepared", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    ("PQresultStatus", ctypes.c_int, [ctypes.c_void_p]),
    ("PQresultErrorField", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int]),
    ("PQntuples", ctypes.c_int, [ctypes.c_void_p]),
    ("PQnfields", ctypes.c_int, [ctypes.c_void_p]),
    ("PQgetisnull", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
    ("PQgetvalue", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
    ("PQgetlength", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
    ("PQparamtype", ctypes.c_uint, [ctypes.c_void_p, ctypes.c_int]),
    ("PQclear", None, [ctypes.c_void_p]),
    ("PQfinish", None, [ctypes.c_void_p]),
):
    function = getattr(pq, name)
    function.restype, function.argtypes = result, arguments

SQLSTATE = ord("C")
INT2, INT4, INT8, TEXT, NUMERIC, FLOAT8, VARCHAR, UNKNOWN, REGCLASS = 21, 23, 20, 25, 1700, 701, 1043, 705, 2205
INT4_ARRAY, TEXT_ARRAY = 1007, 1009
count = 0


def ok(good, what, have=None, want=None):
    global count
    count += 1
    print(f"{'' if good else 'not '}ok {count} - {what}")
    if not good:
        print(f"#   have: {have!r}\n#   want: {want!r}")


def is_(have, want, what):
    ok(have == want, what, have, want)


def rows(result):
    """The rows of a result as lists of bytes, or the SQLSTATE of an error."""
    status = pq.PQresultStatus(result)
    if status == 7:
        answer = pq.PQresultErrorField(result, SQLSTATE).decode()
    else:
        columns = range(pq.PQnfields(result))
        answer = [
            [None if pq.PQgetisnull(result, r, c) else
             ctypes.string_at(pq.PQgetvalue(result, r, c), pq.PQgetlength(result, r, c)) for c in columns]
            for r in range(pq.PQntuples(result))]
    pq.PQclear(result)
    return answer


def arrays(parameters):
    """values, types, lengths and formats of parameters: bytes or None, or (bytes, type[, is binary])."""
    parameters = [p if isinstance(p, tuple) else (p, 0) for p in parameters]
    n = len(parameters)
    return (n,
            (ctypes.c_char_p * n)(*[p[0] for p in parameters]),
            (ctypes.c_uint * n)(*[p[1] for p in parameters]),
            (ctypes.c_int * n)(*[len(p[0] or b"") for p in parameters]),
            (ctypes.c_int * n)(*[int(len(p) > 2 and p[2]) for p in parameters]))


class Session:
    def __init__(self):
        self.connection = pq.PQconnectdb(b"")
        if pq.PQstatus(self.connection) != 0:
            raise SystemExit(pq.PQerrorMessage(self.connection).decode())

    def run(self, script):
        """Any number of statements, without parameters; raises for an error."""
        answer = rows(pq.PQexec(self.connection, script.encode()))
        if isinstance(answer, str):
            raise SystemExit(f"{script}: {pq.PQerrorMessage(self.connection).decode()}")
        return answer

    def query(self, statement, *parameters, types=True, binary=False):
        n, values, oids, lengths, formats = arrays(parameters)
        return rows(pq.PQexecParams(self.connection, statement.encode(), n, oids if types else None,
                                    values, lengths, formats, int(binary)))

    def prepare(self, name, statement, *types):
        result = pq.PQprepare(self.connection, name.encode(), statement.encode(), len(types),
                              (ctypes.c_uint * len(types))(*types) if types else None)
        return rows(result)

    def execute(self, name, *parameters, binary=False):
        n, values, _, lengths, formats = arrays(parameters)
        return rows(pq.PQexecPrepared(self.connection, name.encode(), n, values, lengths, formats, int(binary)))

    def parameter_types(self, name, n):
        result = pq.PQdescribePrepared(self.connection, name.encode())
        types = [pq.PQparamtype(result, i) for i in range(n)]
        pq.PQclear(result)
        return types

    def document(self, *arguments, **keywords):
        """The one value of a query, as Python has it; or the SQLSTATE."""
        answer = self.query(*arguments, **keywords)
        return answer if isinstance(answer, str) else answer[0][0] and json.loads(answer[0][0])


a, b = Session(), Session()
a.run("""
    SET client_min_messages = warning;
    DROP SCHEMA IF EXISTS libpq_client CASCADE;
    CREATE SCHEMA libpq_client;
    SET search_path = libpq_client;
    CREATE TABLE users (id int PRIMARY KEY, name text);
    INSERT INTO users VALUES (1, 'Ada'), (42, 'Bob');
    CREATE TABLE lines (order_id int, n int, what text, PRIMARY KEY (order_id, n));
    INSERT INTO lines VALUES (7, 2, 'tea'), (7, 3, 'milk');
    SELECT cachekit.attach('users');
    SELECT cachekit.attach('lines');""")
b.run("SET search_path = libpq_client")
bob = {"id": 42, "name": "Bob"}

# --- parameters without a type: what most drivers send for a string, and some for everything ---

for how, types in (("no types at all", False), ("type 0", True)):
    is_(a.document("SELECT cachekit.fetch('users', $1)", b"42", types=types), bob, f"fetch, {how}")
    is_(a.document("SELECT cachekit.fetch($1, $2)", b"users", b"042", types=types), bob, f"the entity, too, {how}")
    is_(a.document("SELECT cachekit.fetch($1, $2, $3)", b"users", b"42", b"bypass", types=types), bob, f"the strategy, too, {how}")
    is_(a.document("SELECT cachekit.fetch('users', $1)", None, types=types), None, f"NULL, {how}")
    is_(a.document("SELECT cachekit.fetch('users', $1)", b"x", types=types), "22P02", f"not a number, {how}")
    is_(a.query("SELECT * FROM cachekit.fetch_row(NULL::users, $1)", b"42", types=types), [[b"42", b"Bob"]], f"fetch_row, {how}")
    is_([k for k, _ in a.query("SELECT * FROM cachekit.fetch_many('users', $1)", b"{42,5}", types=types)], [b"42", b"5"], f"fetch_many, {how}")
    is_(a.query("SELECT cachekit.key('users', $1)", b"42", types=types), [[pq.PQdb(a.connection) + b":users:42"]], f"key, {how}")
    is_(a.query("SELECT tier, present FROM cachekit.inspect('users', $1)", b"42", types=types), [[b"local", b"t"]], f"inspect, {how}")
    is_(a.document("SELECT cachekit.fetch('lines', $1)", b"(7,3)", types=types)["what"], "milk", f"the text of a row, {how}")
    is_(a.query("SELECT cachekit.invalidate('users', $1)", b"42", types=types), [[b""]], f"invalidate, {how}")
    is_(a.query("SELECT cachekit.flush($1)", b"users", types=types), [[b""]], f"flush, {how}")

# --- with a type, as text and binary ---

for what, parameter in (
    ("int4", (b"42", INT4)), ("int8", (b"42", INT8)), ("int2", (b"42", INT2)), ("text", (b"042", TEXT)),
    ("varchar", (b"42", VARCHAR)), ("numeric", (b"42.0", NUMERIC)), ("float8", (b"42", FLOAT8)), ("unknown", (b"42", UNKNOWN)),
    ("binary int4", (struct.pack("!i", 42), INT4, True)), ("binary int8", (struct.pack("!q", 42), INT8, True)),
    ("binary int2", (struct.pack("!h", 42), INT2, True)), ("binary float8", (struct.pack("!d", 42.0), FLOAT8, True)),
    ("binary text", (b"42", TEXT, True)), ("binary without a type", (b"42", 0, True)),
):
    is_(a.document("SELECT cachekit.fetch('users', $1)", parameter), bob, f"fetch by {what}")
is_(a.document("SELECT cachekit.fetch('users', $1)", (struct.pack("!d", 42.5), FLOAT8, True)), "22P02", "a fraction, binary")
is_(a.document("SELECT cachekit.fetch('users', $1)", (struct.pack("!q", 2**40), INT8, True)), "22003", "too large, binary")
is_([k for k, _ in a.query("SELECT * FROM cachekit.fetch_many('users', $1)", (b"{42,1}", INT4_ARRAY))], [b"42", b"1"], "fetch_many by int4[]")
is_([k for k, _ in a.query("SELECT * FROM cachekit.fetch_many('users', $1)", (b"{042}", TEXT_ARRAY))], [b"42"], "fetch_many by text[]")
two = struct.pack("!iiiii", 1, 0, INT4, 2, 1) + struct.pack("!iiii", 4, 42, 4, 1)
is_([k for k, _ in a.query("SELECT * FROM cachekit.fetch_many('users', $1)", (two, INT4_ARRAY, True))], [b"42", b"1"], "fetch_many by binary int4[]")
is_(a.document("SELECT cachekit.fetch('lines', ($1, $2))", (b"7", INT4), (b"3", INT4))["what"], "milk", "a row of two parameters")
is_(a.document("SELECT cachekit.fetch('lines', ($1::int, $2::int))", b"7", b"3")["what"], "milk", "a row of two casts")

# --- prepared: what the server says about the parameters, and one plan for many calls ---

is_(a.prepare("by_id", "SELECT cachekit.fetch('users', $1)"), [], "prepare without types")
is_(a.parameter_types("by_id", 1), [TEXT], "the parameter is text")
for key in (b"42", b"042", b" 42"):
    is_(json.loads(a.execute("by_id", key)[0][0]), bob, f"prepared, by {key!r}")
is_(a.execute("by_id", None), [[None]], "prepared, by NULL")
is_(a.execute("by_id", b"5"), [[None]], "prepared, no such row")
is_(a.execute("by_id", b"x"), "22P02", "prepared, not a number")
is_(a.execute("by_id", b"42", binary=True), [[b"\x01" + json.dumps(bob).encode()]], "a document in binary form")
is_(a.prepare("by_both", "SELECT cachekit.fetch($1, $2)"), [], "prepare with the entity")
is_(a.parameter_types("by_both", 2), [REGCLASS, TEXT], "its types")
is_(json.loads(a.execute("by_both", b"users", b"42")[0][0]), bob, "prepared, with the entity")
is_(json.loads(a.execute("by_both", b"lines", b"(7,2)")[0][0])["what"], "tea", "and another one by the same plan")
is_(a.prepare("by_int", "SELECT cachekit.fetch('users', $1)", INT4), [], "prepare with a type")
is_(json.loads(a.execute("by_int", (struct.pack("!i", 42), INT4, True))[0][0]), bob, "prepared, binary")
is_(a.prepare("row_by_id", "SELECT * FROM cachekit.fetch_row(NULL::users, $1)"), [], "prepare a row")
is_(a.execute("row_by_id", b"42"), [[b"42", b"Bob"]], "a row")
is_(a.execute("row_by_id", b"42", binary=True), [[struct.pack("!i", 42), b"Bob"]], "a row in binary form")

# --- another session changes what the plans read ---

for i in range(10):
    b.query("UPDATE users SET name = $1 WHERE id = 42", b"Bob %d" % i)
    have = (json.loads(a.execute("by_id", b"42")[0][0])["name"], json.loads(a.execute("by_int", (struct.pack("!i", 42), INT4, True))[0][0])["name"],
            a.execute("row_by_id", b"42")[0][1].decode(), a.document("SELECT cachekit.fetch('users', $1)", b"42")["name"])
    is_(have, (f"Bob {i}",) * 4, f"change {i} is seen by every plan")
b.run("ALTER TABLE users ADD COLUMN more int DEFAULT 7")
is_(json.loads(a.execute("by_id", b"42")[0][0]), {"id": 42, "more": 7, "name": "Bob 9"}, "a new column is seen")
is_(a.execute("row_by_id", b"42"), [[b"42", b"Bob 9"]], "a plan keeps the columns that it was made with")
is_(a.query("SELECT * FROM cachekit.fetch_row(NULL::users, $1)", b"42"), [[b"42", b"Bob 9", b"7"]], "a new one has all")
b.run("ALTER TABLE users ALTER COLUMN id TYPE bigint")
is_(json.loads(a.execute("by_id", b"42")[0][0])["id"], 42, "a key column of another type")
is_(json.loads(a.execute("by_int", (struct.pack("!i", 42), INT4, True))[0][0])["id"], 42, "by the plan for the old one")
b.query("DELETE FROM users WHERE id = $1", b"42")
is_(a.execute("by_id", b"42"), [[None]], "a deleted row is gone")

a.run("DROP SCHEMA libpq_client CASCADE")
for session in (a, b):
    pq.PQfinish(session.connection)
print(f"1..{count}")
