# build.sh - builds the fuzz targets and runs them
#
# Sourced by test/fuzz/run and by test/check, after test/lib/common.sh.

fuzz_targets="record marker key document options settings redis memcached answer"

# Of other files, these have stand-ins in target_answer.c.
fuzz_wrapped="request_take_read request_answer sender_named sender_fault sender_fault_changed
	feed_position flush_is_pending refresh_is_pending pool_has_room server_is_readable
	server_count stats_latency_bucket"

fuzz_warnings="-Wall -Wextra -Wno-unused-parameter -Wno-sign-compare
	-Wno-missing-field-initializers -Wno-cast-function-type -Wno-clobbered"

# hiredis_flags: the flags by which the Makefile finds out whether hiredis can do TLS.
hiredis_flags()
{
	if echo | gcc -E -include hiredis/hiredis_ssl.h -x c - >/dev/null 2>&1; then
		echo "-DHAVE_HIREDIS_SSL -lhiredis_ssl"
	else
		echo " "
	fi
}

# fuzz_flags TREE: those of every compilation.
fuzz_flags()
{
	echo "-g -O1 -std=gnu99 -fPIC -fvisibility=hidden -fno-strict-aliasing -fwrapv
		-fno-omit-frame-pointer -D_GNU_SOURCE -DCACHEKIT_DEBUG -DUSE_ASSERT_CHECKING
		-DRECORD_MAX_BYTES=4096
		$fuzz_warnings ${tls% *} -I$1/src -I$1/test/fuzz -I$("$PG_CONFIG" --includedir-server)"
}

# link_fuzz CC OUT FLAG...: the objects in $objects. Symbolic, because the sanitizer's library has
# weak functions of the same names as libFuzzer's.
link_fuzz()
{
	cc=$1 out=$2
	shift 2
	"$cc" -shared -Wl,-Bsymbolic $(printf -- '-Wl,--wrap=%s ' $fuzz_wrapped) -o "$out" "$@" $objects -lhiredis ${tls#* } -lmemcached $fuzz_libs
}

# compile_fuzz CC TREE OUT FLAG...: all sources of TREE and the targets, into the library OUT. One
# library, because what a target calls calls other files, up to all of them.
compile_fuzz()
{
	cc=$1 tree=$2 out=$3
	shift 3
	mkdir -p "$out.d" || return
	tls=$(hiredis_flags)
	for source in "$tree"/src/*.c "$tree"/test/fuzz/*.c; do
		case $source in
			*/replay.c) [ "$cc" = gcc ] || continue ;;
			*/libfuzzer.c) [ "$cc" = clang ] || continue ;;
		esac
		printf '%s\n' "$source"
	done | xargs -P 2 -I{} sh -c 'source=$1 to=$2 && shift 2 &&
		"$@" -c -o "$to/$(basename "$source" .c).o" "$source"' \
		sh {} "$out.d" "$cc" $(fuzz_flags "$tree") "$@" || return
	objects=$(printf '%s ' "$out.d"/*.o)
	link_fuzz "$cc" "$out" "$@"
}

# relink_fuzz CC TREE LIBRARY OUT SOURCE FLAG...: what compile_fuzz has made, with one source of
# the extension replaced.
relink_fuzz()
{
	cc=$1 tree=$2 library=$3 out=$4 source=$5
	shift 5
	name=$(basename "$source" .c).o
	tls=$(hiredis_flags)
	"$cc" $(fuzz_flags "$tree") "$@" -c -o "$out.o" "$source" || return
	objects="$out.o $(printf ' %s ' "$library.d"/*.o | sed "s, [^ ]*/$name , ,")"
	link_fuzz "$cc" "$out" "$@"
}

# run_fuzz PRELOAD TARGET ARGUMENT...: one target, in the server's program.
run_fuzz()
{
	preload=$1 name=$2
	shift 2
	cat >"$fuzz_folder/again" <<-END
		#!/bin/sh
		LD_PRELOAD=$preload exec "$pg_bin/postgres" "\$@"
	END
	chmod +x "$fuzz_folder/again"
	env LD_PRELOAD="$preload" FUZZ_TARGET="$name" FUZZ_COMMAND="$fuzz_folder/again" \
		FUZZ_SOCKET="$fuzz_folder/$name.sock" \
		FUZZ_LAST="$fuzz_folder/$name.last" \
		ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0:allocator_may_return_null=1 \
		UBSAN_OPTIONS=print_stacktrace=1 \
		"$pg_bin/postgres" "$@"
}
