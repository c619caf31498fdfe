# Everything that is done with this repository, by name. `make` alone lists it.

LIBRADOS_TAGS ?= librados,pacific
FUZZ_TIME     ?= 30s
RUNS          ?= 10
HISTORIES     ?= 1000
RULE          ?=
E2E_FLAGS     ?=
BIN           := $(CURDIR)/bin
E2E           := cd e2e &&

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: packages test-unit test-e2e ## All tests, on a fresh Debian 12 machine with Go, as root (installs Debian's Ceph packages)

.PHONY: test-unit
test-unit: ## The quick tests: no root, no Ceph, race detector on
	go vet ./...
	go test -race ./...

.PHONY: test-history
test-history: ## Over 100,000 steps of random histories against the safety rules (HISTORIES=1000 of 100 steps)
	go test -run TestTheRules ./remediator/history -rapid.checks=$(HISTORIES) -rapid.steps=100 -timeout 30m
	go test -run TestEvery ./remediator/history -rapid.checks=$(shell expr $(HISTORIES) / 5) -rapid.steps=100 -timeout 30m

.PHONY: mutate
mutate: ## Break each safety rule in turn; fail if no test notices (RULE=S1 for one)
	go -C tools run ./mutate -root .. -rule "$(RULE)"

.PHONY: test-e2e
test-e2e: packages vm old-and-new-ceph ## The lab's own tests and the end-to-end scenarios, as root (E2E_FLAGS=-v)
	@rm -f e2e/bin/skipped
	go vet -tags $(LIBRADOS_TAGS) ./ceph/librados ./cmd/rbd-rescue
	$(E2E) go vet -tags $(LIBRADOS_TAGS) ./...
	@flock -o $(MACHINE) $(MAKE) --no-print-directory -k -j2 e2e-lab e2e-ceph; result=$$?; \
	if [ -s e2e/bin/skipped ]; then echo; echo "*** SKIPPED, so not tested:"; cat e2e/bin/skipped; fi; exit $$result

# A machine has one lab at a time, so that its packages run one after the other; these two have Ceph clusters of their own, on
# addresses of their own, and run beside it. Another make test-e2e waits: its names and addresses are the same. No pass is
# remembered: it depends on more than files.
MACHINE  := /run/lock/rbd-rescue-e2e
OWN_CEPH := cmd/lab-csi lab/ceph
E2E_TEST := go test -tags $(LIBRADOS_TAGS) -count 1 -p 1 -parallel 32 -timeout 45m $(E2E_FLAGS)

.PHONY: e2e-lab e2e-ceph
e2e-lab:
	@$(E2E) $(E2E_TEST) $$(go list -tags $(LIBRADOS_TAGS) ./... | grep -v $(OWN_CEPH:%=-e '/e2e/%$$'))

e2e-ceph:
	@$(E2E) $(E2E_TEST) $(OWN_CEPH:%=./%)

.PHONY: demo
demo: packages ## Watch a node fail and its workloads come back elsewhere, as root
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/demo

.PHONY: bench-recovery
bench-recovery: packages ## Measure the recovery beside the ways without rbd-rescue (RUNS=10), as root
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/bench-recovery -runs $(RUNS)

.PHONY: bench-webhook
bench-webhook: packages ## Measure both commands beside a cluster of 5,000 nodes, as root (takes 15 GiB)
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/bench-webhook

.PHONY: bench
bench: ## Benchmarks of the hot paths
	go test -run '^$$' -bench . -benchmem ./webhook

FUZZ := ceph/FuzzParseAddress ceph/FuzzParseOSDMap ceph/FuzzParseDaemons ceph/FuzzParseMirrors ceph/FuzzStagedOn volume/FuzzParse \
	api/v1alpha1/FuzzParsePolicy remediator/observe/FuzzReadRecord cmd/rbd-rescue/config/FuzzParse \
	webhook/FuzzPodAdmission webhook/FuzzNamespaceAdmission

.PHONY: explore
explore: fuzz test-history ## What looks for the unknown at random: fuzz targets and histories

.PHONY: fuzz $(FUZZ)
fuzz: $(FUZZ) ## Fuzz the parsers of foreign text (FUZZ_TIME=30s each)
# Go before 1.27 may take the end of its own time for a failure (golang/go#75804), above all on a busy machine. A finding always
# comes with the input that made it.
$(FUZZ):
	@mkdir -p $(BIN)
	go test -run '^$$' -fuzz '^$(notdir $@)$$' -fuzztime $(FUZZ_TIME) ./$(patsubst %/,%,$(dir $@)) >$(BIN)/$(notdir $@).log 2>&1 || \
		{ grep -q '^    context deadline exceeded$$' $(BIN)/$(notdir $@).log && ! grep -Eq 'Failing input|panic' $(BIN)/$(notdir $@).log; } || \
		{ cat $(BIN)/$(notdir $@).log; exit 1; }
	@grep '^fuzz: elapsed' $(BIN)/$(notdir $@).log | tail -1

.PHONY: lint
lint: packages $(BIN)/golangci-lint ## Run the linters on both modules
	$(BIN)/golangci-lint run --build-tags $(LIBRADOS_TAGS) ./...
	$(E2E) $(BIN)/golangci-lint run --build-tags $(LIBRADOS_TAGS) ./...

.PHONY: generate
generate: $(BIN)/controller-gen ## Generate deep copies and the CRD from the API types
	$(BIN)/controller-gen object paths=./api/...
	$(BIN)/controller-gen crd paths=./api/... output:crd:dir=charts/rbd-rescue/templates/crds

.PHONY: check-generated
check-generated: generate ## Fail if generated files or go.mod files are not up to date
	go mod tidy -diff
	$(E2E) go mod tidy -diff
	git diff --exit-code -- api charts

.PHONY: packages
packages: ## Install the Debian packages that lab and librados need
	@./e2e/install-packages

.PHONY: vm
vm: ## Get qemu and a kernel for the scenarios with the real kernel RBD client, if they can be had
	@./e2e/install-vm

.PHONY: old-and-new-ceph
old-and-new-ceph: packages ## Get Ceph 14.2 and 18.2 from other suites of Debian, beside the installed one
	@./e2e/fetch-ceph bullseye trixie || echo "the tests against these releases of Ceph will be skipped"

$(BIN)/controller-gen: tools/go.mod
	cd tools && go build -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(BIN)/golangci-lint: tools/go.mod
	cd tools && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
