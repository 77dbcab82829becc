# packages.sh - the Debian packages that building and testing need
#
# Sourced by test/check and test/demo, after common.sh.

packages="make gcc libc6-dev perl
	postgresql-$PG_MAJOR postgresql-client-$PG_MAJOR postgresql-server-dev-$PG_MAJOR
	libpq-dev libhiredis-dev libmemcached-dev
	redis-server redis-tools memcached
	postgresql-$PG_MAJOR-pgtap libtap-parser-sourcehandler-pgtap-perl libipc-run-perl
	python3 python3-psycopg2 python3-pylibmc iso-codes jq spin"

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

# unpack_package PACKAGE FOLDER: downloads a package that is not to be installed, and unpacks it into
# a new folder below $run. When that fails: false, with the reason on stderr. The lists of packages
# may be missing or old; updating them needs root, a download does not.
unpack_package()
{
	as_user mkdir "$2" "$2.deb" || return
	try=1
	until (cd "$2.deb" && as_user timeout 60 apt-get -q download "$1") >"$logs/download-$1" 2>&1; do
		if [ "$try" = 5 ]; then
			tail -n 20 "$logs/download-$1" >&2
			say "could not download the package \"$1\", which a test unpacks (it is not installed)" >&2
			return 1
		fi
		[ "$try" -gt 2 ] ||
			$SUDO apt-get -q -o DPkg::Lock::Timeout=60 update >>"$logs/download-$1" 2>&1
		sleep "$try"
		try=$((try + 1))
	done
	for file in "$2.deb"/*.deb; do
		as_user dpkg-deb -x "$file" "$2" || {
			say "could not unpack $file" >&2
			return 1
		}
	done
}
