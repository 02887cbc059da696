# The two commands to know: `make demo` runs a whole job in a stand-in VM, `make test` checks everything.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      := go
# No git history is needed to build, and none is written into binaries but VERSION.
GOFLAGS := -trimpath -buildvcs=false
PREFIX  ?= /usr/local
BIN     := bin

export CGO_ENABLED ?= 0

.PHONY: build demo test unit e2e chaos lint cross fuzz docs install dist clean

build: ## the driver, and the stand-in for tart
	$(GO) build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

demo: ## one whole GitLab job, without a Mac and without GitLab
	./scripts/demo

test: ## everything that CI checks
	./scripts/test

unit: ## the tests beside the code
	CGO_ENABLED=1 $(GO) test -race ./cmd/... ./internal/...

e2e: ## whole jobs through the built binaries
	./scripts/e2e

chaos: ## breaks things on purpose; CHAOS=full takes hours
	./scripts/chaos

lint:
	./scripts/lint

cross: ## all platforms that must build
	./scripts/cross

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME
	./scripts/fuzz $(FUZZTIME)

.PHONY: bench
BENCHFLAGS ?=
bench: ## what a job costs beyond its VM; PEER=/path/to/driver for another driver's figures beside ours
	./scripts/bench $(BENCHFLAGS)

docs: ## the pages that are made from the code
	$(GO) build -o $(BIN)/docs ./cmd/gitlab-runner-tart-driver
	$(BIN)/docs settings > docs/settings.md
	$(BIN)/docs doctor --checks > docs/doctor.md

install: build ## to PREFIX/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BIN)/gitlab-runner-tart-driver $(DESTDIR)$(PREFIX)/bin/

dist: ## archives and checksums of a release
	./scripts/dist $(VERSION)

clean:
	rm -rf $(BIN) dist
