# Sourced by run and nightly: steps with times, a summary, and what to test is
# found in the tree instead of written down twice.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-}"

STATICCHECK=v0.8.2
BIN="$(dirname "$(go env GOCACHE)")/embermq-ci/staticcheck-$STATICCHECK-$(go env GOVERSION)"

WORK=$(mktemp -d) # the summary, programs, what steps print that run side by side
trap 'kill $(jobs -pr) 2>/dev/null || true; rm -rf "$WORK"' EXIT

# step NAME COMMAND... runs a command and notes how long it took. A step that
# fails does not end the run: the others may tell more.
step() {
	wait
	run_step "$@"
}

# beside is step for what uses one core or waits: two of them run at a time, and
# print when they end. The next step waits for them.
beside() {
	while [ "$(jobs -pr | wc -l)" -ge 2 ]; do wait -n || true; done
	{ run_step "$@" >"$WORK/$BASHPID" 2>&1; cat "$WORK/$BASHPID"; } &
}

run_step() {
	local name=$1 start=$SECONDS mark=ok
	shift
	echo "=== $name"
	("$@") || mark=FAILED
	echo "--- $name: $mark, $((SECONDS - start)) s"
	note "$((SECONDS - start)) s" "$mark" "$name"
}

skip() {
	echo "=== $1: skipped, $2"
	note - skipped "$1: $2"
}

note() { printf '%8s  %-7s %s\n' "$@" >>"$WORK/summary"; }

finish() {
	wait
	echo
	cat "$WORK/summary"
	printf '%6d s  in all\n' "$SECONDS"
	! grep -q '^ *[0-9]* s  FAILED ' "$WORK/summary"
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
	command -v strace >/dev/null || missing+=(strace)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "not installed: ${missing[*]}"
		return 0
	fi
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

check_static() { "$BIN/staticcheck" ./...; }

# tests_like PATTERN prints "folder test" for every test or fuzz target whose name
# matches.
tests_like() {
	grep -rE "^func $1[A-Za-z0-9_]*\(" --include='*_test.go' . | sed -E 's|^\./(.*)/[^/]*:func ([A-Za-z0-9_]+).*|\1 \2|' | sort -u
}

# What bytes from outside reach: records and what is in them, the log with its
# watermark, queues, the index. Others run with their corpora in every go test.
FUZZ=(
	"commitlog FuzzOpen"
	"message FuzzRecord"
	"message FuzzProperties"
	"message FuzzBatch"
	"message FuzzInflate"
	"message FuzzSQL92"
	"consumequeue FuzzQueueFile"
	"consumequeue FuzzImage"
	"index FuzzFile"
)

# fuzz TIME FOLDER TARGET runs one fuzz target for so long, in little memory.
fuzz() {
	go test -vet=off -exec 'env GOMEMLIMIT=64MiB' -run '^$' -fuzz "^$3\$" -fuzztime "$1" -parallel 1 "./$2" </dev/null
}

# fuzz_all TIME runs every fuzz target for so long.
fuzz_all() {
	local list folder name
	list=$(tests_like Fuzz) || { echo "no fuzz target found"; return 1; }
	while read -r folder name; do
		echo "$folder $name"
		fuzz "$1" "$folder" "$name" || return 1
	done <<<"$list"
}

# mutants plants known bugs and demands that the tests find each of them.
mutants() {
	local list
	list=$(tests_like 'Test[A-Za-z0-9_]*(Mutant|PlantedBug)' | sed 's|^|./|; s| .*||' | sort -u) || return 1
	[ -n "$list" ] || { echo "no mutation test found"; return 1; }
	# shellcheck disable=SC2086
	go test -count=1 -tags plant -run 'Mutant|PlantedBug' "$@" $list
}

# vet_plants looks at the files that only planted bugs need.
vet_plants() {
	# shellcheck disable=SC2046
	go vet -tags plant $(grep -rl '^//go:build plant' --include='*.go' . | xargs -n1 dirname | sort -u)
}

# check_for GOOS GOARCH compiles everything, tests too. It links nothing.
check_for() { GOOS=$1 GOARCH=$2 go vet ./...; }

has_c_compiler() { command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null; }

# existing prints those of the packages that are there.
existing() { local p; for p in "$@"; do if compgen -G "$p/*.go" >/dev/null; then echo "./$p"; fi; done; }

# examples runs each; it fails when its claim does not hold. The broker over HTTP
# serves until it is interrupted; its tests drive it.
examples() {
	local program bad=0
	mkdir "$WORK/examples" && go build -o "$WORK/examples/" ./examples/... || return 1
	for program in "$WORK"/examples/*; do
		[ "${program##*/}" = httpbroker ] && continue
		echo "${program##*/}"
		"$program" || { echo "${program##*/} has failed"; bad=1; }
	done
	return "$bad"
}

race() { CGO_ENABLED=1 go test -race "$@"; }

# nested_modules prints the folders that have a go.mod of their own.
nested_modules() {
	find . -mindepth 2 -name go.mod -not -path '*/testdata/*' | sort | while read -r f; do dirname "$f"; done
}

test_module() { cd "$1" && go vet ./... && go test -vet=off ./...; }

# build_suites CAMPAIGN... compiles the tests of their folders, each once.
build_suites() {
	# shellcheck disable=SC2046
	mkdir "$WORK/suites" && go test -c -o "$WORK/suites/" $(existing $(printf '%s\n' "$@" | cut -d' ' -f1 | sort -u))
}

# campaign FOLDER FLAGS... runs tests that build_suites has compiled, with the flags
# of go test.
campaign() {
	local folder=$1 flags=(-test.timeout=10m) flag
	shift
	for flag in "$@"; do
		case $flag in
		-v | -run | -timeout=*) flags+=("-test.${flag#-}") ;;
		*) flags+=("$flag") ;;
		esac
	done
	cd "$folder" && GOMEMLIMIT=4GiB "$WORK/suites/${folder##*/}.test" "${flags[@]}"
}
