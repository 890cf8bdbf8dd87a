# Sourced by run and nightly: steps with times, a summary, and what to test is
# found in the tree instead of written down twice.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-}"

STATICCHECK=v0.8.2
BIN="$(dirname "$(go env GOCACHE)")/embermq-ci/staticcheck-$STATICCHECK-$(go env GOVERSION)"

summary=()
failed=0

# step NAME COMMAND... runs a command and notes how long it took. A step that
# fails does not end the run: the others may tell more.
step() {
	local name=$1 start=$SECONDS mark=ok
	shift
	echo "=== $name"
	if ! ("$@"); then
		mark=FAILED
		failed=1
	fi
	echo "--- $name: $mark, $((SECONDS - start)) s"
	summary+=("$(printf '%6d s  %-7s %s' $((SECONDS - start)) "$mark" "$name")")
}

skip() {
	echo "=== $1: skipped, $2"
	summary+=("$(printf '%8s  %-7s %s' - skipped "$1: $2")")
}

finish() {
	echo
	printf '%s\n' "${summary[@]}"
	printf '%6d s  in all\n' "$SECONDS"
	exit "$failed"
}

# errexit is off inside a step, because step looks at the exit code. So the
# functions below join their commands with && and ||.

check_gofmt() {
	local bad
	bad=$(gofmt -l .) || return 1
	[ -z "$bad" ] || { echo "not formatted:"; echo "$bad"; return 1; }
}

# install_staticcheck puts it where no other project looks for it.
install_staticcheck() {
	[ -x "$BIN/staticcheck" ] || GOBIN="$BIN" GOFLAGS= go install "honnef.co/go/tools/cmd/staticcheck@$STATICCHECK"
}

# install_tools brings what some tests need beside Go: Java and Maven for the
# comparison with Apache RocketMQ, and what makes real power cuts. Without root
# those tests say that they are skipped, or fail where CI is set.
install_tools() {
	local missing=()
	command -v java >/dev/null || missing+=(openjdk-17-jdk-headless)
	command -v mvn >/dev/null || missing+=(maven)
	command -v xfs_io >/dev/null || missing+=(xfsprogs)
	command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "not installed: ${missing[*]}"
		return 0
	fi
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

check_static() { "$BIN/staticcheck" ./...; }

# tests_like PATTERN [FLAGS] prints "package test" for every test, fuzz target
# or benchmark whose name matches.
tests_like() {
	local pattern=$1 out
	shift
	out=$(go test "$@" -list "$pattern" ./...) || { echo "$out" >&2; return 1; }
	awk '/^(Test|Fuzz|Benchmark)/ { name[n++] = $1 }
		/^ok/ { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }' <<<"$out"
}

# fuzz_all TIME runs every fuzz target for so long.
fuzz_all() {
	local list pkg name
	list=$(tests_like '^Fuzz') || return 1
	[ -n "$list" ] || { echo "no fuzz target found"; return 1; }
	while read -r pkg name; do
		echo "$pkg $name"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$pkg" </dev/null || return 1
	done <<<"$list"
}

# mutants plants known bugs and demands that the tests find each of them.
MUTANTS='Mutant|PlantedBug'
mutants() {
	local list
	list=$(tests_like "$MUTANTS" -tags plant) || return 1
	[ -n "$list" ] || { echo "no mutation test found"; return 1; }
	# shellcheck disable=SC2046
	go test -count=1 -tags plant -run "$MUTANTS" "$@" $(cut -d' ' -f1 <<<"$list" | sort -u)
}

# build_for GOOS GOARCH builds everything; vet also compiles the tests.
build_for() { GOOS=$1 GOARCH=$2 go build ./... && GOOS=$1 GOARCH=$2 go vet ./...; }

has_c_compiler() { command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null; }

# existing prints those of the packages that are there.
existing() { local p; for p in "$@"; do if compgen -G "$p/*.go" >/dev/null; then echo "./$p"; fi; done; }

# programs FOLDER prints the main programs of this module below it.
programs() { go list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' "./$1/..." | sed "s|.*/$1/||"; }

race() { CGO_ENABLED=1 go test -race "$@"; }

# nested_modules prints the folders that have a go.mod of their own.
nested_modules() {
	find . -mindepth 2 -name go.mod -not -path '*/testdata/*' | sort | while read -r f; do dirname "$f"; done
}

test_module() { cd "$1" && go vet ./... && go test ./...; }

# test_in FOLDER FLAGS... runs the tests of a folder when it is there.
test_in() {
	local folder=$1
	shift
	compgen -G "$folder/*_test.go" >/dev/null || { echo "$folder is not there yet"; return 0; }
	go test -count=1 "./$folder" "$@"
}
