# Everything that is done to the tree: `make help`. Works on Debian 12 with Go and root; needs no systemd.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Pinned, and never the newest: tools change under nobody's feet.
GOLANGCI_LINT := v2.15.0
CONTAINERD2   := v2.4.2
NFPM_VERSION  := v2.41.0
TOOLS ?= $(HOME)/.cache/berth/tools
LINT  := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT)/golangci-lint
CTRD2 := $(TOOLS)/containerd-$(CONTAINERD2)
NFPM  := $(TOOLS)/nfpm-$(NFPM_VERSION)/nfpm
# What the machines of the tests boot from. Its name says what it was made by, so that it is never replaced under a machine that runs.
MACHINE := $(TOOLS)/machine-$(shell sha256sum packaging/machine/tree.sh | cut -c 1-12)

# What machine images begin as. Only a change of what it is made by makes another.
IMAGE_TREE := $(TOOLS)/image-$(shell cat ami/image/tree.sh ami/versions | sha256sum | cut -c 1-12)

# What the tests need of Debian. gcc is for the race detector: the agent itself is built without cgo. systemd is for
# systemd-analyze, which looks at our units; it need not run. systemd-container and mmdebstrap are for machines to install packages on,
# lintian and rpm to check the packages; qemu boots the machine image, which ovmf, mtools, dosfstools, fdisk and e2fsprogs make;
# packer and shellcheck are for what machine images are made by.
DEBS := containerd runc nftables iproute2 awscli busybox-static curl jq systemd gcc libc6-dev ca-certificates git \
	systemd-container mmdebstrap lintian rpm file groff-base \
	qemu-system-x86 qemu-utils ovmf mtools dosfstools fdisk e2fsprogs packer shellcheck
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# What is fetched is fetched again when the network fails for a moment.
APT_GET := apt-get -o Acquire::Retries=5
RETRY   := retry() { for pause in 2 10 30; do "$$@" && return; sleep $$pause; done; "$$@"; }; retry

# The Go tool stamps the version from git's tags, where there is a git that answers.
BUILDVCS := $(shell git rev-parse --is-inside-work-tree >/dev/null 2>&1 && echo true || echo false)
FUZZTIME ?= 10s
TESTFLAGS ?=
PACKAGES ?= ./...

# In CI a look-up that the proxy cannot answer fails at once, and goes nowhere else.
comma := ,
ifeq ($(CI),true)
export GOPROXY := $(subst |direct,,$(subst $(comma)direct,,$(shell go env GOPROXY)))
endif

.PHONY: help
help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/berth, one static binary
	CGO_ENABLED=0 go build -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w' -o bin/berth ./agent/cmd/berth

.PHONY: deps
deps: ## install the Debian packages that tests and demo need, when they are missing
	@missing=(); \
	for p in $(DEBS); do \
		[ "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null || true)" = installed ] || missing+=($$p); \
	done; \
	if [ $${#missing[@]} -gt 0 ]; then \
		echo "installing $${missing[*]}"; \
		$(SUDO) $(APT_GET) update -q; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive $(APT_GET) install -yq --no-install-recommends "$${missing[@]}"; \
	fi

.PHONY: tools
tools: $(LINT) $(CTRD2)/.done $(NFPM) ## build the pinned linter, packager and a containerd 2 for tests, once

$(LINT):
	$(RETRY) env GOFLAGS= GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)

# containerd finds its shim beside itself when that directory is in its PATH.
$(CTRD2)/.done:
	$(RETRY) env GOFLAGS= CGO_ENABLED=0 GOBIN=$(@D) go install \
		github.com/containerd/containerd/v2/cmd/containerd@$(CONTAINERD2) \
		github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@$(CONTAINERD2)
	touch $@

$(NFPM):
	$(RETRY) env GOFLAGS= CGO_ENABLED=0 GOBIN=$(@D) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)

$(MACHINE)/.done: | deps
	$(RETRY) $(SUDO) packaging/machine/tree.sh $(@D)

.PHONY: packages
packages: deps $(NFPM) ## build dist/*.deb and dist/*.rpm, the same bytes wherever they are built; ROOT=FILE says whose updates hosts believe
	packaging/build.sh --nfpm $(NFPM) --out dist $(if $(ROOT),--root '$(ROOT)')

