# SPDX-License-Identifier: GPL-2.0
# Every command a person needs; `make help` lists them.

SHELL := /bin/bash
KERNELS ?= 6.1 6.12 sid
KERNEL ?= 6.12
DEPTH ?= 1
# The one version of the module, its packages and DKMS.
VERSION := $(shell sed -n 's/^MODULE_VERSION("\(.*\)");/\1/p' drivers/vhost/blk.c)
LANES ?=
FUZZERS ?= ring ioctl
SECONDS ?= $(if $(SEED)$(CASES),,600)
CPUS ?= 2
ROUNDS ?=

.DEFAULT_GOAL := help
.PHONY: help demo check check-static check-packages check-unit check-qemu check-guest check-faults check-debug check-sim \
	check-series coverage soak fuzz modules tests qemu shell sim sim-full instructions guest-instructions profile tool \
	install install-host install-dkms-source install-package deb dkms-install dkms-remove uninstall clean clean-cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

demo: KERNELS = $(KERNEL)
demo: modules ## show a guest doing verified I/O through vhost-blk, set-up included
	@qemu-patches/build >/dev/null
	@tests/guest/image >/dev/null
	testbed/run --simulate --kernel $(KERNEL) --smp 4 --timeout 1800 -- tests/guest/demo

check: ## run every test, JOBS= lanes at a time (LANES="unit-6.12 guest-6.12 ..." for some)
	@tests/check $(LANES)

check-static: ## checkpatch, sparse, W=1, shellcheck, flake8, mypy, codespell, the style of QEMU's patches
	@tests/check static series

check-series: ## QEMU builds after each patch of the series (10 min)
	@qemu-patches/check --each

check-packages: ## install, upgrade, remove, purge the package on bare Debian 12 and 13 (10 min, root)
	@tests/packages/run

check-unit: ## ioctl-level tests on each kernel
	@tests/check $(KERNELS:%=unit-%)

check-qemu: ## what -device vhost-blk-pci accepts and refuses
	@tests/check qemu

check-guest: ## whole guests on each kernel
	@tests/check $(KERNELS:%=guest-%)

check-faults: ## disks, servers, CPUs, swap and owners that fail, on each kernel (LANES= too)
	@tests/check --faults $(LANES)

check-debug: ## unit tests and a guest on kernels with KASAN, lockdep, kmemleak, KCSAN (1 hour; LANES= too)
	@tests/check --debug $(LANES)

check-sim: ## the clocks and costs of the simulated host (docs/simulator.md)
	@testbed/simtest

coverage: ## which lines and branches of the module the unit tests reach, in build/coverage
	@tests/coverage

soak: ## repeat resets, kills, migration, power cuts many times (hours; LANES= and ROUNDS= too)
	@KERNEL=$(KERNEL) ROUNDS=$(ROUNDS) tests/check --soak $(LANES)

fuzz: KERNELS = $(KERNEL)
fuzz: modules tests ## play a malicious guest and owner, SECONDS=600 each (or SEED= CASES=; FUZZERS= KERNEL= CPUS=)
	@testbed/run --kernel $(KERNEL) --smp $(CPUS) \
		--timeout $$((2 * $(or $(SECONDS),1800) + $(or $(CASES),0) / 20 + 900)) -- \
		tests/fuzz/run $(FUZZERS) -- $(if $(SEED),-s $(SEED)) $(if $(CASES),-n $(CASES)) \
		$(if $(SECONDS),-t $(SECONDS))

ifdef KDIR
modules: ## build the module for each kernel, or for KDIR= (and KSRC=)
	@packaging/build '$(KDIR)' '$(KSRC)' \
		'build/$(release)'
else
modules:
	@testbed/deps build-essential bc libbpf-dev "libelf1t64 | libelf1" pahole xz-utils zstd
	@$(MAKE) -s -j "$$(nproc)" $(KERNELS:%=modules-%)

modules-%:
	+@set -e; dir=$$(testbed/kernel $*); \
	release=$$(cat "$$dir/release"); \
	testbed/compile "$$dir" packaging/probe "$$dir/kdir" "$$dir/ksrc" "build/$$release"; \
	KERNEL_MODULES="$$dir/lib/modules/$$release" KERNEL_IMAGE="$$dir/vmlinuz" \
		packaging/verify "$$dir/kdir" "$$dir/ksrc" "build/$$release"; \
	testbed/compile "$$dir" packaging/compile "$$dir/kdir" "$$dir/ksrc" "build/$$release"; \
	testbed/compile "$$dir" tests/modules/build "$$dir/kdir" "build/$$release/tests"
endif

tests: ## build the ioctl-level tests
	@testbed/deps build-essential libcmocka-dev libjson-c-dev dosfstools e2fsprogs xfsprogs kmod nbd-client nbd-server procps
	@$(MAKE) -s -C tests

qemu: ## build QEMU with the vhost-blk device into the cache (about 4 min)
	@qemu-patches/build

shell: modules ## open a shell in the test host (KERNEL=6.1 or sid for another kernel)
	@testbed/run --kernel $(KERNEL) --shell

sim sim-full instructions guest-instructions profile: KERNELS = $(KERNEL)
sim: modules ## vhost-blk next to others on simulated hosts, the main table (20 min and more; COSTS= too)
	@bench/sim run

