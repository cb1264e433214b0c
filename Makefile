# make alone lists the targets. Tool versions are pinned by the tool lines of go.mod.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(CURDIR)/bin:$(PATH)

GO        ?= go
ADDR      ?= :8000
FUZZTIME  ?= 30s
CONNS     ?= 1000000
HOLD      ?= 10m
BENCHARGS ?=
FOR       ?= 10m
LOOK      ?= 15s
CLIENTS   ?= 5000
SEED      ?= 0
SOAK      ?= 5m

# Modules of their own, beside the one at the root.
MODULES := $(patsubst %/go.mod,%,$(shell find . -mindepth 2 -name go.mod -not -path '*/node_modules/*' -not -path './tmp/*'))

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

.PHONY: build
build: ## build bin/longwire, which links nothing of the system
	CGO_ENABLED=0 $(GO) build -o bin/longwire ./cmd/longwire

.PHONY: run
run: build ## build and serve on ADDR (:8000), with the console, /demo/, /echo and /debug/pprof
	exec bin/longwire serve --dev --addr '$(ADDR)'

.PHONY: setup
setup: ## install what the tests need
	@scripts/setup

.PHONY: test
test: check ## check, then every test of every module under the race detector, and of clients/js and console
	$(GO) test -race -count=1 -timeout 15m ./...
	@for m in $(MODULES); do echo "test: module $$m"; (cd "$$m" && $(GO) test -race -count=1 -timeout 15m ./...); done
	@if command -v npm >/dev/null; then scripts/test-js; scripts/console --test; else echo "test: no npm: clients/js and console are not tested"; fi
	@echo "test: passed"

.PHONY: check
check: setup format vet static layout modules generated ## format, vet, staticcheck, layout, modules, generated files
	@echo "check: passed"

.PHONY: format
format:
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "check: not formatted (gofmt -w):"; echo "$$bad"; exit 1; }

.PHONY: vet
vet:
	$(GO) vet ./...
	@for m in $(MODULES); do (cd "$$m" && $(GO) vet ./...); done
	@for os in darwin windows; do echo "GOOS=$$os $(GO) vet ./..."; GOOS=$$os CGO_ENABLED=0 $(GO) vet ./...; done

.PHONY: static
static:
	$(GO) build -o bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	@for m in $(MODULES); do (cd "$$m" && staticcheck ./...); done

.PHONY: layout
layout:
	$(GO) test -count=1 -run '^TestLayout$$' .

.PHONY: modules
modules:
	$(GO) mod verify
	$(GO) mod tidy -diff
	@for m in $(MODULES); do (cd "$$m" && $(GO) mod verify && $(GO) mod tidy -diff); done

.PHONY: generate
generate: ## write the generated files anew
	$(GO) run ./cmd/longwire config --markdown > docs/options.md.new
	mv docs/options.md.new docs/options.md
	$(GO) generate ./internal/trace
	$(GO) run ./deploy/dashboards

.PHONY: generated
generated:
	@$(GO) run ./cmd/longwire config --markdown | diff -u docs/options.md - \
		|| { echo "check: docs/options.md is out of date: make generate"; exit 1; }
	@scripts/probes --check
	@$(GO) run ./deploy/dashboards -check
	@if [ -d clients/js/node_modules ]; then scripts/chat-js --check; else echo "check: clients/js/node_modules is not there: lib.js of examples/chat is not checked"; fi
	@if [ -d console/node_modules ]; then scripts/console --check; else echo "check: console/node_modules is not there: internal/console/dist is not checked"; fi

.PHONY: console
console: ## build the console's pages from console/ into internal/console/dist
	@scripts/console

.PHONY: screenshots
screenshots: build ## take the pictures of the console in docs/images, of a gateway under load, in two minutes
	@mkdir -p docs/images
	$(GO) test -count=1 -timeout 15m -v -run '^TestConsolePictures$$' ./internal/cli -console.pictures '$(CURDIR)/docs/images' -console.longwire '$(CURDIR)/bin/longwire' | grep -E 'figure:|^(ok|FAIL)|--- (FAIL|SKIP)'

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (30s)
	@found=0; \
	for p in $$($(GO) list ./...); do \
		names=$$($(GO) test -list '^Fuzz' "$$p"); \
		for f in $$(grep '^Fuzz' <<<"$$names" || true); do \
			echo "fuzz: $$p $$f for $(FUZZTIME)"; found=$$((found + 1)); \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime '$(FUZZTIME)' "$$p"; \
		done; \
	done; \
	[ $$found -gt 0 ] || { echo "fuzz: found no target"; exit 1; }; \
	echo "fuzz: $$found targets passed"

