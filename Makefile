# The targets are what .ci/run does in one go; see CONTRIBUTING.md.

.PHONY: test race crash fuzz bench lint ci

lib = bash -euo pipefail -c '. .ci/lib.sh; $(1)' .ci/make

test:
	go test ./...

race:
	CGO_ENABLED=1 go test -race -short ./...

# Planted bugs must be found, then longer crash campaigns than in go test.
crash:
	$(call lib,mutants)
	go test -count=1 -run '^TestCrash$$' ./commitlog -crash.images=1000000
	go test -count=1 -run '^TestCrash$$' ./consumequeue -crash.seeds=200

fuzz:
	$(call lib,fuzz_all 10s)

bench:
	go test -run '^$$' -bench . -benchmem ./...

lint:
	$(call lib,install_staticcheck && check_gofmt && check_static)
	go vet ./...
	go vet -tags plant ./...
	go test ./internal/rules

ci:
	.ci/run
