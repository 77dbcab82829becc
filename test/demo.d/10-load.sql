-- The data: ISO 3166, the countries of the world and their subdivisions, from Debian's iso-codes.

\echo
\echo '=== 1. Two ordinary tables: the countries of the world and their subdivisions'

CREATE TABLE countries (
	code text PRIMARY KEY,		-- alpha-2
	alpha_3 text NOT NULL,
	"numeric" text NOT NULL,
	name text NOT NULL,
	official_name text,
	flag text
);

CREATE TABLE subdivisions (
	code text PRIMARY KEY,
	country text NOT NULL REFERENCES countries,
	name text NOT NULL,
	type text NOT NULL,
	parent text
);

INSERT INTO countries
SELECT c.alpha_2, c.alpha_3, c."numeric", c.name, c.official_name, c.flag
FROM jsonb_to_recordset(
		pg_read_file('/usr/share/iso-codes/json/iso_3166-1.json')::jsonb -> '3166-1')
	AS c(alpha_2 text, alpha_3 text, "numeric" text, name text, official_name text, flag text);

INSERT INTO subdivisions
SELECT s.code, split_part(s.code, '-', 1), s.name, s.type, s.parent
FROM jsonb_to_recordset(
		pg_read_file('/usr/share/iso-codes/json/iso_3166-2.json')::jsonb -> '3166-2')
	AS s(code text, name text, type text, parent text);

ANALYZE countries, subdivisions;

SELECT count(*) AS countries, (SELECT count(*) FROM subdivisions) AS subdivisions FROM countries;

SELECT demo.expect('countries are loaded', (count(*) > 200)::text, 'true') AS ok FROM countries \gset
SELECT demo.expect('subdivisions are loaded', (count(*) > 4000)::text, 'true') AS ok
FROM subdivisions \gset
