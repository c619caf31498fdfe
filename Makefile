# Everything that is done with this repository, by name. `make` alone lists it.

LIBRADOS_TAGS ?= librados,pacific
FUZZ_TIME     ?= 30s
FUZZ_FLAGS    ?=
FUZZ_GUIDED   ?= %
RUNS          ?= 10
VOLUMES       ?= 1,40
HISTORIES     ?= 1000
RULE          ?=
IMAGE         ?= rbd-rescue:dev
E2E_FLAGS     ?=
BIN           := $(CURDIR)/bin
CHART         := charts/rbd-rescue
PROMTOOL      := e2e/bin/prometheus/usr/bin/promtool
E2E           := cd e2e &&

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: lab-parts ## All tests, on a fresh Debian 12 machine with Go, as root (installs Debian's Ceph packages)
	@$(call beside_each_other,e2e-lab e2e-alone quick e2e-ceph e2e-apart)

.PHONY: test-unit
test-unit: ## The quick tests: no root, no Ceph, race detector on
	go vet ./...
	go test -race -vet=off ./...

.PHONY: alerts
alerts: prometheus ## Test when each alert fires and when not, that alerts and dashboard ask for metrics that are there, and how it is drawn
	$(PROMTOOL) check rules $(CHART)/files/alerts.yaml
	$(PROMTOOL) test rules $(CHART)/files/alerts_test.yaml
	go -C tools/queries test ./...
	go -C tools/dashboard test ./...

.PHONY: test-history
test-history: test-history-rules test-history-ends ## Over 100,000 steps of random histories against the safety rules (HISTORIES=1000 of 100 steps)

# A history leaves much garbage and little else: to collect it was a fifth of a profile.
.PHONY: test-history-rules test-history-ends
test-history-rules test-history-ends: export GOGC = 400
test-history-rules:
	go test -run TestTheRules ./remediator/history -rapid.checks=$(HISTORIES) -rapid.steps=100 -timeout 40m

test-history-ends:
	go test -run TestEvery ./remediator/history -rapid.checks=$(shell expr $(HISTORIES) / 5) -rapid.steps=100 -timeout 40m

.PHONY: mutate
mutate: ## Break each safety rule in turn; fail if no test notices (RULE=S1 for one)
	go -C tools run ./mutate -root .. -rule "$(RULE)"

.PHONY: test-e2e
test-e2e: lab-parts ## The lab's own tests and the end-to-end scenarios, as root (E2E_FLAGS=-v)
	@$(call beside_each_other,e2e-lab e2e-alone e2e-ceph e2e-apart)

.PHONY: lab-parts
lab-parts: packages vm old-and-new-ceph prometheus # what the lab needs that is not built

