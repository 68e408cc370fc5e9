# acme-micro: `make` lists the targets.
#
# Variables: PREFIX LIBDIR INCLUDEDIR MANDIR DESTDIR for install; CC CFLAGS CXX CXXFLAGS CPPFLAGS LDFLAGS
# WERROR for the C and C++ programs; CARGOFLAGS (such as --locked) for cargo (docs/packaging.md);
# ONLY for the test suites (CONTRIBUTING.md).

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

# Cargo's file names have an underscore, as in the crate's name; installed files have a hyphen.
STATIC := target/release/libacme_micro.a
# The shared library under its installed name; programs of this tree link with it, too.
STAGED := target/c/lib/$(SONAME)

C_COMPILE = $(CC) -std=c99 -Wall -Wextra -Wpedantic $(WERROR) $(CPPFLAGS) $(CFLAGS) -Iinclude
CXX_COMPILE = $(CXX) -std=c++17 -Wall -Wextra -Wpedantic -Wconversion -Wshadow $(WERROR) \
              $(CPPFLAGS) $(CXXFLAGS) -Iinclude
C_LINK = $(LDFLAGS) -Ltarget/c/lib -lacme-micro -Wl,-rpath,'$$ORIGIN/lib' -pthread
C_PROGRAMS := $(patsubst bindings/c-examples/%.c,target/c/%,$(wildcard bindings/c-examples/*.c)) \
              $(patsubst bindings/c-examples/%.cpp,target/c/%-cpp,$(wildcard bindings/c-examples/*.cpp)) \
              $(patsubst tests/capi/%.c,target/c/%,$(wildcard tests/capi/test_*.c)) \
              target/c/torture target/c/secrets

# A suite that is started beside a Pebble uses it; otherwise it gets its own.
WITH_PEBBLE = $(if $(PEBBLE_MANAGEMENT),,python3 tests/pebble/with_pebble.py --)
PYTHON := target/venv/bin/python

# make test-SUITE ONLY=WORD runs the tests whose names contain WORD.
export ONLY PYTHON
# Python tests run side by side, because most of them wait.
PYTEST_JOBS ?= $(shell echo $$(($$(nproc) + 1)))

# Cargo always builds into the paths above, whatever the user's environment sets.
export CARGO_TARGET_DIR := $(CURDIR)/target

.DEFAULT_GOAL := help
# Cargo uses all cores by itself, and make has to make prerequisites from left to right.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup setup-bench setup-boulder demo test check flaky build c header check-header test-rust \
        test-simulation test-c test-cpp test-python test-stepca test-slow test-wheel wheel test-crate audit \
        test-install deb test-debian test-buildd test-docs docs man test-fuzz fuzz test-boulder coverage \
        bench bench-manager soak lint fetch install uninstall check-folders clean distclean FORCE

# The groups are the lines that begin with "##@"; a target is listed with the text behind its "##".
help: ## list the targets
	@echo 'acme-micro $(VERSION)'
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nmake test-SUITE ONLY=WORD runs the tests whose names contain WORD, such as\n'
	@printf '  make test-c ONLY=driver    make test-python ONLY=store    make test-docs ONLY=readme\n'

##@ Begin here

# Installs what the machine lacks; takes a moment when nothing is missing.
setup:
	@tests/setup test

demo: ## obtain a certificate from a test CA on this machine, with a C program
	@tests/setup demo
	@$(MAKE) --no-print-directory target/c/obtain
	@tests/demo

test: setup ## run every test, as CI does
	@$(MAKE) --no-print-directory fetch build c target/c/bench/in_flight
	@tests/run-all

check: setup ## run the part of the tests to run before each commit: under three minutes
	@$(MAKE) --no-print-directory lint build target/c/obtain target/c/obtain-cpp
	cargo test $(CARGOFLAGS) --features capi --quiet --lib --test engine --test floors \
	    --test quirks --test header
	SLOW_ANSWER_S=0 SLOW_LANGUAGES='c cpp python' $(OUR_PACKAGE) python3 tests/pebble/with_pebble.py -- \
	    $(PYTHON) -m pytest -q tests/slow

##@ Build

# Beside Pebble SSL_CERT_FILE trusts Pebble alone, so cargo must have its packages before.
fetch:
	@$(if $(CARGO_NET_OFFLINE)$(PEBBLE_MANAGEMENT),,cargo fetch $(CARGOFLAGS))
	@$(if $(CARGO_NET_OFFLINE)$(PEBBLE_MANAGEMENT),,cargo fetch --locked --manifest-path tests/fuzz/Cargo.toml)

build: $(STAGED) ## build the shared and the static library

# No built file contains the folders of the build. If two prefixes match, rustc uses the later one.
REMAP_HERE := --remap-path-prefix=$(CURDIR)=/acme-micro
CARGO_FOLDER := $(or $(CARGO_HOME),$(HOME)/.cargo)
REMAP_CARGO := --remap-path-prefix=$(CARGO_FOLDER)=/cargo \
    $(foreach folder,$(wildcard $(CARGO_FOLDER)/registry/src/*),--remap-path-prefix=$(folder)=)
# RUSTFLAGS replaces the flags of .cargo/config.toml; --config adds to them.
CARGO_RELEASE = $(if $(RUSTFLAGS),RUSTFLAGS='$(RUSTFLAGS) $(REMAP_HERE) $(REMAP_CARGO)') \
    cargo rustc $(CARGOFLAGS) --config 'build.rustflags=[$(foreach flag,$(REMAP_HERE) $(REMAP_CARGO),"$(flag)",)]' --release

# Always run, because only cargo knows what is out of date. The file changes only if the library does, so
# programs are not linked again without need.
$(STATIC): FORCE
	$(CARGO_RELEASE) --lib --features capi --crate-type staticlib

target/c/symbols.map: abi/libacme-micro.symbols abi/version-script.awk
	@mkdir -p $(@D)
	sort -k2,2V -k1,1 $< | awk -f abi/version-script.awk >$@

OPENSSL_LIBS ?= $(shell pkg-config --libs openssl)
# The library stays loaded after dlclose(), and relocations take a thirtieth of the space: see build.rs.
LOADING := -Wl,-z,relro,-z,now,-z,noexecstack,-z,nodelete \
    -Wl,-z,pack-relative-relocs,-z,noseparate-code

# The C compiler links the static library into the shared one: rustc sets no symbol versions. See docs/abi.md.
# Debug information is removed unless CARGO_PROFILE_RELEASE_DEBUG is set; otherwise the library would contain
# that of Rust's standard library.
$(STAGED): $(STATIC) target/c/symbols.map Makefile
	@mkdir -p $(@D)
	$(CC) -shared -o $@ -Wl,-soname,$(SONAME) -Wl,--version-script=target/c/symbols.map $(LOADING) \
	    -Wl,--gc-sections,--as-needed,-z,defs $(if $(CARGO_PROFILE_RELEASE_DEBUG),,-Wl,--strip-debug) \
	    $(LDFLAGS) -Wl,--whole-archive $(STATIC) -Wl,--no-whole-archive $(OPENSSL_LIBS) -pthread -ldl -lm
	@ln -sf $(SONAME) $(@D)/libacme-micro.so

c: $(C_PROGRAMS) ## build the C and C++ examples and the C test programs, in target/c

target/c/%: bindings/c-examples/%.c $(wildcard bindings/c-examples/*.h include/*.h) $(STAGED)
	$(C_COMPILE) $< -o $@ $(C_LINK) $(LDLIBS)

target/c/%-cpp: bindings/c-examples/%.cpp $(wildcard bindings/c-examples/*.hpp include/*) $(STAGED)
	$(CXX_COMPILE) $< -o $@ $(C_LINK) $(LDLIBS)

# Only the header of PKCS#11: the program loads the token's library at run time.
target/c/pkcs11: CPPFLAGS += $(shell pkg-config --cflags p11-kit-1)
target/c/pkcs11: LDLIBS += -ldl
target/c/libuv: LDLIBS += $(shell pkg-config --libs libuv)
target/c/libevent-curl: LDLIBS += $(shell pkg-config --libs libevent libcurl)
target/c/epoll-openssl: LDLIBS += -lssl -lcrypto
target/c/minimal target/c/minimal-cpp: LDLIBS += -lssl -lcrypto
target/c/https_server: LDLIBS += $(shell pkg-config --libs libevent_openssl libevent) -lssl -lcrypto
target/c/https_server-cpp: CPPFLAGS += $(shell pkg-config --cflags cpp-httplib)
target/c/https_server-cpp: LDLIBS += $(shell pkg-config --libs cpp-httplib) -lssl -lcrypto

# The library's header needs no OpenSSL, but the tests' TLS server does.
target/c/%: tests/capi/%.c $(wildcard tests/capi/*.h include/*.h) $(STAGED)
	$(C_COMPILE) $< -o $@ $(C_LINK) -lssl -lcrypto $(LDLIBS)

target/c/null_calls.h: tests/capi/generate_null.py include/acme_micro.h
	@mkdir -p $(@D)
	$(PYTHON) $< >$@

# test_unload must not link the library, because it loads it with dlopen() repeatedly.
target/c/test_unload: LDFLAGS += -Wl,--as-needed

target/c/test_null: target/c/null_calls.h
target/c/test_null: CPPFLAGS += -Itarget/c
target/c/test_null: LDLIBS += -lm
target/c/torture: LDLIBS += -ldl

header: ## generate include/acme_micro.h from src/ffi
	ACME_UPDATE_HEADER=1 cargo test $(CARGOFLAGS) --features capi --test header

check-header: ## fail if include/acme_micro.h does not match src/ffi
	cargo test $(CARGOFLAGS) --features capi --test header

##@ Test: each suite of make test by itself

lint: ## check formatting, clippy, prose, and that each fault of the catalogue has its test
	tests/faults/check
	tests/prose/check
	cargo fmt --check
	cargo clippy $(CARGOFLAGS) --features capi --all-targets -- -D warnings

# The lines that the tests run are counted; tests/coverage/report reads the counts.
COUNTS := $(CURDIR)/target/coverage
COUNTED = RUSTC_WORKSPACE_WRAPPER='$(CURDIR)/tests/coverage/rustc' \
    LLVM_PROFILE_FILE='$(COUNTS)/%m.profraw'

# cargo itself succeeds if no test has the name. Before "--", a name would exclude the tests in comments.
define RUST_ONLY
@names=$$($(COUNTED) cargo test $(CARGOFLAGS) --features capi -- --list) || exit; \
case "$$names" in *"$$ONLY"*) ;; *) \
    echo "no test has '$$ONLY' in its name. There are:"; \
    echo "$$names" | sed -n 's/^\(.*\): test$$/    \1/p' | sort -u; exit 1 ;; \
esac
endef

test-rust: fetch ## the Rust tests
	@rm -rf '$(COUNTS)'
	$(if $(ONLY),$(RUST_ONLY))
	$(COUNTED) $(WITH_PEBBLE) cargo test $(CARGOFLAGS) --features capi --no-fail-fast $(if $(ONLY),-- '$(ONLY)')

test-simulation: ## 7,000 certificates from each of three kinds of simulated CA, with faults in the network
	SIMULATION_CERTIFICATES=7000 cargo test $(CARGOFLAGS) --profile soak --features capi \
	    --test simulation -- --nocapture

# The library with AddressSanitizer, for tests. RUSTC_BOOTSTRAP enables it in stable Rust.
SANITIZED := target/c/asan/libacme-micro.so
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

$(SANITIZED): FORCE
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address -Copt-level=1' CARGO_PROFILE_RELEASE_LTO=off \
	    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 $(COUNTED) cargo rustc $(CARGOFLAGS) --release --lib \
	    --features capi --crate-type cdylib --target $(HOST) --target-dir target/asan
	@mkdir -p $(@D)
	@ln -sf ../../asan/$(HOST)/release/libacme_micro.so $@

test-c: build c $(SANITIZED) ## the C tests: plain, under valgrind, with sanitizers
	tests/capi/run

test-cpp: build target/c/obtain-cpp ## the C++ tests: gcc and clang, under valgrind, with sanitizers
	tests/cpp/run

coverage: ## report how many lines of src/ the Rust and the C tests ran, after test-rust and test-c
	tests/coverage/report

OUR_PACKAGE = ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' PYTHONPATH='$(CURDIR)/bindings/python/src'
PYTEST = tests/pytest

# The tests of the benchmark use its programs.
COSTS := target/c/obtain $(addprefix target/c/bench/,in_flight in_flight_floor floor)

test-python: $(STAGED) $(COSTS) ## the Python tests
	$(PYTHON) -m mypy --strict bindings/python/src
	$(OUR_PACKAGE) $(PYTEST) --instafail -n $(PYTEST_JOBS) bindings/python tests/bench

STEPCA_PROGRAMS := target/c/obtain target/c/https_server
STEPCA_GO = Go $(shell sed -n 's/^go //p' tests/stepca/go/go.mod)

test-stepca: $(STAGED) $(STEPCA_PROGRAMS) ## C programs, the Python package and the command at step-ca
	@if [ -e target/tools/stepca/sources ]; then \
	    $(OUR_PACKAGE) $(PYTEST) tests/stepca; \
	else \
	    echo 'test-stepca: NOT RUN, step-ca is not installed: run tests/setup with $(STEPCA_GO) or later'; \
	fi

# With the library of this tree; `make wheel` has the long form.
TEST_WHEEL = $(WITH_PEBBLE) $(PYTEST) tests/wheel

# Pebble sleeps before each validation: real CAs take their time, too.
test-slow: $(STAGED) target/c/obtain target/c/obtain-cpp ## a certificate in each language from a CA that takes its time
	@cargo test $(CARGOFLAGS) --quiet --no-run --test slow
	$(OUR_PACKAGE) python3 tests/pebble/with_pebble.py --env PEBBLE_VA_NOSLEEP=0 \
	    --env PEBBLE_VA_SLEEPTIME=15 --env PEBBLE_WFE_NONCEREJECT=0 -- $(PYTEST) tests/slow

test-wheel: $(STAGED) ## the Python package as distributed: source archive, wheel, installation
	$(TEST_WHEEL)

test-crate: fetch ## the crate as distributed: package, documentation, dependencies
	$(WITH_PEBBLE) tests/crate/run

test-install: build man ## the installed files, programs that use them, the same build in another folder
	$(WITH_PEBBLE) tests/install/run

# The clean root comes from Debian's archive, so within `make test` it is there already.
test-debian: ## Debian's packages: lintian, installed in a clean root, used there, purged
	@if ! command -v mmdebstrap >/dev/null; then \
	    echo 'test-debian: NOT RUN, this is no Debian'; \
	else \
	    $(if $(CARGO_NET_OFFLINE),,tests/packages/root &&) $(WITH_PEBBLE) tests/packages/run; \
	fi

test-docs: build docs man ## the documentation: links, pages, examples
	tests/docs/run

test-fuzz: fetch ## fuzz each target with a fixed seed and number of executions
	tests/fuzz/run --fixed $(ONLY)

##@ Documents

REFERENCE := target/reference/xml/index.xml
# A warning fails. Packagers with a newer Doxygen, which may have new warnings, set NO.
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

##@ Longer tests and measurements

setup-bench:
	@tests/setup bench

# The CA accepts every challenge at once and sends no Retry-After, so that the client is measured.
# BENCH_ONLY, BENCH_ROUNDS and others choose a part: see the head of tests/bench/run.
bench: setup-bench build $(BENCH_PROGRAMS) ## measure the library beside its peers and bare OpenSSL: takes hours
	@PYTHONPATH='$(CURDIR)/bindings/python/src' ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' \
	    python3 tests/pebble/with_pebble.py --tools target/tools/bench --no-retry-after \
	    --env PEBBLE_VA_ALWAYS_VALID=1 --env PEBBLE_WFE_NONCEREJECT=0 -- tests/bench/run

bench-manager: ## measure a manager with 100,000 certificates: memory, start, polls
	cargo test $(CARGOFLAGS) --release --features capi --test manager -- --ignored --nocapture

target/c/bench/%: tests/bench/%.c include/acme_micro.h $(STAGED)
	@mkdir -p $(@D)
	$(C_COMPILE) $< -o $@ $(LDFLAGS) -Ltarget/c/lib -lacme-micro \
	    -Wl,-rpath,'$$ORIGIN/../lib' -Wl,--as-needed -lssl -lcrypto

setup-boulder:
	@tests/setup boulder

test-boulder: setup-boulder build target/c/obtain target/c/https_server ## the command and programs at Boulder, the server of Let's Encrypt: needs root, takes minutes
	ACME_MICRO_LIBRARY='$(CURDIR)/$(STAGED)' PYTHONPATH='$(CURDIR)/bindings/python/src' \
	    python3 tests/boulder/with_boulder.py --keep-logs target/boulder/logs -- \
	    $(PYTEST) tests/boulder

# WITH_PEBBLE_OPTIONS and Pebble's variables at their extremes; see the head of tests/flaky.
flaky: setup ## run suites again and again at the extremes of what a CA may do: takes hours
	@$(MAKE) --no-print-directory fetch build c $(SANITIZED) target/c/bench/in_flight docs man
	tests/flaky

audit: ## licences, advisories, the oldest Rust, the API compared with 0.14.0: uses the network
	@tests/setup audit
	@tests/crate/audit

test-buildd: setup ## the same source package built in Debian 13 with Debian's Rust: takes minutes, uses the network
	packaging/deb source
	tests/packages/buildd trixie

soak: ## the long forms of some tests: minutes to hours
	ACME_PAIRS=5 cargo test $(CARGOFLAGS) --features capi --test engine two_spoiled_responses
	SIMULATION_SITES=20 SIMULATION_CERTIFICATES=1000000 cargo test $(CARGOFLAGS) --profile soak --features capi --test simulation
	FUZZ_RUNS=1000000 cargo test $(CARGOFLAGS) --lib the_engine_takes
	ACME_SIGNATURES=1000000 cargo test $(CARGOFLAGS) --features capi --lib j01_
	$(MAKE) --no-print-directory build c
	ACME_TEST_ISSUANCES=100000 $(WITH_PEBBLE) target/c/test_memory
	ACME_TEST_ORDERS=1000 $(WITH_PEBBLE) target/c/test_threads
	ACME_TEST_ALLOCATIONS=100000 $(WITH_PEBBLE) target/c/torture
	NONCE_ISSUANCES=1000 $(OUR_PACKAGE) $(WITH_PEBBLE) $(PYTEST) bindings/python -k test_n03
	ACME_SOAK=1 $(OUR_PACKAGE) $(WITH_PEBBLE) $(PYTEST) bindings/python -k test_x01
	CRASHES=100 python3 tests/capi/test_crash.py Crash.test_x01_x03_x04_x05_killed_at_each_of_the_twenty_steps

FUZZ_SECONDS ?= 600
fuzz: fetch ## fuzz each target for FUZZ_SECONDS (600); findings go to target/fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run $(ONLY)

##@ Package

wheel: setup ## the Python wheel for any Linux and its source archive, in target/wheel: takes minutes
	rm -rf target/wheel
	$(PYTHON) -m build --outdir target/wheel bindings/python
	$(PYTHON) -m auditwheel show target/wheel/*.whl
	ACME_WHEEL_DIR='$(CURDIR)/target/wheel' $(TEST_WHEEL)

deb: setup ## Debian's packages, in target/deb: source package, and binary packages built offline
	packaging/deb

##@ Clean

clean: ## remove built files, but not the tools that tests/setup installed
	@mkdir -p target
	find target -mindepth 1 -maxdepth 1 ! -name tools ! -name venv -exec rm -rf {} +

distclean: ## remove all of target/
	rm -rf target

include packaging/install.mk
