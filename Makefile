# acme-micro: `make` lists what there is to make.
#
# Variables: PREFIX LIBDIR INCLUDEDIR MANDIR DESTDIR for install; CC CFLAGS CXX CXXFLAGS CPPFLAGS LDFLAGS
# WERROR for the C and C++ programs; CARGOFLAGS (such as --locked) for cargo. See docs/packaging.md.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
CFLAGS ?= -O2 -g
CXXFLAGS ?= -O2 -g
CARGOFLAGS ?=

VERSION := $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
# The version of the ABI, not of the crate: see docs/abi.md.
ABI := 1.0.0
SONAME := libacme-micro.so.1

# Cargo's names have an underscore, as a crate's name must; what we install has the hyphen.
STATIC := target/release/libacme_micro.a
# The shared library under its installed name, for programs linked in this tree, too.
STAGED := target/c/lib/$(SONAME)

C_COMPILE = $(CC) -std=c99 -Wall -Wextra -Wpedantic $(WERROR) $(CPPFLAGS) $(CFLAGS) -Iinclude
CXX_COMPILE = $(CXX) -std=c++17 -Wall -Wextra -Wpedantic -Wconversion -Wshadow $(WERROR) \
              $(CPPFLAGS) $(CXXFLAGS) -Iinclude
C_LINK = $(LDFLAGS) -Ltarget/c/lib -lacme-micro -Wl,-rpath,'$$ORIGIN/lib' -pthread
C_PROGRAMS := $(patsubst bindings/c-examples/%.c,target/c/%,$(wildcard bindings/c-examples/*.c)) \
              $(patsubst bindings/c-examples/%.cpp,target/c/%-cpp,$(wildcard bindings/c-examples/*.cpp)) \
              $(patsubst tests/capi/%.c,target/c/%,$(wildcard tests/capi/test_*.c)) \
              target/c/torture target/c/secrets

# Within tests/run-all the suites share one Pebble; run alone, a suite gets its own.
WITH_PEBBLE = $(if $(PEBBLE_MANAGEMENT),,python3 tests/pebble/with_pebble.py --)
PYTHON := target/venv/bin/python

# Whatever the user's environment says, the paths above are where cargo builds.
export CARGO_TARGET_DIR := $(CURDIR)/target

.DEFAULT_GOAL := help
# Cargo uses all cores by itself, and prerequisites are meant to be made from left to right.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup setup-bench demo test build c header check-header test-rust test-simulation test-c test-python \
        test-stepca test-slow test-wheel wheel test-crate audit test-install deb test-debian test-buildd test-docs docs man \
        test-fuzz fuzz coverage bench soak lint fetch install uninstall check-folders clean distclean FORCE

help: ## list what there is to make
	@echo 'acme-micro $(VERSION):'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What a fresh clone or a fresh machine has not; a moment when it has.
setup:
	@tests/setup test

demo: ## obtain a certificate from a test CA on this machine, by a C program
	@tests/setup demo
	@$(MAKE) --no-print-directory target/c/obtain
	@tests/demo

test: setup ## everything CI runs: lint, Rust, C and Python tests, beside a test CA
	@$(MAKE) --no-print-directory fetch build $(STEPCA_PROGRAMS)
	@python3 tests/pebble/with_pebble.py -- tests/run-all

build: $(STAGED) ## the shared and the static library

# No file of the build says in which folders it was made. Of two that fit, rustc takes the later.
REMAP_HERE := --remap-path-prefix=$(CURDIR)=/acme-micro
REMAP_CARGO := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
# RUSTFLAGS replaces what .cargo/config.toml says, --config adds to it.
CARGO_RELEASE = $(if $(RUSTFLAGS),RUSTFLAGS='$(RUSTFLAGS) $(REMAP_HERE) $(REMAP_CARGO)') \
    cargo rustc $(CARGOFLAGS) --config 'build.rustflags=["$(REMAP_HERE)", "$(REMAP_CARGO)"]' --release

# Always run, for only cargo knows what is out of date; but the file changes only when the library
# did, so nothing is linked again without need.
$(STATIC): FORCE
	$(CARGO_RELEASE) --lib --features capi --crate-type staticlib

target/c/symbols.map: abi/libacme-micro.symbols abi/version-script.awk
	@mkdir -p $(@D)
	sort -k2,2V -k1,1 $< | awk -f abi/version-script.awk >$@

OPENSSL_LIBS ?= $(shell pkg-config --libs openssl)
# It stays when it is unloaded, and relocations take a thirtieth of the room: see build.rs.
LOADING := -Wl,-z,relro,-z,now,-z,noexecstack,-z,nodelete \
    -Wl,-z,pack-relative-relocs,-z,noseparate-code

# The static library, linked: rustc gives a shared one no symbol versions. See docs/abi.md.
# Who wants to debug it says so to cargo; else there would be what Rust's own library has of that.
$(STAGED): $(STATIC) target/c/symbols.map Makefile
	@mkdir -p $(@D)
	$(CC) -shared -o $@ -Wl,-soname,$(SONAME) -Wl,--version-script=target/c/symbols.map $(LOADING) \
	    -Wl,--gc-sections,--as-needed,-z,defs $(if $(CARGO_PROFILE_RELEASE_DEBUG),,-Wl,--strip-debug) \
	    $(LDFLAGS) -Wl,--whole-archive $(STATIC) -Wl,--no-whole-archive $(OPENSSL_LIBS) -pthread -ldl -lm
	@ln -sf $(SONAME) $(@D)/libacme-micro.so

c: $(C_PROGRAMS) ## the C and C++ examples and the C test programs, in target/c

target/c/%: bindings/c-examples/%.c $(wildcard bindings/c-examples/*.h include/*.h) $(STAGED)
	$(C_COMPILE) $< -o $@ $(C_LINK) $(LDLIBS)

target/c/%-cpp: bindings/c-examples/%.cpp $(wildcard include/*) $(STAGED)
	$(CXX_COMPILE) $< -o $@ $(C_LINK) $(LDLIBS)

# The header of PKCS#11; the token's own library is loaded at run time.
target/c/pkcs11: CPPFLAGS += $(shell pkg-config --cflags p11-kit-1)
target/c/pkcs11: LDLIBS += -ldl
target/c/libuv: LDLIBS += $(shell pkg-config --libs libuv)
target/c/libevent-curl: LDLIBS += $(shell pkg-config --libs libevent libcurl)
target/c/epoll-openssl: LDLIBS += -lssl -lcrypto
target/c/https_server: LDLIBS += $(shell pkg-config --libs libevent_openssl libevent) -lssl -lcrypto
target/c/https_server-cpp: CPPFLAGS += $(shell pkg-config --cflags cpp-httplib)
target/c/https_server-cpp: LDLIBS += $(shell pkg-config --libs cpp-httplib) -lssl -lcrypto

# The library's header needs no OpenSSL; the tests' own TLS server does.
target/c/%: tests/capi/%.c $(wildcard tests/capi/*.h include/*.h) $(STAGED)
	$(C_COMPILE) $< -o $@ $(C_LINK) -lssl -lcrypto $(LDLIBS)

target/c/null_calls.h: tests/capi/generate_null.py include/acme_micro.h
	@mkdir -p $(@D)
	$(PYTHON) $< >$@

# It loads the library by hand, again and again.
target/c/test_unload: LDFLAGS += -Wl,--as-needed

target/c/test_null: target/c/null_calls.h
target/c/test_null: CPPFLAGS += -Itarget/c
target/c/test_null: LDLIBS += -lm
target/c/torture: LDLIBS += -ldl

header: ## write include/acme_micro.h anew from src/ffi
	ACME_UPDATE_HEADER=1 cargo test $(CARGOFLAGS) --features capi --test header

check-header: ## fail when include/acme_micro.h is not what src/ffi says
	cargo test $(CARGOFLAGS) --features capi --test header

# Which lines the tests run is counted, and tests/coverage/report reads it.
COUNTS := $(CURDIR)/target/coverage
COUNTED = RUSTC_WORKSPACE_WRAPPER='$(CURDIR)/tests/coverage/rustc' \
    LLVM_PROFILE_FILE='$(COUNTS)/%m.profraw'

test-rust: fetch ## the Rust tests
	@rm -rf '$(COUNTS)'
	$(COUNTED) $(WITH_PEBBLE) cargo test $(CARGOFLAGS) --features capi

test-simulation: ## 20,000 certificates from each kind of simulated CA, with faults on the way to it
	SIMULATION_CERTIFICATES=20000 cargo test $(CARGOFLAGS) --profile soak --features capi \
	    --test simulation -- --nocapture

# The library with AddressSanitizer in it, for tests. Stable Rust has it when it is told to be nightly.
SANITIZED := target/c/asan/libacme-micro.so
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

$(SANITIZED): FORCE
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address -Copt-level=1' CARGO_PROFILE_RELEASE_LTO=off \
	    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 $(COUNTED) cargo rustc $(CARGOFLAGS) --release --lib \
	    --features capi --crate-type cdylib --target $(HOST) --target-dir target/asan
	@mkdir -p $(@D)
	@ln -sf ../../asan/$(HOST)/release/libacme_micro.so $@

test-c: build c $(SANITIZED) ## the C and C++ tests
	$(WITH_PEBBLE) tests/capi/run
	$(WITH_PEBBLE) tests/cpp/run

coverage: ## how many lines of src/ the Rust and the C tests have run (after test-rust and test-c)
	tests/coverage/report

OUR_PACKAGE = ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' PYTHONPATH='$(CURDIR)/bindings/python/src'
PYTEST = $(OUR_PACKAGE) $(WITH_PEBBLE) $(PYTHON) -m pytest

test-python: $(STAGED) target/c/bench/in_flight ## the Python tests
	$(PYTHON) -m mypy --strict bindings/python/src
	$(PYTEST) bindings/python tests/bench

# Made before suites run side by side: test-c makes them, too.
STEPCA_PROGRAMS := target/c/obtain target/c/https_server
STEPCA_GO = Go $(shell sed -n 's/^go //p' tests/stepca/go/go.mod)

test-stepca: $(STAGED) $(STEPCA_PROGRAMS) ## C programs, the Python package and the command at step-ca
	@if [ -e target/tools/stepca/sources ]; then \
	    $(OUR_PACKAGE) $(PYTHON) -m pytest tests/stepca; \
	else \
	    echo 'test-stepca: NOT RUN, step-ca is not here: tests/setup builds it with $(STEPCA_GO) or later'; \
	fi

# On the library that is here; `make wheel` has the long form.
TEST_WHEEL = $(WITH_PEBBLE) $(PYTHON) -m pytest tests/wheel

# Pebble sleeps before each validation, as real CAs take their time.
test-slow: $(STAGED) target/c/obtain target/c/obtain-cpp ## a certificate in each language from a CA that takes its time
	@cargo test $(CARGOFLAGS) --quiet --no-run --test slow
	$(OUR_PACKAGE) python3 tests/pebble/with_pebble.py --env PEBBLE_VA_NOSLEEP=0 \
	    --env PEBBLE_VA_SLEEPTIME=15 --env PEBBLE_WFE_NONCEREJECT=0 -- $(PYTHON) -m pytest tests/slow

test-wheel: $(STAGED) ## the Python package as it is distributed: source archive, wheel, installed
	$(TEST_WHEEL)

wheel: setup ## the Python wheel for any Linux and its source archive, in target/wheel: takes minutes
	rm -rf target/wheel
	$(PYTHON) -m build --outdir target/wheel bindings/python
	$(PYTHON) -m auditwheel show target/wheel/*.whl
	ACME_WHEEL_DIR='$(CURDIR)/target/wheel' $(TEST_WHEEL)

test-crate: fetch ## the crate as it is distributed: package, documentation, dependencies
	$(WITH_PEBBLE) tests/crate/run

audit: ## licences, advisories, the oldest Rust, the API beside 0.14.0: asks the network
	@tests/setup audit
	@tests/crate/audit

test-install: build man ## what make install installs, and programs on it; the same build elsewhere
	$(WITH_PEBBLE) tests/install/run
	tests/install/elsewhere

deb: setup ## Debian's packages, in target/deb: source package, and what is built of it offline
	packaging/deb

# Beside Pebble the clean root is there: it comes from Debian's archive.
test-debian: ## Debian's packages: lintian, installed in a clean root, used there, purged
	@$(if $(PEBBLE_MANAGEMENT),,tests/packages/root)
	$(WITH_PEBBLE) tests/packages/run

test-buildd: setup ## the same source package built in Debian 13, with its own Rust: takes minutes, asks the network
	packaging/deb source
	tests/packages/buildd trixie

test-docs: build docs man ## the documentation: links, pages, examples
	$(WITH_PEBBLE) tests/docs/run

REFERENCE := target/reference/xml/index.xml
# A warning fails. NO, for who builds packages with a newer Doxygen, which may have new ones.
DOXYGEN_WARNINGS ?= FAIL_ON_WARNINGS
DOXYGEN = VERSION=$(VERSION) DOXYGEN_WARNINGS=$(DOXYGEN_WARNINGS) doxygen

docs: setup $(REFERENCE) $(STAGED) ## the references of C, C++, Python and Rust as HTML, in target/doc
	$(DOXYGEN) docs/reference/Doxyfile-cpp
	ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' PYTHONPATH='$(CURDIR)/bindings/python/src' \
	    $(PYTHON) docs/reference/python_html.py target/doc/python
	RUSTDOCFLAGS='-D warnings' cargo doc $(CARGOFLAGS) --no-deps --lib --features capi
	@cp docs/reference/index.html target/doc/index.html

man: $(REFERENCE) ## the man pages of the C API, in target/man
	python3 docs/reference/man.py target/reference/xml target/man/man3

# The C reference, as HTML in target/doc/c and as XML.
$(REFERENCE): docs/reference/Doxyfile docs/reference/link_names $(wildcard docs/reference/*.md \
    docs/reference/*.py docs/reference/examples/*.* include/*.h) Cargo.toml
	@mkdir -p target/reference target/doc
	python3 docs/reference/snippets.py >target/reference/examples.dox
	$(DOXYGEN) docs/reference/Doxyfile

BENCH_PROGRAMS := $(patsubst tests/bench/%.c,target/c/bench/%,$(wildcard tests/bench/*.c))

setup-bench:
	@tests/setup bench

# The CA believes every challenge at once, and asks nobody to wait: what is measured is the client.
# BENCH_ONLY, BENCH_ROUNDS and others, for a part of it: the head of tests/bench/run.
bench: setup-bench build $(BENCH_PROGRAMS) ## what the library costs, beside its peers and bare OpenSSL: takes hours
	@PYTHONPATH='$(CURDIR)/bindings/python/src' ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' \
	    python3 tests/pebble/with_pebble.py --tools target/tools/bench --no-retry-after \
	    --env PEBBLE_VA_ALWAYS_VALID=1 --env PEBBLE_WFE_NONCEREJECT=0 -- tests/bench/run

target/c/bench/%: tests/bench/%.c include/acme_micro.h $(STAGED)
	@mkdir -p $(@D)
	$(C_COMPILE) $< -o $@ $(LDFLAGS) -Ltarget/c/lib -lacme-micro \
	    -Wl,-rpath,'$$ORIGIN/../lib' -Wl,--as-needed -lssl -lcrypto

.PHONY: setup-boulder test-boulder
setup-boulder:
	@tests/setup boulder

# BOULDER_ONLY="pausing or limits" runs a part of it, as pytest's -k.
test-boulder: setup-boulder build target/c/obtain target/c/https_server ## the command and programs at Boulder, the server of Let's Encrypt: needs root, takes minutes
	ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' PYTHONPATH='$(CURDIR)/bindings/python/src' \
	    python3 tests/boulder/with_boulder.py --keep-logs target/boulder/logs -- \
	    $(PYTHON) -m pytest tests/boulder $(if $(BOULDER_ONLY),-k '$(BOULDER_ONLY)')

soak: ## the long forms of some tests: minutes to hours
	ACME_PAIRS=5 cargo test $(CARGOFLAGS) --features capi --test engine two_spoiled_responses
	SIMULATION_CERTIFICATES=1000000 cargo test $(CARGOFLAGS) --profile soak --features capi --test simulation
	FUZZ_RUNS=1000000 cargo test $(CARGOFLAGS) --lib the_engine_takes
	ACME_SIGNATURES=1000000 cargo test $(CARGOFLAGS) --features capi --lib j01_
	$(MAKE) --no-print-directory build c
	ACME_TEST_ISSUANCES=100000 $(WITH_PEBBLE) target/c/test_memory
	ACME_TEST_ORDERS=1000 $(WITH_PEBBLE) target/c/test_threads
	ACME_TEST_ALLOCATIONS=100000 $(WITH_PEBBLE) target/c/torture
	NONCE_ISSUANCES=1000 $(PYTEST) bindings/python -k test_n03
	ACME_SOAK=1 $(PYTEST) bindings/python -k test_x01
	CRASHES=100 python3 tests/capi/test_crash.py Crash.test_x01_x03_x04_x05_killed_at_each_of_the_twenty_steps

lint: ## formatting, clippy, and whether each fault of the catalogue has its test
	tests/faults/check
	cargo fmt --check
	cargo clippy $(CARGOFLAGS) --features capi --all-targets -- -D warnings

FUZZ_SECONDS ?= 600
fuzz: fetch ## fuzz each target for FUZZ_SECONDS (600); findings go to target/fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run

test-fuzz: ## the same for a moment, as a part of make test
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=15

# Beside Pebble SSL_CERT_FILE trusts Pebble alone, so cargo must have all it needs before.
fetch:
	@$(if $(PEBBLE_MANAGEMENT),,cargo fetch $(CARGOFLAGS))
	@$(if $(PEBBLE_MANAGEMENT),,cargo fetch --locked --manifest-path tests/fuzz/Cargo.toml)

HEADERS := acme_micro.h acme_micro.hpp acme_micro_openssl.h
PKGCONFIGDIR = $(LIBDIR)/pkgconfig
CMAKEDIR = $(LIBDIR)/cmake/acme-micro
SPACE := $() $()
# What it is tested with, and so what who links statically has to have.
OPENSSL := 3.0
FILL_IN = sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
    -e 's|@CMAKEDIR@|$(CMAKEDIR)|; s|@VERSION@|$(VERSION)|; s|@SONAME@|$(SONAME)|; s|@OPENSSL@|$(OPENSSL)|'

CMAKE_FILES := acme-micro-config.cmake acme-micro-config-version.cmake
# Those that man.py writes are called as what the headers declare.
PAGES = acme-micro libacme-micro \
    $(shell grep -ohw 'acme_[a-z0-9_]*[a-z0-9]' include/*.h | grep -vx acme_micro | sort -u)

install: check-folders ## install libraries, headers, man pages, pkg-config and CMake files (after make build)
	@test -f $(STAGED) -a -f $(STATIC) || { echo 'nothing to install yet: make build' >&2; exit 1; }
	install -d '$(DESTDIR)$(PKGCONFIGDIR)' '$(DESTDIR)$(CMAKEDIR)' '$(DESTDIR)$(INCLUDEDIR)'
	install -m 755 $(STAGED) '$(DESTDIR)$(LIBDIR)/libacme-micro.so.$(ABI)'
	ln -sf libacme-micro.so.$(ABI) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libacme-micro.so'
	install -m 644 $(STATIC) '$(DESTDIR)$(LIBDIR)/libacme-micro.a'
	install -m 644 $(HEADERS:%=include/%) '$(DESTDIR)$(INCLUDEDIR)'
	$(FILL_IN) -e 's|dir=$(PREFIX)/|dir=$${prefix}/|; /dir=/s| |\\ |g' \
	    -e 's|^prefix=.*|$(subst $(SPACE),\\ ,prefix=$(PREFIX))|' packaging/acme-micro.pc.in \
	    >'$(DESTDIR)$(PKGCONFIGDIR)/acme-micro.pc'
	$(FILL_IN) packaging/cmake/acme-micro-config.cmake.in \
	    >'$(DESTDIR)$(CMAKEDIR)/acme-micro-config.cmake'
	$(FILL_IN) packaging/cmake/acme-micro-config-version.cmake.in \
	    >'$(DESTDIR)$(CMAKEDIR)/acme-micro-config-version.cmake'
	chmod 644 '$(DESTDIR)$(PKGCONFIGDIR)/acme-micro.pc' \
	    $(foreach file,$(CMAKE_FILES),'$(DESTDIR)$(CMAKEDIR)/$(file)')
	@if ls target/man/man3/*.3 >/dev/null 2>&1; then \
	    echo 'and the man pages, to $(DESTDIR)$(MANDIR)/man3'; \
	    install -d '$(DESTDIR)$(MANDIR)/man3' && \
	    install -m 644 target/man/man3/*.3 '$(DESTDIR)$(MANDIR)/man3'; \
	else echo 'without man pages, as they have not been made: make man'; fi

# Where it left a folder empty, that goes, and those above it up to PREFIX; but a system's own stay.
uninstall: check-folders ## remove what install installed, and folders that are empty then
	rm -f '$(DESTDIR)$(LIBDIR)/libacme-micro.so.$(ABI)' '$(DESTDIR)$(LIBDIR)/$(SONAME)' \
	    '$(DESTDIR)$(LIBDIR)/libacme-micro.so' '$(DESTDIR)$(LIBDIR)/libacme-micro.a' \
	    '$(DESTDIR)$(PKGCONFIGDIR)/acme-micro.pc' \
	    $(foreach file,$(CMAKE_FILES),'$(DESTDIR)$(CMAKEDIR)/$(file)') \
	    $(foreach file,$(HEADERS),'$(DESTDIR)$(INCLUDEDIR)/$(file)')
	@echo 'and the man pages, from $(DESTDIR)$(MANDIR)/man3'
	@rm -f $(foreach page,$(PAGES),'$(DESTDIR)$(MANDIR)/man3/$(page).3')
	@for folder in '$(CMAKEDIR)' '$(LIBDIR)/cmake' '$(PKGCONFIGDIR)' '$(MANDIR)/man3'; do \
	    rmdir '$(DESTDIR)'"$$folder" 2>/dev/null || true; \
	done
	@case '$(DESTDIR)$(PREFIX)' in '' | / | /usr | /usr/ | /usr/local | /usr/local/) exit ;; esac; \
	for folder in '$(LIBDIR)' '$(INCLUDEDIR)' '$(MANDIR)'; do \
	    while rmdir '$(DESTDIR)'"$$folder" 2>/dev/null; do \
	        case "$$folder" in '$(PREFIX)'/*) folder=$${folder%/*} ;; *) break ;; esac; \
	    done; \
	done

# What the shell, sed, pkg-config and CMake take as it is, and a space.
check-folders: export FOLDERS = $(PREFIX)$(LIBDIR)$(INCLUDEDIR)$(MANDIR)$(findstring ',$(DESTDIR))
check-folders:
	@others=$$(printf %s "$$FOLDERS" | LC_ALL=C \
	    tr -ds 'A-Za-z0-9 /._+~%,=\200-\377-' '\1-\177'; echo .); \
	[ "$$others" = . ] || { \
	    echo "make: PREFIX, LIBDIR, INCLUDEDIR, MANDIR and DESTDIR may not have $${others%.} in them" >&2; \
	    exit 1; \
	}

clean: ## remove what was built, but not what tests/setup installed
	@mkdir -p target
	find target -mindepth 1 -maxdepth 1 ! -name tools ! -name venv -exec rm -rf {} +

distclean: ## remove all of target/
	rm -rf target