# The scenarios wait more than they compute, and take longest: there are two labs for them, and the rest is done beside. What the
# other lanes print is shown when they are done, and of those that failed at the end. Another make test waits: its names and
# addresses are the same.
MACHINE := /run/lock/rbd-rescue-e2e
LANES   := e2e/bin/lanes
beside_each_other = flock -o $(MACHINE) sh -c 'rm -rf e2e/bin/skipped e2e/bin/rights e2e/bin/logs $(LANES); mkdir -p $(LANES); \
	exec $(MAKE) --no-print-directory -k -j3 $(1)'; result=$$?; \
	for log in $(LANES)/*.failed; do if [ -e $$log ]; then echo; echo "*** FAILED: $$(basename $$log .failed)"; cat $$log; fi; done; \
	if [ -s e2e/bin/skipped ]; then echo; echo "*** SKIPPED, so not tested:"; cat e2e/bin/skipped; fi; exit $$result
lane = @mkdir -p $(LANES); if ( $(1) ) >$(LANES)/$@.log 2>&1; then cat $(LANES)/$@.log; else \
	echo "*** $@ has failed; its output comes at the end"; mv $(LANES)/$@.log $(LANES)/$@.failed; exit 1; fi

# The scenarios that run beside each other have the machine's network, /run and names; those that need a lab to themselves have theirs
# apart. cmd/lab-csi and lab/ceph have Ceph clusters on addresses of their own; the packages that are left have labs of their own,
# apart, one after the other. No pass is remembered: it depends on more than files. make lint vets the code, which takes minutes from nothing.
OWN_CEPH := cmd/lab-csi lab/ceph
E2E_TEST := go test -vet=off -tags $(LIBRADOS_TAGS) -count 1 -p 1 -parallel 32 -timeout 45m $(E2E_FLAGS)

.PHONY: e2e-lab e2e-alone e2e-ceph e2e-apart quick
e2e-lab:
	$(call lane,$(E2E) $(E2E_TEST) . -part=beside)

e2e-alone:
	$(call lane,$(E2E) ./apart $(E2E_TEST) . -part=alone)

e2e-ceph:
	$(call lane,$(E2E) $(E2E_TEST) $(OWN_CEPH:%=./%))

e2e-apart:
	$(call lane,$(E2E) ./apart $(E2E_TEST) $$(go list -tags $(LIBRADOS_TAGS) ./... | grep -v -e '/e2e$$' $(OWN_CEPH:%=-e '/e2e/%$$')))

quick:
	$(call lane,nice -n 5 $(MAKE) --no-print-directory test-unit alerts mutations)

# That each of them finds what it breaks; make mutate breaks it.
.PHONY: mutations
mutations:
	go -C tools test ./mutate

.PHONY: demo
demo: packages prometheus ## Watch a node fail and its workloads come back elsewhere, as root
	@echo "compiling the demo: the first time this takes minutes"
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/demo

.PHONY: story
story: packages prometheus ## Draw docs/dashboard.svg and docs/story-timeline.svg anew, of a demo, as root
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/demo -pictures ../docs

.PHONY: bench-recovery
bench-recovery: packages ## Measure the recovery beside the ways without rbd-rescue (RUNS=10, VOLUMES=1,40), as root
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/bench-recovery -runs $(RUNS) -volumes $(VOLUMES)

.PHONY: bench-webhook
bench-webhook: packages ## Measure both commands beside a cluster of 5,000 nodes, as root (takes 15 GiB)
	$(E2E) go run -tags $(LIBRADOS_TAGS) ./cmd/bench-webhook

.PHONY: bench
bench: ## Benchmarks of the hot paths
	go test -run '^$$' -bench . -benchmem ./webhook

FUZZ := ceph/FuzzParseAddress ceph/FuzzParseOSDMap ceph/FuzzParseDaemons ceph/FuzzParseMirrors ceph/FuzzStagedOn volume/FuzzParse \
	api/v1alpha1/FuzzParsePolicy remediator/observe/FuzzReadRecord cmd/rbd-rescue/config/FuzzParse \
	webhook/FuzzPodAdmission webhook/FuzzNamespaceAdmission manifests/FuzzDecode

.PHONY: explore
explore: test-history fuzz ## What looks for the unknown at random: fuzz targets and histories

.PHONY: fuzz $(FUZZ)
fuzz: $(FUZZ) ## Fuzz the parsers of foreign text (FUZZ_TIME=30s each)
# Coverage guides a fuzz target, and for that Go compiles all that it depends on once more: minutes, where that is client-go. Those
# that FUZZ_GUIDED does not match (make's % is what varies) do without. The flags of such a one are hidden from go test, which would compile.
fuzz_flags = $(if $(filter $(FUZZ_GUIDED),$@),-fuzz '^$(notdir $@)$$' -fuzztime $(FUZZ_TIME),-args -test.fuzz '^$(notdir $@)$$' \
	-test.fuzztime $(FUZZ_TIME) -test.fuzzcachedir $(BIN)/fuzz/$@)
# Go before 1.27 may take the end of its own time for a failure (golang/go#75804), above all on a busy machine. A finding always
# comes with the input that made it.
$(FUZZ):
	@mkdir -p $(BIN)
	go test -v -vet=off -run '^$$' $(FUZZ_FLAGS) ./$(patsubst %/,%,$(dir $@)) $(fuzz_flags) >$(BIN)/$(subst /,-,$@).log 2>&1 || \
		{ grep -q '^    context deadline exceeded$$' $(BIN)/$(subst /,-,$@).log && ! grep -Eq 'Failing input|panic' $(BIN)/$(subst /,-,$@).log; } || \
		{ cat $(BIN)/$(subst /,-,$@).log; exit 1; }
	@grep '^fuzz: elapsed' $(BIN)/$(subst /,-,$@).log | tail -1 | grep . || { cat $(BIN)/$(subst /,-,$@).log; exit 1; }

.PHONY: lint
lint: packages $(BIN)/golangci-lint chart ## Run the linters on both modules and the chart
	$(BIN)/golangci-lint run --allow-serial-runners --build-tags $(LIBRADOS_TAGS) ./...
	$(E2E) $(BIN)/golangci-lint run --allow-serial-runners --build-tags $(LIBRADOS_TAGS) ./...

# A Helm that was not built by its own project takes the cluster for 1.20.
KUBERNETES := --kube-version 1.37.0
# Each exception has its reason. cpu-limit: it would slow a rescue down just when many pods move. ephemeral-storage: nothing is
# written but the log. image-pull-policy: a registry may be down in the same outage. podantiaffinity: topology spread constraints
# do it. The NetworkPolicies are off by default (values.yaml), and looked at here.
KUBE_SCORE := --set networkPolicy.enabled=true
KUBE_SCORE_IGNORE := --ignore-container-cpu-limit --ignore-test container-ephemeral-storage-request-and-limit \
	--ignore-test container-image-pull-policy --ignore-test deployment-has-host-podantiaffinity

# What is off by default, and looked at all the same.
MONITORING := --set monitoring.serviceMonitor.enabled=true --set monitoring.prometheusRule.enabled=true --set monitoring.dashboard.enabled=true

KUBECONFORM := $(BIN)/kubeconform -strict -schema-location '$(BIN)/schemas/{{.Group}}/{{.ResourceAPIVersion}}/{{.ResourceKind}}.json'

.PHONY: chart
chart: $(BIN)/helm $(BIN)/helm4 $(BIN)/same $(BIN)/helm-unittest $(BIN)/kubeconform $(BIN)/kube-score schemas ## Lint, test and validate the Helm chart with Helm 3 and 4, with each file of values in its folder ci
	$(BIN)/helm-unittest --strict $(CHART)
	@set -eu; for values in $(CHART)/ci/*-values.yaml; do \
		echo "$$values"; \
		template="template rbd-rescue $(CHART) --namespace rbd-rescue $(KUBERNETES) --values $$values"; \
		for helm in $(BIN)/helm $(BIN)/helm4; do $$helm lint --strict --quiet $(CHART) $(KUBERNETES) --values $$values; done; \
		$(BIN)/helm $$template $(MONITORING) >$(BIN)/chart.yaml; \
		$(BIN)/helm4 $$template $(MONITORING) >$(BIN)/chart4.yaml; \
		$(BIN)/same $(BIN)/chart.yaml $(BIN)/chart4.yaml || { echo "Helm 3 and Helm 4 render $$values to other objects"; exit 1; }; \
		$(KUBECONFORM) -summary $(BIN)/chart.yaml; \
		$(BIN)/helm $$template $(KUBE_SCORE) >$(BIN)/chart.yaml; \
		$(BIN)/kube-score score --kubernetes-version v1.37 $(KUBE_SCORE_IGNORE) --exit-one-on-warning --output-format ci $(BIN)/chart.yaml >$(BIN)/kube-score.log || \
			{ grep -v '^\[OK\]' $(BIN)/kube-score.log; exit 1; }; \
	done
	@! sed s/maxSkew/maxScrew/ $(BIN)/chart.yaml | $(KUBECONFORM) >/dev/null || { echo "kubeconform takes a field that there is not"; exit 1; }
	@! $(BIN)/same $(BIN)/chart4.yaml $(BIN)/chart.yaml 2>/dev/null || { echo "same takes objects for the same that are not"; exit 1; }
	@! grep -E '^\|.*\|  \|$$' $(CHART)/README.md || { echo "these values have no comment in $(CHART)/values.yaml"; exit 1; }

.PHONY: schemas
schemas: # what kubeconform validates with: Kubernetes' own kinds, ours, cert-manager's, and the Prometheus operator's
	@kubernetes=$$(cd e2e && go mod download k8s.io/kubernetes && go list -m -f '{{.Dir}}' k8s.io/kubernetes) && \
	manager=$$(go mod download github.com/cert-manager/cert-manager && go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager) && \
	operator=$$(go mod download -json github.com/prometheus-operator/prometheus-operator@v0.85.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/example/prometheus-operator-crd/monitoring.coreos.com && \
	go -C tools run ./schemas -swagger $$kubernetes/api/openapi-spec/swagger.json -out $(BIN)/schemas \
		$(abspath $(wildcard $(CHART)/files/crds/*.yaml)) $$manager/deploy/crds/cert-manager.io_certificates.yaml $$manager/deploy/crds/cert-manager.io_issuers.yaml \
		$${operator}_servicemonitors.yaml $${operator}_prometheusrules.yaml

.PHONY: generate
generate: $(BIN)/controller-gen $(BIN)/helm-docs ## Generate deep copies and the CRD from the API types, and the chart's README
	$(BIN)/controller-gen object paths=./api/...
	$(BIN)/controller-gen crd paths=./api/... output:crd:dir=$(CHART)/files/crds
	$(BIN)/helm-docs --chart-search-root $(CHART) --log-level warning

# Not that of the tools: it builds them, but tests of what they need have two modules to choose from.
.PHONY: check-generated
check-generated: generate ## Fail if generated files or go.mod files are not up to date
	@set -eu; for module in $$(git ls-files '*go.mod' | grep -v '^tools/go.mod'); do go -C $$(dirname $$module) mod tidy -diff; done
	git diff --exit-code -- api charts
	@! git ls-files --others --exclude-standard -- api charts | grep . || { echo "these are generated and not committed"; exit 1; }

# No cgo, no paths, no build ID: the same source makes the same files, for whatever machine a person sits at.
PLUGIN           := $(BIN)/kubectl-rescue
PLUGIN_PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
VERSION          ?= $(shell git describe --tags --always --dirty)

.PHONY: kubectl-rescue
kubectl-rescue: ## Build the kubectl plugin's archives and its manifest for krew: bin/kubectl-rescue (PLUGIN_PLATFORMS=linux/amd64)
	@set -eu; rm -rf $(PLUGIN); mkdir -p $(PLUGIN); sed 's/@VERSION@/$(VERSION)/' cmd/kubectl-rescue/krew.yaml >$(PLUGIN)/rescue.yaml; \
	for platform in $(PLUGIN_PLATFORMS); do \
		os=$${platform%/*} arch=$${platform#*/} name=kubectl-rescue-$$os-$$arch; binary=kubectl-rescue; \
		if [ $$os = windows ]; then binary=kubectl-rescue.exe; fi; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(VERSION)" \
			-o $(PLUGIN)/$$name/$$binary ./cmd/kubectl-rescue; \
		cp LICENSE cmd/kubectl-rescue/kubectl_complete-rescue $(PLUGIN)/$$name; \
		tar -C $(PLUGIN)/$$name --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - . | gzip -n >$(PLUGIN)/$$name.tar.gz; \
		sum=$$(sha256sum $(PLUGIN)/$$name.tar.gz | cut -d ' ' -f 1); sed -i "s/@SHA256-$$os-$$arch@/$$sum/" $(PLUGIN)/rescue.yaml; \
		rm -r $(PLUGIN)/$$name; \
	done; ls -l $(PLUGIN)

