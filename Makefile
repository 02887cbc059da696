# The two commands to know: `make demo` runs a whole job in a stand-in VM, `make test` checks everything.

# A tag is v1.2.3, and the version 1.2.3.
VERSION ?= $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null || echo devel))
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GO      := go
# No git history is needed to build, and none is written into binaries but VERSION and COMMIT.
GOFLAGS := -trimpath -buildvcs=false
PREFIX  ?= /usr/local
BIN     := bin

export CGO_ENABLED ?= 0

.PHONY: build demo test unit e2e chaos lint cross fuzz docs man install dist clean

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

man: ## the manual pages, and completions for shells, in bin/extras
	./scripts/extras $(BIN)/extras $(VERSION)

SHARE := $(DESTDIR)$(PREFIX)/share
NAME  := gitlab-runner-tart-driver
install: build man ## to PREFIX/bin, with manual pages and completions in PREFIX/share
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	install -m 755 $(BIN)/$(NAME) $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(BIN)/extras/man/*.1 $(SHARE)/man/man1/
	install -m 644 $(BIN)/extras/completions/$(NAME).bash $(SHARE)/bash-completion/completions/$(NAME)
	install -m 644 $(BIN)/extras/completions/$(NAME).zsh $(SHARE)/zsh/site-functions/_$(NAME)
	install -m 644 $(BIN)/extras/completions/$(NAME).fish $(SHARE)/fish/vendor_completions.d/

dist: ## archives and checksums of a release
	./scripts/dist $(VERSION) $(COMMIT)

clean:
	rm -rf $(BIN) dist
