# build.sh - builds of cachekit, each from a copy of the checkout
#
# Sourced by test/check and test/demo, after common.sh.
#
#   $work/tree            the checkout, without products of other builds
#   $work/build/FLAVOUR   where a flavour is built: release, debug or sanitize
#   $work/inst/FLAVOUR    where it is installed, as by DESTDIR
#   $work/FLAVOUR.conf    the settings by which a server uses that one
#
# Servers find an extension below another root by two settings: extension_destdir, which Debian's
# PostgreSQL has, and dynamic_library_path for what is preloaded. So tests neither need root nor
# disturb what is installed, and several runs do not disturb each other.

# copy_tree: makes $work/tree, readable to the test user.
copy_tree()
{
	mkdir "$work/tree" "$work/build" "$work/inst"
	tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=./.flavour --exclude='./tmp_*' --exclude=./results --exclude=./output_iso \
		-cf "$work/tree.tar" . &&
		tar -C "$work/tree" --no-same-owner -xf "$work/tree.tar" &&
		chmod -R u+w,go-w,a+rX "$work/tree" ||
		fail "could not copy $top"
	rm -f "$work/tree.tar"
	cd "$work/tree" || exit 1
}

# build_flavour FLAVOUR: builds and installs it below $work/inst. False when that fails; the log
# is then in $logs/build-FLAVOUR.
build_flavour()
{
	case $1 in
		release) set -- "$1" ;;
		debug) set -- "$1" CACHEKIT_DEBUG=1 ;;
		sanitize) set -- "$1" CACHEKIT_DEBUG=1 SANITIZE=1 ;;
	esac
	flavour=$1
	shift
	cp -R "$work/tree" "$work/build/$flavour" &&
		make_flavour "$flavour" -j2 all "$@" &&
		make_flavour "$flavour" install DESTDIR="$work/inst/$flavour" "$@" || return 1
	# a later version, for the test of ALTER EXTENSION UPDATE
	[ "$flavour" = release ] || cp "$work/tree/test/lib/later.sql" \
		"$(dirname "$(find "$work/inst/$flavour" -name cachekit.control)")/cachekit--1.0--later.sql"

	root=$work/inst/$flavour
	cat >"$work/$flavour.conf" <<-END
		extension_destdir = '$root'
		dynamic_library_path = '$root$("$PG_CONFIG" --pkglibdir):\$libdir'
	END
	# The same with the settings of the test servers.
	cat "$work/tree/test/cachekit.conf" "$work/$flavour.conf" >"$work/$flavour-server.conf"
}

# make_flavour FLAVOUR ARGUMENT...: make in its folder, output to its log.
make_flavour()
{
	flavour=$1
	shift
	make -C "$work/build/$flavour" PG_CONFIG="$PG_CONFIG" "$@" >>"$logs/build-$flavour" 2>&1
}

# install_release: puts the release build, built before, where PostgreSQL looks for extensions.
install_release()
{
	need_root "the installation of the extension"
	$SUDO make -C "$work/build/release" PG_CONFIG="$PG_CONFIG" install \
		>>"$logs/build-release" 2>&1
}