.PHONY: image
image: ## Build the image of the Dockerfile with buildah, as root (IMAGE=rbd-rescue:dev); without a registry on stand-ins for its bases
	@./e2e/image/build $(IMAGE)

.PHONY: test-image
test-image: image ## Build the image, and run its binary as it runs in a cluster
	@./e2e/image/test $(IMAGE)

# The licences are looked for in the modules that are there already.
.PHONY: sbom
sbom: packages $(BIN)/cyclonedx-gomod ## List the Go modules in the binary, with their licences: bin/sbom.json (CycloneDX)
	go build -trimpath -tags $(LIBRADOS_TAGS) -o $(BIN)/rbd-rescue ./cmd/rbd-rescue
	GOPROXY=off $(BIN)/cyclonedx-gomod bin -json -licenses -std -noserial -notimestamp \
		-version "$$(git describe --always --dirty)" -output $(BIN)/sbom.json $(BIN)/rbd-rescue

.PHONY: packages
packages: ## Install the Debian packages that lab and librados need
	@./e2e/install-packages

.PHONY: vm
vm: ## Get qemu, a kernel and a container runtime for the tests with the real kernel RBD client, if they can be had
	@./e2e/install-vm

.PHONY: prometheus
prometheus: ## Get Debian's Prometheus, to test the alerts with
	@./e2e/fetch-prometheus