.PHONY: release
release: deps $(NFPM) ## packages that believe the newest root of REPO, and their programs in REPO, signed with KEYS
	@[ -n '$(REPO)' ] && [ -n '$(KEYS)' ] || { printf 'make release REPO=DIR KEYS=DIR, which begin with:\n  go run ./packaging/release keys KEYS\n  go run ./packaging/release root REPO KEYS    and again each year\n' >&2; exit 2; }
	packaging/build.sh --nfpm $(NFPM) --out dist --root "$$(ls -v '$(REPO)'/metadata/*.root.json | tail -n 1)" --repo '$(REPO)'
	go run ./packaging/release publish '$(REPO)' '$(KEYS)'

$(IMAGE_TREE)/.done: | deps
	$(RETRY) $(SUDO) ami/image/tree.sh $(@D)

# Its package is built again and again: the same commit makes the same image, and another one makes its own.
.PHONY: image
image: deps $(NFPM) $(IMAGE_TREE)/.done ## build dist/berth-VERSION-amd64.raw and .qcow2, disks that boot by UEFI; IMAGES=PATH bakes images in
	rm -rf dist/image.package && packaging/build.sh --nfpm $(NFPM) --out dist/image.package $(if $(ROOT),--root '$(ROOT)') amd64
	$(SUDO) rm -f dist/berth-*-amd64.{raw,qcow2,sha256,json,cdx.json}
	$(SUDO) ami/image/build.sh --tree $(IMAGE_TREE) --package dist/image.package/*.deb --out dist $(if $(IMAGES),--images '$(IMAGES)')
	rm -rf dist/image.package

.PHONY: image-test
image-test: image ## boot the disk in QEMU, as EC2 would, and have it run tasks; dist/image-test.json says how long it takes
	BERTH_TEST_IMAGE=$$(realpath dist/berth-*-amd64.qcow2) BERTH_IMAGE_TIMES=$(CURDIR)/dist/image-test.json \
		go test -count=1 -v -timeout 30m $(TESTFLAGS) ./ami/vm

.PHONY: demo
demo: deps build ## join a cluster and run a task definition, from start to last trace
	CGO_ENABLED=0 go build -trimpath -o bin/pushimage ./agent/e2e/pushimage
	packaging/demo/demo.sh

.PHONY: test
# One package at a time: several start containerds of their own, and two at once would time each other out.
test: deps $(CTRD2)/.done $(NFPM) $(MACHINE)/.done $(if $(filter ./... %/ami/vm,$(PACKAGES)),image) ## run all tests; as root none is skipped
	@$(RETRY) go list -test -deps $(PACKAGES) >/dev/null # fetches modules
	@go list -e -race -test -deps -export $(PACKAGES) >/dev/null # compiles them side by side, which go test does not with -p 1
	BERTH_TEST_CONTAINERD2=$(CTRD2)/containerd BERTH_TEST_NFPM=$(NFPM) BERTH_TEST_MACHINE=$(MACHINE) BERTH_TEST_IMAGE=$$(realpath -q dist/berth-*-amd64.qcow2) \
		go test -race -shuffle=on -p 1 -parallel 5 -timeout 40m $(TESTFLAGS) $(PACKAGES)

.PHONY: test-update
test-update: deps $(NFPM) $(MACHINE)/.done ## update a machine with thirty busy tasks from the commit FROM to this tree and back, and print how it went
	BERTH_TEST_UPDATE_FROM='$(or $(FROM),HEAD~1)' BERTH_TEST_NFPM=$(NFPM) BERTH_TEST_MACHINE=$(MACHINE) \
		go test -count=1 -v -run TestUpdateFromPreviousCommit ./packaging

.PHONY: check
check: $(LINT) ## formatting, linters, the layout, links between pages, tidiness of go.mod
	$(LINT) fmt --diff
	$(LINT) run
	go vet ./...
	go test -count=1 ./agent ./agent/shape
	go mod tidy -diff

.PHONY: fmt
fmt: $(LINT) ## format the tree as check wants it
	$(LINT) fmt

.PHONY: bench
bench: deps build ## measure Berth beside a bare containerd client
	go run ./agent/e2e/bench

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	@go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		{ grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go 2>/dev/null || true; } | while read -r _ target; do \
			echo "== $$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null || exit 1; \
		done || exit 1; \
	done

.PHONY: shape
shape: ## print the figures by which we watch the shape of the tree
	@go run ./agent/shape

.PHONY: clean
clean: ## remove what was built here; tools stay in TOOLS
	rm -rf bin dist
