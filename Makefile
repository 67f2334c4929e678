# Thin: what does the work is Meson, kernel/build, scripts/ and tests/run.
#
#   make run        everything a fresh Debian 12 needs, then an image's program in its own kernel
#   make test       everything needed, then all tests
#   make test-kvm   everything needed, then the tests of our monitor, on this host's KVM or in a virtual host that has one
#   make test-arm64 everything needed, then the unit tests of a build for arm64, emulated
#   make build      build/a3s-box, its supervisor, the guest kernel and the initramfs
#   make install    PREFIX=/usr/local DESTDIR=
#   make lint | fmt | bench | sanitize | fuzz | clean

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 30
TESTFLAGS ?=

.PHONY: run test test-kvm test-arm64 build install lint fmt bench sanitize sanitize-build fuzz clean setup

.DEFAULT_GOAL := build

setup:
	@scripts/setup build run test

build:
	@scripts/setup build
	@scripts/build build

run:
	@scripts/setup build run
	@scripts/build build
	@scripts/demo

test: setup
	@scripts/build build
	@tests/run $(TESTFLAGS)

test-kvm: setup
	@scripts/build build
	@tests/kvm/run $(TESTFLAGS)

test-arm64:
	@scripts/setup build arm64
	@scripts/arm64 build-arm64
	@tests/run --build build-arm64 --suite unit $(TESTFLAGS)

install: build
	@scripts/install build "$(PREFIX)" "$(DESTDIR)"

lint: setup
	@scripts/build build
	@scripts/lint

fmt:
	@scripts/setup test
	@find src tests kernel -name '*.[ch]' -print0 | xargs -0 -r clang-format -i

bench: setup
	@scripts/build build
	@tests/bench/run

sanitize-build: setup
	@scripts/build build-asan -Dbuildtype=debug -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false

sanitize: sanitize-build
	@tests/run --build build-asan --suite unit --suite core $(TESTFLAGS)

fuzz: setup
	@scripts/fuzz $(FUZZ_SECONDS)

clean:
	rm -rf build build-asan build-fuzz build-arm64