.PHONY: old-and-new-ceph
old-and-new-ceph: packages ## Get Ceph 14.2 and 18.2 from other suites of Debian, beside the installed one
	@./e2e/fetch-ceph bullseye trixie || echo "the tests against these releases of Ceph will be skipped"

# client-go, the API types and all that they stand on have one version in go.mod, e2e/go.mod and tools/go.mod: then they are compiled
# once, not three times. Nobody debugs a tool, and without what that needs it is linked in half the time.
tool = cd $(dir $<) && go build -ldflags '-s -w' -o $@ $(1)

$(BIN)/controller-gen: tools/go.mod
	$(call tool,sigs.k8s.io/controller-tools/cmd/controller-gen)

$(BIN)/cyclonedx-gomod: tools/go.mod
	cd tools && go build -o $@ github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

$(BIN)/golangci-lint: tools/go.mod
	$(call tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(BIN)/helm: tools/go.mod
	$(call tool,helm.sh/helm/v3/cmd/helm)

$(BIN)/helm4: tools/go.mod
	$(call tool,helm.sh/helm/v4/cmd/helm)

$(BIN)/same: tools/go.mod tools/same/main.go
	$(call tool,./same)

$(BIN)/helm-unittest: tools/go.mod
	$(call tool,github.com/helm-unittest/helm-unittest/cmd/helm-unittest)

$(BIN)/helm-docs: tools/go.mod
	$(call tool,github.com/norwoodj/helm-docs/cmd/helm-docs)

$(BIN)/kubeconform: tools/go.mod
	$(call tool,github.com/yannh/kubeconform/cmd/kubeconform)

# It needs a Kubernetes API that the others are past.
$(BIN)/kube-score: tools/kube-score/go.mod
	$(call tool,github.com/zegl/kube-score/cmd/kube-score)
