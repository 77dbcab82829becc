# Makefile of cachekit
#
#   make                    the release build (needs PostgreSQL's server headers and PGXS)
#   make CACHEKIT_DEBUG=1   assertions, and the settings by which tests switch guards off
#   make SANITIZE=1         AddressSanitizer and UndefinedBehaviorSanitizer; start the server with
#                           ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
#   make install            PG_CONFIG=/path/to/pg_config chooses the PostgreSQL to install into
#   make installcheck       pg_regress, isolation and TAP tests of what is installed (not as root)
#   make check              every suite, with everything installed that it needs: see test/check
#   make torture            the history checker while faults are injected, for ten minutes, or as
#                           TORTURE='--seconds 3600 --seed 7' says: see test/torture/README.md
#   make model              the large instances of the protocol's models: see test/model
#   make demo, make bench   a short tour; the measurements
#
# The goals of the last four entries need no PostgreSQL at all to begin with, so they must not
# depend on PGXS being there (and PGXS's own "check" would print "not supported" and succeed).

OWN_GOALS = check torture model demo bench help

ifneq (,$(filter $(OWN_GOALS),$(MAKECMDGOALS)))

ifneq (,$(filter-out $(OWN_GOALS),$(MAKECMDGOALS)))
$(error "$(filter $(OWN_GOALS),$(MAKECMDGOALS))" cannot be combined with other goals)
endif

.PHONY: $(OWN_GOALS)
check:
	sh test/check
torture:
	sh test/torture/run $(TORTURE)
demo:
	sh test/demo
bench:
	sh test/bench/run
model:
	sh test/model/run --large
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

else

EXTENSION = cachekit
MODULE_big = cachekit
DATA = cachekit--1.0.sql
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

PG_CPPFLAGS = -I$(srcdir)/src
# What is not wanted here is what PostgreSQL's own headers trip; the last one does so without -O2.
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -Wno-error=clobbered \
	-fvisibility=hidden

# TLS comes with hiredis 1.0, in a library of its own. For a hiredis elsewhere than where the
# compiler looks: make HIREDIS_CFLAGS=-I... HIREDIS_LIBS='-L... -lhiredis'
HIREDIS_LIBS ?= -lhiredis $(if $(HIREDIS_HAS_TLS),-lhiredis_ssl)
HIREDIS_HAS_TLS := $(shell $(CC) $(HIREDIS_CFLAGS) -E -include hiredis/hiredis_ssl.h -x c \
	/dev/null >/dev/null 2>&1 && echo yes)
PG_CPPFLAGS += $(HIREDIS_CFLAGS) $(if $(HIREDIS_HAS_TLS),-DHAVE_HIREDIS_SSL)
SHLIB_LINK += $(HIREDIS_LIBS) -lmemcached

ifdef CACHEKIT_DEBUG
PG_CPPFLAGS += -DCACHEKIT_DEBUG -DUSE_ASSERT_CHECKING
endif
ifdef SANITIZE
# Not the stack: errors jump out of our frames without the sanitizer seeing it, in a server that was
# built without one.
SANITIZE_FLAGS = -fsanitize=address,undefined --param=asan-stack=0 \
	-fno-sanitize-recover=undefined -fno-omit-frame-pointer
PG_CFLAGS += $(SANITIZE_FLAGS)
SHLIB_LINK += $(SANITIZE_FLAGS)
endif

# Tests: test/check says how it runs them; these settings are for "make installcheck".
REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --inputdir=. --temp-instance=./tmp_regress --temp-config=test/cachekit.conf
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=output_iso \
	--temp-instance=./tmp_iso --temp-config=test/cachekit.conf
TAP_TESTS = 1
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))
PROVE_FLAGS = -I test/perl

EXTRA_CLEAN = .flavour tmp_regress tmp_iso tmp_check tmp_check_iso results log output_iso \
	regression.diffs regression.out

# No bitcode: inlining these functions into queries gains nothing, and it would need clang.
override with_llvm := no

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Since 16, the folder of the expected files is an option of its own.
ifneq (15,$(MAJORVERSION))
ISOLATION_OPTS += --expecteddir=test
endif

# Objects are made anew when a header, this file or the flavour of the build changes. The flavour
# is compared on every run, but the file is written, and so newer, only when it differs.
FLAVOUR = PostgreSQL $(VERSION) debug=$(CACHEKIT_DEBUG) sanitize=$(SANITIZE)

$(OBJS): $(sort $(wildcard src/*.h)) Makefile .flavour

.flavour: FORCE
	@echo '$(FLAVOUR)' | cmp -s - $@ || echo '$(FLAVOUR)' > $@

.PHONY: FORCE
FORCE:

endif
