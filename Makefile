# `make` alone says what there is. Go and make are all that is needed; the tools
# are pinned under .ci/tools and built from source into .cache/bin.

MODULE   := github.com/khelp/khelp
TOOLS    := .cache/bin
GO       ?= go
BIN      ?= bin
FUZZTIME ?= 10s
BENCH    ?= .
# Extra arguments for go test, as in: make test ARGS='-run TestH1 ./host/hhook'
ARGS     ?= ./...

# Everything but `race` is plain Go and needs no C compiler.
export CGO_ENABLED ?= 0

# The go command uses every processor by itself. Targets that write the tree
# (fmt, generate, tidy) must not meet those that read it, also under -j.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### build, run

# Programs are the main packages directly below cmd, plugins and examples.
.PHONY: build
build: ## build every program into bin/
	@pkgs="$$($(GO) list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./... | grep -E '^$(MODULE)/(cmd|plugins|examples)/[^/]+$$')" || \
		{ echo "build: no program found" >&2; exit 1; }; \
	mkdir -p $(BIN) && $(GO) build -o $(BIN)/ $$pkgs && for p in $$pkgs; do echo "$(BIN)/$${p##*/}"; done

.PHONY: demo
demo: build ## real HTTP traffic through khelpd and the example helper; checks every count
	$(GO) run ./examples/h_example/demo -bin $(BIN)

##### test

.PHONY: test
test: ## run all tests
	$(GO) test $(ARGS)

.PHONY: race
race: ## run all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GO) test -race $(ARGS)

.PHONY: bench
bench: ## run all benchmarks (BENCH=regexp selects)
	@targets=$$(.ci/targets Benchmark) && \
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $$(echo "$$targets" | cut -d' ' -f1 | sort -u)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	@targets=$$(.ci/targets Fuzz) && echo "$$targets" | while read -r pkg name; do \
		[ -n "$$name" ] || continue; \
		echo "== $$pkg $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null || exit 1; \
	done

##### keep in order

.PHONY: generate
generate: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## generate the code that is checked in
	$(TOOLS)/buf generate

.PHONY: fmt
fmt: $(TOOLS)/buf ## format Go and proto files
	"$$($(GO) env GOROOT)/bin/gofmt" -s -l -w $$(.ci/gofiles)
	$(TOOLS)/buf format -w

.PHONY: tidy
tidy: ## bring go.mod and go.sum in line with the imports
	$(GO) mod tidy

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: lint
lint: $(TOOLS)/golangci-lint $(TOOLS)/buf ## run the linters
	$(TOOLS)/golangci-lint run ./...
	$(TOOLS)/buf lint

CROSS := darwin/arm64 windows/amd64 linux/arm64

.PHONY: cross
cross: $(addprefix cross-,$(subst /,_,$(CROSS))) ## build and vet, tests included, for the other systems

cross-%:
	GOOS=$(word 1,$(subst _, ,$*)) GOARCH=$(word 2,$(subst _, ,$*)) $(GO) build -o /dev/null ./...
	GOOS=$(word 1,$(subst _, ,$*)) GOARCH=$(word 2,$(subst _, ,$*)) $(GO) vet ./...

.PHONY: check
check: clean-before fmt generate tidy vet lint cross clean-after ## fmt, generate, tidy, vet, lint, cross; fails if the tree is not clean after

.PHONY: clean-before clean-after
clean-before clean-after:
	@.ci/clean-tree $(@:clean-%=%)

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) .cache

##### tools

# $(call tool,name,module directory below .ci/tools,package)
define tool
$(TOOLS)/$1: .ci/tools/$2/go.mod .ci/tools/$2/go.sum
	cd .ci/tools/$2 && $(GO) build -trimpath -o $$(abspath $$@) $3
	@touch $$@
endef

$(eval $(call tool,buf,buf,github.com/bufbuild/buf/cmd/buf))
$(eval $(call tool,golangci-lint,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint))
$(eval $(call tool,protoc-gen-go-grpc,gen,google.golang.org/grpc/cmd/protoc-gen-go-grpc))

# From the main module: generated code and runtime are of one version, always.
$(TOOLS)/protoc-gen-go: go.mod go.sum
	$(GO) build -trimpath -o $(abspath $@) google.golang.org/protobuf/cmd/protoc-gen-go
	@touch $@