sim-full: modules ## the same with every job, disk and number of guests (hours)
	@bench/sim run --full

instructions: modules ## instructions per 4 KiB random read at ring level, next to others (4 min)
	@bench/instructions ring

guest-instructions: modules ## instructions per 4 KiB random read of a guest, next to others
	@bench/instructions guest

profile: modules ## which functions of the kernel they are (DEPTH=1 reads in flight)
	@bench/instructions profile --depth $(DEPTH)

# Of install and its like.
PREFIX ?= /usr/local
DESTDIR ?=
INSTALL_MOD_PATH ?= $(DESTDIR)
kdir = $(or $(KDIR),/lib/modules/$(shell uname -r)/build)
release = $(shell sed -nE 's/.* UTS_RELEASE "(.*)"/\1/p' $(kdir)/include/generated/utsrelease.h)
dkms_source = $(DESTDIR)/usr/src/vhost-blk-$(VERSION)

install: ## install the module for the running kernel or KDIR= (KSRC= DESTDIR= INSTALL_MOD_PATH=), and load it
	packaging/build '$(kdir)' '$(KSRC)' 'build/$(release)'
	install -D -m 644 -t '$(INSTALL_MOD_PATH)/lib/modules/$(release)/updates' 'build/$(release)/vhost_blk.ko'
	strip --strip-debug '$(INSTALL_MOD_PATH)/lib/modules/$(release)/updates/vhost_blk.ko'
	depmod -b '$(or $(INSTALL_MOD_PATH),/)' '$(release)'
	$(MAKE) -s install-host
	$(if $(DESTDIR)$(INSTALL_MOD_PATH),,packaging/load)

tool: ## build the program vhost-blk into build/tools
	@$(MAKE) -s -f tools/Makefile

install-host: tool
	install -D -m 755 -t '$(DESTDIR)$(PREFIX)/sbin' build/tools/vhost-blk
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man4' packaging/man/vhost-blk.4
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man8' packaging/man/vhost-blk.8
	install -D -m 644 -t '$(DESTDIR)/usr/lib/udev/rules.d' packaging/60-vhost-blk.rules
	install -D -m 644 -t '$(DESTDIR)/usr/lib/modules-load.d' packaging/vhost-blk.conf

install-dkms-source:
	install -d '$(dkms_source)'
	cp -r --parents drivers/vhost include \
		$(addprefix packaging/,btf-types.c build common.sh compile header load probe verify) '$(dkms_source)'
	sed 's/@VERSION@/$(VERSION)/' packaging/dkms.conf.in >'$(dkms_source)/dkms.conf'

# What the Debian package has on top.
install-package:
	install -D -m 644 -t '$(DESTDIR)/etc/vhost-blk' packaging/build.conf
	install -D -m 644 packaging/apparmor/vhost-blk '$(DESTDIR)/etc/apparmor.d/abstractions/libvirt-qemu.d/vhost-blk'
	install -D -m 755 packaging/kernel-hook '$(DESTDIR)/etc/kernel/postinst.d/vhost-blk'
	install -D -m 755 packaging/kernel-hook '$(DESTDIR)/etc/kernel/header_postinst.d/vhost-blk'
	install -d '$(DESTDIR)/usr/lib/vhost-blk'
	sed 's/@VERSION@/$(VERSION)/' packaging/dkms-install >'$(DESTDIR)/usr/lib/vhost-blk/dkms-install'
	chmod 755 '$(DESTDIR)/usr/lib/vhost-blk/dkms-install'

deb: ## build the Debian package vhost-blk-dkms into build/deb
	@packaging/deb '$(VERSION)' build/deb

dkms-install: dkms-remove install-dkms-source ## install through DKMS, so that new kernels get the module too
	dkms install vhost-blk/$(VERSION) $(DKMS_ARGS)
	$(MAKE) -s install-host
	packaging/load

# All versions, so that an older one is not taken for newer kernels.
dkms-remove:
	! command -v dkms >/dev/null || dkms status vhost-blk | \
		sed -nE 's,^vhost-blk/([^,: ]+).*,\1,p' | sort -u | xargs -r -I VERSION dkms remove vhost-blk/VERSION --all
	rm -rf /usr/src/vhost-blk-*

uninstall: $(if $(DESTDIR)$(INSTALL_MOD_PATH),,dkms-remove) ## remove what install or dkms-install installed (DESTDIR= INSTALL_MOD_PATH=)
	$(if $(DESTDIR)$(INSTALL_MOD_PATH),,-modprobe -r vhost_blk)
	for module in '$(INSTALL_MOD_PATH)'/lib/modules/*/updates/vhost_blk.ko; do \
		[[ -e $$module ]] || continue; \
		rm "$$module"; \
		depmod -b '$(or $(INSTALL_MOD_PATH),/)' "$$(basename "$${module%/updates/*}")"; \
	done
	rm -f '$(DESTDIR)'/usr/lib/{udev/rules.d/60-vhost-blk.rules,modules-load.d/vhost-blk.conf} \
		'$(DESTDIR)$(PREFIX)'/{sbin/vhost-blk,share/man/man4/vhost-blk.4,share/man/man8/vhost-blk.8}

clean: ## remove what was built in this tree
	rm -rf build

clean-cache: ## remove downloads and builds from the cache
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/vhost-blk"
