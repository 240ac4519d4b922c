# One entry for each thing that one does here; `.ci/run` calls these, too.

CARGO ?= cargo
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
SOURCES = $(shell git ls-files '*.rs')

# The library alone needs itself and at most these.
CRATES := 26

# Where `make install-c` puts the library for C.
PREFIX ?= /usr/local

.PHONY: help check format lint test demo bench install-c docs msrv package miri replay fuzz deny crates

help:
	@echo "check    format, lint and test: what a change must pass"
	@echo "format   whether rustfmt would change a file, those behind macros included"
	@echo "lint     clippy, with and without the command line"
	@echo "test     all tests; the last lines say what they skipped"
	@echo "demo     the whole pipeline on the bundled network"
	@echo "bench    time the kernels"
	@echo "install-c  the engine for C and C++, under PREFIX=$(PREFIX)"
	@echo "docs     the documentation of the library"
	@echo "msrv     compile with Rust $(MSRV), the oldest promised"
	@echo "package  what would be published builds outside this folder, and runs"
	@echo "miri     the team of threads and portable kernels under Miri (a nightly toolchain)"
	@echo "replay   the fuzzed functions on their seeds and some thousand changes of them"
	@echo "fuzz     the same under libFuzzer, each target for SECONDS=30 (a nightly toolchain)"
	@echo "crates   how many crates the library pulls in without the command line"
	@echo "deny     licences and sources of dependencies (cargo-deny)"

check: format lint test

format:
	rustfmt --check --edition 2024 $(SOURCES)

lint:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --lib --no-default-features -- -D warnings

test:
	$(CARGO) test --workspace

demo:
	$(CARGO) run --release -- demo --out target/demo

bench:
	$(CARGO) bench

install-c:
	$(CARGO) build --release -p naive-ptq-capi
	capi/install target/release "$(PREFIX)"

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

msrv:
	$(CARGO) +$(MSRV) check --workspace --all-targets --target-dir target/msrv

package:
	$(CARGO) package --no-verify
	rm -rf target/unpacked && mkdir target/unpacked
	tar -xzf target/package/naive-ptq-$(VERSION).crate -C target/unpacked
	# A workspace of its own, and the packages that are built already.
	folder=$$(mktemp -d) && mv target/unpacked/naive-ptq-$(VERSION) $$folder/package && \
	    CARGO_TARGET_DIR="$(CURDIR)/target" $(CARGO) run --release --locked \
	    --manifest-path $$folder/package/Cargo.toml -- demo --out $$folder/demo && rm -r $$folder

# Leaks are meant: of several panics at once one is passed on, and to drop the others might panic. The
# stack of a panic that a test expects takes Miri half a minute to name.
miri:
	RUST_BACKTRACE=0 MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" $(CARGO) +nightly miri test --lib --no-default-features \
	    --target-dir target/miri -- team kernels::float kernels::scalar

# In the folder of the other tests, which have built the same dependencies.
replay:
	cd fuzz && $(CARGO) test -q --locked --target-dir ../target

fuzz:
	fuzz/run $(or $(SECONDS),30)

crates:
	@count=$$($(CARGO) tree --locked -e normal --no-default-features --prefix none | sed 's/ (.*//' | \
	    sort -u | wc -l); \
	    echo "$$count crates without the command line, at most $(CRATES)"; test $$count -le $(CRATES)

deny:
	$(CARGO) deny check licenses bans sources
