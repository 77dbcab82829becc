# packages.sh - the Debian packages that building and testing need
#
# Sourced by test/check and test/demo, after common.sh.

packages="make gcc libc6-dev perl
	postgresql-$PG_MAJOR postgresql-client-$PG_MAJOR postgresql-server-dev-$PG_MAJOR
	libpq-dev libhiredis-dev libmemcached-dev
	redis-server redis-tools memcached
	postgresql-$PG_MAJOR-pgtap libtap-parser-sourcehandler-pgtap-perl libipc-run-perl
	python3 python3-psycopg2 python3-pylibmc iso-codes jq"

# missing_packages: prints those of $packages that are not installed.
missing_packages()
{
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
		sed -n 's/^installed //p')
	for package in $packages; do
		printf '%s\n' "$installed" | grep -qxF "$package" || printf '%s ' "$package"
	done
}

# install_packages: installs them. Asks for nothing, and for root only when one is missing.
install_packages()
{
	command -v dpkg-query >/dev/null || fail "this needs Debian or a system made from it"
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0
	need_root "the installation of packages"
	say "installing packages: $missing"
	log=$(mktemp)
	if ! $SUDO sh "$top/test/lib/apt-install" $missing >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		rm -f "$log"
		fail "could not install the packages"
	fi
	rm -f "$log"
	missing=$(missing_packages)
	[ -z "$missing" ] || fail "could not install: $missing"
}