.PHONY: checker
checker: ## let CLIENTS (5000) clients come to grief for FOR (10m) under the race detector, and check all that they get; SEED as it was printed
	$(GO) test -race -count=1 -timeout 0 -v -run '^TestCheckerFor$$' . -checker.for='$(FOR)' -checker.clients='$(CLIENTS)' -checker.seed='$(SEED)'

.PHONY: doctor-corpus
doctor-corpus: ## run the doctor on programs with known leaks, and on healthy ones, for LOOK (15s) each, and print the table
	$(GO) test -count=1 -timeout 60m -v -run '^TestCorpus$$' ./internal/doctor -corpus.all -corpus.for '$(LOOK)' -corpus.parallel 4

.PHONY: bench
bench: ## measure beside the floor and the Go peers into bench/RESULTS.md; BENCHARGS='-rounds 1' and the like
	$(GO) run ./bench/run -out bench/RESULTS.md $(BENCHARGS)

.PHONY: million
million: ## hold CONNS (1000000) connections for HOLD (10m), result in bench/MILLION.json; needs about 10 GB of memory
	$(GO) run ./bench/million -conns '$(CONNS)' -hold '$(HOLD)' -out bench/MILLION.json

.PHONY: bench-logs
bench-logs: ## measure what the log costs and is worth, by log-sampling; BENCHARGS='-conns 2000 -for 20s -rounds 3'
	$(GO) run ./bench/logs $(BENCHARGS)

.PHONY: bench-push
bench-push: ## measure clients of the Centrifuge protocol into bench/PUSH.md; BENCHARGS='-only fanout' and the like
	$(GO) run ./bench/push -out bench/PUSH.md $(BENCHARGS)

.PHONY: bench-stress
bench-stress: build ## measure the load tester beside wrk, tsung and k6, as far as they are installed, into bench/STRESS.md; BENCHARGS='-k6 PATH' and the like
	$(GO) run ./bench/stress -longwire bin/longwire -out bench/STRESS.md $(BENCHARGS)

.PHONY: bench-accuracy
bench-accuracy: ## hold the load tester's percentiles and breaking points against servers that know better, in half an hour; needs an idle machine
	$(GO) test -count=1 -timeout 90m -v -run '^Test(Accuracy|BreakingPoint)$$' ./internal/stress -stress.figures -stress.breaks 10 | grep --line-buffered -E 'figure:|try [0-9]|^(ok|FAIL)|--- (FAIL|SKIP)'

.PHONY: bench-client
bench-client: ## measure the clients in Go and JavaScript for docs/clients.md, in 9 minutes; as root with a line that fails
	$(GO) test -count=1 -timeout 15m -v -run '^Test(Detection|SilentLine|FalseAlarms|LossyLine|Outage|OutageOnSockets|Leaks|LeaksOnSockets|IdleCost|JavaScriptLine)$$' ./client -client.figures | grep --line-buffered -E 'figure:|^(ok|FAIL)|--- (FAIL|SKIP)'
	@if command -v npm >/dev/null; then cd clients/js && npm run --silent build && node --test --test-reporter=tap test/fleet.test.js | grep -E '^# (seed|[0-9]|nothing|a )|^not ok'; else echo "bench-client: no npm: clients/js is not measured"; fi

.PHONY: bench-trace
bench-trace: build ## measure what tracing connections costs, and whether 10,000 ends a second for 30 s are all told; BENCHARGS='-rounds 8' and the like
	$(GO) run ./bench/trace -longwire bin/longwire $(BENCHARGS)

.PHONY: claims
claims: build ## try the claims of the founding article, into docs/claims.json and docs/claims.md, in a quarter of an hour; SOAK (5m) is how long a million connections are held, for which it needs 12 GB of memory
	bin/longwire lab all --json > bin/claims.json
	bin/longwire lab run buffers --scale 5 --json > bin/claims-buffers.json
	bin/longwire lab run million --scale 200 --soak '$(SOAK)' --json > bin/claims-million.json
	bin/longwire lab claims --brief bin/claims.json bin/claims-buffers.json bin/claims-million.json > docs/claims.json
	bin/longwire lab claims docs/claims.json > docs/claims.md

.PHONY: million-push
million-push: ## CONNS (1000000) clients with two subscriptions each and one publication to all, result in bench/MILLION_PUSH.json; needs about 10 GB of memory
	$(GO) run ./bench/push -only memory -conns '$(CONNS)' -opens 12000 -json bench/MILLION_PUSH.json $(BENCHARGS)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin tmp
